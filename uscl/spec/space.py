"""The space of a search as data: ranges of settings, when each is asked for, what is sought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf, isfinite
from typing import Any, Literal, TypeAlias

Sampler: TypeAlias = Literal["tpe", "random", "gp", "nsga2"]
Direction: TypeAlias = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class IntRange:
    """Whole numbers from `low` to `high`, both included, every `step`-th; `log`: alike in ratio, with step 1."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    @property
    def size(self) -> float:
        """How many values."""
        return (self.high - self.low) // self.step + 1

    def to_json(self) -> dict[str, Any]:
        """As a sweep file has it."""
        stepped = {} if self.step == 1 else {"step": self.step}
        return {"int": [self.low, self.high], **stepped, **({"log": True} if self.log else {})}


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Numbers from `low` to `high`; `log`: alike in ratio; `step`: multiples of it above `low` only."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def size(self) -> float:
        """How many values; infinite without a step."""
        return inf if self.step is None else floor((self.high - self.low) / self.step + 1e-9) + 1

    def to_json(self) -> dict[str, Any]:
        """As a sweep file has it."""
        stepped = {} if self.step is None else {"step": self.step}
        return {"float": [self.low, self.high], **stepped, **({"log": True} if self.log else {})}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, in no order."""

    values: tuple[Any, ...]

    @property
    def size(self) -> float:
        """How many values."""
        return len(self.values)

    def to_json(self) -> dict[str, Any]:
        """As a sweep file has it."""
        return {"choice": list(self.values)}


Range: TypeAlias = IntRange | FloatRange | Choice


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting that the search varies."""

    name: str
    """Dotted: `temporal.window`."""
    values: Range
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Asked for only where each of these earlier dimensions has one of these values; else the fixed setting holds."""

    def is_asked(self, params: Mapping[str, Any]) -> bool:
        """Whether a proposal that has `params` of the earlier dimensions is asked for this one too."""
        return all(name in params and params[name] in values for name, values in self.when.items())

    def to_json(self) -> dict[str, Any]:
        """As a sweep file has it."""
        when = {"when": {name: list(values) for name, values in self.when.items()}} if self.when else {}
        return {**self.values.to_json(), **when}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a measurement must be for a proposal to be feasible."""

    low: float = -inf
    high: float = inf

    def to_json(self) -> dict[str, float]:
        """As a sweep file has it."""
        bounds = {"min": self.low, "max": self.high}
        return {name: value for name, value in bounds.items() if isfinite(value)}


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """A `search:` block, checked."""

    sampler: Sampler
    trials: int
    """Proposals in all, those of earlier starts included; what is refused or a duplicate does not count."""
    objectives: Mapping[str, Direction]
    """Measurements on the validation split: `val/dsc: maximize`. Several make a Pareto front."""
    space: tuple[Dimension, ...]
    """In the file's order: a dimension's `when` names earlier ones."""
    repeats: int = 1
    """Cells per proposal, with seeds one apart; an objective is their mean."""
    seed: int = 0
    """Of the sampler; that of the trials is a setting like any other."""
    constraints: Mapping[str, Bound] = field(default_factory=dict)
    """Measurements on the validation split that a winner must keep within bounds."""

    notes: tuple[str, ...] = field(default=(), compare=False)
    """What `--set` took out of the file's space, in words."""

    @property
    def size(self) -> float:
        """How many different proposals the space holds; infinite where a dimension is continuous."""
        return _count(self.space, {})

    def to_json(self) -> dict[str, Any]:
        """The block as a sweep file has it, every key written out."""
        return {
            "sampler": self.sampler,
            "trials": self.trials,
            "repeats": self.repeats,
            "seed": self.seed,
            "objectives": dict(self.objectives),
            "constraints": {name: bound.to_json() for name, bound in self.constraints.items()},
            "space": {dimension.name: dimension.to_json() for dimension in self.space},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SearchSpec:
        """Read what `to_json` wrote. KeyError, TypeError or ValueError where the document is no search."""
        plain = {name: document[name] for name in ("sampler", "trials", "repeats", "seed", "objectives")}
        bounds = {
            name: (bound.get("min", -inf), bound.get("max", inf)) for name, bound in document["constraints"].items()
        }
        return cls(
            **plain,
            constraints={name: Bound(*both) for name, both in bounds.items()},
            space=tuple(_dimension(name, values) for name, values in document["space"].items()),
        )


def _dimension(name: str, document: Mapping[str, Any]) -> Dimension:
    """A dimension from what its `to_json` wrote."""
    when = {earlier: tuple(values) for earlier, values in document.get("when", {}).items()}
    more = {key: document[key] for key in ("log", "step") if key in document}
    if "choice" in document:
        return Dimension(name, Choice(tuple(document["choice"])), when)
    if "int" in document:
        return Dimension(name, IntRange(*document["int"], **more), when)
    return Dimension(name, FloatRange(*document["float"], **more), when)


_ANOTHER = object()
"""A value that no condition names."""


def _count(space: Sequence[Dimension], params: Mapping[str, Any]) -> float:
    """How many ways to go through `space`; values that no condition names are counted together."""
    if not space:
        return 1
    first, rest = space[0], space[1:]
    if not first.is_asked(params):
        return _count(rest, params)
    named = {value for dimension in rest for value in dimension.when.get(first.name, ())}
    ways = sum(_count(rest, {**params, first.name: value}) for value in named)
    others = first.values.size - len(named)
    return ways + float(others) * _count(rest, {**params, first.name: _ANOTHER}) if others > 0 else ways
