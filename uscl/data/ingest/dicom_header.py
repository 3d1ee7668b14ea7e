"""The header of a DICOM ultrasound file: only the elements that pixels, time and scale need are ever read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from uscl.data.ingest.allowed import keep_allowed

READ_ELEMENTS = (
    *("SOPClassUID", "Modality", "PatientID", "BurnedInAnnotation", "SequenceOfUltrasoundRegions"),
    *("ConversionType", "PatientIdentityRemoved", "DeidentificationMethodCodeSequence"),
    *("Manufacturer", "ManufacturerModelName"),
    *("FrameIncrementPointer", "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"),
    *("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "PaletteColorLookupTableUID"),
    *(
        f"{kind}{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
)
"""All else in the file is skipped unread; all of them are `ALLOWED`, which says what becomes of each."""
MAX_FRAME_PX = 2**26
"""Pixels of the largest frame that is decoded, 8192 x 8192: no scanner's screen comes near."""

_ULTRASOUND = ("US", "IVUS")
_ULTRASOUND_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("3", "3.1", "6", "6.1"))
_VOLUME_CLASS = "1.2.840.10008.5.1.4.1.1.6.2"
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_OTHER_MODALITIES = frozenset(
    ("CR", "CT", "DX", "ES", "KO", "MG", "MR", "NM", "OCT", "OP", "OT", "PR", "PT", "RF", "SC", "SEG", "SM", "SR", "XA")
)
"""Those that a refusal names; any other value of the element might be anything."""
_SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1} | dict.fromkeys(
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3
)


class DicomRefusal(ValueError):
    """Why a file is not read, in our own words: what pydicom says may quote the header."""


@dataclass(frozen=True)
class PixelLayout:
    """How the pixels of a file are laid out, checked."""

    syntax: UID
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planar: int
    told_frames: int | None
    """What the header says; the pixel data are counted instead."""

    @property
    def frame_bytes(self) -> int:
        """Length of an uncompressed frame in the file."""
        halved = self.photometric == "YBR_FULL_422"  # 4 samples for 2 pixels
        return self.rows * self.columns * (2 if halved else self.samples) * (self.bits_allocated // 8)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """No warnings and no log lines of pydicom: both quote header values."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def has_dicom_mark(start: bytes) -> bool:
    """Whether the first 132 bytes of a file end in DICOM's mark."""
    return start[128:132] == b"DICM"


def read_header(file: BinaryIO) -> pydicom.Dataset:
    """The elements of `READ_ELEMENTS`; `file` is left at the tag of the pixel data. DicomRefusal: no ultrasound."""
    start = file.read(132)
    file.seek(0)
    if not has_dicom_mark(start) and not _begins_bare(start):
        raise DicomRefusal("is no DICOM file: empty, encrypted or of another format")
    try:
        with quiet_pydicom():
            if has_dicom_mark(start) and _syntax_uid(read_file_meta_info(file.name)) == DeflatedExplicitVRLittleEndian:
                raise DicomRefusal("is deflated as a whole, which uscl does not read: store it uncompressed or as JPEG")
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(READ_ELEMENTS), force=True)
    except DicomRefusal:
        raise
    except Exception as error:  # pydicom raises whatever a damaged length or character leads to
        raise DicomRefusal(
            f"cannot be read as DICOM ultrasound: its header is damaged ({type(error).__name__})"
        ) from error
    _check_ultrasound(header)
    with quiet_pydicom():
        return keep_allowed(header)


def element(header: pydicom.Dataset, keyword: str) -> Any:
    """The value of an element; None where it is absent, empty or cannot be converted."""
    try:
        with quiet_pydicom():
            return header.get(keyword)
    except Exception:  # values are converted when first asked for, and pydicom raises what it likes
        return None


def number(header: pydicom.Dataset, keyword: str) -> float | None:
    """A finite number; None where there is none."""
    try:
        value = float(str(element(header, keyword)))
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def pixel_layout(header: pydicom.Dataset) -> PixelLayout:
    """The layout of the pixels. DicomRefusal where an element is missing, contradicts another, or is not supported."""
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
    missing = [name for name in names if not (number(header, name) or 0) >= 1]
    if missing:
        raise DicomRefusal(f"cannot be read as DICOM ultrasound: its header has no valid {' and no '.join(missing)}")
    rows, columns, samples, allocated, stored = (int(number(header, name) or 0) for name in names)
    photometric = str(element(header, "PhotometricInterpretation") or "").strip()
    if photometric not in _SAMPLES:
        raise DicomRefusal(f"has pixels of a kind that uscl does not read; it reads {', '.join(_SAMPLES)}")
    if samples != _SAMPLES[photometric]:
        raise DicomRefusal(f"has {samples} samples per pixel, which {photometric} does not have")
    if allocated not in (8, 16, 32) or stored > allocated:
        raise DicomRefusal(f"stores {stored} of {allocated} bits per sample; uscl reads 8, 16 or 32 allocated bits")
    if rows * columns > MAX_FRAME_PX:
        raise DicomRefusal(f"has frames of {columns} x {rows} px, more than the {MAX_FRAME_PX} px that uscl decodes")
    told = number(header, "NumberOfFrames")
    return PixelLayout(
        syntax=_syntax(header),
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=number(header, "PixelRepresentation") == 1,
        photometric=photometric,
        planar=int(number(header, "PlanarConfiguration") == 1),
        told_frames=int(told) if told is not None and told >= 1 else None,
    )


def _begins_bare(start: bytes) -> bool:
    """Whether a file without preamble begins with an element of group 2 or 8, as old ones do."""
    return len(start) == 132 and start[:2] in (b"\x02\0", b"\x08\0") and start[3] == 0


def _check_ultrasound(header: pydicom.Dataset) -> None:
    modality, kind = str(element(header, "Modality") or ""), str(element(header, "SOPClassUID") or "")
    if _DIRECTORY_CLASS in (kind, str(_meta(header, "MediaStorageSOPClassUID"))):
        raise DicomRefusal("is a DICOMDIR: a list of files, without an image")
    if kind == _VOLUME_CLASS:
        raise DicomRefusal("is an Enhanced US Volume: its frames are slices of a volume, not moments of a clip")
    if modality not in _ULTRASOUND and kind not in _ULTRASOUND_CLASSES:
        told = modality if modality in _OTHER_MODALITIES else "another" if modality else "missing"
        raise DicomRefusal(f"is no ultrasound (modality {told})")


def _syntax(header: pydicom.Dataset) -> UID:
    """The transfer syntax; that of a file without meta information as its header was read."""
    told = _syntax_uid(getattr(header, "file_meta", None))
    if told and (told.is_private or not told.is_transfer_syntax):
        raise DicomRefusal("names a transfer syntax that is not DICOM's: encrypted, or a vendor's own")
    if told:
        return told
    return ImplicitVRLittleEndian if header.original_encoding[0] else ExplicitVRLittleEndian


def _syntax_uid(meta: pydicom.Dataset | None) -> UID:
    told = element(meta, "TransferSyntaxUID") if meta is not None else None
    return UID(str(told or ""), pydicom.config.IGNORE)


def _meta(header: pydicom.Dataset, keyword: str) -> Any:
    meta = getattr(header, "file_meta", None)
    return element(meta, keyword) if meta is not None else None
