"""Every check of a dataset, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uscl.data.checks.class_presence import check_areas, check_presence, check_raters
from uscl.data.checks.finding import Finding, Level, in_order, leaks
from uscl.data.checks.parts import Parts, find_parts
from uscl.data.checks.pictures import check_pictures, find_alike
from uscl.data.checks.planes import check_clip_sectors, check_outlines, check_planes, check_spacing
from uscl.data.checks.recordings import check_frames, check_recordings, check_stills, match_stills
from uscl.data.checks.survey import Progress, survey_cases, survey_clips
from uscl.data.checks.unknowns import check_echo_scale, check_patients, check_times
from uscl.data.dataset import Dataset, read_document
from uscl.data.raters import choose_cases


def check_dataset(
    dataset: Dataset,
    *,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Finding, ...]:
    """All findings, the worst first; the split is the one that these settings give a sweep.

    Reads every label and every frame once, a clip at a time. The same dataset and settings give the same findings.
    """
    index, document = dataset.index, read_document(dataset.path)
    parts = find_parts(index, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction)
    survey = survey_cases(dataset, progress)
    clips = survey_clips(dataset, progress)
    alike = find_alike(dataset, survey.pictures, parts, progress)
    matches = match_stills(dataset, survey.pictures, clips, parts, progress)
    chosen = [case for case in choose_cases(index).cases if not case.excluded]
    findings = [
        *_check_split(parts),
        *check_pictures(survey.pictures, alike, parts),
        *check_recordings(clips, parts),
        *check_stills(dataset, matches, parts),
        *check_planes(survey),
        *check_spacing(dataset),
        *check_clip_sectors(dataset),
        *check_presence(index, chosen, parts),
        *check_areas(index, survey.cases),
        *check_raters(index),
        *check_outlines(document, len(index.cases)),
        *check_frames(dataset),
        *check_times(index),
        *check_echo_scale(document),
        *check_patients(dataset),
    ]
    return in_order(findings)


def to_json(dataset: Dataset, findings: Sequence[Finding], **split: float) -> dict[str, Any]:
    """The findings with the dataset and the split that they are about, as plain JSON."""
    return {
        "name": dataset.name,
        "path": str(dataset.path),
        "fingerprint": dataset.index.fingerprint,
        "split": split,
        "leaks": leaks(findings),
        "findings": [finding.to_json() for finding in findings],
    }


def _check_split(parts: Parts) -> list[Finding]:
    if parts.torn:
        advice = "give each patient and group one part, or import without the split column and let the seed decide"
        return [Finding("split_torn", Level.STOP, 1, f"the given split leaks: {parts.torn}", (), advice)]
    if parts.undrawn:
        return [Finding("no_split", Level.WARNING, 1, f"no split can be made: {parts.undrawn}")]
    return []
