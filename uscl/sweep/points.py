"""Points of a search's space: whether one lies in it, which are unseen. Pure, and without Optuna: a plan needs it."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from uscl.spec.points import every_point, value_at
from uscl.spec.space import Choice, Dimension, FloatRange, IntRange, Range

Params: TypeAlias = Mapping[str, Any]
"""Setting -> value, by dotted name."""

ENUMERATED = 10_000
"""Spaces of at most so many points are gone through when a sampler repeats itself; larger ones are never exhausted."""


def point_key(params: Params) -> str:
    """Equal for equal points."""
    return json.dumps({name: params[name] for name in sorted(params)})


def belongs(params: Params, space: Sequence[Dimension]) -> bool:
    """Whether the point lies in the space: exactly the settings asked for there, each with a value of its range."""
    asked: dict[str, Any] = {}
    for dimension in space:
        if dimension.is_asked(asked):
            if dimension.name not in params or not _holds(dimension.values, params[dimension.name]):
                return False
            asked[dimension.name] = params[dimension.name]
    return asked.keys() == params.keys()


def has_unseen(space: Sequence[Dimension], seen: Collection[str]) -> bool:
    """Whether a point of a finite space is not among `seen` (by `point_key`)."""
    return any(point_key(point) not in seen for point in every_point(space))


def unseen(space: Sequence[Dimension], seen: Collection[str], rng: random.Random) -> dict[str, Any] | None:
    """One of the points of a finite space that are not among `seen`; None where there is none left."""
    left = [point for point in every_point(space) if point_key(point) not in seen]
    return rng.choice(left) if left else None


def same(one: Any, other: Any) -> bool:
    """Whether two values are one setting: as in JSON, where a tuple is a list and true is no 1."""
    return json.dumps(one) == json.dumps(other)


def nearest(values: FloatRange, value: float) -> float:
    """The value of a stepped range that is meant: Optuna adds steps in another order."""
    assert values.step is not None, "only a stepped range has a grid"
    return float(value_at(values, round((value - values.low) / values.step)))


def _holds(values: Range, value: Any) -> bool:
    if isinstance(values, Choice):
        return any(same(value, known) for known in values.values)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not values.low <= value <= values.high:
        return False
    if isinstance(values, IntRange):
        return isinstance(value, int) and (value - values.low) % values.step == 0
    return values.step is None or nearest(values, value) == value
