"""What the planes of labelled cases hold, and whether sizes make sense: image, masks, sector, spacing, outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uscl.data.checks.finding import Finding, Level, found
from uscl.data.checks.survey import CasesSurvey, CaseSurvey
from uscl.data.dataset import Dataset
from uscl.data.wording import counted

MIN_SPACING_MM, MAX_SPACING_MM = 0.005, 2.0
"""Scanners store 0.02 to 1 mm a pixel; 10 mm is the `1 cm` of a scanner that was never calibrated."""
MAX_ANISOTROPY = 2.0
"""Largest ratio of row to column spacing: pixel aspect ratios of video go up to 1.8."""
MIN_EXTENT_MM, MAX_EXTENT_MM = 5.0, 500.0
"""Height and width that an ultrasound image can show, from a skin probe to the deepest abdomen."""
CROSSING = "crosses itself"
"""How an import words a self-intersecting outline."""


def check_planes(survey: CasesSurvey) -> list[Finding]:
    """Cases whose planes do not fit, that hold nothing, that nobody annotated, or whose sector is odd."""
    cases = [case for case in survey.cases if not case.entry.excluded]
    advice = "the file is damaged: import again"
    message = f"{counted(len(survey.broken), 'labelled image')}: image, masks or sector are of another size than stated"
    findings = found("size_mismatch", Level.WARNING, message, survey.broken, advice=advice)
    unknown = [case for case in cases if not case.known_fraction]
    message = f"nobody annotated {counted(len(unknown), 'labelled image')}: every pixel is unknown, nothing is learnt"
    findings += found("not_annotated", Level.WARNING, message, _names(unknown), advice="leave them out of the import")
    empty = [case for case in cases if case.known_fraction and not any(case.area_px)]
    message = f"{counted(len(empty), 'mask')} of {len(cases)} hold no class at all"
    advice = "absent or not annotated? Import images that nobody annotated as such: an empty mask teaches background"
    return findings + found("empty_masks", Level.WARNING, message, _names(empty), advice=advice) + _sectors(cases)


def check_spacing(dataset: Dataset) -> list[Finding]:
    """Pixel sizes that no scanner has, and how many are not known."""
    sizes = {row["case"]: (row["spacing_mm"], row["height_px"], row["width_px"]) for row in dataset.case_rows}
    sizes |= {row["clip"]: (row["spacing_mm"], *_stored_size(row, dataset.size)) for row in dataset.clip_rows}
    odd = {name: _odd_spacing(*size) for name, size in sizes.items() if size[0]}
    named = [f"{name}: {why}" for name, why in odd.items() if why]
    message = (
        f"{counted(len(named), 'clip or labelled image', 'clips or labelled images')} with an implausible pixel size"
    )
    advice = "distances in mm would be wrong: look at the scanner's calibration, or import without it"
    findings = found("spacing", Level.WARNING, message, named, advice=advice)
    unknown = [name for name, size in sizes.items() if not size[0]]
    message = (
        f"the pixel size of {len(unknown)} of {len(sizes)} clips and labelled images is not known: no distance in mm"
    )
    return findings + found("spacing_unknown", Level.NOTE, message, unknown)


def check_outlines(document: Mapping[str, Any], num_cases: int) -> list[Finding]:
    """Outlines that cross themselves: only an import sees them, so its `remarks` in dataset.json are told."""
    remarks = document.get("remarks")
    if remarks is None:
        message = (
            "whether outlines cross themselves is not known: this dataset keeps no remarks of an import of outlines"
        )
        return [Finding("outlines_unknown", Level.NOTE, 0, message)] if num_cases else []
    crossing = [str(remark) for remark in remarks if CROSSING in str(remark)]
    message = f"outlines that cross themselves: {counted(len(crossing), 'remark')} of the import"
    advice = "where an outline crosses itself the even-odd rule leaves holes: look at the preview, redraw it"
    return found("outlines", Level.WARNING, message, crossing, advice=advice)


def _sectors(cases: Sequence[CaseSurvey]) -> list[Finding]:
    empty = [case for case in cases if not case.sector_fraction]
    message = f"the sector of {counted(len(empty), 'labelled image')} is empty: no pixel counts as ultrasound"
    findings = found(
        "sector_empty", Level.WARNING, message, _names(empty), advice="import again; see `uscl data preview`"
    )
    whole = [case for case in cases if case.sector_fraction == 1]
    message = (
        f"the sector of {len(whole)} of {len(cases)} labelled images is the whole image: no black surround was found"
    )
    advice = "right for a linear probe; else text and rulers count as ultrasound in speckle figures: see the preview"
    findings += found("sector_everything", Level.NOTE, message, _names(whole), advice=advice)
    outside = [case for case in cases if case.outside_px and case.sector_fraction]
    named = [f"{case.entry.case} ({case.outside_px} px)" for case in outside]
    message = f"{counted(len(outside), 'mask reaches', 'masks reach')} outside the sector, where there is no ultrasound"
    return findings + found("outside_sector", Level.WARNING, message, named, advice="look at the preview")


def check_clip_sectors(dataset: Dataset) -> list[Finding]:
    """Clips whose sector is empty, or covers all of the frame."""
    shares = {clip: float(where.sector.mean()) for clip, where in dataset.clip_table.items()}
    empty = [clip for clip, share in shares.items() if not share]
    message = f"the sector of {counted(len(empty), 'clip')} is empty: no pixel counts as ultrasound"
    findings = found("clip_sector_empty", Level.WARNING, message, empty, advice="import again; see `uscl data preview`")
    whole = [clip for clip, share in shares.items() if share == 1]
    message = f"the sector of {len(whole)} of {len(shares)} clips is the whole frame: no black surround was found"
    return findings + found("clip_sector_everything", Level.NOTE, message, whole)


def _odd_spacing(spacing: Sequence[float], height_px: int, width_px: int) -> str:
    """What is odd about (row, column) mm of an image; empty where nothing is."""
    down, right = spacing
    shown = f"{down:.4g} x {right:.4g} mm"
    if not all(MIN_SPACING_MM <= step <= MAX_SPACING_MM for step in spacing):
        return f"{shown} a pixel"
    if max(spacing) > MAX_ANISOTROPY * min(spacing):
        return f"{shown} a pixel, far from square"
    extent = (down * height_px, right * width_px)
    if not all(MIN_EXTENT_MM <= length <= MAX_EXTENT_MM for length in extent):
        return f"{extent[0]:.4g} x {extent[1]:.4g} mm in all"
    return ""


def _stored_size(row: Mapping[str, Any], size: int) -> tuple[float, float]:
    """Height and width of a clip's image within the square, in stored pixels."""
    scale = size / max(row["source_height_px"], row["source_width_px"])
    return row["source_height_px"] * scale, row["source_width_px"] * scale


def _names(cases: Sequence[CaseSurvey]) -> list[str]:
    return [case.entry.case for case in cases]
