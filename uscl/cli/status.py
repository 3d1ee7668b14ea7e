"""`uscl status` and `uscl why`: how sweeps stand, and what happened to one cell."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime

import click

from uscl.cli.options import json_option, store_option, stored_sweep
from uscl.errors import StoreError
from uscl.report.footnotes import spans
from uscl.spec.positions import one_line
from uscl.store.roots import StoreRoot
from uscl.store.sweeps import find_cell, list_sweeps
from uscl.sweep.attempts import first_line
from uscl.sweep.board import duration
from uscl.sweep.snapshot import look
from uscl.sweep.status import Hours, Status, Summary, TrialStatus
from uscl.sweep.status import status as status_of
from uscl.sweep.status import summary as summary_of
from uscl.sweep.view import bar
from uscl.sweep.why import AttemptStory, StageOrigin, Why
from uscl.sweep.why import why as why_of


@click.command()
@click.argument("sweep", metavar="[SWEEP]", required=False)
@store_option
@json_option
def status(sweep: str | None, *, store: StoreRoot, as_json: bool) -> None:
    """Say how sweeps stand: cells, what runs where, hours, time left.

    SWEEP is a sweep's name, or its file; without it, a line for each sweep of the store. Nothing but the store is
    read, whether a driver runs or not, and from any machine that sees it.
    """
    now_s = time.time()
    if sweep is not None:
        stands = status_of(look(stored_sweep(store, sweep), store), now_s=now_s)
        click.echo(json.dumps(asdict(stands), indent=2) if as_json else "\n".join(_status_lines(stands, now_s=now_s)))
        return
    found: list[Summary] = []
    for folder in list_sweeps(store):
        try:
            found.append(summary_of(look(folder, store)))
        except StoreError as error:
            click.echo(f"uscl: {error}", err=True)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        lines = [_summary_line(each, now_s=now_s) for each in found]
        click.echo("\n".join(lines or [f"no sweep has been run in the store at {store}"]))


@click.command()
@click.argument("sweep", metavar="SWEEP")
@click.argument("cell")
@store_option
@click.option("--traceback", is_flag=True, help="Also each failure's traceback, and the end of its log.")
@json_option
def why(sweep: str, cell: str, *, store: StoreRoot, traceback: bool, as_json: bool) -> None:
    """Say what happened to a cell, attempt by attempt.

    SWEEP is a sweep's name, or its file; CELL a number that `uscl check` prints, or the start of a cell's id.
    """
    folder = stored_sweep(store, sweep)
    snapshot = look(folder, store)
    told = why_of(snapshot, find_cell(snapshot.cells, cell), list_sweeps(store))
    click.echo(json.dumps(asdict(told), indent=2) if as_json else "\n".join(_why_lines(told, traceback=traceback)))


# ---- status


def _summary_line(each: Summary, *, now_s: float) -> str:
    driver = f"run by process {each.driver.pid} on {each.driver.host}" if each.driver else "nobody runs it"
    driver += f", stopping as {each.stopping} asked" if each.stopping else ""
    last = f"last event {_ago(each.last_activity_s, now_s)}" if each.last_activity_s else "nothing has happened yet"
    return f"{each.sweep}: {_counts(each)}; {driver}; {last}"


def _counts(each: Summary) -> str:
    others = [f"{number} {state}" for state, number in each.cells.items() if number and state != "finished"]
    return ", ".join([f"{each.cells['finished']}/{each.total} cells finished", *others])


def _status_lines(stands: Status, *, now_s: float) -> Iterator[str]:
    yield _summary_line(stands.summary, now_s=now_s)
    if stands.summary.driver:
        yield f"driver: {stands.summary.driver}"
    stages = ", ".join(f"{kind} {done}/{total}" for kind, (done, total) in stands.stages.items())
    yield f"stages: {stages}"
    for state in ("waiting", "failed", "held"):
        if stands.numbers[state]:
            yield f"{state}: {one_line(spans(list(stands.numbers[state])), length=80)}{_MEANS[state]}"
    for trial in stands.trials:
        yield _trial_line(trial)
    yield _hours_line(stands.hours)
    if stands.saved.saved_runs:
        saved = stands.saved
        yield f"saved by sharing: {saved.saved_runs} stage runs, {duration(saved.saved_seconds)} of training"
    yield _left_line(stands)
    if stands.last_error:
        yield _error_line(stands, now_s=now_s)


_MEANS = {
    "waiting": "",
    "failed": " (the next start tries them again)",
    "held": " (a stage they need failed; `uscl why` says where)",
}


def _trial_line(trial: TrialStatus) -> str:
    steps = bar(trial.step, trial.steps)
    parts = [f"running: cell {trial.cell} ({trial.label})", trial.node, trial.stage.replace("/", " "), steps]
    parts.append(f"{trial.frames_per_s:.0f} frames/s" if trial.frames_per_s else "")
    parts.append(f"{duration(trial.stage_seconds)} at this stage")
    if trial.straggler and trial.median_seconds is not None:
        parts.append(f"STRAGGLER: others took {duration(trial.median_seconds)}")
    return " | ".join(filter(None, parts))


def _hours_line(hours: Hours) -> str:
    """GPU-hours where there were any; CPU-hours are called so."""
    spent = [f"{_hours(value)} {kind}-hours" for kind, value in (("GPU", hours.gpu), ("CPU", hours.cpu)) if value]
    reused = [
        f"{_hours(value)} {kind}-hours"
        for kind, value in (("GPU", hours.reused_gpu), ("CPU", hours.reused_cpu))
        if value
    ]
    line = f"spent: {' and '.join(spent) or 'nothing yet'}"
    line += f"; reused from elsewhere: {' and '.join(reused)}" if reused else ""
    if hours.unfinished:
        line += f"; {_hours(hours.unfinished)} trial-hours in attempts that were drained or failed"
    return line


def _hours(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.01 else "under 0.01"


def _left_line(stands: Status) -> str:
    left = stands.left
    if left.unknown:
        return f"time left: unknown (too few finished yet of: {', '.join(left.unknown)})"
    if not left.seconds:
        return "time left: none"
    workers = "one trial at a time" if left.workers == 1 else f"{left.workers} trials at once"
    return f"time left: about {duration(left.seconds)}, {workers}"


def _error_line(stands: Status, *, now_s: float) -> str:
    error = stands.last_error
    assert error is not None
    where = f"cell {error.cell}" if error.cell else "a cell no longer declared"
    logs = f"; uscl logs {stands.summary.sweep} {error.cell}" if error.cell else ""
    since = ", finished since" if error.finished_since else ""
    return f"last error, {_ago(error.time_s, now_s)}: {where} ({error.failure}){since}: {error.message}{logs}"


def _ago(time_s: float, now_s: float) -> str:
    return f"{duration(max(0.0, now_s - time_s))} ago"


# ---- why


def _why_lines(told: Why, *, traceback: bool) -> Iterator[str]:
    yield f"{told.sweep} cell {told.number} ({told.label}), id {told.cell[:10]}: {told.state}"
    if told.held_by:
        held = told.held_by
        other = f"cell {held.cell}" if held.cell else "a cell no longer declared"
        at = held.stage.replace("/", " ")
        yield f"held: its {at} failed in {other} ({held.failure}): {first_line(held.message)}"
    for stage in told.stages:
        yield _stage_line(stage)
    if not told.attempts:
        yield "no attempt of its own is on record"
    for number, attempt in enumerate(told.attempts, 1):
        yield from _attempt_lines(number, attempt, traceback=traceback)


def _stage_line(stage: StageOrigin) -> str:
    name = stage.stage.replace("/", " ")
    if stage.state == "missing":
        return f"  {name}: missing"
    flags = "".join(f", {flag}" for flag in stage.flags)
    where = f" on {stage.host}" if stage.host else ""
    when = f", {stage.finished}" if stage.finished else ""
    made = f"by {stage.maker}{where} in {duration(stage.seconds)}{when}"
    return f"  {name}: {stage.state}{flags}, {made}, attempt {stage.attempt}"


def _attempt_lines(number: int, attempt: AttemptStory, *, traceback: bool) -> Iterator[str]:
    where = f" on {attempt.node}" if attempt.node else ""
    until = f" to {_clock(attempt.ended_s)}" if attempt.ended_s is not None else ""
    yield f"attempt {number}, {_clock(attempt.started_s)}{until}{where}: {_ended(attempt)} [{attempt.attempt}]"
    for what, names in (("reused", attempt.reused), ("trained", attempt.trained)):
        if names:
            yield f"  {what}: {', '.join(name.replace('/', ' ') for name in names)}"
    if attempt.failure and traceback:
        yield from (f"  {line}" for line in attempt.traceback.rstrip().splitlines())
        yield from (f"  log: {line}" for line in attempt.log_tail)


def _ended(attempt: AttemptStory) -> str:
    stage = attempt.stage.replace("/", " ")
    match attempt.end:
        case "drained":
            return f"drained at step {attempt.step} of {stage}, progress saved"
        case "failed":
            return f"failed ({attempt.failure}) in {stage}: {first_line(attempt.message)}"
        case "running":
            return f"running, at {stage}" + (f" step {attempt.step}" if attempt.step else "")
        case "cut off":
            return f"cut off in {stage}, or later: its driver was killed"
        case other:
            return other


def _clock(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s):%Y-%m-%d %H:%M:%S}"
