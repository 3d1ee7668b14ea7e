"""Collect the frames of a clip as they are decoded: squared, with duplicates and the ultrasound sector found."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from uscl.data.ingest.frame_stack import FrameStack
from uscl.data.ingest.limits import check_clip_size, check_frame_size
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.overlay import Strip, blanked, find_letters, static_marks
from uscl.data.letterbox import Letterbox
from uscl.data.writer import is_near_duplicate

MAX_BLACK = 8
"""Grey level up to which a video pixel counts as black at most: compression leaves a few levels of noise."""
BLACK_NOISE = 2
"""Levels above the median of the picture's edge up to which a pixel counts as black: the dim sides and depths
of a sector lie below MAX_BLACK (36 % of the 120-frame cine of pydicom is sector, 30 % lies above MAX_BLACK)."""
MARK_LEVEL = 60
"""Something this bright outside the sector is said to be text or a mark when it is blanked."""
MIN_OUTSIDE_PX = 20
"""Fewer such pixels are noise at the sector's edge, not a letter."""
ASPECT_TOLERANCE = 0.005
"""Pixels this close to square are taken as square."""


@dataclass(frozen=True)
class NativeFrame:
    """A frame as its file holds it, and which part of it is B-mode."""

    image: np.ndarray
    """(H, W) uint8."""
    rows: slice = field(default_factory=lambda: slice(None))
    columns: slice = field(default_factory=lambda: slice(None))
    aspect: float = 1.0
    """A pixel's width over its height."""
    row_mm: float | None = None
    """Height of a pixel, mm; None where the file does not say."""

    @property
    def stretched(self) -> bool:
        """Whether its pixels are far enough from square to be made so."""
        return abs(self.aspect - 1) >= ASPECT_TOLERANCE

    @property
    def pixel_mm2(self) -> float | None:
        """Area of a pixel, mm^2."""
        return None if self.row_mm is None else self.row_mm**2 * self.aspect


@dataclass(frozen=True)
class DecodedClip:
    """A clip as its reader hands it over: nothing of names, dates or tags, only pixels, time and scale."""

    frames: np.ndarray
    """(T, S, S) uint8."""
    duplicate: np.ndarray
    """(T,) bool, measured at native size."""
    sector: np.ndarray
    """(S, S) bool: pixels that are ever non-black, closed and filled; without marks that never change."""
    source_size: tuple[int, int]
    """Height and width of the region that was stored, px, with square pixels."""
    times_ms: np.ndarray | None = None
    spacing_mm: tuple[float, float] | None = None
    """Of a stored pixel (row, column)."""
    pseudonym_key: str = ""
    """What the header says of the patient; to tell patients apart, never stored."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _View:
    """Parts of a clip's picture, (H, W) bool."""

    sector: np.ndarray
    """What speckle statistics may count."""
    kept: np.ndarray
    """What is shown where overlay is blanked: the sector and marks within it, without letters."""
    marks_outside: bool
    marks_inside: bool
    text_inside: bool


class FrameCollector:
    """Takes grey frames one by one. `aspect` is a pixel's width over its height; frames are made square-pixelled.

    With `options`, the top strip they name is blanked in each frame, and at the end all that lies outside the sector,
    unless the user keeps overlay. Without, pixels stay as they are.
    """

    def __init__(self, size: int, *, aspect: float = 1.0, options: ClipOptions | None = None) -> None:
        self._size, self._aspect = size, aspect
        self._frames = FrameStack(size)
        self._strips = (Strip(options.blank_top),) if options and options.blank_top else ()
        self._blank_outside = options is not None and not options.keep_overlay
        self._duplicate: list[bool] = []
        self._previous: np.ndarray | None = None
        self._brightest: np.ndarray | None = None
        self._darkest: np.ndarray | None = None

    def add(self, frame: np.ndarray) -> None:
        """`frame` (H, W) uint8. ValueError where its shape is not that of the frames before, or it is one too many."""
        check_frame_size(*frame.shape)
        check_clip_size(len(self._frames) + 1, frame_pixels=frame.size, size=self._size)
        if self._previous is not None and frame.shape != self._previous.shape:
            raise ValueError(f"frame {len(self._frames)} is {frame.shape}, those before {self._previous.shape}")
        frame = blanked(frame, self._strips)
        self._duplicate.append(self._previous is not None and is_near_duplicate(frame, self._previous))
        self._previous = frame
        self._brightest = frame.copy() if self._brightest is None else np.maximum(self._brightest, frame)
        self._darkest = frame.copy() if self._darkest is None else np.minimum(self._darkest, frame)
        square_pixels = self._with_square_pixels(frame)
        self._frames.append(Letterbox(*square_pixels.shape, self._size).to_square(square_pixels))

    @property
    def count(self) -> int:
        """Frames taken so far."""
        return len(self._frames)

    def finish(
        self,
        *,
        times_ms: np.ndarray | None = None,
        row_mm: float | None = None,
        pseudonym_key: str = "",
        notes: tuple[str, ...] = (),
    ) -> DecodedClip:
        """The clip; `row_mm` is the height of a native pixel, mm. At least one frame must have been added."""
        view = self._view()
        box = Letterbox(*view.sector.shape, self._size)
        spacing = None if row_mm is None else (row_mm / box.scale, row_mm / box.scale)
        frames = self._frames.stacked()
        if self._blank_outside:
            frames *= box.to_square(view.kept)
            notes += ("text or marks outside the sector: blanked",) if view.marks_outside else ()
            notes += ("text within the sector: blanked where found; look before sharing",) if view.text_inside else ()
        return DecodedClip(
            frames=frames,
            duplicate=np.array(self._duplicate),
            sector=box.to_square(view.sector),
            source_size=(box.height, box.width),
            times_ms=times_ms,
            spacing_mm=spacing,
            pseudonym_key=pseudonym_key,
            notes=notes + (("marks inside the sector: left out of it",) if view.marks_inside else ()),
        )

    def _view(self) -> _View:
        """What the clip's extremes over time show, with square pixels."""
        assert self._brightest is not None and self._darkest is not None
        moving = self.count - sum(self._duplicate)
        letters = find_letters(self._darkest)
        marks = letters | static_marks(self._brightest, self._darkest, moving_frames=moving)
        # text beside the sector would be closed into it
        brightest = self._with_square_pixels(np.where(marks, np.uint8(0), self._brightest))
        outer = find_sector(brightest, max_black=black_level(self._brightest))
        wide_letters, wide_marks = self._widened(letters), self._widened(marks)
        seen = self._with_square_pixels(self._brightest) >= MARK_LEVEL
        return _View(
            sector=outer & ~wide_marks,
            kept=outer & ~wide_letters,
            marks_outside=bool(np.count_nonzero(seen & ~outer) > MIN_OUTSIDE_PX),
            marks_inside=bool((outer & wide_marks).any()),
            text_inside=bool((outer & wide_letters).any()),
        )

    def _widened(self, marks: np.ndarray) -> np.ndarray:
        """Marks with square pixels, widened to what a stored pixel covers, so that none of it is left when stored."""
        reach = 1 + max(marks.shape) // self._size
        shape = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
        return self._with_square_pixels(cv2.dilate(marks.astype(np.uint8), shape)) > 0

    def _with_square_pixels(self, frame: np.ndarray) -> np.ndarray:
        if abs(self._aspect - 1) < ASPECT_TOLERANCE:
            return frame
        width = max(1, round(frame.shape[1] * self._aspect))
        return np.asarray(cv2.resize(frame, (width, frame.shape[0]), interpolation=cv2.INTER_LINEAR))


def black_level(brightest: np.ndarray) -> int:
    """Grey level up to which a pixel of a clip's maximum over time (H, W) is black, from the edge of the picture."""
    edges = (brightest[:2], brightest[-2:], brightest[:, :2], brightest[:, -2:])
    edge = np.concatenate([part.ravel() for part in edges])
    return int(min(MAX_BLACK, np.median(edge) + BLACK_NOISE))


def find_sector(image: np.ndarray, *, max_black: int) -> np.ndarray:
    """(H, W) bool: the ultrasound part of `image` (H, W) uint8, for a clip its brightest values over time.

    Pixels above `max_black`, closed over gaps of a tenth of the image, specks and thin text dropped, holes filled.
    Everything where that leaves less than a twentieth of the image: then the frame is dark, not masked.
    """
    bright = cv2.morphologyEx((image > max_black).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    reach = max(3, min(image.shape) // 20)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    padded = cv2.copyMakeBorder(bright, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[reach:-reach, reach:-reach]
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [outline for outline in outlines if cv2.contourArea(outline) > 0.05 * image.size]
    sector = np.zeros(image.shape, np.uint8)
    cv2.drawContours(sector, large, -1, 1, cv2.FILLED)
    return sector.astype(bool) if large else np.ones(image.shape, bool)
