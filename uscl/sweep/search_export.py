"""A search for Optuna's own tools: a database that optuna-dashboard opens, and the importance of each setting."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator

from uscl.errors import SpecError
from uscl.sweep.books import Entry, State
from uscl.sweep.search import study_of_entries, trial_of_entry
from uscl.sweep.search_results import SearchResults

LEAST = 10
"""Complete proposals below which no importance is told."""
_TOP = 5
"""Proposals, at least, that count as good: PED-ANOVA compares where they lie with where all do."""


def export_search(results: SearchResults, path: Path, *, force: bool = False) -> int:
    """Write an Optuna database (SQLite) with every proposal: how many. SpecError where the file is there already.

    Trial numbers are those of the proposals that belong to the search as it is now; a trial's `cells` name its cells.
    """
    if path.exists() and not force:
        raise SpecError(f"{path}: is there already; --force replaces it")
    if not path.parent.is_dir():
        raise SpecError(f"{path.parent}: no such folder")
    aside = path.with_name(f".{path.name}.writing")
    aside.unlink(missing_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{aside.absolute()}")
    try:
        study = study_of_entries(results.spec, (), storage=storage, name=results.identity)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # what the names are called in Optuna's own tables
            study.set_metric_names(list(results.spec.objectives))
        trials = [trial_of_entry(results.spec, entry, user_attrs=_notes(results, entry)) for entry in results.entries]
        study.add_trials(trials)
    finally:
        storage.remove_session()
        storage.engine.dispose()
    aside.replace(path)
    return len(results.entries)


def _notes(results: SearchResults, entry: Entry) -> dict[str, Any]:
    """What a trial's page shows besides its settings and values."""
    proposal = entry.proposal
    notes: dict[str, Any] = {
        "proposal": proposal.index,
        "cells": list(proposal.cells),
        "cell numbers": list(results.numbers(entry)),
        "winner": entry in results.leaders,
    }
    if entry.state not in (State.COMPLETE, State.PENDING):
        notes["why"] = proposal.refused or str(entry.state)
    return notes | ({} if proposal.same_as is None else {"same as proposal": proposal.same_as})


def importance(results: SearchResults) -> dict[str, dict[str, float]]:
    """Objective -> setting -> its share in what makes a proposal good (PED-ANOVA), largest first; shares add up to 1.

    Empty below LEAST complete proposals. Watanabe et al. 2023, arXiv 2304.10255: where the best proposals lie,
    against where all do. It needs no scikit-learn, as Optuna's other measures do.
    """
    complete = [entry for entry in results.entries if entry.proposal.counts and entry.state is State.COMPLETE]
    if len(complete) < LEAST:
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, _TOP / len(complete))))
    found = {}
    for at, (name, direction) in enumerate(results.spec.objectives.items()):
        alone = replace(results.spec, objectives={name: direction}, constraints={})
        values = [replace(entry, values=entry.values[at : at + 1], violations=()) for entry in complete]
        raw = evaluator.evaluate(study_of_entries(alone, values))
        total = sum(raw.values()) or 1.0
        found[name] = dict(sorted(((key, raw[key] / total) for key in raw), key=lambda item: -item[1]))
    return found
