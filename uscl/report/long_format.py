"""A report as CSV in long format: one line per measurement, row and column; made for pandas and R."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from uscl.report.differences import Difference, DifferenceBlock
from uscl.report.published import PublishedBlock
from uscl.report.table import Block, Entry, Table

MEASURED = ("mean", "sd", "n")
COMPARED = ("difference", "low", "high", "p", "p_holm", "seeds", "patients", "unit")
BESIDE = ("floor", "ceiling", "published")


def to_csv(table: Table, differences: Sequence[DifferenceBlock], published: Sequence[PublishedBlock]) -> str:
    """`value`, a column per row setting, the column's setting, then MEASURED, COMPARED and BESIDE; empty where unknown.

    `patients` counts what `unit` names. The reference row has no difference. Published numbers of measurements that the
    report does not show have no line.
    """
    paper = {block.value: block.paper for block in published}
    compared = {(b.value, entry.row, entry.column): entry for b in differences for entry in b.entries}
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    at = (table.column_name,) if table.column_name else ()
    writer.writerow(("value", *table.row_names, *at, *MEASURED, *COMPARED, *BESIDE))
    for block in table.blocks:
        for row in block.rows:
            for position, (column, entry) in enumerate(zip(table.columns, row.entries, strict=True)):
                if entry is None:
                    continue
                found = compared.get((block.value, row.settings, column))
                number = _number(paper.get(block.value, {}).get((row.settings, column), math.nan))
                beside = (_floor(block, position), _number(block.ceiling), number)
                cells = (column,) if at else ()
                writer.writerow((block.value, *row.settings, *cells, *_measured(entry), *_compared(found), *beside))
    return target.getvalue()


def _measured(entry: Entry) -> tuple[str, ...]:
    return _number(entry.mean), _number(entry.sd), str(entry.n)


def _compared(found: Difference | None) -> tuple[str, ...]:
    if found is None:
        return ("",) * len(COMPARED)
    paired = found.paired
    numbers = (paired.mean, paired.low, paired.high, paired.p, found.p_holm)
    return (*(_number(number) for number in numbers), str(paired.num_seeds), str(paired.num_patients), paired.unit)


def _floor(block: Block, position: int) -> str:
    entry = block.floor[position] if block.floor else None
    return _number(entry.mean) if entry is not None else ""


def _number(value: float | None) -> str:
    """Ten digits; empty where there is no number."""
    return "" if value is None or math.isnan(value) else f"{value:.10g}"
