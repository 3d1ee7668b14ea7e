"""The space of a search as data: ranges of settings, when each is asked for, what is sought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, inf, prod
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
        return floor((self.high - self.low) / self.step) + 1


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


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, in no order."""

    values: tuple[Any, ...]

    @property
    def size(self) -> float:
        """How many values."""
        return len(self.values)


Range: TypeAlias = IntRange | FloatRange | Choice


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting that the search varies."""

    name: str
    """Dotted: `temporal.window`."""
    values: Range
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Asked for only where each of these earlier dimensions has one of these values; else the fixed setting holds."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a measurement must be for a proposal to be feasible."""

    low: float = -inf
    high: float = inf


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

    @property
    def size(self) -> float:
        """How many different proposals the space holds at most; infinite where a dimension is continuous."""
        return prod(dimension.values.size for dimension in self.space)
