"""A paper's numbers as a block of their own, and beside ours as far as the two can be compared.

Differences to the paper are taken only on the paper's own data. On any other, what can be compared is an effect: what a
row changes against the reference row, there and here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uscl.records import NO_FACTS, CellPlan, DatasetFacts, Outcome
from uscl.report.collect import CellRecord
from uscl.report.differences import find_reference
from uscl.report.scores import Run, run_of
from uscl.report.sheet import ABSENT, Sheet, block_title, signed
from uscl.report.table import Block, Groups, Table, arrow, build_table, group_cells
from uscl.spec.rows import RowKey, row_titles, rows_called
from uscl.spec.sweep import ReportSpec

Numbers = Mapping[tuple[RowKey, str], float]
"""Row and column -> number; absent where there is none."""


@dataclass(frozen=True, slots=True)
class PublishedBlock:
    """A paper's numbers of one measurement by our rows and columns, and ours."""

    value: str
    paper: Numbers
    ours: Numbers
    our_effects: Numbers
    """Row minus reference row, over the training runs that both have finished."""
    rows: tuple[RowKey, ...]
    """Those that the paper has, in the table's order."""
    columns: tuple[str, ...]
    """Those that the paper has, as the table prints them."""
    reference: RowKey | None
    same_data: bool
    """Whether our dataset is the paper's."""


def build_published(
    cells: Sequence[CellPlan],
    records: Mapping[str, CellRecord],
    report: ReportSpec,
    facts: DatasetFacts = NO_FACTS,
) -> tuple[PublishedBlock, ...]:
    """A block per published measurement; rows and columns that this run lacks (`--set`) are left out."""
    published = report.published
    if not published.values or not cells:
        return ()
    table = build_table(cells, records, report.model_copy(update={"values": tuple(published.values)}), facts)
    columns = _columns(table, published.columns)
    titles = row_titles(sorted(cells, key=lambda cell: cell.number), table.row_names)
    reference = find_reference(cells, report)
    groups = group_cells(cells, table.row_names, report.columns)
    same = facts.name.casefold() == published.dataset.casefold() != ""
    blocks = []
    for block in table.blocks:
        paper: dict[tuple[RowKey, str], float] = {}
        for name, numbers in published.values[block.value].items():
            for row in rows_called(name, titles)[:1]:
                pairs = ((columns[at], number) for at, number in enumerate(numbers) if at in columns)
                paper |= {(row, column): number for column, number in pairs if number is not None}
        rows = tuple(row.settings for row in block.rows if any((row.settings, c) in paper for c in columns.values()))
        shown = tuple(column for column in table.columns if column in columns.values())
        ours, effects = _ours(table, block), _our_effects(block.value, groups, reference, records)
        blocks.append(PublishedBlock(block.value, paper, ours, effects, rows, shown, reference, same))
    return tuple(block for block in blocks if block.rows)


def published_sheets(
    blocks: Sequence[PublishedBlock], table: Table, report: ReportSpec, facts: DatasetFacts
) -> tuple[Sheet, ...]:
    """The paper's numbers; then ours minus the paper's on the paper's data, or else effects side by side."""
    sheets: list[Sheet] = []
    for at, block in enumerate(blocks):
        note = (report.published.note,) if report.published.note and at == len(blocks) - 1 else ()
        sheets.append(_paper(block, table, report, note))
    if blocks and blocks[0].same_data:
        return (*sheets, *(_differences(block, table) for block in blocks))
    compared = [block for block in blocks if _effect_rows(block)]
    here = f"'{facts.name}'" if facts.name else "another dataset"
    said = f"the paper measured {report.published.dataset} images, this sweep {here}: only effects can be compared"
    last = len(compared) - 1
    return (*sheets, *(_effects(block, table, (said,) * (at == last)) for at, block in enumerate(compared)))


def _paper(block: PublishedBlock, table: Table, report: ReportSpec, notes: tuple[str, ...]) -> Sheet:
    published = report.published
    source = f" ({published.source})" if published.source else ""
    title = f"paper, {published.dataset} images: {block_title(block.value, arrow(block.value))}{source}"
    lines = [(*row, *(_printed(block.paper.get((row, c))) for c in block.columns)) for row in block.rows]
    header = (*table.row_names, *_column_titles(block.columns, table))
    return Sheet(title, header, tuple(lines), len(table.row_names), notes=notes)


def _differences(block: PublishedBlock, table: Table) -> Sheet:
    lines = [(*row, *(signed(_minus(block.ours, block.paper, row, c)) for c in block.columns)) for row in block.rows]
    header = (*table.row_names, *_column_titles(block.columns, table))
    return Sheet(f"ours minus paper: {block.value}", header, tuple(lines), len(table.row_names))


def _effect_rows(block: PublishedBlock) -> list[RowKey]:
    """Rows with an effect in the paper: those beside the reference row, where the paper has that."""
    return [row for row in block.rows if row != block.reference] if block.reference in block.rows else []


def _effects(block: PublishedBlock, table: Table, notes: tuple[str, ...]) -> Sheet:
    """Row minus reference row, the paper's and ours."""
    reference = block.reference or ()
    lines = []
    for row in _effect_rows(block):
        effects: list[float] = []
        for column in block.columns:
            of_paper = block.paper.get((row, column), math.nan) - block.paper.get((reference, column), math.nan)
            effects += (of_paper, block.our_effects.get((row, column), math.nan))
        lines.append((*row, *map(signed, effects)))
    titles = [f"{title} {whose}" for title in _column_titles(block.columns, table) for whose in ("paper", "ours")]
    title = f"effects, row minus {' '.join(reference)}: {block.value}"
    return Sheet(title, (*table.row_names, *titles), tuple(lines), len(table.row_names), notes=notes)


def _columns(table: Table, published: Sequence[str | int | float]) -> dict[int, str]:
    """Place in the published list -> the table's column of that value; without columns, the only one."""
    if not table.column_name:
        return {0: table.columns[0]} if table.columns else {}
    return {at: column for at, value in enumerate(published) for column in table.columns if _is_column(column, value)}


def _is_column(column: str, value: str | int | float) -> bool:
    try:
        return float(column) == float(value)
    except ValueError:
        return column == str(value)


def _ours(table: Table, block: Block) -> Numbers:
    return {
        (row.settings, column): entry.mean
        for row in block.rows
        for column, entry in zip(table.columns, row.entries, strict=True)
        if entry is not None and entry.n
    }


def _column_titles(columns: Sequence[str], table: Table) -> tuple[str, ...]:
    return tuple(columns) if table.column_name else ("mean",)


def _our_effects(
    value: str, groups: Groups, reference: RowKey | None, records: Mapping[str, CellRecord]
) -> dict[tuple[RowKey, str], float]:
    """Row minus reference row by row and column; a run that one of them lacks would pass for an effect."""
    effects: dict[tuple[RowKey, str], float] = {}
    for row, by_column in groups.items() if reference in groups else ():
        for column, cells in by_column.items():
            ours = _by_run(value, cells, records)
            theirs = _by_run(value, groups[reference].get(column, ()), records)
            shared = [statistics.fmean(ours[run]) - statistics.fmean(theirs[run]) for run in ours if run in theirs]
            if shared:
                effects[row, column] = statistics.fmean(shared)
    return effects


def _by_run(value: str, cells: Sequence[CellPlan], records: Mapping[str, CellRecord]) -> dict[Run, list[float]]:
    """The finite values of finished cells by training run."""
    values: dict[Run, list[float]] = {}
    for cell in cells:
        result = records[cell.cell].result if cell.cell in records else None
        if result is not None and result.outcome is Outcome.DONE and math.isfinite(result.metrics.get(value, math.nan)):
            values.setdefault(run_of(cell), []).append(result.metrics[value])
    return values


def _minus(ours: Numbers, paper: Numbers, row: RowKey, column: str) -> float:
    return ours.get((row, column), math.nan) - paper.get((row, column), math.nan)


def _printed(number: float | None) -> str:
    """As a paper prints it: two decimals unless it has more."""
    if number is None:
        return ABSENT
    return f"{number:.2f}" if math.isclose(number, round(number, 2), abs_tol=1e-9) else f"{number:.3f}"
