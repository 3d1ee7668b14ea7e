"""Two datasets -> one: the clips and cases of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.dataset import Dataset, open_dataset
from uscl.data.ingest.clips import ImportSummary
from uscl.data.ingest.grouping import join_groups
from uscl.data.ingest.progress import Progress
from uscl.data.schema import RATING_COLUMNS, CaseEntry, ClipEntry, DatasetIndex
from uscl.data.splits import check_given_splits
from uscl.data.wording import counted, listed
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError


def merge_datasets(
    first: Path,
    second: Path,
    out: Path,
    *,
    name: str = "",
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Copy both into a dataset at `out`. A patient or group of the same name in both is taken to be the same one.

    Joining two patients who only share a number costs a little data; taking one patient for two would leak.
    DataError where the classes of two labelled sets or the frame sizes of two sets of clips differ, or names clash.
    """
    parts = (open_dataset(first), open_dataset(second))
    classes, contains = _classes(*parts)
    sources = [source for part in parts for source in part.sources]
    licence = "; ".join(dict.fromkeys(part.licence for part in parts if part.licence))
    groups, copies = _groups(parts)
    cases_of_both = parts[0].index.cases + parts[1].index.cases
    regrouped = [replace(case, group=groups[f"case/{case.case}"]) for case in cases_of_both]
    check_given_splits(DatasetIndex(name or out.name, "", classes, cases=tuple(regrouped)))
    writer = DatasetWriter(
        out,
        name=name or out.name,
        classes=classes,
        contains=contains,
        size=_size(*parts),
        licence=licence,
        sources=sources,
        agreement=_agreement(*parts),
    )
    with writer:
        for part in parts:
            _copy_clips(writer, part, groups=groups, progress=progress)
            _copy_cases(writer, part, groups=groups, progress=progress)
    shared = sorted(_patients(parts[0]) & _patients(parts[1]))
    count = counted(len(shared), "patient or group occurs", "patients or groups occur")
    remarks = [f"{count} in both and taken to be the same: {listed(shared, shown=5)}"] if shared else []
    count = counted(len(copies), "clip is a copy", "clips are copies")
    remarks += [f"{count} across the two, kept in one group: {listed(copies, shown=5)}"] if copies else []
    clips, cases = (sum(len(rows) for rows in both) for both in _rows(parts))
    frames = sum(clip.num_frames for part in parts for clip in part.index.clips)
    return ImportSummary(clips=clips, frames=frames, cases=cases, remarks=tuple(remarks))


def _rows(parts: tuple[Dataset, Dataset]) -> tuple[list[list[Any]], list[list[Any]]]:
    return [part.clip_rows for part in parts], [part.case_rows for part in parts]


def _classes(first: Dataset, second: Dataset) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    labelled = [part for part in (first, second) if part.index.cases]
    if len(labelled) == 2 and (first.classes, first.index.contains) != (second.classes, second.index.contains):
        raise DataError(
            f"{_class_difference(first, second)}; "
            "labelled sets can be merged when classes, their order and what contains what agree"
        )
    chosen = labelled[0] if labelled else first
    return chosen.classes, chosen.index.contains


def _agreement(first: Dataset, second: Dataset) -> Mapping[str, float]:
    """That of the labelled set; of two labelled sets, it speaks of neither's cases alone and is dropped."""
    labelled = [part.index.agreement for part in (first, second) if part.index.cases]
    return labelled[0] if len(labelled) == 1 else {}


def _class_difference(first: Dataset, second: Dataset) -> str:
    if first.classes != second.classes:
        return f"{first.path} has classes {', '.join(first.classes)} and {second.path} {', '.join(second.classes)}"
    both = [part.index.contains for part in (first, second)]
    outer = next(name for name in first.classes if both[0].get(name) != both[1].get(name))
    inner = [", ".join(contains.get(outer, ())) or "nothing" for contains in both]
    return f"class {outer} contains {inner[0]} in {first.path} and {inner[1]} in {second.path} (--contains)"


def _groups(parts: tuple[Dataset, Dataset]) -> tuple[dict[str, str], list[str]]:
    """The group of each clip and case (`clip/a`, `case/b`), joined where contents are equal; names of such clips."""
    entries: list[tuple[str, ClipEntry | CaseEntry]] = []
    for part in parts:
        entries += [(f"clip/{clip.clip}", clip) for clip in part.index.clips]
        entries += [(f"case/{case.case}", case) for case in part.index.cases]
    first: dict[str, int] = {}
    alike = [(first.setdefault(entry.content, position), position) for position, (_, entry) in enumerate(entries)]
    names = [name for name, _ in entries]
    groups = join_groups(names, [entry.group for _, entry in entries], alike)
    in_first = len(parts[0].index.clips) + len(parts[0].index.cases)
    copies = [names[two] for one, two in alike if one < in_first <= two and names[two].startswith("clip/")]
    return dict(zip(names, groups, strict=True)), [name.removeprefix("clip/") for name in copies]


def _size(first: Dataset, second: Dataset) -> int:
    sizes = {part.size for part in (first, second) if part.index.clips}
    if len(sizes) == 2:
        raise DataError(
            f"{first.path} holds frames of {first.size} px and {second.path} of {second.size} px; "
            "import both with the same --size"
        )
    return sizes.pop() if sizes else max(first.size, second.size)


def _patients(part: Dataset) -> set[str]:
    return {name for entry in (*part.index.clips, *part.index.cases) for name in (entry.patient, entry.group)}


def _copy_clips(writer: DatasetWriter, part: Dataset, *, groups: Mapping[str, str], progress: Progress) -> None:
    for number, row in enumerate(part.clip_rows):
        progress(f"clips of {part.name}", number, len(part.clip_rows))
        table = part.clip_table[row["clip"]]
        writer.add_clip(
            part.frames(np.arange(table.first_row, table.first_row + table.num_frames)),
            clip=row["clip"],
            patient=row["patient"],
            group=groups[f"clip/{row['clip']}"],
            times_ms=None if row["times_ms"] is None else table.times_ms,
            duplicate=table.duplicate,
            sector=table.sector,
            source_size=table.source_size,
            spacing_mm=_spacing(row),
            note=row["note"],
            content=row["content"],
        )


def _copy_cases(writer: DatasetWriter, part: Dataset, *, groups: Mapping[str, str], progress: Progress) -> None:
    for number, row in enumerate(part.case_rows):
        progress(f"labels of {part.name}", number, len(part.case_rows))
        case = part.case(row["case"])
        kept = {key: row[key] for key in ("excluded", "copy_of", "split", "clip", "frame", "content")}
        kept |= {"image_id" if key == "image" else key: row[key] for key in RATING_COLUMNS}
        writer.add_case(
            case.image,
            case.masks,
            case=case.case,
            patient=case.patient,
            group=groups[f"case/{case.case}"],
            known=case.known,
            sector=case.sector,
            spacing_mm=case.spacing_mm,
            **kept,
        )


def _spacing(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if row["spacing_mm"] is None else (row["spacing_mm"][0], row["spacing_mm"][1])
