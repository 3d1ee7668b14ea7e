"""Figures of a search as PNG: what was found when, which settings matter, and the trade-off of two objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from uscl.report.figures import panels_of, png

HISTORY, IMPORTANCE, FRONT = "search_history.png", "search_importance.png", "search_front.png"

NUMBERED = 12
"""Fronts of at most so many proposals have their numbers beside the points."""


@dataclass(frozen=True, slots=True)
class SearchPoint:
    """One complete proposal."""

    index: int
    values: tuple[float, ...]
    """Of the objectives, in their order."""
    feasible: bool = True
    best: bool = False
    """Whether it is the best, or on the Pareto front."""


@dataclass(frozen=True, slots=True)
class SearchPicture:
    """What the figures of a search show."""

    objectives: Mapping[str, str]
    """Measurement -> `maximize` or `minimize`."""
    points: tuple[SearchPoint, ...]
    best_so_far: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """Objective -> (proposal, best feasible value up to it)."""
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Objective -> setting -> share, largest first; empty where there are too few proposals to tell."""


def draw_search(picture: SearchPicture) -> dict[str, bytes]:
    """PNG bytes by file name; those that there is something to draw for."""
    drawn = {}
    if picture.points:
        drawn[HISTORY] = _history(picture)
    if picture.importance:
        drawn[IMPORTANCE] = _importance(picture)
    if picture.points and len(picture.objectives) > 1:
        drawn[FRONT] = _front(picture)
    return drawn


def _history(picture: SearchPicture) -> bytes:
    """A panel per objective: every proposal's value, and the best so far as a stair."""
    figure, panels = panels_of(len(picture.objectives), width=5.2, height=3.6)
    for at, (panel, (name, direction)) in enumerate(zip(panels, picture.objectives.items(), strict=True)):
        _scatter(panel, picture.points, [(point.index, point.values[at]) for point in picture.points])
        stair = picture.best_so_far.get(name, ())
        if stair:
            panel.step(*zip(*stair, strict=True), where="post", color="C0", linewidth=1.3, label="best so far")
        panel.set_xlabel("proposal")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_ylabel(_titled(name, direction))
    _legend(figure, panels)
    return png(figure)


def _importance(picture: SearchPicture) -> bytes:
    """A panel per objective: a bar per setting, the largest on top."""
    settings = max(len(shares) for shares in picture.importance.values())
    figure, panels = panels_of(len(picture.importance), width=5.2, height=1.2 + 0.34 * settings)
    for panel, (name, shares) in zip(panels, picture.importance.items(), strict=True):
        panel.barh(range(len(shares)), list(shares.values()), color="C0", height=0.6)
        panel.set_yticks(range(len(shares)), list(shares), fontsize="small")
        panel.invert_yaxis()
        panel.set_xlim(0, 1)
        panel.set_xlabel(f"share in what makes {name} good (PED-ANOVA)", fontsize="small")
        for row, share in enumerate(shares.values()):
            panel.text(min(share + 0.01, 0.9), row, f"{share:.2f}", va="center", fontsize="x-small")
    return png(figure)


def _front(picture: SearchPicture) -> bytes:
    """A panel per pair of objectives: all proposals, and the Pareto front as a line."""
    pairs = list(combinations(range(len(picture.objectives)), 2))
    named = list(picture.objectives.items())
    figure, panels = panels_of(len(pairs), width=5.0, height=4.2)
    for panel, (x, y) in zip(panels, pairs, strict=True):
        _scatter(panel, picture.points, [(point.values[x], point.values[y]) for point in picture.points])
        front = sorted((point.values[x], point.values[y]) for point in picture.points if point.best)
        if len(named) == 2 and front:
            panel.plot(*zip(*front, strict=True), color="C3", linewidth=1, alpha=0.6)
        for point in picture.points:
            if point.best and len(front) <= NUMBERED:
                at = (point.values[x], point.values[y])
                panel.annotate(str(point.index), at, fontsize="xx-small", xytext=(4, 4), textcoords="offset points")
        panel.set_xlabel(_titled(*named[x]))
        panel.set_ylabel(_titled(*named[y]))
    _legend(figure, panels)
    return png(figure)


def _scatter(panel: Any, points: Sequence[SearchPoint], at: Sequence[tuple[float, float]]) -> None:
    kinds = {
        "proposal": ([p.feasible and not p.best for p in points], {"color": "0.45", "marker": "o"}),
        "out of bounds": ([not p.feasible for p in points], {"color": "0.6", "marker": "x"}),
        "best": ([p.best for p in points], {"color": "C3", "marker": "D"}),
    }
    for label, (chosen, style) in kinds.items():
        shown = [place for place, is_shown in zip(at, chosen, strict=True) if is_shown]
        if shown:
            panel.plot(*zip(*shown, strict=True), linestyle="none", markersize=4, label=label, **style)
    panel.grid(alpha=0.25)


def _titled(name: str, direction: str) -> str:
    return f"{name} {'↑' if direction == 'maximize' else '↓'}"


def _legend(figure: Any, panels: Sequence[Any]) -> None:
    lines = {
        words: handle for panel in panels for handle, words in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, fontsize="small")
