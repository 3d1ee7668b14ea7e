"""Points of a search space: every one of a finite space, or one at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from random import Random
from typing import Any

from uscl.spec.space import Choice, Dimension, IntRange, Range


def every_point(space: Sequence[Dimension], params: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Every point, the last dimension fastest; of a finite space. `params` are those of dimensions gone before."""
    params = dict(params or {})
    if not space:
        yield params
        return
    first, rest = space[0], space[1:]
    if not first.is_asked(params):
        yield from every_point(rest, params)
        return
    for number in range(int(first.values.size)):
        yield from every_point(rest, {**params, first.name: value_at(first.values, number)})


def value_at(values: Range, number: int) -> Any:
    """Value `number`, from 0, of a range that has steps, or of a choice."""
    if isinstance(values, Choice):
        return values.values[number]
    return min(values.low + number * (values.step or 0), values.high)


def random_point(space: Sequence[Dimension], rng: Random) -> dict[str, Any]:
    """A point, each setting drawn alike over its range (in ratio where that is `log`)."""
    params: dict[str, Any] = {}
    for dimension in space:
        if dimension.is_asked(params):
            params[dimension.name] = _drawn(dimension.values, rng)
    return params


def _drawn(values: Range, rng: Random) -> Any:
    if isinstance(values, Choice) or (values.step is not None and not values.log):
        return value_at(values, rng.randrange(int(values.size)))
    if not values.log:
        return rng.uniform(values.low, values.high)
    drawn = min(max(exp(rng.uniform(log(values.low), log(values.high))), values.low), values.high)
    return round(drawn) if isinstance(values, IntRange) else drawn
