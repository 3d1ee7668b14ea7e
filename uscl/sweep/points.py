"""The points of a search's space: which settings a point has, whether it lies in the space, which ones are unseen.

Pure, and without Optuna: a plan needs it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from uscl.spec.space import Choice, Dimension, FloatRange, IntRange, Range

Params: TypeAlias = Mapping[str, Any]
"""Setting -> value, by dotted name."""

ENUMERATED = 10_000
"""Spaces of at most so many points are enumerated when a sampler repeats itself; larger ones are never exhausted."""


def is_asked(dimension: Dimension, params: Params) -> bool:
    """Whether the dimension is asked for, given the values of the earlier ones."""
    return all(
        name in params and any(same(params[name], value) for value in allowed)
        for name, allowed in dimension.when.items()
    )


def same(one: Any, other: Any) -> bool:
    """Whether two values are one setting: as in JSON, where a tuple is a list and true is no 1."""
    return json.dumps(one) == json.dumps(other)


def point_key(params: Params) -> str:
    """Equal for equal points."""
    return json.dumps({name: params[name] for name in sorted(params)})


def belongs(params: Params, space: Sequence[Dimension]) -> bool:
    """Whether the point lies in the space: exactly the settings asked for there, each with a value of its range."""
    asked: dict[str, Any] = {}
    for dimension in space:
        if is_asked(dimension, asked):
            if dimension.name not in params or not _holds(dimension.values, params[dimension.name]):
                return False
            asked[dimension.name] = params[dimension.name]
    return asked.keys() == params.keys()


def is_enumerable(space: Sequence[Dimension]) -> bool:
    """Whether `unseen` can go through all points."""
    return math.prod(dimension.values.size for dimension in space) <= ENUMERATED


def points(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Every point of a finite space, in the space's order."""
    yield from _points(tuple(space), {})


def has_unseen(space: Sequence[Dimension], seen: Collection[str]) -> bool:
    """Whether a point of a finite space is not among `seen` (by `point_key`)."""
    return any(point_key(point) not in seen for point in points(space))


def unseen(space: Sequence[Dimension], seen: Collection[str], rng: random.Random) -> dict[str, Any] | None:
    """One of the points of a finite space that are not among `seen`; None where there is none left."""
    left = [point for point in points(space) if point_key(point) not in seen]
    return rng.choice(left) if left else None


def _points(space: tuple[Dimension, ...], before: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not space:
        yield dict(before)
        return
    dimension, *rest = space
    if not is_asked(dimension, before):
        yield from _points(tuple(rest), before)
        return
    for value in _values(dimension.values):
        yield from _points(tuple(rest), before | {dimension.name: value})


def _values(values: Range) -> Iterator[Any]:
    match values:
        case Choice():
            yield from values.values
        case IntRange():
            yield from range(values.low, values.high + 1, values.step)
        case FloatRange():
            assert values.step is not None, "only a finite range is enumerated"
            yield from (grid_value(values, at) for at in range(int(values.size)))


def grid_value(values: FloatRange, at: int) -> float:
    """The value `at` steps above the lowest, without the noise of adding floats."""
    return float(f"{values.low + at * (values.step or 0.0):.12g}")


def _holds(values: Range, value: Any) -> bool:
    if isinstance(values, Choice):
        return any(same(value, known) for known in values.values)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not values.low <= value <= values.high:
        return False
    if isinstance(values, IntRange):
        return isinstance(value, int) and (value - values.low) % values.step == 0
    return values.step is None or grid_value(values, round((value - values.low) / values.step)) == value
