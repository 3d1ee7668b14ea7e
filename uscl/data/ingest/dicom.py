"""DICOM ultrasound as clips: pixels as grey, time and scale from the header, and nothing else of the header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from uscl.data.ingest.colour import colour_note, is_colour
from uscl.data.ingest.dicom_header import DicomRefusal, element, has_dicom_mark, pixel_layout, read_header
from uscl.data.ingest.dicom_pixels import PixelData, open_pixels
from uscl.data.ingest.dicom_region import BModeRegion, holds_what_moves, select_region, whole_image
from uscl.data.ingest.dicom_time import frame_times
from uscl.data.ingest.frames import DecodedClip, FrameCollector, NativeFrame
from uscl.data.ingest.limits import TooLarge, check_clip_size
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.scanners import strips_to_blank
from uscl.errors import DataError

DICOM_SUFFIXES = frozenset([".dcm", ".dicom"])

_MOTION_FRAMES = 5
"""So many frames, spread over a cine, show where it moves."""


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's mark after its preamble."""
    with path.open("rb") as file:
        return has_dicom_mark(file.read(132))


def read_dicom(path: Path, options: ClipOptions) -> Iterator[DecodedClip]:
    """The one clip of an ultrasound still or cine, cropped to its B-mode region; a still is a clip of one frame.

    Frames are read and decoded one by one, the text of a known scanner blanked in each. DataError, naming the file,
    where it cannot be decoded, is no ultrasound, or text may stand anywhere in it (`strips_to_blank`).
    """
    with _opened(path) as (header, pixels):
        yield _read(header, replace(pixels, strips=strips_to_blank(header, options, path)), options)


def dicom_frames(path: Path) -> Iterator[NativeFrame]:
    """Every frame of an ultrasound still or cine at its own size, with its B-mode region. DataError as `read_dicom`."""
    with _opened(path) as (header, pixels):
        region = _confirmed_region(header, pixels)
        for frame in pixels:
            yield NativeFrame(frame.grey, region.rows, region.columns, region.aspect, region.row_mm)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pydicom.Dataset, PixelData]]:
    """Header and frames of an ultrasound file; what is wrong with it, or with its pixels, as a DataError."""
    try:
        with path.open("rb") as file:
            header = read_header(file)
            yield header, open_pixels(file, header, pixel_layout(header))
    except (DicomRefusal, TooLarge) as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or 'input error'}") from error


def _read(header: pydicom.Dataset, pixels: PixelData, options: ClipOptions) -> DecodedClip:
    check_clip_size(pixels.count, frame_pixels=pixels.layout.rows * pixels.layout.columns, size=options.size)
    region = _confirmed_region(header, pixels)
    # strips are shares of the full frame: blanked in it, not in the region by the collector
    collector = FrameCollector(options.size, aspect=region.aspect, options=replace(options, blank_top=0.0))
    coloured = 0
    for frame in pixels:
        collector.add(np.ascontiguousarray(frame.grey[region.rows, region.columns]))
        coloured += frame.rgb is not None and is_colour(frame.rgb[region.rows, region.columns])
    times, remarks = frame_times(header, pixels.count, frame_rate_hz=options.frame_rate_hz)
    notes = [*pixels.notes, *region.notes, *remarks]
    if coloured:
        notes.append(colour_note(coloured, pixels.count))
    if not pixels.strips:
        notes.append("pixels may show text that names the patient: look before sharing")
    key = str(element(header, "PatientID") or "")
    return collector.finish(times_ms=times, row_mm=region.row_mm, pseudonym_key=key, notes=tuple(notes))


def _confirmed_region(header: pydicom.Dataset, pixels: PixelData) -> BModeRegion:
    """The header's region; where it is that of a larger image, only if what moves agrees."""
    region = select_region(header)
    if region.shrink == 1:
        return region
    chosen = np.unique(np.linspace(0, pixels.count - 1, _MOTION_FRAMES).astype(int))
    frames = [pixels.frame(int(index)).grey for index in chosen]
    return region if holds_what_moves(region, frames) else whole_image(pixels.layout.rows, pixels.layout.columns)
