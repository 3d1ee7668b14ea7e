"""Which part of a DICOM ultrasound image is B-mode, and how large its pixels are: the region tag, validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydicom

from uscl.data.ingest.dicom_header import element, number

_TWO_D, _TISSUE, _CENTIMETRE = 1, 1, 3
"""RegionSpatialFormat, RegionDataType, PhysicalUnitsX/YDirection of a B-mode region (DICOM PS3.3 C.8.5.5)."""
_SHRINKS = (2, 3, 4)
_MAX_ASPECT = 8.0
_NO_REGION = "no B-mode region in the header: whole image, scale unknown"
_OUTSIDE = "header's region lies outside the image: whole image, scale unknown"
_MOVED_LEVELS = 20
_MIN_INSIDE, _MIN_FILL = 0.99, 0.6
"""Of the real cine that was halved, all that moves lies in the halved region and spans .93 of its height."""


@dataclass(frozen=True)
class BModeRegion:
    """A part of the image, and the size of its pixels."""

    rows: slice
    columns: slice
    row_mm: float | None = None
    """Height of a pixel, mm; None: unknown."""
    aspect: float = 1.0
    """A pixel's width over its height."""
    notes: tuple[str, ...] = ()
    shrink: int = 1
    """Above 1: the header describes an image this many times as large; to be confirmed by what moves."""


@dataclass(frozen=True)
class _Box:
    """Limits as in the header: right and bottom are the last column and row."""

    left: int
    top: int
    right: int
    bottom: int
    delta_x: float | None
    delta_y: float | None

    @property
    def area(self) -> int:
        return max(0, self.right - self.left) * max(0, self.bottom - self.top)


def select_region(header: pydicom.Dataset) -> BModeRegion:
    """The largest region of spatial format 1, data type 1 and centimetres, clipped where it is one pixel too large.

    Of an image shrunk by 2, 3 or 4 whose region was left as it was: the region shrunk, `shrink` says so. The whole
    image, scale unknown, where none fits.
    """
    height, width = int(header.Rows), int(header.Columns)
    boxes = [box for item in element(header, "SequenceOfUltrasoundRegions") or () if (box := _b_mode_box(item))]
    if not boxes:
        return whole_image(height, width, _NO_REGION)
    box = max(boxes, key=lambda each: each.area)
    notes = ("several B-mode regions in the header: the largest is kept",) if len(boxes) > 1 else ()
    if not box.area:
        return whole_image(height, width, _NO_REGION)
    if box.right > width or box.bottom > height:
        return _shrunk(box, height, width, notes)
    if box.right == width or box.bottom == height:
        notes += ("header's region is one pixel larger than the image: clipped",)
    return _calibrated(box, slice(box.top, box.bottom + 1), slice(box.left, box.right + 1), notes=notes)


def whole_image(height: int, width: int, note: str = _OUTSIDE) -> BModeRegion:
    """All of an image of unknown scale."""
    return BModeRegion(slice(0, height), slice(0, width), notes=(note,))


def holds_what_moves(region: BModeRegion, frames: Sequence[np.ndarray]) -> bool:
    """Whether what changes between `frames` (each (H, W) uint8) lies within a shrunk region and fills its height.

    A part cut out of a larger image would move beyond it, or fill little of it. False where nothing moves.
    """
    if len(frames) < 2:
        return False
    moved = np.max(frames, axis=0) - np.min(frames, axis=0) > _MOVED_LEVELS
    inside = np.count_nonzero(moved[region.rows, region.columns])
    if inside < _MIN_INSIDE * np.count_nonzero(moved) or not inside:
        return False
    rows = np.flatnonzero(moved.any(axis=1))
    return bool(rows[-1] - rows[0] >= _MIN_FILL * (region.rows.stop - region.rows.start))


def _b_mode_box(item: pydicom.Dataset) -> _Box | None:
    kind = (number(item, "RegionSpatialFormat"), number(item, "RegionDataType"))
    units = (number(item, "PhysicalUnitsXDirection"), number(item, "PhysicalUnitsYDirection"))
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    limits = [number(item, name) for name in names]
    if kind != (_TWO_D, _TISSUE) or units != (_CENTIMETRE, _CENTIMETRE) or None in limits:
        return None
    left, top, right, bottom = (int(limit or 0) for limit in limits)
    return _Box(left, top, right, bottom, _delta(item, "PhysicalDeltaX"), _delta(item, "PhysicalDeltaY"))


def _delta(item: pydicom.Dataset, name: str) -> float | None:
    """cm, without its sign; None where uncalibrated: exactly 1 or 0 (data-formats.md 7.1), or larger."""
    value = abs(number(item, name) or 0.0)
    return value if 0 < value < 1 else None


def _shrunk(box: _Box, height: int, width: int, notes: tuple[str, ...]) -> BModeRegion:
    """Too large both ways, and fits when shrunk: perhaps the image was. Too large one way: the image was cut."""
    fits = [n for n in _SHRINKS if (box.right + 1) // n <= width and (box.bottom + 1) // n <= height]
    if not fits or box.right <= width or box.bottom <= height:
        return whole_image(height, width)
    factor = fits[0]
    rows = slice(-(-box.top // factor), (box.bottom + 1) // factor)
    columns = slice(-(-box.left // factor), (box.right + 1) // factor)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return whole_image(height, width)
    notes += (f"header's region is that of the image before it was shrunk {factor} times: region and scale shrunk too",)
    return _calibrated(box, rows, columns, notes=notes, shrink=factor)


def _calibrated(box: _Box, rows: slice, columns: slice, *, notes: tuple[str, ...], shrink: int = 1) -> BModeRegion:
    across, down = box.delta_x, box.delta_y
    if across is None or down is None or not 1 / _MAX_ASPECT <= across / down <= _MAX_ASPECT:
        return BModeRegion(rows, columns, notes=(*notes, "region without scale"), shrink=shrink)
    return BModeRegion(rows, columns, down * 10 * shrink, across / down, notes, shrink)
