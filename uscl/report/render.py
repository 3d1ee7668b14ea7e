"""A table as plain text for a terminal and as Markdown; the same bytes for the same table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from uscl.records import CellPlan
from uscl.report.collect import collect
from uscl.report.table import Block, Entry, Table, build_table
from uscl.spec.sweep import ReportSpec
from uscl.store.stages import StageStore

FLOOR = "all background"
ABSENT = "-"


def to_text(table: Table) -> str:
    """Plain text with aligned columns, blocks one under the other, notes below; ends with a newline."""
    parts = []
    for block in table.blocks:
        lines = _lines(table, block)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        names = len(table.row_names)
        drawn = [_aligned(line, widths, names) for line in lines]
        rule = "-" * max(len(line) for line in drawn)
        body = [*drawn[1:-1], rule, drawn[-1]] if block.floor else drawn[1:]
        parts.append("\n".join([_title(table, block), drawn[0], rule, *body]))
    notes = "\n".join(table.notes)
    return "\n\n".join([*parts, notes] if notes else parts) + "\n"


def to_markdown(table: Table) -> str:
    """GitHub Markdown: one table per measurement, the notes as a list below; ends with a newline."""
    parts = []
    for block in table.blocks:
        header, *lines = [[_escaped(cell) for cell in line] for line in _lines(table, block)]
        names = len(table.row_names)
        ruler = [":--" if i < names else "--:" for i in range(len(header))]
        rows = ["| " + " | ".join(cells) + " |" for cells in (header, ruler, *lines)]
        parts.append("\n".join([f"**{_escaped(_title(table, block))}**", "", *rows]))
    notes = "\n".join(f"- {_escaped(note)}" for note in table.notes)
    return "\n\n".join([*parts, notes] if notes else parts) + "\n"


def table_files(store: StageStore, cells: Sequence[CellPlan], report: ReportSpec) -> Mapping[str, str]:
    """`table.txt` and `table.md` of a sweep as the store stands now: what the sweep folder and the tracker keep."""
    table = build_table(cells, collect(store, cells), report)
    return {"table.txt": to_text(table), "table.md": to_markdown(table)}


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for special in "|*_":
        text = text.replace(special, f"\\{special}")
    return text.strip()


def _title(table: Table, block: Block) -> str:
    better = "lower is better" if block.arrow == "↓" else "higher is better"
    by = f", by {table.column_name}" if table.column_name else ""
    return f"{block.value} {block.arrow} ({better}){by}"


def _lines(table: Table, block: Block) -> list[list[str]]:
    """Header, rows and, where there is one, the floor, as cells of text; the last column is n."""
    columns = table.columns if table.column_name else ("mean",)
    lines = [[*table.row_names, *(f"{column} {block.arrow}" for column in columns), "n"]]
    pad = max((len(entry.marks) for row in block.rows for entry in row.entries if entry), default=0)
    for row in block.rows:
        lines.append([*row.settings, *(_number(entry, pad) for entry in row.entries), _count(row.entries)])
    if block.floor:
        names = [FLOOR, *[""] * (len(table.row_names) - 1)] if table.row_names else []
        lines.append([*names, *(_mean(entry) + " " * pad for entry in block.floor), ""])
    return lines


def _aligned(line: Sequence[str], widths: Sequence[int], names: int) -> str:
    """Names to the left, numbers to the right; a floor's name may run over the names it leaves empty."""
    left = "  ".join(cell.ljust(width) for cell, width in zip(line[:names], widths, strict=False))
    right = "  ".join(cell.rjust(width) for cell, width in zip(line[names:], widths[names:], strict=True))
    return f"{left}  {right}".rstrip() if names else right.rstrip()


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
