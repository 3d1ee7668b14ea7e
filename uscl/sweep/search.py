"""What a search proposes next: Optuna, by ask and tell, over a study that is rebuilt for every ask.

A function of the books alone: the study is made anew in memory from all proposals and their results, and the sampler
is a fresh one, seeded by the search's seed and the proposal's index. So a search that was killed and taken up again
proposes what an undisturbed one does, and no database of Optuna's can break (sweep-engine.md C1, C35).
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from uscl.spec.points import value_at
from uscl.spec.space import Choice, Dimension, FloatRange, IntRange, Range, SearchSpec
from uscl.sweep.books import RE_ASKS, Entry, State, misses, seen_points
from uscl.sweep.points import ENUMERATED, nearest, same, unseen

# Optuna tells of every trial, and warns where a sampler draws a conditional setting on its own: we know.
optuna.logging.set_verbosity(optuna.logging.ERROR)

POPULATION = (4, 50)
"""Least and most proposals in a generation of NSGA-II; a quarter of the search's trials between them."""
_CONSTRAINTS = "constraints"
"""Where Optuna's samplers, and its dashboard, look for a trial's violations (above zero: broken)."""
_STATES = {State.COMPLETE: TrialState.COMPLETE, State.PENDING: TrialState.RUNNING}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the sampler proposes."""

    params: Mapping[str, Any]
    distributions: Mapping[str, str]
    """As Optuna's JSON."""
    system_attrs: Mapping[str, Any] = field(default_factory=dict)


def ask(spec: SearchSpec, entries: Sequence[Entry], index: int) -> Asked | None:
    """Proposal number `index`, given all that came before; None where a finite space holds nothing new.

    A sampler that keeps proposing what is known or impossible is passed over: an unseen point is drawn instead.
    """
    stuck = misses(entries) >= RE_ASKS
    if stuck and spec.size <= ENUMERATED:
        return _unseen(spec, entries, index)
    study = study_of_entries(spec, entries, _sampler("random" if stuck else spec.sampler, spec, index))
    trial = study.ask()
    params: dict[str, Any] = {}
    for dimension in spec.space:
        if dimension.is_asked(params):
            params[dimension.name] = _suggested(trial, dimension)
    attrs = study.get_trials(deepcopy=False)[-1].system_attrs
    return Asked(params, _distributions(spec.space, params), dict(attrs))


def _unseen(spec: SearchSpec, entries: Sequence[Entry], index: int) -> Asked | None:
    point = unseen(spec.space, seen_points(entries), random.Random(_seed(spec, index)))
    return None if point is None else Asked(point, _distributions(spec.space, point))


def study_of_entries(
    spec: SearchSpec,
    entries: Sequence[Entry],
    sampler: BaseSampler | None = None,
    *,
    storage: optuna.storages.BaseStorage | None = None,
    name: str | None = None,
) -> optuna.Study:
    """The Optuna study of all proposals so far, in memory unless `storage` is given; what fails is told as FAIL."""
    study = optuna.create_study(
        directions=list(spec.objectives.values()),
        sampler=sampler or RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
        storage=storage,
        study_name=name,
    )
    study.add_trials([trial_of_entry(spec, entry) for entry in entries])
    return study


def trial_of_entry(spec: SearchSpec, entry: Entry, *, user_attrs: Mapping[str, Any] | None = None) -> FrozenTrial:
    """One proposal as Optuna knows it: COMPLETE with its values, RUNNING, or FAIL."""
    state = _STATES.get(entry.state, TrialState.FAIL)
    violations = {_CONSTRAINTS: list(entry.violations)} if entry.violations else {}
    ranges = {dimension.name: dimension.values for dimension in spec.space}
    params = entry.proposal.params
    return create_trial(
        state=state,
        values=list(entry.values) if state is TrialState.COMPLETE else None,
        params={name: _optunas(ranges[name], value) for name, value in params.items()},
        distributions={name: distribution_of(ranges[name]) for name in params},
        system_attrs={**entry.proposal.system_attrs, **violations},
        user_attrs=dict(user_attrs or {}),
    )


def _sampler(name: str, spec: SearchSpec, index: int) -> BaseSampler:
    seed = _seed(spec, index)
    match name:
        case "tpe":
            conditional = any(dimension.when for dimension in spec.space) and len(spec.objectives) == 1
            with warnings.catch_warnings():
                # `group` models each set of settings that occur together jointly; its interface is what may change
                warnings.simplefilter("ignore", ExperimentalWarning)
                return TPESampler(seed=seed, multivariate=True if conditional else None, group=conditional)
        case "gp":
            return GPSampler(seed=seed)
        case "nsga2":
            low, high = POPULATION
            return NSGAIISampler(seed=seed, population_size=min(high, max(low, spec.trials // 4)))
        case _:
            return RandomSampler(seed=seed)


def _seed(spec: SearchSpec, index: int) -> int:
    return int(np.random.SeedSequence([spec.seed, index]).generate_state(1)[0])


# ---- ranges, and values on their way to Optuna and back


def distribution_of(values: Range) -> BaseDistribution:
    """The range as Optuna's distribution; the end of a stepped one is its last value, as Optuna wants it."""
    match values:
        case IntRange():
            return IntDistribution(values.low, value_at(values, int(values.size) - 1), log=values.log, step=values.step)
        case FloatRange():
            high = values.high if values.step is None else value_at(values, int(values.size) - 1)
            return FloatDistribution(values.low, high, log=values.log, step=values.step)
        case Choice():
            return CategoricalDistribution([_optunas(values, value) for value in values.values])


def _distributions(space: Sequence[Dimension], params: Mapping[str, Any]) -> dict[str, str]:
    return {d.name: distribution_to_json(distribution_of(d.values)) for d in space if d.name in params}


def _optunas(values: Range, value: Any) -> Any:
    """Optuna's choices are plain values; a list goes as its JSON."""
    is_list = isinstance(values, Choice) and isinstance(value, (list, tuple, dict))
    return json.dumps(value) if is_list else value


def _suggested(trial: optuna.Trial, dimension: Dimension) -> Any:
    """The sampler's value of one setting, as the sweep file would write it."""
    name, values = dimension.name, dimension.values
    match distribution_of(values):
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            drawn = trial.suggest_float(name, low, high, step=step, log=log)
            return drawn if step is None else nearest(values, drawn)
        case CategoricalDistribution(choices=choices):
            drawn = trial.suggest_categorical(name, choices)
            return next(value for value in values.values if same(_optunas(values, value), drawn))
