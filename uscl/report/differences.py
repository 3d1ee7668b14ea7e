"""What each row of a table differs from the reference row by, and how far that can be believed (science.md 10)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uscl.errors import SpecError
from uscl.records import NO_FACTS, CellPlan, DatasetFacts
from uscl.report.collect import CellRecord
from uscl.report.scores import CaseScores, Measure, measure_of, paired_scores
from uscl.report.sheet import ABSENT, Sheet, block_title, signed
from uscl.report.stats import CONFIDENCE, PairedDifference, compare, holm
from uscl.report.table import Table, arrow, column_values, group_cells, mixed_settings
from uscl.spec.rows import RowKey, reference_row, row_names
from uscl.spec.sweep import ReportSpec
from uscl.store.stages import StageStore

LEGEND = (
    "row minus reference row, the same patients and training runs; interval: two-way random effects over pretraining "
    "seeds and patients, after averaging over label draws and fine-tuning seeds; p (Holm) is corrected for the rows of "
    "its column"
)
BOLD = (
    "bold: the interval leaves out zero, at 3 seeds or more, and p (Holm) is below 0.05 (simulated tables of 9 rows "
    "without any effect have something bold in up to 16 % at 3 seeds, 8 % at 5, 5 % at 10)"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One row against the reference row, in one column."""

    row: RowKey
    column: str
    paired: PairedDifference
    p_holm: float
    """NaN where there is no p."""

    @property
    def bold(self) -> bool:
        """Whether it would be called a difference: see BOLD.

        Simulated tables of nine rows without any effect, 30 patients, have something bold in up to 16 % at 3 seeds, 8 %
        at 5 and 5 % at 10; without Holm it would be 26 to 45 %.
        """
        return self.paired.bold and self.p_holm < 1 - CONFIDENCE


@dataclass(frozen=True, slots=True)
class DifferenceBlock:
    """All rows of one measurement against the reference row."""

    value: str
    reference: RowKey
    entries: tuple[Difference, ...]
    """By column, then row."""
    notes: tuple[str, ...] = ()

    @property
    def several_runs(self) -> bool:
        """Whether any line is over more than one pretraining seed."""
        return any(entry.paired.num_seeds > 1 for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What every measurement of a report is compared over."""

    groups: Mapping[RowKey, Mapping[str, Sequence[CellPlan]]]
    columns: tuple[str, ...]
    reference: RowKey


def comparison(cells: Sequence[CellPlan], report: ReportSpec) -> Comparison | None:
    """The rows, columns and reference row of a report; None where it names no reference, or the plan has none."""
    reference = find_reference(cells, report)
    if reference is None:
        return None
    rows = row_names(cells, report.rows, report.columns)
    groups = group_cells(cells, rows, report.columns)
    return Comparison(groups, column_values(cells, report.columns), reference)


def find_reference(cells: Sequence[CellPlan], report: ReportSpec) -> RowKey | None:
    """The reference row among the cells of a plan; None where the report names none, or it is not there.

    A row of the file is not there where its cells are the same experiments as an earlier row's, and run as those.
    """
    if not report.reference or not cells:
        return None
    try:
        return reference_row(cells, row_names(cells, report.rows, report.columns), report.reference)
    except SpecError:
        return None


def missing_reference(cells: Sequence[CellPlan], report: ReportSpec) -> tuple[str, ...]:
    """The note of a report whose reference row is not there."""
    if not report.reference or not cells or find_reference(cells, report) is not None:
        return ()
    return (
        f"no differences: report.reference ({report.reference}) is no row of its own here; its cells are the same as "
        "an earlier row's, or no longer declared",
    )


def build_differences(
    store: StageStore,
    cells: Sequence[CellPlan],
    records: Mapping[str, CellRecord],
    report: ReportSpec,
    facts: DatasetFacts = NO_FACTS,
) -> tuple[DifferenceBlock, ...]:
    """A block per measurement that is a mean over patients; none where the report names no reference row."""
    compared = comparison(cells, report)
    if compared is None or len(compared.groups) < 2:
        return ()
    scores = CaseScores(store, records, report.values)
    measures = [(value, measure_of(value)) for value in report.values]
    return tuple(_block(value, measure, compared, scores, facts) for value, measure in measures if measure is not None)


def difference_sheets(blocks: Sequence[DifferenceBlock], table: Table) -> tuple[Sheet, ...]:
    """The blocks as tables of text, a line per column and row; how to read them is said below the last."""
    legend = (LEGEND, BOLD) if any(block.entries for block in blocks) else ()
    last = len(blocks) - 1
    return tuple(_sheet(block, table, legend if at == last else ()) for at, block in enumerate(blocks))


def _sheet(block: DifferenceBlock, table: Table, legend: tuple[str, ...]) -> Sheet:
    at = (table.column_name,) if table.column_name else ()
    header = (*table.row_names, *at, "difference", "95 % interval", "p", "p (Holm)", "n")
    num_names = len(table.row_names) + len(at)
    lines = tuple(_line(entry, table.column_name) for entry in block.entries)
    bold = frozenset((number, num_names) for number, entry in enumerate(block.entries) if entry.bold)
    title = f"{block_title(block.value, arrow(block.value))}, difference to {' '.join(block.reference)}"
    return Sheet(title, header, lines, num_names, bold=bold, notes=(*block.notes, *legend))


def _block(
    value: str, measure: Measure, compared: Comparison, scores: CaseScores, facts: DatasetFacts
) -> DifferenceBlock:
    entries: list[Difference] = []
    skipped: dict[str, None] = {}
    for column in compared.columns:
        at = f" at {column}" if len(compared.columns) > 1 else ""
        cells = {key: by_column[column] for key, by_column in compared.groups.items() if column in by_column}
        mixed = {key: mixed_settings(of_row) for key, of_row in cells.items()}
        skipped |= {
            f"{' '.join(key)}: no difference{at}, for it averages over {', '.join(names)}": None
            for key, names in mixed.items()
            if names
        }
        if compared.reference not in cells:
            skipped[f"no differences{at}: the reference row has no cell there"] = None
        elif not mixed[compared.reference]:
            rows = {key: cells[key] for key in cells if key != compared.reference and not mixed[key]}
            entries += _column(column, rows, cells[compared.reference], measure, scores, facts)
    return DifferenceBlock(value, compared.reference, tuple(entries), (*_notes(entries), *skipped))


def _column(
    column: str,
    rows: Mapping[RowKey, Sequence[CellPlan]],
    reference: Sequence[CellPlan],
    measure: Measure,
    scores: CaseScores,
    facts: DatasetFacts,
) -> list[Difference]:
    """Every row of one column against the reference row, corrected for their number."""
    theirs = scores.of_runs(reference, measure, facts)
    paired = [
        compare(*paired_scores(scores.of_runs(cells, measure, facts), theirs), unit=facts.unit)
        for cells in rows.values()
    ]
    adjusted = holm([each.p for each in paired])
    return [Difference(row, column, each, p) for row, each, p in zip(rows, paired, adjusted, strict=True)]


def _notes(entries: Sequence[Difference]) -> list[str]:
    """What limits which lines of the block."""
    counts: dict[str, int] = {}
    for entry in entries:
        for note in filter(None, entry.paired.note.split("; ")):
            counts[note] = counts.get(note, 0) + 1
    everywhere = len(entries)
    return [note if n == everywhere else f"{note} ({n} of {everywhere} lines)" for note, n in counts.items()]


def _line(entry: Difference, column_name: str) -> tuple[str, ...]:
    paired = entry.paired
    known = not math.isnan(paired.low)
    interval = f"[{signed(paired.low)}, {signed(paired.high)}]" if known else ABSENT
    seeds = f"{paired.num_seeds} seed{'s' * (paired.num_seeds != 1)}"
    units = f"{paired.num_patients} {paired.unit}{'s' * (paired.num_patients != 1)}"
    at = (entry.column,) if column_name else ()
    return (*entry.row, *at, signed(paired.mean), interval, _p(paired.p), _p(entry.p_holm), f"{seeds}, {units}")


def _p(value: float) -> str:
    if math.isnan(value):
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
