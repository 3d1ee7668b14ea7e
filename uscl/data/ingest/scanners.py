"""Where scanners write names and dates into the picture, by make and model; what to do where nobody knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pydicom

from uscl.data.ingest.dicom_header import element
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.overlay import Strip
from uscl.errors import DataError

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class and, with further digits, its multi-frame kin: pictures of a screen or of paper."""
CLEAN_PIXEL_DATA = "113101"
"""DICOM PS3.16 CID 7050, Clean Pixel Data Option: identifying text was removed from the pixels."""


@dataclass(frozen=True)
class ScannerText:
    """A make and model, as words that the header's must begin with or hold, and where its text stands."""

    makers: tuple[str, ...]
    model: str
    strip: Strip


KNOWN_SCANNERS = (
    ScannerText(("PHILIPS",), "EPIQ", Strip(0.06)),
    ScannerText(("PHILIPS",), "IU22", Strip(0.10)),
    ScannerText(("PHILIPS",), "IE33", Strip(0.10)),
    ScannerText(("PHILIPS",), "CX50", Strip(0.10)),
    ScannerText(("GE", "GEMS"), "LOGIQE9", Strip(0.10)),
    ScannerText(("TOSHIBA", "CANON"), "TUSA500", Strip(0.08, 0.85)),
    ScannerText(("ACUSON", "SIEMENS"), "SEQUOIA", Strip(0.061, 0.60)),
    ScannerText(("ACUSON", "SIEMENS"), "S2000", Strip(0.075, 0.40)),
)
"""Shares of height and width from the top left corner, as kidneyUS `remove_patient_info` blanks them (its definition,
read in the owners' code: data-formats.md 2, item 12). A model that is not here is unknown."""


def strips_to_blank(header: pydicom.Dataset, options: ClipOptions, path: Path) -> tuple[Strip, ...]:
    """What of every full frame is blanked. DataError, without a header value, where text may stand anywhere.

    `options.blank_top` is blanked whatever the scanner; with `options.keep_overlay` the user has looked.
    """
    asked = (Strip(options.blank_top),) if options.blank_top else ()
    if options.keep_overlay:
        return asked
    if is_secondary_capture(header):
        raise DataError(
            f"{path}: is a secondary capture, a picture of a screen, so text may stand anywhere; leave it out, or look "
            "at it and accept it with --keep-overlay"
        )
    known = find_scanner(header)
    if known is not None:
        return *asked, known.strip
    if asked or says_clean(header):
        return asked
    raise DataError(
        f"{path}: comes from a scanner whose burned-in text is unknown, and nothing says that its pixels were "
        "cleaned; blank the strip that holds names with --blank-top 10%, or look at it and accept it with "
        "--keep-overlay"
    )


def is_secondary_capture(header: pydicom.Dataset) -> bool:
    """By SOP class, or by the conversion type that only secondary captures have."""
    sop_class = str(element(header, "SOPClassUID") or "")
    captured = sop_class == SECONDARY_CAPTURE or sop_class.startswith(f"{SECONDARY_CAPTURE}.")
    return captured or bool(str(element(header, "ConversionType") or ""))


def says_clean(header: pydicom.Dataset) -> bool:
    """Whether the header says that the pixels, too, were de-identified.

    PatientIdentityRemoved YES covers pixels by its definition (PS3.3 C.7.1.1), unless BurnedInAnnotation says YES.
    BurnedInAnnotation NO alone is believed of nobody: scanners write it over their own text (data-formats.md 2).
    """
    if _flag(header, "BurnedInAnnotation") == "YES":
        return False
    codes = [str(element(item, "CodeValue")) for item in element(header, "DeidentificationMethodCodeSequence") or ()]
    return _flag(header, "PatientIdentityRemoved") == "YES" or CLEAN_PIXEL_DATA in codes


def find_scanner(header: pydicom.Dataset) -> ScannerText | None:
    """The entry of KNOWN_SCANNERS, by maker and model."""
    maker = _word(element(header, "Manufacturer"))
    model = _word(element(header, "ManufacturerModelName"))
    for entry in KNOWN_SCANNERS:
        if maker.startswith(entry.makers) and entry.model in model:
            return entry
    return None


def _word(value: object) -> str:
    """Capital letters and digits alone: `G.E. Medical` -> `GEMEDICAL`, `TUS-A500` -> `TUSA500`."""
    return re.sub(r"[^A-Z0-9]", "", str(value or "").upper())


def _flag(header: pydicom.Dataset, name: str) -> str:
    return str(element(header, name) or "").strip().upper()
