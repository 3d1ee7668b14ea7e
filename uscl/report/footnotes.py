"""What a reader must know beside a table: what is missing, collapsed or diverged, which rule scored, what was mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from uscl.records import CellPlan, CellResult, Outcome
from uscl.report.collect import CellRecord
from uscl.spec.methods import is_moot
from uscl.spec.rows import SEEDS, shown

EMPTY_RULES = {
    "dsc": "both masks empty = 1, one empty = 0 (both_empty_one)",
    "dsc_leaf": "mean over the classes that contain no other; dsc is over all classes",
    "dsc_nan_drop": "both masks empty is left out, one empty = 0 (nan_drop)",
    "dsc_gt_present": "only cases where the class is present (gt_present_only): false positives elsewhere do not count",
    "delta_snr": "the SNR of an empty mask is 0, so both empty adds 0; an error in log10 units, lower is better",
    "delta_snr_all": "mean over all classes; delta_snr is over those that contain no other",
    "delta_snr_present": "only where both masks are non-empty; an error in log10 units, lower is better",
    "hd95": "px; a missed or invented region counts as the image diagonal; both empty is left out",
    "hd95_nan_drop": "px; only where both masks are non-empty, so it falls as less is found",
    "embedding": "of labelled pixels in the last feature map, background a class of its own; a class that its inner "
    "classes fill has no figure",
}
"""How each measurement treats empty masks (science.md 7), and which pixels an embedding's figures are of."""
PARTS = {"val": "validation", "test": "test"}
"""The scored parts of a split, by their names in measurements and in words."""
_REPEATS = ("seed", *SEEDS)
COORDINATES = (
    "the decoder stage learned coordinates (decoder/position_retrieval over 0.5; "
    "control: decoder.cross_clip_negative: true)"
)
"""Its loss was solved by where a region lies, not by what it shows (science.md 2.3)."""


def footnotes(
    cells: Sequence[CellPlan],
    records: Mapping[str, CellRecord],
    values: Sequence[str],
    *,
    mixed: Sequence[str] = (),
    column: str = "",
) -> tuple[str, ...]:
    """The notes below a table, in a fixed order; `mixed` names settings that a mean averages over unsaid.

    `column` is the setting that makes the columns.
    """
    results = {cell.number: _result(records, cell) for cell in cells}
    notes = [
        _cells_note("* collapsed pretraining, in the mean", results, lambda r: r is not None and _collapsed(r)),
        _cells_note(COORDINATES, results, lambda r: r is not None and "coordinates" in r.flags),
        _cells_note("! diverged (non-finite loss), not in the mean", results, lambda r: r is not None and _diverged(r)),
        _search_note(cells),
        _cells_note("? not finished, not in the mean", results, lambda r: r is None),
        f"means also average over {', '.join(mixed)} (no ± there): name it in `report.rows`" if mixed else "",
        *_setting_notes(cells),
        *_case_notes(cells, column),
        *_rule_notes(values),
        *_provenance_notes(records[cell.cell] for cell in cells if cell.cell in records),
    ]
    return tuple(note for note in notes if note)


def rater_notes(cells: Sequence[CellPlan], raters: Sequence[str]) -> list[str]:
    """Whose masks the figures are about, where the dataset has those of several raters."""
    chosen = sorted({str(cell.settings.get("labels.rater") or raters[0]) for cell in cells}) if len(raters) > 1 else []
    return [f"masks of {', '.join(chosen)} (labels.rater); the dataset has {', '.join(raters)}"] if chosen else []


def _search_note(cells: Sequence[CellPlan]) -> str:
    """Of a search: how many proposals its best was chosen from, which a reader needs to judge its score."""
    proposals = {cell.proposal for cell in cells if cell.proposal is not None}
    if not proposals:
        return ""
    return (
        f"a search looked at {len(proposals)} proposals by their validation scores, so the best of those is too good; "
        "winners alone have a test score"
    )


def torch_version(provenance: Mapping[str, Any]) -> str:
    """The torch version a stage ran on, without its build tag; empty where it is not recorded."""
    versions = provenance.get("versions")
    found = versions.get("torch") if isinstance(versions, Mapping) else provenance.get("torch")
    return str(found).split("+")[0] if found else ""


def device_kind(provenance: Mapping[str, Any]) -> str:
    """The kind of device a stage ran on (`cpu`, `Tesla V100-SXM2-16GB`), without its index; empty where unknown."""
    for name in ("device_kind", "device_name", "gpu", "device"):
        if provenance.get(name):
            kind = str(provenance[name])
            return kind.split(":")[0] if kind.startswith(("cuda:", "cpu:")) else kind
    return ""


def _result(records: Mapping[str, CellRecord], cell: CellPlan) -> CellResult | None:
    return records[cell.cell].result if cell.cell in records else None


def _collapsed(result: CellResult) -> bool:
    return "collapsed" in result.flags


def _diverged(result: CellResult) -> bool:
    return result.outcome is Outcome.DIVERGED


def _cells_note(
    text: str, results: Mapping[int, CellResult | None], belongs: Callable[[CellResult | None], bool]
) -> str:
    numbers = sorted(number for number, result in results.items() if belongs(result))
    if not numbers:
        return ""
    return f"{text}: {len(numbers)} of {len(results)} cells ({spans(numbers)})"


def spans(numbers: Sequence[int]) -> str:
    """Sorted whole numbers, runs drawn together: [1, 2, 3, 7] -> `1-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def _setting_notes(cells: Sequence[CellPlan]) -> list[str]:
    """What the sweep file or `--set` gives alike in every cell: a cut-down run must not look like a whole one."""
    first = {**cells[0].fixed, **cells[0].axes} if cells else {}
    alike = {
        name: value
        for name, value in first.items()
        if all(({**cell.fixed, **cell.axes}).get(name, cell) == value for cell in cells) and name not in _REPEATS
    }
    said = ", ".join(f"{name}={json.dumps(value)}" for name, value in alike.items())
    return [f"in every cell, beside the recipe: {said}"] if said else []


def _case_notes(cells: Sequence[CellPlan], column: str) -> list[str]:
    """How many labelled cases were trained on, by column, and how many scored."""
    trained: dict[str, set[int]] = {}
    for cell in cells:
        if "finetune" in cell.cases:
            trained.setdefault(shown(cell.settings, column) if column else "", set()).add(cell.cases["finetune"])
    if not trained:
        return []
    words = [f"{at} -> {_range(counts)}" if at else _range(counts) for at, counts in _in_order(trained)]
    scored = {part: {c.cases[f"evaluate/{part}"] for c in cells if f"evaluate/{part}" in c.cases} for part in PARTS}
    tuned = [cell for cell in cells if not is_moot("finetune.select", cell.settings)]
    chosen = any(cell.settings.get("finetune.select") == "best_val" for cell in tuned)
    among = "" if len(tuned) == len(cells) else ", not under nnU-Net's recipe"
    also = f" (they also choose the step: finetune.select: best_val{among})" if chosen else ""
    said = [f"{_range(counts)} {PARTS[part]}{also * (part == 'val')}" for part, counts in scored.items() if counts]
    by = f" by {column}" if column else ""
    return [f"labelled training cases{by}: {', '.join(words)}; scored on {' and '.join(said)} cases"]


def _in_order(by_text: Mapping[str, set[int]]) -> list[tuple[str, set[int]]]:
    """By number where all are numbers, else as they come."""
    try:
        return sorted(by_text.items(), key=lambda item: float(item[0] or 0))
    except ValueError:
        return list(by_text.items())


def _range(counts: set[int]) -> str:
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)}-{max(counts)}"


def _rule_notes(values: Sequence[str]) -> list[str]:
    measures = dict.fromkeys(value.split("/")[1] if "/" in value else value for value in values)
    return [f"{measure}: {EMPTY_RULES[measure]}" for measure in measures if measure in EMPTY_RULES]


def _provenance_notes(records: Iterable[CellRecord]) -> list[str]:
    """A line per kind of machine difference: results of mixed devices or torch versions differ by more than seeds."""
    stages = {manifest.ref: manifest for record in records for manifest in record.manifests.values()}
    notes = []
    for what, read in (("device kinds", device_kind), ("torch versions", torch_version)):
        counts: dict[str, int] = {}
        for manifest in stages.values():
            name = read(manifest.provenance)
            if name:
                counts[name] = counts.get(name, 0) + 1
        if len(counts) > 1:
            listed = ", ".join(f"{name} ({counts[name]} stages)" for name in sorted(counts))
            notes.append(f"mixed {what}: {listed}; differences between cells may come from that")
    return notes
