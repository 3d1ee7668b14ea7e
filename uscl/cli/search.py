"""`uscl search`: what a search has proposed and found, for a terminal, for Optuna's dashboard, and as figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from uscl.cli.options import store_option
from uscl.cli.search_check import aligned
from uscl.report.search_figures import SearchPicture, SearchPoint, draw_search
from uscl.spec.reader import load_sweep
from uscl.spec.settings import shown
from uscl.store.files import Files
from uscl.sweep.books import Entry, State
from uscl.sweep.search_results import SearchResults, best_so_far, search_results


@click.group()
def search() -> None:
    """What a search has proposed and found.

    SWEEP is a search's name, or its file; it may be running.
    """


@search.command()
@click.argument("sweep", metavar="SWEEP")
@store_option
@click.option("--json", "as_json", is_flag=True, help="An object: the search, its proposals, the best of them.")
def show(sweep: str, *, store: Path, as_json: bool) -> None:
    """Print every proposal: its settings, its validation scores, its cells."""
    results = results_of(sweep, store)
    if as_json:
        click.echo(json.dumps(as_document(results), indent=2))
        return
    click.echo("\n".join([*aligned(_rows(results)), *best_lines(results)]))


@search.command()
@click.argument("sweep", metavar="SWEEP")
@click.argument("target", metavar="OUT.db", type=click.Path(dir_okay=False, path_type=Path))
@store_option
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(sweep: str, target: Path, *, store: Path, force: bool) -> None:
    """Write the search as an Optuna database, which optuna-dashboard opens."""
    from uscl.sweep.search_export import export_search

    count = export_search(results_of(sweep, store), target, force=force)
    click.echo(f"wrote {count} proposals; look at them with: optuna-dashboard sqlite:///{target}")


@search.command()
@click.argument("sweep", metavar="SWEEP")
@click.argument("target", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path))
@store_option
def figures(sweep: str, target: Path, *, store: Path) -> None:
    """Draw its history, the importance of its settings and its Pareto front into a folder."""
    drawn = search_figures(results_of(sweep, store))
    for name, content in drawn.items():
        Files(target).write(name, content)
        click.echo(f"wrote {target / name}")
    if not drawn:
        click.echo("no proposal is complete yet: nothing to draw")
    elif "search_importance.png" not in drawn:
        from uscl.sweep.search_export import LEAST

        click.echo(f"no importance: it needs {LEAST} complete proposals")


def results_of(sweep: str, store: Path) -> SearchResults:
    """The search of that name, or of that file."""
    identity = load_sweep(Path(sweep)).identity if Path(sweep).suffix in (".yaml", ".yml") else sweep
    return search_results(store, identity)


def search_figures(results: SearchResults) -> dict[str, bytes]:
    """PNG bytes by file name."""
    from uscl.sweep.search_export import importance

    leaders = results.leaders
    complete = [entry for entry in results.entries if entry.proposal.counts and entry.state is State.COMPLETE]
    points = [SearchPoint(e.proposal.index, e.values, e.is_feasible, e in leaders) for e in complete]
    stairs = {name: [(at, best) for at, _, best in best_so_far(results, name)] for name in results.spec.objectives}
    # of several objectives the best of each alone says little: the front does
    best = stairs if len(stairs) == 1 else {}
    return draw_search(SearchPicture(results.spec.objectives, tuple(points), best, importance(results)))


def best_lines(results: SearchResults) -> list[str]:
    """The winner or the front, and how many proposals it was chosen from."""
    leaders, spec = results.leaders, results.spec
    if not leaders:
        bounds = " within its bounds" if spec.constraints else ""
        return [f"{results.identity}: none of {results.looked_at} proposals has a finite score{bounds}: no winner"]
    what = "best" if len(spec.objectives) == 1 else f"Pareto front, {len(leaders)}"
    lines = [f"{results.identity}: {what} of {results.looked_at} proposals, chosen on validation:"]
    for entry in leaders:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in zip(spec.objectives, entry.values, strict=True))
        tested = _test_scores(results, entry)
        lines.append(
            f"  proposal {entry.proposal.index} ({_settings(entry)}): {scores}{tested}; {_cells(results, entry)}"
        )
    return lines


def _test_scores(results: SearchResults, entry: Entry) -> str:
    """The winner's own test scores of what was sought, where they are there: means over the repeats."""
    scores = results.test_scores(entry)
    told = [f"{name} {value:.4f}" for name, value in scores.items() if not math.isnan(value)]
    return f"; {', '.join(told)}" if told else ""


def as_document(results: SearchResults) -> dict[str, Any]:
    """The search as JSON."""
    best = [entry.proposal.index for entry in results.leaders]
    return {
        "sweep": results.identity,
        "search": results.spec.to_json(),
        "looked_at": results.looked_at,
        "best": best,
        "proposals": [_entry(results, entry) for entry in results.entries],
    }


def _entry(results: SearchResults, entry: Entry) -> Mapping[str, Any]:
    proposal = entry.proposal
    return {
        "proposal": proposal.index,
        "params": dict(proposal.params),
        "state": str(entry.state),
        "values": dict(zip(results.spec.objectives, entry.values, strict=False)),
        "feasible": entry.is_feasible,
        "cells": list(proposal.cells),
        "numbers": list(results.numbers(entry)),
        "same_as": proposal.same_as,
        "refused": proposal.refused,
    }


def _rows(results: SearchResults) -> list[list[str]]:
    names = [dimension.name for dimension in results.spec.space]
    leaders = results.leaders
    rows = [["proposal", *names, *results.spec.objectives, "state", "cells"]]
    for entry in results.entries:
        params = entry.proposal.params
        values = [f"{value:.4f}" for value in entry.values] or ["-"] * len(results.spec.objectives)
        rows.append(
            [
                str(entry.proposal.index),
                *(_short(params[name]) if name in params else "-" for name in names),
                *values,
                _state(entry, is_best=entry in leaders),
                ", ".join(map(str, results.numbers(entry))) or "-",
            ]
        )
    return rows


def _state(entry: Entry, *, is_best: bool) -> str:
    if entry.proposal.same_as is not None:
        return f"same as {entry.proposal.same_as}"
    if entry.state is State.REFUSED:
        return f"refused: {entry.proposal.refused}"
    if entry.state is State.COMPLETE and not entry.is_feasible:
        return "out of bounds"
    return "best" if is_best else str(entry.state)


def _settings(entry: Entry) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in entry.proposal.params.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(shown(value))


def _cells(results: SearchResults, entry: Entry) -> str:
    numbers = results.numbers(entry)
    return f"cell{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
