"""What a dataset does not know, and which settings need it: frame times, echo scale, patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uscl.data.checks.finding import Finding, Level, found
from uscl.data.dataset import Dataset
from uscl.data.schema import UNKNOWN_PATIENT, CaseEntry, ClipEntry, DatasetIndex
from uscl.data.wording import counted

DYNAMIC_RANGE = "dynamic_range_db"
"""Key of dataset.json: decibels between black and white, where whoever made the dataset knows them."""


def check_times(index: DatasetIndex) -> list[Finding]:
    """Clips without frame times, which temporal windows in ms need."""
    timeless = [clip.clip for clip in index.clips if not clip.has_times]
    message = f"{len(timeless)} of {counted(len(index.clips), 'clip')} have no frame times"
    advice = "temporal.unit: ms refuses this set; use frames, or give the times (column time_ms, or FrameTime)"
    return found("times_unknown", Level.WARNING, message, timeless, advice=advice)


def check_echo_scale(document: Mapping[str, Any]) -> list[Finding]:
    """Whether the decibels between black and white are known: undoing log compression needs them."""
    if document.get(DYNAMIC_RANGE) is not None or not document.get("files"):
        return []
    message = "the dynamic range of these images is not known (decibels between black and white)"
    advice = (
        "speckle.domain: decompressed needs speckle.dynamic_range_db: read it from the scanner's settings, "
        "or stay with the grey levels as displayed"
    )
    return [Finding("echo_scale_unknown", Level.NOTE, 0, message, (), advice)]


def check_patients(dataset: Dataset) -> list[Finding]:
    """Clips and cases of unknown patient that nothing groups either: a split of them is by file."""
    entries: list[tuple[CaseEntry | ClipEntry, str]] = [
        (entry, entry.case) for entry in dataset.index.cases if not entry.excluded
    ]
    entries += [(entry, entry.clip) for entry in dataset.index.clips]
    alone = [
        name for entry, name in entries if entry.patient.startswith(UNKNOWN_PATIENT) and entry.group == entry.patient
    ]
    message = f"patient and group of {len(alone)} of {len(entries)} clips and labelled images are unknown"
    advice = "they are split file by file, so one patient may be in training and in test: give a CSV with patients"
    return found("patient_unknown", Level.WARNING, message, alone, advice=advice)
