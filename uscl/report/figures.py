"""Figures of a sweep as PNG: label efficiency, and what the embeddings of each row look like. Drawn from its report."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from uscl.report.page import Report
from uscl.report.table import Block, group_cells
from uscl.spec.rows import RowKey

EFFICIENCY, CURVES, EMBEDDING = "label_efficiency.png", "curves.png", "embedding.png"
EMBEDDING_VALUES = {
    "val/embedding/compactness": "intra-class compactness (higher is more compact)",
    "val/embedding/separability": "inter-class separability (higher is better)",
}
"""What an evaluation may say of its network's embeddings, and the words beside the axis."""
DPI = 110
PER_LINE = 3
MAX_ROWS = 20
"""More lines than that cannot be told apart; the first ones are drawn, and the title says so."""


def figure_names(report: Report) -> tuple[str, ...]:
    """The figures that this report has something to draw for."""
    return tuple(name for name, (there, _) in _FIGURES.items() if there(report))


def draw_figures(report: Report) -> dict[str, bytes]:
    """PNG bytes by file name; the same bytes for the same report on one machine. matplotlib is imported only here."""
    return {name: draw(report) for name, (there, draw) in _FIGURES.items() if there(report)}


# ---- values over numeric columns: label efficiency where these are label fractions


def _has_efficiency(report: Report) -> bool:
    return report.table.column_name == "labels.fraction" and _is_numeric(report)


def _has_curves(report: Report) -> bool:
    return report.table.column_name != "labels.fraction" and _is_numeric(report)


def _is_numeric(report: Report) -> bool:
    """Columns that are numbers, at least two of them with a value in some row."""
    columns = [_number_of(column) for column in report.table.columns] if report.table.column_name else []
    if len(columns) < 2 or any(math.isnan(column) for column in columns):
        return False
    drawn = [entry.n for block in report.table.blocks for row in block.rows for entry in row.entries if entry]
    return any(drawn)


def _draw_curves(report: Report) -> bytes:
    """A panel per measurement: value over column, one line per row, error bars of one sd over seeds."""
    blocks = [block for block in report.table.blocks if any(e and e.n for row in block.rows for e in row.entries)]
    figure, panels = panels_of(len(blocks), width=5.2, height=4.2)
    columns = [_number_of(column) for column in report.table.columns]
    for panel, block in zip(panels, blocks, strict=True):
        _draw_rows(panel, block, columns)
        panel.set_xlabel(report.table.column_name)
        panel.set_ylabel(f"{block.value} {block.arrow}")
        panel.set_xticks(columns, report.table.columns)
        panel.grid(alpha=0.25)
    lines = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(3, len(lines)), fontsize="small")
    return png(figure)


def _draw_rows(panel: Any, block: Block, columns: Sequence[float]) -> None:
    shown = block.rows[:MAX_ROWS]
    spacing = min(b - a for a, b in pairwise(columns))
    for position, row in enumerate(shown):
        # Beside each other by a few hundredths of a step, so that error bars do not hide one another.
        shift = (position - (len(shown) - 1) / 2) * 0.03 * spacing
        points = [(x + shift, entry) for x, entry in zip(columns, row.entries, strict=True) if entry and entry.n]
        spread = [0.0 if math.isnan(entry.sd) else entry.sd for _, entry in points]
        xs, means = [x for x, _ in points], [entry.mean for _, entry in points]
        style = _style(position)
        panel.errorbar(xs, means, yerr=spread, label=_label(row.settings), capsize=2, linewidth=1.3, **style)
    for level, words, dashes in ((_floor(block), "all background", ":"), (block.ceiling, "two raters", "--")):
        if level is not None:
            panel.axhline(level, color="0.45", linestyle=dashes, linewidth=1, label=words)
    if len(block.rows) > MAX_ROWS:
        panel.set_title(f"first {MAX_ROWS} of {len(block.rows)} rows", fontsize="small")


def _floor(block: Block) -> float | None:
    """The mean floor over the columns: they score the same cases."""
    known = [entry.mean for entry in block.floor or () if entry is not None and entry.n]
    return statistics.fmean(known) if known else None


# ---- embeddings


def _has_embedding(report: Report) -> bool:
    name = "val/embedding/separability"
    return any(name in record.result.metrics for record in report.records.values() if record.result is not None)


def _draw_embedding(report: Report) -> bytes:
    """A panel per figure, a line per row: mean over its cells of each column, whiskers of one sd."""
    rows = list(_embedding_rows(report).items())[:MAX_ROWS]
    figure, panels = panels_of(2, width=4.6, height=1.6 + 0.32 * len(rows))
    columns = report.table.columns if report.table.column_name else ("",)
    for panel, (value, words) in zip(panels, EMBEDDING_VALUES.items(), strict=True):
        for position, column in enumerate(columns):
            shift = (position - (len(columns) - 1) / 2) * 0.6 / max(1, len(columns))
            points = [
                (at + shift, of[column][value]) for at, (_, of) in enumerate(rows) if of.get(column, {}).get(value)
            ]
            style = _style(position) | {"linestyle": "none"}
            means = [statistics.fmean(values) for _, values in points]
            spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
            panel.errorbar(means, [y for y, _ in points], xerr=spread, label=column, capsize=2, **style)
        panel.set_yticks(range(len(rows)), [_label(key) for key, _ in rows], fontsize="small")
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.set_xlabel(words, fontsize="x-small")
        panel.locator_params(axis="x", nbins=5)
        panel.grid(alpha=0.25, axis="x")
    panels[1].set_yticklabels([])
    if left_out := len(_embedding_rows(report)) - len(rows):
        panels[0].set_title(f"first {len(rows)} rows, {left_out} more in the table", fontsize="small")
    if report.table.column_name:
        handles, labels = panels[0].get_legend_handles_labels()
        title = report.table.column_name
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize="small", title=title)
    return png(figure)


def _embedding_rows(report: Report) -> dict[RowKey, dict[str, dict[str, list[float]]]]:
    """Row -> column -> figure -> its values over the row's cells; rows without any are left out."""
    cells = [record.plan for record in report.records.values()]
    groups = group_cells(cells, report.table.row_names, report.table.column_name)
    found: dict[RowKey, dict[str, dict[str, list[float]]]] = {}
    for key, by_column in groups.items():
        for column, of_row in by_column.items():
            results = [report.records[cell.cell].result for cell in of_row]
            for name in EMBEDDING_VALUES:
                values = [result.metrics[name] for result in results if result is not None and name in result.metrics]
                finite = [value for value in values if math.isfinite(value)]
                at = column if report.table.column_name else ""
                if finite:
                    found.setdefault(key, {}).setdefault(at, {}).setdefault(name, []).extend(finite)
    return found


# ---- drawing


def panels_of(count: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure with `count` panels, at most PER_LINE side by side, and the size of one in inches.

    Never touches pyplot's global state: a sweep's mirror draws in a thread of its own.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across, down = min(count, PER_LINE), math.ceil(count / PER_LINE)
    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(down, across, at + 1) for at in range(count)]


def _style(position: int) -> dict[str, Any]:
    """Colour and marker of a line: ten colours, then the same with another marker."""
    return {"color": f"C{position % 10}", "marker": "os^D"[position // 10 % 4], "markersize": 4}


def _label(key: RowKey) -> str:
    return " ".join(key) or "mean"


def _number_of(column: str) -> float:
    try:
        return float(column)
    except ValueError:
        return math.nan


def png(figure: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=DPI, metadata={"Software": None})
    return target.getvalue()


_FIGURES: Mapping[str, tuple[Callable[[Report], bool], Callable[[Report], bytes]]] = {
    EFFICIENCY: (_has_efficiency, _draw_curves),
    CURVES: (_has_curves, _draw_curves),
    EMBEDDING: (_has_embedding, _draw_embedding),
}
