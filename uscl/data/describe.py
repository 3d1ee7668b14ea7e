"""What a dataset holds, as plain JSON and as the lines a person reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uscl.data.dataset import Dataset
from uscl.data.raters import choose_cases, count_ratings
from uscl.data.schema import SAME_FRAMES, SAME_RECORDING, UNKNOWN_PATIENT, DatasetIndex
from uscl.data.splits import Part, Split, cases_of, pretraining_clips, split_units, unit_names
from uscl.data.wording import counted
from uscl.errors import DataError

_RATINGS = ("raters", "qualities")


def describe(dataset: Dataset, *, seed: int, validation_fraction: float, test_fraction: float) -> dict[str, Any]:
    """Counts, classes, frame rates, duplicates and the split that these settings give. Reads every mask once."""
    index = dataset.index
    entries = (*index.clips, *index.cases)
    split = {"seed": seed, "validation_fraction": validation_fraction, "test_fraction": test_fraction}
    return {
        "name": index.name,
        "path": str(dataset.path),
        "fingerprint": index.fingerprint,
        "licence": dataset.licence,
        "sources": [dict(source) for source in dataset.sources],
        "size_px": index.size,
        "patients": len({entry.patient for entry in entries if not entry.patient.startswith(UNKNOWN_PATIENT)}),
        "patient_unknown": sum(entry.patient.startswith(UNKNOWN_PATIENT) for entry in entries),
        "groups": len({entry.group for entry in entries}),
        "units": len(set(unit_names(index).values())),
        "clips": _describe_clips(dataset),
        "frames": sum(clip.num_frames for clip in index.clips),
        "frame_rates": _frame_rates(dataset),
        "duplicates": _duplicates(dataset),
        "cases": _describe_cases(dataset),
        "classes": _describe_classes(dataset),
        "contains": {outer: list(inner) for outer, inner in index.contains.items()},
        "splits": split | _describe_split(dataset, split),
    }


def to_text(facts: Mapping[str, Any]) -> str:
    """The facts of `describe` as lines."""
    lines = [
        f"{facts['name']}  {facts['path']}  fingerprint {facts['fingerprint'][:10]}",
        f"licence     {facts['licence'] or 'not stated'}",
        _patients_line(facts),
        _clips_line(facts),
        _rates_line(facts["frame_rates"]),
        _duplicates_line(facts["duplicates"]),
        _cases_line(facts["cases"]),
        *_rating_lines(facts["cases"]),
    ]
    lines += [_class_line(name, entry) for name, entry in facts["classes"].items()]
    lines += [f"contains    {outer}: {', '.join(inner)}" for outer, inner in facts["contains"].items()]
    lines += [_split_line(facts["splits"])]
    lines += [_pretraining_line(facts)] if facts["clips"]["count"] and "pretraining" in facts["splits"] else []
    lines += [f"note        {counted(count, 'clip')}: {text}" for text, count in facts["clips"]["notes"].items()]
    return "\n".join(lines)


def _describe_clips(dataset: Dataset) -> dict[str, Any]:
    lengths = [clip.num_frames for clip in dataset.index.clips]
    notes = Counter(_note_kind(note) for row in dataset.clip_rows for note in row["note"].split("; ") if note)
    sectors = [float(frames.sector.mean()) for frames in dataset.clip_table.values()]
    return {
        "count": len(lengths),
        "shortest": min(lengths, default=0),
        "longest": max(lengths, default=0),
        "sector_fraction": _mean(sectors),
        "copies": sum(notes[f"{kind}another"] for kind in (SAME_FRAMES, SAME_RECORDING)),
        "notes": dict(notes),
    }


def _note_kind(note: str) -> str:
    """A note without the name of the clip that it points to."""
    kind = next((kind for kind in (SAME_FRAMES, SAME_RECORDING) if note.startswith(kind)), None)
    return note if kind is None else f"{kind}another"


def _frame_rates(dataset: Dataset) -> dict[str, Any]:
    steps = [clip.frame_time_ms for clip in dataset.index.clips if clip.frame_time_ms > 0]
    rates = sorted(1000.0 / step for step in steps)
    middle = float(np.median(rates)) if rates else None
    ends = (rates[0], rates[-1]) if rates else (None, None)
    unknown = len(dataset.index.clips) - len(rates)
    return {"lowest_hz": ends[0], "median_hz": middle, "highest_hz": ends[1], "clips_unknown": unknown}


def _duplicates(dataset: Dataset) -> dict[str, Any]:
    counts = [int(frames.duplicate.sum()) for frames in dataset.clip_table.values()]
    frames = sum(clip.num_frames for clip in dataset.index.clips)
    share = sum(counts) / frames if frames else 0.0
    return {"frames": sum(counts), "fraction": share, "clips": sum(count > 0 for count in counts)}


def _describe_cases(dataset: Dataset) -> dict[str, Any]:
    cases = dataset.index.cases
    copies = sum(case.excluded for case in cases)
    given = Counter(case.split for case in cases if case.split)
    sizes = Counter(f"{row['height_px']}x{row['width_px']}" for row in dataset.case_rows)
    shared = Counter({case.picture: case.group for case in cases}.values())
    raters, qualities = count_ratings(cases)
    return {
        "count": len(cases),
        "copies": copies,
        "distinct": len(cases) - copies,
        "shared_groups": sum(count > 1 for count in shared.values()),
        "sizes_px": dict(sizes.most_common()),
        "given_splits": dict(given),
        "pictures": len({case.picture for case in cases}),
        "raters": raters,
        "qualities": qualities,
    }


def _describe_classes(dataset: Dataset) -> dict[str, Any]:
    """Per class over the cases that are not copies: in how many it occurs, and its share of the image there."""
    areas: dict[str, list[float]] = {name: [] for name in dataset.classes}
    distinct = [case.case for case in dataset.index.cases if not case.excluded]
    for name in distinct:
        masks = dataset.case(name).masks
        for class_name, share in zip(dataset.classes, masks.mean(axis=(1, 2)), strict=True):
            areas[class_name] += [float(share)] if share else []
    return {
        name: {"present": len(shares), "of": len(distinct), "mean_area_fraction": _mean(shares)}
        for name, shares in areas.items()
    }


def _describe_split(dataset: Dataset, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Units and cases of each part, of the rater whose masks count where none is chosen; or why there is no split."""
    index = choose_cases(dataset.index)
    if not index.cases:
        return {"error": "no labelled images"}
    try:
        split = split_units(index, **settings)
    except DataError as error:
        return {"error": str(error)}
    parts = {part: _describe_part(index, split, part) for part in ("train", "validation", "test")}
    return {"unit": split.unit} | parts | {"pretraining": _describe_pretraining(dataset, split)}


def _describe_part(index: DatasetIndex, split: Split, part: Part) -> dict[str, int]:
    units: frozenset[str] = getattr(split, part)
    unknown = sum(unit.startswith(UNKNOWN_PATIENT) for unit in units)
    return {"units": len(units), "units_unknown": unknown, "cases": len(cases_of(index, split, part))}


def _describe_pretraining(dataset: Dataset, split: Split) -> dict[str, int]:
    """What a contrastive cell may pretrain on: clips of nobody in validation or test."""
    clips = pretraining_clips(dataset.index, split)
    return {"clips": len(clips), "frames": sum(dataset.clip_table[clip].num_frames for clip in clips)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _patients_line(facts: Mapping[str, Any]) -> str:
    unknown = f", and {_unknown(facts['patient_unknown'])} of unknown patient" if facts["patient_unknown"] else ""
    groups = f"{counted(facts['groups'], 'group')}, {counted(facts['units'], 'unit')} that no split cuts"
    return f"patients    {facts['patients']}{unknown}; {groups}"


def _unknown(count: int) -> str:
    return counted(count, "clip or image", "clips or images")


def _clips_line(facts: Mapping[str, Any]) -> str:
    clips = facts["clips"]
    if not clips["count"]:
        return "clips       none"
    length = f"{clips['shortest']} to {clips['longest']} each"
    copies = f", {clips['copies']} of them copies of another" if clips["copies"] else ""
    return f"clips       {clips['count']}{copies}, {facts['frames']} frames of {facts['size_px']} px ({length})"


def _rates_line(rates: Mapping[str, Any]) -> str:
    unknown = f"; unknown for {counted(rates['clips_unknown'], 'clip')}" if rates["clips_unknown"] else ""
    if rates["median_hz"] is None:
        return f"frame rate  none{unknown}"
    span = f"{rates['lowest_hz']:.1f} to {rates['highest_hz']:.1f}"
    return f"frame rate  {rates['median_hz']:.1f} Hz (median; {span}){unknown}"


def _duplicates_line(duplicates: Mapping[str, Any]) -> str:
    frames = counted(duplicates["frames"], "frame repeats its", "frames repeat their")
    share, clips = 100 * duplicates["fraction"], counted(duplicates["clips"], "clip")
    return f"duplicates  {frames} predecessor ({share:.1f} %), in {clips}"


def _cases_line(cases: Mapping[str, Any]) -> str:
    if not cases["count"]:
        return "labelled    none"
    copies = f", {cases['copies']} of them copies in no split: {cases['distinct']} distinct" if cases["copies"] else ""
    sizes = ", ".join(f"{size} ({count})" for size, count in list(cases["sizes_px"].items())[:4])
    return f"labelled    {cases['count']} images{copies}; {cases['shared_groups']} groups of several; {sizes}"


def _rating_lines(cases: Mapping[str, Any]) -> list[str]:
    """Whose masks there are, where anybody is named, and how good the pictures are, where anybody said."""
    counts = {kind: ", ".join(f"{name} {count}" for name, count in cases[kind].items()) for kind in _RATINGS}
    lines = [f"raters      {counts['raters']}; of {counted(cases['pictures'], 'image')}"] if cases["raters"] else []
    return lines + ([f"quality     {counts['qualities']}"] if cases["qualities"] else [])


def _class_line(name: str, entry: Mapping[str, Any]) -> str:
    area = f", {100 * entry['mean_area_fraction']:.2f} % of the image there" if entry["present"] else ""
    return f"class       {name}: in {entry['present']} of {entry['of']}{area}"


def _split_line(splits: Mapping[str, Any]) -> str:
    if "error" in splits:
        return f"split       none: {splits['error']}"
    parts = [
        f"{part} {counted(splits[part]['cases'], 'case')} ({_units(splits[part], splits['unit'])})"
        for part in ("train", "validation", "test")
    ]
    return f"split       seed {splits['seed']}: {', '.join(parts)}"


def _units(part: Mapping[str, Any], unit: str) -> str:
    """`3 patients`, `2 groups`, `1 patient, 11 images of unknown patient`."""
    known = part["units"] - part["units_unknown"]
    said = [counted(known, unit)] if known or not part["units_unknown"] else []
    said += [counted(part["units_unknown"], "image") + " of unknown patient"] if part["units_unknown"] else []
    return ", ".join(said)


def _pretraining_line(facts: Mapping[str, Any]) -> str:
    read = facts["splits"]["pretraining"]
    clips = f"{read['clips']} of {counted(facts['clips']['count'], 'clip')}, {counted(read['frames'], 'frame')}"
    return f"pretrain    {clips}: those of nobody in validation or test"
