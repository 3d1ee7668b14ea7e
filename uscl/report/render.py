"""Sheets as plain text for a terminal and as Markdown; the same bytes for the same sheets."""

from __future__ import annotations

from collections.abc import Sequence

from uscl.report.sheet import Sheet


def to_text(sheets: Sequence[Sheet]) -> str:
    """Plain text with aligned columns, sheets one under the other, notes below; ends with a newline."""
    parts = []
    for sheet in sheets:
        lines = (sheet.header, *sheet.lines)
        widths = [max(len(line[i]) for line in lines) for i in range(len(sheet.header))]
        head, *drawn = [_aligned(line, widths, sheet.num_names) for line in lines]
        rule = "-" * max(len(line) for line in (head, *drawn))
        at = len(drawn) - sheet.num_below
        body = [*drawn[:at], *([rule] if sheet.num_below else []), *drawn[at:]]
        parts.append("\n".join([sheet.title, head, rule, *body]))
        parts += ["\n".join(sheet.notes)] if sheet.notes else []
    return "\n\n".join(parts) + "\n"


def to_markdown(sheets: Sequence[Sheet]) -> str:
    """GitHub Markdown: one table per sheet, its notes as a list below; ends with a newline."""
    parts = []
    for sheet in sheets:
        ruler = [":--" if at < sheet.num_names else "--:" for at in range(len(sheet.header))]
        lines = [[_escaped(cell) for cell in sheet.header], ruler]
        for number, line in enumerate(sheet.lines):
            lines.append([_emphasised(cell, (number, at) in sheet.bold) for at, cell in enumerate(line)])
        rows = ["| " + " | ".join(cells) + " |" for cells in lines]
        parts.append("\n".join([f"**{_escaped(sheet.title)}**", "", *rows]))
        parts += ["\n".join(f"- {_escaped(note)}" for note in sheet.notes)] if sheet.notes else []
    return "\n\n".join(parts) + "\n"


def _emphasised(text: str, bold: bool) -> str:
    return f"**{_escaped(text)}**" if bold else _escaped(text)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for special in "|*_":
        text = text.replace(special, f"\\{special}")
    return text.strip()


def _aligned(line: Sequence[str], widths: Sequence[int], names: int) -> str:
    """Names to the left, numbers to the right."""
    left = "  ".join(cell.ljust(width) for cell, width in zip(line[:names], widths, strict=False))
    right = "  ".join(cell.rjust(width) for cell, width in zip(line[names:], widths[names:], strict=True))
    return f"{left}  {right}".rstrip() if names else right.rstrip()
