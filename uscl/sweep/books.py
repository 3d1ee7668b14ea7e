"""How each proposal of a search stands, which of them won, and whether the search has ended. Pure, without Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean
from typing import TypeAlias

from uscl.records import Metrics, Proposal
from uscl.spec.space import SearchSpec
from uscl.sweep.points import ENUMERATED, has_unseen, point_key

RE_ASKS = 5
"""Proposals in a row that may repeat an earlier one or be refused before an unseen point is drawn instead."""
MAX_MISSES = 100
"""So many in a row, unseen points included, and the search ends: its space has nothing more to train."""
MAX_FAILED = 5
"""Proposals in a row whose trials failed before a start stops proposing: it is a bug, and no search."""


class State(StrEnum):
    """Where a proposal stands."""

    PENDING = "pending"
    COMPLETE = "complete"
    FAILED = "failed"
    """A cell of it failed in this start; the next start tries it again."""
    DIVERGED = "diverged"
    """A non-finite loss or measurement: a result, and a bad one."""
    REFUSED = "refused"
    """Its settings are impossible together."""


@dataclass(frozen=True, slots=True)
class CellVerdict:
    """How one cell of a proposal stands."""

    state: State
    metrics: Metrics = field(default_factory=dict)
    """Of its validation."""


Verdicts: TypeAlias = Callable[[str], CellVerdict]
"""Cell id -> how it stands."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A proposal and what came of it."""

    proposal: Proposal
    state: State
    values: tuple[float, ...] = ()
    """Of the objectives, in their order: means over the repeats. Empty unless COMPLETE."""
    violations: tuple[float, ...] = ()
    """Of the bounds that there are, in their order; above zero: broken by so much. Empty unless COMPLETE."""
    metrics: Metrics = field(default_factory=dict)
    """All validation measurements, as means over the repeats."""

    @property
    def is_feasible(self) -> bool:
        """Whether it is complete and keeps within every bound."""
        return self.state is State.COMPLETE and all(violation <= 0 for violation in self.violations)


def entries_of(spec: SearchSpec, proposals: Sequence[Proposal], verdict: Verdicts) -> tuple[Entry, ...]:
    """Every proposal with its standing, in their order; one that repeats an earlier one stands as that does."""
    found: dict[int, Entry] = {}
    for proposal in proposals:
        found[proposal.index] = _entry(spec, proposal, verdict)
    return tuple(found.values())


def _entry(spec: SearchSpec, proposal: Proposal, verdict: Verdicts) -> Entry:
    if proposal.refused:
        return Entry(proposal, State.REFUSED)
    verdicts = [verdict(cell) for cell in proposal.cells]
    for state in (State.FAILED, State.DIVERGED, State.PENDING):
        if any(each.state is state for each in verdicts):
            return Entry(proposal, state)
    metrics = _means([each.metrics for each in verdicts])
    values = tuple(metrics.get(name, math.nan) for name in spec.objectives)
    violations = tuple(violation for name in spec.constraints for violation in _violations(spec, name, metrics))
    if not all(math.isfinite(number) for number in (*values, *violations)):
        return Entry(proposal, State.DIVERGED, metrics=metrics)
    return Entry(proposal, State.COMPLETE, values, violations, metrics)


def _means(metrics: Sequence[Metrics]) -> dict[str, float]:
    """Over the repeats, of what all of them have."""
    shared = [name for name in metrics[0] if all(name in other for other in metrics)] if metrics else []
    return {name: fmean(each[name] for each in metrics) for name in shared}


def _violations(spec: SearchSpec, name: str, metrics: Mapping[str, float]) -> list[float]:
    bound, value = spec.constraints[name], metrics.get(name, math.nan)
    above = [value - bound.high] if math.isfinite(bound.high) else []
    below = [bound.low - value] if math.isfinite(bound.low) else []
    return above + below


def winners(spec: SearchSpec, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The best feasible proposal, the earliest of equals; with several objectives the feasible Pareto front."""
    feasible = [entry for entry in entries if entry.proposal.counts and entry.is_feasible]
    signs = [1 if direction == "maximize" else -1 for direction in spec.objectives.values()]
    gains = [tuple(sign * value for sign, value in zip(signs, entry.values, strict=True)) for entry in feasible]
    if len(signs) == 1:
        return (feasible[gains.index(max(gains))],) if gains else ()
    best = [not any(_dominates(other, gain) for other in gains) for gain in gains]
    return tuple(entry for entry, is_best in zip(feasible, best, strict=True) if is_best)


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def counted(entries: Sequence[Entry]) -> int:
    """How many of the search's `trials` are used."""
    return sum(entry.proposal.counts for entry in entries)


def misses(entries: Sequence[Entry]) -> int:
    """How many of the last proposals, in a row, were refused or a repetition."""
    return _trailing([not entry.proposal.counts for entry in entries])


def why_ended(spec: SearchSpec, entries: Sequence[Entry]) -> str:
    """Why nothing more is proposed; empty where the search goes on."""
    made = counted(entries)
    if made >= spec.trials:
        return f"all {spec.trials} proposals are made"
    seen = seen_points(entries)
    if spec.size <= ENUMERATED and not has_unseen(spec.space, seen):
        return f"the space holds no more than {made} different proposals"
    if misses(entries) >= MAX_MISSES:
        return f"the last {MAX_MISSES} proposals were refused or repeat earlier ones"
    return ""


def why_paused(entries: Sequence[Entry]) -> str:
    """Why nothing more is proposed in this start; empty where the search goes on."""
    own = [entry for entry in entries if entry.proposal.counts]
    if _trailing([entry.state is State.FAILED for entry in own]) < MAX_FAILED:
        return ""
    return f"the last {MAX_FAILED} proposals all failed; mend the cause and run again"


def seen_points(entries: Sequence[Entry]) -> frozenset[str]:
    """The points proposed so far, by `point_key`."""
    return frozenset(point_key(entry.proposal.params) for entry in entries)


def _trailing(flags: Sequence[bool]) -> int:
    for count, flag in enumerate(reversed(flags)):
        if not flag:
            return count
    return len(flags)
