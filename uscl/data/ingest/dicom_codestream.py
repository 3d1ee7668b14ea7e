"""Compressed frames in a DICOM file: where each lies, counted from the data, and what its own header says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.uid import UID, RLELossless

from uscl.data.ingest.dicom_header import DicomRefusal

Span = tuple[int, int]
"""Where bytes lie: offset and length."""

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0c\x6a\x50")
"""Of a JPEG or JPEG-LS image, a JPEG 2000 codestream, a JP2 file."""
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Second bytes of the JPEG and JPEG-LS markers that give a frame's size."""
_APP14 = 0xEE


@dataclass(frozen=True)
class CodestreamHeader:
    """What a compressed image says of itself."""

    height: int
    width: int
    ybr: bool = False
    """A JPEG's colour is YBR, whatever the DICOM header says: subsampled, or so by Adobe's segment."""
    adobe: Span = (0, 0)
    """Where Adobe's segment lies, if there is one. Left out: with it, pydicom and Pillow both turn YBR into RGB."""


def compressed_frames(file: BinaryIO, syntax: UID) -> tuple[list[list[Span]], bool]:
    """The fragments of each frame of encapsulated pixel data, and whether its end is marked.

    `file` stands at the first item, the offset table. Offset tables are not used, nor is the header's count: with RLE
    each fragment is a frame, else a frame begins where a codestream does. DicomRefusal: damaged items, or truncated.
    """
    fragments, ended = _fragments(file)
    if syntax == RLELossless:
        return [[(offset, length)] for offset, length, _ in fragments], ended
    frames: list[list[Span]] = []
    for offset, length, start in fragments:
        if not frames or start.startswith(_STARTS):
            frames.append([])
        frames[-1].append((offset, length))
    return frames, ended


def codestream_header(frame: bytes) -> CodestreamHeader | None:
    """Size and sampling by the image's own header; None where it is not understood: the decoder will tell."""
    try:
        if frame.startswith(b"\xff\xd8"):
            return _jpeg_header(frame)
        start = frame.index(b"\xff\x4f\xff\x51")
        right, bottom, left, top = struct.unpack_from(">IIII", frame, start + 8)
        size = bottom - top, right - left
        return CodestreamHeader(*size) if min(size) > 0 else None
    except (IndexError, ValueError, struct.error):
        return None


def _fragments(file: BinaryIO) -> tuple[list[tuple[int, int, bytes]], bool]:
    """Offset, length and first bytes of each item after the offset table; whether the end is marked."""
    found: list[tuple[int, int, bytes]] = []
    size = file_size(file)
    while (tag := file.read(4)) not in (_END, b""):
        length = file.read(4)
        if tag != _ITEM or len(length) != 4:
            raise DicomRefusal("has damaged pixel data: an item tag is missing")
        offset, stop = file.tell(), file.tell() + int.from_bytes(length, "little")
        if stop > size:
            raise DicomRefusal(
                f"is truncated: it ends within the pixel data, after {max(0, len(found) - 1)} whole fragments"
            )
        found.append((offset, stop - offset, file.read(min(6, stop - offset))))
        file.seek(stop)
    return found[1:], tag == _END


def file_size(file: BinaryIO) -> int:
    """Bytes of an open file, which is left where it was."""
    here = file.tell()
    size = file.seek(0, 2)
    file.seek(here)
    return size


def _jpeg_header(frame: bytes) -> CodestreamHeader | None:
    position, adobe = 2, (0, 0)
    while frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        stop = position + 2 + struct.unpack_from(">H", frame, position + 2)[0]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", frame, position + 5)
            sampling = {frame[position + 11 + 3 * component] for component in range(frame[position + 9])}
            transformed = adobe[1] > 0 and frame[sum(adobe) - 1] == 1
            return CodestreamHeader(height, width, ybr=len(sampling) > 1 or transformed, adobe=adobe)
        if marker == _APP14 and frame[position + 4 : position + 9] == b"Adobe":
            adobe = (position, stop - position)
        position = stop
    return None
