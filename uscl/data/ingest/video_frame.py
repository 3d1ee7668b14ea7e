"""One decoded video frame: its luma on the full range of grey, its colour, and how it is to be turned."""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from uscl.data.ingest.colour import is_colour

_PLANAR = frozenset(f"yuv{full}{sampling}p" for full in ("", "j") for sampling in (420, 422, 444, 440, 411, 410))
"""Formats of 8 bits whose planes are Y, U and V."""
_LUMA_FIRST = _PLANAR | {"gray", "nv12", "nv21"}
_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
"""Limited luma, 16 to 235, on 0 to 255 (ITU-R BT.601); the same values as libswscale's, to the bit."""
_FULL_CHROMA = np.clip(np.rint((np.arange(256) - 128) * (255 / 224)) + 128, 0, 255).astype(np.uint8)
_SURELY_GREY = 5
"""Deviation of U and V from 128 up to which no two channels differ by more than 20: R - B = 1.6 V - 2 U at most."""
_FIXED = 1 << 16


class FramePixels:
    """Grey and colour of frames. One per video: what libswscale prepares for a format is kept between frames."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def grey(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W) uint8 luma on the full range, whatever range the file uses; a copy of its own."""
        if frame.format.name not in _LUMA_FIRST:
            return np.ascontiguousarray(self._reformatter.reformat(frame, format="gray").to_ndarray())
        luma = _plane(frame, 0)
        return luma.copy() if _is_full_range(frame) else np.asarray(cv2.LUT(luma, _FULL_RANGE))

    def coloured(self, frame: av.VideoFrame) -> bool:
        """Whether more of it is coloured than of B-mode; measured at the size of its chroma, where that is not flat."""
        name = frame.format.name
        if name.startswith("gray"):
            return False
        if name in _PLANAR:
            return not _is_surely_grey(frame) and is_colour(_small_rgb(frame))
        return is_colour(self._reformatter.reformat(frame, format="rgb24").to_ndarray())


def turned(image: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """`image` (H, W) by its display matrix (a, b, c, d), x' = a x + c y, y' = b x + d y: quarter turns and mirrors."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    across, down = (a, d) if abs(a) >= abs(b) else (c, b)
    image = image if abs(a) >= abs(b) else image.T
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """The matrix that phones store with a video held on its side; None where there is none, or it turns nothing."""
    data = next((entry for entry in frame.side_data if entry.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return None
    entries = np.frombuffer(bytes(data), np.int32)
    matrix = tuple(int(entries[place]) for place in (0, 1, 3, 4))
    return None if matrix == (_FIXED, 0, 0, _FIXED) else matrix  # type: ignore[return-value]


def _is_full_range(frame: av.VideoFrame) -> bool:
    name, stated = frame.format.name, frame.color_range
    return name.startswith("yuvj") or stated == ColorRange.JPEG or (name == "gray" and stated != ColorRange.MPEG)


def _plane(frame: av.VideoFrame, number: int) -> np.ndarray:
    """A view of (H, W) uint8, valid as long as the frame."""
    plane = frame.planes[number]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _is_surely_grey(frame: av.VideoFrame) -> bool:
    for number in (1, 2):
        lowest, highest, _, _ = cv2.minMaxLoc(_plane(frame, number))
        if max(128 - lowest, highest - 128) > _SURELY_GREY:
            return False
    return True


def _small_rgb(frame: av.VideoFrame) -> np.ndarray:
    """(h, w, 3) uint8 RGB at the size of the chroma planes, by BT.601."""
    luma, blue, red = (_plane(frame, number) for number in range(3))
    down, across = (-(-whole // part) for whole, part in zip(luma.shape, blue.shape, strict=True))
    luma = luma[::down, ::across][: blue.shape[0], : blue.shape[1]]
    if not _is_full_range(frame):
        luma = cv2.LUT(np.ascontiguousarray(luma), _FULL_RANGE)
        blue, red = cv2.LUT(blue, _FULL_CHROMA), cv2.LUT(red, _FULL_CHROMA)
    return np.asarray(cv2.cvtColor(cv2.merge([luma, red, blue]), cv2.COLOR_YCrCb2RGB))
