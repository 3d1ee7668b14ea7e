"""The table of a sweep: one block per measurement, a row per setting, a column per label fraction, and its footnotes.

A pure function of the plan and the store's records; equal records give equal bytes. `render.py` prints it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from uscl.records import NO_FACTS, CellPlan, DatasetFacts, Outcome
from uscl.report.collect import CellRecord
from uscl.report.footnotes import footnotes, rater_notes
from uscl.spec.rows import SEEDS, RowKey, row_key, row_names, shown
from uscl.spec.sweep import ReportSpec

COLLAPSED, DIVERGED, PARTIAL = "*", "!", "?"
"""Marks beside a mean: a collapsed pretraining is in it; a diverged cell, or one not finished yet, is not."""

LOWER_IS_BETTER = (
    *("delta_snr", "hd95", "loss", "miss", "false_alarm", "snr_degenerate"),
    *("embedding/alignment", "embedding/uniformity"),
)
"""Beginnings of the measurements that are errors (science.md 7.2, 7.4), or distances of what should be near.

`embedding/compactness` is a mean cosine: higher is more compact."""
ZERO_IS_BEST = "delta_snr_signed"
"""An error with its sign: neither end of it is better."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One measurement of one row in one column: the mean over its cells (seeds)."""

    mean: float
    """NaN where no cell has the measurement."""
    sd: float
    """Sample standard deviation over seeds; NaN where n < 2, or where the cells differ in more than seeds."""
    n: int
    marks: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """The settings of a row, and its entry per column; None where the sweep has no such cell."""

    settings: tuple[str, ...]
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """All rows of one measurement."""

    value: str
    """`test/dsc`."""
    arrow: str
    """As `arrow` gives it."""
    rows: tuple[Row, ...]
    floor: tuple[Entry | None, ...] | None
    """What a prediction of nothing but background scores, per column; None where there is no such figure."""
    ceiling: float | None = None
    """What two raters score against each other on this dataset; None where nobody measured."""


@dataclass(frozen=True, slots=True)
class Table:
    """Blocks that share their row names and columns."""

    row_names: tuple[str, ...]
    column_name: str
    """The setting that makes the columns; empty where there is one column only."""
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def build_table(
    cells: Sequence[CellPlan],
    records: Mapping[str, CellRecord],
    report: ReportSpec,
    facts: DatasetFacts = NO_FACTS,
) -> Table:
    """The table of the `report:` block over the planned cells; cells without a record count as missing.

    Mean and n are over the finished cells of a row and column, and so is the sample sd where these differ in seeds
    alone; a NaN measurement leaves n.
    """
    rows, columns = row_names(cells, report.rows, report.columns), column_values(cells, report.columns)
    groups = group_cells(cells, rows, report.columns)
    blocks = tuple(_block(value, groups, columns, records, facts) for value in report.values)
    notes = footnotes(cells, records, report.values, mixed=_mixed_axes(groups), column=report.columns)
    notes = (*_single_run_note(blocks), *notes, *rater_notes(cells, facts.raters))
    return Table(rows, report.columns, columns, blocks, notes)


def arrow(value: str) -> str:
    """`↓` where lower is better, `→0` where zero is, else `↑`."""
    measure = value.partition("/")[2] or value
    if measure.startswith(ZERO_IS_BEST):
        return "→0"
    return "↓" if measure.startswith(LOWER_IS_BETTER) else "↑"


def floor_name(value: str) -> str:
    """The all-background figure beside a measurement: `test/dsc/cortex` -> `test/dsc_floor/cortex`."""
    parts = value.split("/")
    at = min(1, len(parts) - 1)
    return "/".join([*parts[:at], f"{parts[at]}_floor", *parts[at + 1 :]])


def column_values(cells: Sequence[CellPlan], column: str) -> tuple[str, ...]:
    """The columns of a table as printed: numbers in their order, words in the cells' order."""
    values = {shown(cell.settings, column): cell.settings.get(column) for cell in cells}
    if not column:
        return tuple(values)
    numbers = {text: float(value) for text, value in values.items() if isinstance(value, (int, float))}
    return tuple(sorted(numbers, key=numbers.__getitem__) if len(numbers) == len(values) else values)


Groups: TypeAlias = dict[RowKey, dict[str, list[CellPlan]]]
"""The cells of each row and column."""


def group_cells(cells: Iterable[CellPlan], rows: Sequence[str], column: str) -> Groups:
    """Cells by row and column, in the order of their numbers."""
    groups: Groups = {}
    for cell in sorted(cells, key=lambda cell: cell.number):
        groups.setdefault(row_key(cell, rows), {}).setdefault(shown(cell.settings, column), []).append(cell)
    return groups


def _block(
    value: str, groups: Groups, columns: Sequence[str], records: Mapping[str, CellRecord], facts: DatasetFacts
) -> Block:
    rows = tuple(
        Row(settings, tuple(_entry(by_column.get(column), value, records) for column in columns))
        for settings, by_column in groups.items()
    )
    everything = {column: [c for by_column in groups.values() for c in by_column.get(column, ())] for column in columns}
    floor = tuple(_entry(everything[column], floor_name(value), records) for column in columns)
    known = any(entry is not None and entry.n for entry in floor)
    return Block(value, arrow(value), rows, floor if known else None, facts.agreement.get(value.partition("/")[2]))


def _entry(cells: Sequence[CellPlan] | None, value: str, records: Mapping[str, CellRecord]) -> Entry | None:
    if not cells:
        return None
    results = [records[cell.cell].result if cell.cell in records else None for cell in cells]
    done = [result for result in results if result is not None and result.outcome is Outcome.DONE]
    values = [result.metrics[value] for result in done if math.isfinite(result.metrics.get(value, math.nan))]
    marks = COLLAPSED * bool(values) * any("collapsed" in result.flags for result in done)
    marks += DIVERGED * any(result is not None and result.outcome is Outcome.DIVERGED for result in results)
    marks += PARTIAL * any(result is None for result in results)
    mean = math.fsum(values) / len(values) if values else math.nan
    repeats = len(values) > 1 and not mixed_settings(cells)
    sd = statistics.stdev(values) if repeats else math.nan
    return Entry(mean, sd, len(values), marks)


def _single_run_note(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Without repeats no difference can be told from chance, and the page must say so."""
    counts = [entry.n for block in blocks for row in block.rows for entry in row.entries if entry is not None]
    if 1 not in counts:
        return ()
    return ("n = 1: one training run, no spread is known; add seeds before reading small differences",)


def _mixed_axes(groups: Groups) -> tuple[str, ...]:
    """Settings, other than seeds, that cells of one entry differ in: the mean hides them."""
    entries = [cells for by_column in groups.values() for cells in by_column.values()]
    return tuple(dict.fromkeys(name for cells in entries for name in mixed_settings(cells)))


def mixed_settings(cells: Sequence[CellPlan]) -> tuple[str, ...]:
    """Settings other than seeds that the cells differ in."""
    axes = dict.fromkeys(name for cell in cells for name in cell.axes if name not in ("seed", *SEEDS))
    return tuple(name for name in axes if len({shown(cell.settings, name) for cell in cells}) > 1)
