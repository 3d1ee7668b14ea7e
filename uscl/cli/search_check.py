"""What `uscl check` says of a search: what is sought, over which settings, and how many proposals there are."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from uscl.spec.ranges import in_words
from uscl.spec.settings import shown
from uscl.spec.space import Bound, Dimension, SearchSpec


def describe_search(search: SearchSpec) -> dict[str, Any]:
    """The search as JSON: the block as a sweep file has it, the number of points (null: no end), what --set changed."""
    return {
        "search": search.to_json(),
        "size": int(search.size) if isfinite(search.size) else None,
        "enumerated": _is_enumerated(search),
        "notes": list(search.notes),
    }


def search_lines(search: SearchSpec) -> list[str]:
    """Sampler, what is sought, the space as a table, and whether the search tries all of it."""
    several = f", each {search.repeats} cells with seeds one apart" if search.repeats > 1 else ""
    lines = [f"search: {search.sampler} (seed {search.seed}), {search.trials} proposals{several}"]
    lines += [f"{direction} {name}" for name, direction in search.objectives.items()]
    lines += [f"keep {_in_bounds(name, bound)}" for name, bound in search.constraints.items()]
    rows = [(dimension.name, in_words(dimension.values), _condition(dimension)) for dimension in search.space]
    lines += aligned([("setting", "values", "asked for"), *rows])
    said = [f"by --set {', '.join(search.notes)}: another search than the file's"] if search.notes else []
    return [*lines, *said, _size(search)]


def _in_bounds(name: str, bound: Bound) -> str:
    if bound.low == bound.high:
        return f"{name} at {shown(bound.low)}"
    low = f"{shown(bound.low)} <= " if isfinite(bound.low) else ""
    high = f" <= {shown(bound.high)}" if isfinite(bound.high) else ""
    return f"{low}{name}{high}"


def _condition(dimension: Dimension) -> str:
    said = (f"{name} is {' or '.join(shown(value) for value in values)}" for name, values in dimension.when.items())
    return f"where {' and '.join(said)}" if dimension.when else "always"


def _is_enumerated(search: SearchSpec) -> bool:
    return search.trials >= search.size


def _size(search: SearchSpec) -> str:
    if not isfinite(search.size):
        return "space: continuous, never all tried"
    points = f"space: {search.size:.0f} points"
    return f"{points}; {search.trials} trials try each once and end" if _is_enumerated(search) else points


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text with columns below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
