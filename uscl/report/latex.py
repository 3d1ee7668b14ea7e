"""Sheets as LaTeX: a `table` with a `tabular` per sheet; needs `\\usepackage{booktabs}` and no more."""

from __future__ import annotations

from collections.abc import Sequence

from uscl.report.sheet import Sheet

_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "[": "{[}",  # at the start of a row it would be an option of the line break before it
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "Δ": r"$\Delta$",
}


def to_latex(sheets: Sequence[Sheet]) -> str:
    """All sheets, each a floating table with its notes in small print below; ends with a newline."""
    return "\n".join(["% needs \\usepackage{booktabs}", *(_table(sheet) for sheet in sheets)])


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is; a minus sign before a digit is one."""
    plain = "".join(_ESCAPES.get(sign, sign) for sign in text.strip())
    return f"${plain}$" if plain[:1] in ("+", "-") and plain[1:2].isdigit() else plain


def _table(sheet: Sheet) -> str:
    lines = [_line(cells, number, sheet) for number, cells in enumerate(sheet.lines)]
    at = len(lines) - sheet.num_below
    columns = "l" * sheet.num_names + "r" * (len(sheet.header) - sheet.num_names)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(sheet.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(escaped(cell) for cell in sheet.header) + r" \\",
            r"\midrule",
            *lines[:at],
            *([r"\midrule", *lines[at:]] if sheet.num_below else []),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {escaped(note)}" for note in sheet.notes),
            r"\end{table}",
            "",
        ]
    )


def _line(cells: Sequence[str], number: int, sheet: Sheet) -> str:
    drawn = [_bold(escaped(c)) if (number, at) in sheet.bold else escaped(c) for at, c in enumerate(cells)]
    return " & ".join(drawn) + r" \\"


def _bold(text: str) -> str:
    """Bold; the number of a formula has a bold of its own."""
    return rf"$\mathbf{{{text[1:-1]}}}$" if text.startswith("$") and text.endswith("$") else rf"\textbf{{{text}}}"
