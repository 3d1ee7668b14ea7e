"""How a stored sweep stands, while a driver runs and after: cells, trials, hours, time left. Pure, given a snapshot."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from uscl.records import STAGE_KINDS, StageManifest
from uscl.store.lease import Holder
from uscl.sweep.attempts import first_line
from uscl.sweep.outlook import link, outlook
from uscl.sweep.sharing import Sharing, sharing_of
from uscl.sweep.snapshot import STATES, Snapshot, cell_states

STRAGGLER_FACTOR, STRAGGLER_MIN_S = 2.0, 30.0
"""A stage that takes longer than this many times the median of its kind, and is not over in a moment anyway."""
HISTORY_MIN = 2
"""Finished stages of a kind from which its median is called a history."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One line about a sweep."""

    sweep: str
    total: int
    cells: Mapping[str, int]
    """State -> cells; the states are STATES."""
    driver: Holder | None
    stopping: str
    """Who has asked the driver to stop; empty where nobody has."""
    last_activity_s: float | None
    """Unix time of the last event; None where nothing has happened yet."""


@dataclass(frozen=True, slots=True)
class TrialStatus:
    """A trial under way."""

    cell: int
    label: str
    node: str
    stage: str
    step: int
    steps: int
    frames_per_s: float
    seconds: float
    """Since its first event."""
    stage_seconds: float
    """At this stage."""
    median_seconds: float | None
    """Of finished stages of this kind in this sweep; None without a history."""
    straggler: bool


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of devices, not of wall clock: seconds of stages times what each trial was given."""

    gpu: float
    """GPU-hours of the stages that this sweep trained."""
    cpu: float
    """CPU-hours of those it trained where there was no GPU."""
    reused_gpu: float
    """Of stages that its cells use and other sweeps trained."""
    reused_cpu: float
    unfinished: float
    """Trial-hours in attempts that were drained or failed, without the stages they finished."""


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """What is missing, by the medians of what this sweep has finished."""

    seconds: float | None
    """None where a missing kind has no history yet."""
    workers: int
    """Trials at once that it is reckoned with: the driver's, or one."""
    unknown: tuple[str, ...]
    """Kinds that are missing and without history."""


@dataclass(frozen=True, slots=True)
class LastError:
    """The last failure on record."""

    cell: int | None
    time_s: float
    failure: str
    message: str
    """Its first line."""
    finished_since: bool


@dataclass(frozen=True, slots=True)
class Status:
    """How one sweep stands."""

    summary: Summary
    numbers: Mapping[str, tuple[int, ...]]
    """State -> numbers of the cells in it."""
    stages: Mapping[str, tuple[int, int]]
    """Kind -> distinct outputs there are, and all."""
    trials: tuple[TrialStatus, ...]
    hours: Hours
    saved: Sharing
    left: TimeLeft
    last_error: LastError | None


def summary(snapshot: Snapshot) -> Summary:
    """Cells by state, driver, last activity."""
    counts = Counter(cell_states(snapshot).values())
    times = [attempt.last_s for attempt in snapshot.attempts] + [trial.time_s for trial in snapshot.live.values()]
    cells = {state: counts[state] for state in STATES}
    return Summary(
        snapshot.sweep, len(snapshot.cells), cells, snapshot.driver, snapshot.stopping, max(times, default=None)
    )


def status(snapshot: Snapshot, *, now_s: float) -> Status:
    """Everything that `uscl status SWEEP` tells; `now_s` is Unix time."""
    states = cell_states(snapshot)
    numbers = {state: tuple(p.number for p in snapshot.cells if states[p.cell] == state) for state in STATES}
    medians = _medians(snapshot)
    return Status(
        summary=summary(snapshot),
        numbers=numbers,
        stages=_tallies(snapshot),
        trials=_running(snapshot, medians, now_s=now_s),
        hours=_hours(snapshot),
        saved=sharing_of(snapshot.cells, snapshot.store_root, snapshot.found),
        left=_left(snapshot, medians),
        last_error=_last_error(snapshot, states),
    )


def _links(snapshot: Snapshot) -> dict[str, str]:
    """Link -> kind of every distinct output of the cells."""
    return {link(plan, ref): ref.kind for plan in snapshot.cells for ref in plan.stages.values()}


def _tallies(snapshot: Snapshot) -> dict[str, tuple[int, int]]:
    links = _links(snapshot)
    total = Counter(links.values())
    done = Counter(kind for name, kind in links.items() if name in snapshot.manifests)
    return {kind: (done[kind], total[kind]) for kind in STAGE_KINDS if total[kind]}


def _medians(snapshot: Snapshot) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for manifest in snapshot.manifests.values():
        seconds.setdefault(manifest.kind, []).append(_seconds(manifest))
    return {kind: statistics.median(values) for kind, values in seconds.items() if len(values) >= HISTORY_MIN}


def _seconds(manifest: StageManifest) -> float:
    return float(manifest.provenance.get("seconds", 0.0))


def _running(snapshot: Snapshot, medians: Mapping[str, float], *, now_s: float) -> tuple[TrialStatus, ...]:
    plans = {plan.cell: plan for plan in snapshot.cells}
    trials = []
    for cell, trial in snapshot.live.items():
        plan, median, spent = plans.get(cell), medians.get(trial.kind), max(0.0, now_s - trial.stage_since_s)
        if plan is None:
            continue
        late = median is not None and spent > max(STRAGGLER_MIN_S, STRAGGLER_FACTOR * median)
        trials.append(
            TrialStatus(
                plan.number,
                plan.label,
                trial.node,
                trial.stage,
                trial.step,
                trial.steps,
                trial.frames_per_s,
                seconds=max(0.0, now_s - trial.since_s),
                stage_seconds=spent,
                median_seconds=median,
                straggler=late,
            )
        )
    return tuple(sorted(trials, key=lambda trial: trial.cell))


def _hours(snapshot: Snapshot) -> Hours:
    own = {attempt.name for attempt in snapshot.attempts}
    share = {"gpu": snapshot.resources.get("gpus_per_trial") or 1, "cpu": snapshot.resources.get("cpus_per_trial") or 1}
    spent: dict[tuple[bool, str], float] = {(who, device): 0.0 for who in (True, False) for device in ("gpu", "cpu")}
    for manifest in snapshot.manifests.values():
        device = "cpu" if manifest.provenance.get("device", "cpu") == "cpu" else "gpu"
        spent[manifest.attempt in own, device] += _seconds(manifest) * share[device] / 3600
    stopped = [attempt for attempt in snapshot.attempts if attempt.end in ("drained", "failed")]
    unfinished = sum(max(0.0, attempt.last_s - attempt.started_s - attempt.trained_s) for attempt in stopped)
    return Hours(spent[True, "gpu"], spent[True, "cpu"], spent[False, "gpu"], spent[False, "cpu"], unfinished / 3600)


def _left(snapshot: Snapshot, medians: Mapping[str, float]) -> TimeLeft:
    found = snapshot.found
    missing: dict[str, str] = {}
    for plan in snapshot.cells:
        for name in outlook(plan, found).missing:
            missing[link(plan, plan.stages[name])] = plan.stages[name].kind
    under_way = {trial.key: trial.step / trial.steps for trial in snapshot.live.values() if trial.steps}
    seconds = sum(
        medians.get(kind, 0.0) * (1 - under_way.get(name.rpartition("/")[2], 0.0)) for name, kind in missing.items()
    )
    unknown = tuple(kind for kind in STAGE_KINDS if kind in missing.values() and kind not in medians)
    workers = max(1, snapshot.workers or 1)
    return TimeLeft(None if unknown else seconds / workers, workers, unknown)


def _last_error(snapshot: Snapshot, states: Mapping[str, str]) -> LastError | None:
    failed = [attempt for attempt in snapshot.attempts if attempt.end == "failed"]
    if not failed:
        return None
    last = max(failed, key=lambda attempt: attempt.last_s)
    line = first_line(last.message)
    since = states.get(last.cell) == "finished"
    return LastError(snapshot.number(last.cell), last.last_s, last.failure, line, since)
