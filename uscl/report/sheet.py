"""A printed table as plain values, whatever its format: text, Markdown and LaTeX are drawn from the same sheets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from uscl.report.table import Block, Entry, Table

FLOOR = "all background"
CEILING = "two raters"
ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of text."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    num_names: int
    """How many leading columns are words, set to the left; the others are numbers."""
    num_below: int = 0
    """How many of the last lines stand below a rule: floor and ceiling."""
    bold: frozenset[tuple[int, int]] = frozenset()
    """(line, column) of the numbers to set bold where the format can."""
    notes: tuple[str, ...] = ()


def table_sheets(table: Table) -> tuple[Sheet, ...]:
    """One sheet per measurement; the notes are below the last."""
    sheets = [_block_sheet(table, block) for block in table.blocks]
    last = sheets[-1]
    return (*sheets[:-1], Sheet(last.title, last.header, last.lines, last.num_names, last.num_below, notes=table.notes))


def block_title(value: str, arrow: str) -> str:
    """A measurement and which way is better."""
    words = {"↓": "lower is better", "→0": "zero is best"}
    return f"{value} {arrow} ({words.get(arrow, 'higher is better')})"


def signed(value: float) -> str:
    """A difference; its sign is always there."""
    return ABSENT if math.isnan(value) else f"{value:+.3f}"


def _block_sheet(table: Table, block: Block) -> Sheet:
    """Rows, floor and ceiling as cells of text; the last column is n."""
    columns = table.columns if table.column_name else ("mean",)
    header = (*table.row_names, *(f"{column} {block.arrow}" for column in columns), "n")
    pad = max((len(entry.marks) for row in block.rows for entry in row.entries if entry), default=0)
    lines = [
        (*row.settings, *(_number(entry, pad) for entry in row.entries), _count(row.entries)) for row in block.rows
    ]
    below = [(FLOOR, [_mean(entry) for entry in block.floor])] if block.floor else []
    below += [(CEILING, [f"{block.ceiling:.3f}"] * len(columns))] if block.ceiling is not None else []
    for name, numbers in below:
        names = (name, *[""] * (len(table.row_names) - 1)) if table.row_names else ()
        lines.append((*names, *(number + " " * pad for number in numbers), ""))
    by = f", by {table.column_name}" if table.column_name else ""
    title = f"{block_title(block.value, block.arrow)}{by}"
    return Sheet(title, header, tuple(lines), len(table.row_names), num_below=len(below))


def _number(entry: Entry | None, pad: int) -> str:
    """Mean, spread where there is one, and marks; padded so that the digits of a column stand under each other."""
    if entry is None:
        return ABSENT + " " * pad
    spread = "" if math.isnan(entry.sd) else f" ± {entry.sd:.3f}"
    return f"{_mean(entry)}{spread}{entry.marks.ljust(pad)}"


def _mean(entry: Entry | None) -> str:
    return f"{entry.mean:.3f}" if entry is not None and entry.n else ABSENT


def _count(entries: Sequence[Entry | None]) -> str:
    """How many cells each mean is over: one number where all columns agree."""
    counts = [str(entry.n) for entry in entries if entry is not None]
    return counts[0] if len(set(counts)) == 1 else "/".join(counts)
