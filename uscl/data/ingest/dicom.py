"""DICOM ultrasound as clips: pixels as grey, time and scale from the header, and nothing else of the header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, iter_pixels

from uscl.data.ingest.allowed import keep_allowed, pydicom_unheard
from uscl.data.ingest.frames import DecodedClip, FrameCollector, NativeFrame
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.overlay import Strip, blanked
from uscl.data.ingest.scanners import strips_to_blank
from uscl.errors import DataError

DICOM_SUFFIXES = frozenset([".dcm", ".dicom"])

_TWO_D, _TISSUE, _CENTIMETRE = 1, 1, 3
"""RegionSpatialFormat, RegionDataType, PhysicalUnitsX/YDirection of a B-mode region (DICOM PS3.3 C.8.5.5)."""


@dataclass(frozen=True)
class _Region:
    rows: slice
    columns: slice
    row_mm: float | None = None
    aspect: float = 1.0
    note: str = ""


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's mark after its preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path, *, size: int, options: ClipOptions | None = None) -> DecodedClip:
    """Read an ultrasound still or cine at `path` to frames of `size` px, cropped to its B-mode region.

    DataError, naming the file, where it cannot be decoded or is no ultrasound; with `options`, too, where its
    scanner's text is unknown (`strips_to_blank`). Without, pixels are as the file has them.
    """
    with _opened(path) as header:
        strips = strips_to_blank(header, options, path) if options else ()
        return _read(header, size, options, strips)


def dicom_frames(path: Path) -> Iterator[NativeFrame]:
    """Every frame of an ultrasound still or cine at its own size, with its B-mode region. DataError as `read_dicom`."""
    with _opened(path) as header:
        region = select_region(header)
        for frame in _grey_frames(header):
            yield NativeFrame(frame, region.rows, region.columns, region.aspect, region.row_mm)


@contextmanager
def _opened(path: Path) -> Iterator[pydicom.Dataset]:
    """The header of an ultrasound file; what is wrong with it, or with its pixels, as a DataError."""
    try:
        with pydicom_unheard():
            header = keep_allowed(pydicom.dcmread(path))
            if str(header.get("Modality", "")) not in ("US", "IVUS"):
                raise DataError(f"{path}: is no ultrasound (modality {str(header.get('Modality', '')) or 'missing'})")
            yield header
    except DataError:
        raise
    except (InvalidDicomError, AttributeError, ValueError, RuntimeError, NotImplementedError, OSError) as error:
        raise DataError(f"{path}: cannot be read as DICOM ultrasound: {str(error).splitlines()[0]}") from error


def _read(header: pydicom.Dataset, size: int, options: ClipOptions | None, strips: tuple[Strip, ...]) -> DecodedClip:
    region = select_region(header)
    # strips are shares of the full frame: blanked here, not of the region by the collector
    collector = FrameCollector(size, aspect=region.aspect, options=options and replace(options, blank_top=0.0))
    for frame in _grey_frames(header):
        collector.add(np.ascontiguousarray(blanked(frame, strips)[region.rows, region.columns]))
    if not collector.count:
        raise ValueError("no frame in the pixel data")
    times = frame_times(header, collector.count)
    notes = [region.note] if region.note else []
    if collector.count > 1 and times is None:
        notes.append("no frame time in the header: unknown")
    if not strips:
        notes.append("pixels may show text that names the patient: look before sharing")
    key = str(header.get("PatientID", ""))
    return collector.finish(times_ms=times, row_mm=region.row_mm, pseudonym_key=key, notes=tuple(notes))


def _grey_frames(header: pydicom.Dataset) -> Iterator[np.ndarray]:
    """(H, W) uint8 frames. pydicom gives colour as RGB whatever the tag says, palettes as indices."""
    palette = header.PhotometricInterpretation == "PALETTE COLOR"
    for frame in iter_pixels(header):
        if palette:
            frame = apply_color_lut(frame, header)
        levels = 16 if palette and frame.dtype == np.uint16 else int(header.BitsStored)
        if frame.dtype != np.uint8:
            frame = (np.clip(frame, 0, None) >> max(0, levels - 8)).astype(np.uint8)
        if frame.ndim == 3:
            frame = cv2.cvtColor(np.ascontiguousarray(frame[..., :3]), cv2.COLOR_RGB2GRAY)
        yield 255 - frame if header.PhotometricInterpretation == "MONOCHROME1" else frame


def frame_times(header: pydicom.Dataset, count: int) -> np.ndarray | None:
    """(T,) ms by FrameTime, FrameTimeVector, CineRate or RecommendedDisplayFrameRate, in that order; else None.

    No default rate: 30 frames/s is right for some scanners only (data-formats.md 2).
    """
    if count < 2:
        return None
    step = _positive(header.get("FrameTime"))
    vector = header.get("FrameTimeVector")
    if step is None and vector is not None and len(vector) == count:
        times = np.cumsum(np.array([float(value) for value in vector]))
        return times - times[0] if np.all(np.diff(times) > 0) else None
    rate = _positive(header.get("CineRate")) or _positive(header.get("RecommendedDisplayFrameRate"))
    step = step or (1000.0 / rate if rate else None)
    return None if step is None else np.arange(count) * step


def select_region(header: pydicom.Dataset) -> _Region:
    """The largest B-mode region in centimetres; the whole image, scale unknown, where none fits the image."""
    height, width = int(header.Rows), int(header.Columns)
    whole = _Region(slice(0, height), slice(0, width))
    regions = [item for item in header.get("SequenceOfUltrasoundRegions", []) if _is_b_mode(item)]
    if not regions:
        return _Region(whole.rows, whole.columns, note="no B-mode region in the header: whole image, scale unknown")
    region = max(regions, key=_area)
    left, top, right, bottom = _bounds(region)
    if right > width or bottom > height or left >= right or top >= bottom:  # clip by one, no more
        text = f"header's region x {left}..{right}, y {top}..{bottom} lies outside the {width} x {height} px image"
        return _Region(whole.rows, whole.columns, note=f"{text}: whole image, scale unknown")
    across, down = abs(float(region.PhysicalDeltaX)), abs(float(region.PhysicalDeltaY))
    if not across or not down:
        return _Region(slice(top, bottom + 1), slice(left, right + 1), note="region without scale")
    return _Region(slice(top, bottom + 1), slice(left, right + 1), down * 10, across / down)


def _is_b_mode(region: pydicom.Dataset) -> bool:
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    kind = (region.get("RegionSpatialFormat"), region.get("RegionDataType"))
    return kind == (_TWO_D, _TISSUE) and units == (_CENTIMETRE, _CENTIMETRE)


def _bounds(region: pydicom.Dataset) -> tuple[int, int, int, int]:
    """Left, top, right, bottom; right and bottom are the last column and row."""
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    left, top, right, bottom = (int(region[name].value) for name in names)
    return left, top, right, bottom


def _area(region: pydicom.Dataset) -> int:
    left, top, right, bottom = _bounds(region)
    return max(0, right - left) * max(0, bottom - top)


def _positive(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
