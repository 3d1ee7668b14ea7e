"""run_study: one fresh Ray Tuner over the cells that are left, with its leases, its signals and its books.

`Tuner.fit` runs in a thread; the main thread owns the signals. Nothing of Ray's own state is kept: claims live in
the queue, results in the store, and a killed driver starts again from there. Importing this imports no Ray.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from uscl.records import Failed, Sink
from uscl.store.roots import StoreRoot
from uscl.sweep.cluster import HeadWatch, Site, find_site, needs_of, running_ray
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.fit import Watch, asked, fit
from uscl.sweep.folders import knows, leased, session, write_plans
from uscl.sweep.growing import Growth, growth_of
from uscl.sweep.live import live_sinks
from uscl.sweep.order import RUN_TRIAL
from uscl.sweep.plan import SweepPlan
from uscl.sweep.preflight import Placement, check_store, have_data
from uscl.sweep.proposals import goes_on
from uscl.sweep.queue import CellState
from uscl.sweep.signals import Stopped, StopRequests, stop_requests
from uscl.sweep.skipped import failed_links
from uscl.sweep.space import SpaceWatch
from uscl.sweep.stop_orders import stop_orders
from uscl.sweep.study import Study, queue_of, study_of
from uscl.sweep.terms import Terms

log = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """How a sweep stands after a start; cells by id, in the sweep's order."""

    finished: tuple[str, ...]
    """Cells that are finished now, earlier ones included."""
    failed: Mapping[str, Failed]
    """Cells whose last attempt failed."""
    held: tuple[str, ...]
    """Cells not finished and not tried again, because they or a stage they need failed."""
    left: tuple[str, ...]
    """Cells that a drain has left for the next start."""
    saved: tuple[str, ...] = ()
    """Those of `left` that were stopped under way, with their progress in the store."""


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """How a start ended."""

    sweeps: tuple[SweepOutcome, ...]
    """Of each sweep, in the order of the study; a cell that two declare counts in both."""
    trained: Mapping[str, int] = field(default_factory=dict)
    """Stage kind -> stages trained by this start."""
    seconds: float = 0.0
    exit_code: int = 0
    """0: all finished; 1: cells failed; 128 + n: drained by signal n."""
    hard: bool = False
    """A second signal ended it without waiting; the caller should leave the process at once."""
    stopped_by: str = ""
    """Who drained it with `uscl stop`; empty where nobody did."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run; nothing here changes a result."""

    workers: int | None = None
    address: str | None = None
    """A running Ray cluster; None: a Ray of our own on this machine."""
    require_gpu: bool = False
    run_trial: str = RUN_TRIAL
    until_s: float | None = None
    """Unix time at which it drains, as if it were asked to; None: when all is done."""
    skip_failed: bool = False
    """Do not try again what failed in an earlier start."""


def run_study(
    study: Study, open_sinks: Callable[[], Sequence[Sink]], *, options: RunOptions = RunOptions(), say: Say = print
) -> StudyOutcome:
    """Run what is missing of a study, as one schedule; `say` gets the few lines a user should read.

    `open_sinks` is called once the leases are held and the sweeps' folders are written; each sink gets every event,
    with the cell's key in the study (`OneSweep` narrows that to one sweep), and is closed at the end. LeaseHeld where
    another driver runs one of the sweeps; StoreError, DataError or ClusterError where the study cannot start, before
    anything is made where the machine or the address is at fault. With nothing to do, and nothing to tell, it returns
    at once.
    """
    started = time.monotonic()
    idle = not is_unfinished(study)
    if idle and all(knows(plan) for plan in study.plans):
        return _nothing_done(study)
    if options.skip_failed and not idle:
        skipped = _all_skipped(study, say)
        if skipped is not None:
            return skipped
    site = None
    if not idle:
        site = find_site(
            study.resources, address=options.address, workers=options.workers, require_gpu=options.require_gpu
        )
    check_store(study.store_root)
    with stop_requests() as requests:
        requests.install()
        requests.until_s = options.until_s
        try:
            with leased(study, requests), session(study, requests) as path, stop_orders(study, requests):
                growth = growth_of(study)
                if growth is not None:
                    study = study_of([growth.first()])
                write_plans(study, say)
                if site is None:  # a killed driver, or sweeps that share its stages: only the sinks hear
                    with _open(open_sinks, requests, say):
                        return _nothing_done(study)
                for plan in study.datasets:
                    with requests.at_once():
                        have_data(plan, say)
                start = _Start(study, site, growth, options, path, requests, say)
                dispatch = _run(start, open_sinks)
        except Stopped:
            say(f"{asked(requests)} before any trial; nothing was to be saved")
            return _not_begun(study, requests, seconds=time.monotonic() - started)
        if requests.hard:
            say(requests.lost or "stopped at once; what is in the store stays, run again to go on")
        elif dispatch.error is not None:
            raise dispatch.error
        return _outcome(dispatch.study, dispatch, requests, seconds=time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Start:
    """One start, once its leases are held."""

    study: Study
    site: Site
    growth: Growth | None
    options: RunOptions
    session_path: StoreRoot
    requests: StopRequests
    say: Say


def _run(start: _Start, open_sinks: Callable[[], Sequence[Sink]]) -> Dispatch:
    """Everything that needs Ray: the books of the start when it has ended."""
    study, options, requests, say = start.study, start.options, start.requests, start.say

    def sinks_of(placement: Placement) -> Sequence[Sink]:
        """Those of the caller, and what lets other processes see how the sweep stands."""
        return [*open_sinks(), *live_sinks(study, placement)]

    with (
        running_ray(study, start.site, workers=options.workers, requests=requests, say=say) as placement,
        _open(lambda: sinks_of(placement), requests, say) as sinks,
    ):
        requests.install()  # once more: Ray may have taken some
        needs = needs_of(study) if options.address else None
        terms = Terms(placement.device, placement.cpus_per_trial, options.run_trial, start.session_path, needs)
        queue, slots = queue_of(study, slots=placement.workers), placement.workers
        if options.skip_failed:
            queue.hold(failed_links(study, say))
        dispatch = Dispatch(study, queue, sinks=sinks, terms=terms, growth=start.growth, slots=slots)
        space, head = SpaceWatch(study.store_root), HeadWatch(start.site.address)
        fit(dispatch, placement, Watch(dispatch, space, head, start.session_path, requests, say))
    return dispatch


def _not_begun(study: Study, requests: StopRequests, *, seconds: float) -> StudyOutcome:
    """Of a start that was stopped before its first trial."""
    queue = queue_of(study)
    sweeps = []
    for plan in study.plans:
        cells = {cell.declared[plan.identity].cell: queue.state(cell.key) for cell in study.cells_of(plan)}
        finished = tuple(cell for cell, state in cells.items() if state is CellState.FINISHED)
        sweeps.append(SweepOutcome(finished, {}, (), tuple(cell for cell in cells if cell not in finished)))
    return StudyOutcome(tuple(sweeps), {}, seconds, requests.exit_code, requests.hard, requests.by)


def _all_skipped(study: Study, say: Say) -> StudyOutcome | None:
    """The outcome where all that is left failed in an earlier start, so that no Ray is needed; else None."""
    queue, said = queue_of(study), list[str]()
    queue.hold(failed_links(study, said.append))
    states = {cell.key: queue.state(cell.key) for cell in study.cells}
    if CellState.WAITING in states.values() or any(plan.spec.search is not None for plan in study.plans):
        return None
    for line in said:
        say(line)
    sweeps = []
    for plan in study.plans:
        ids = {cell.declared[plan.identity].cell: states[cell.key] for cell in study.cells_of(plan)}
        finished, held = (
            tuple(i for i, s in ids.items() if (s is CellState.FINISHED) is done) for done in (True, False)
        )
        sweeps.append(SweepOutcome(finished, {}, held, ()))
    return StudyOutcome(tuple(sweeps), exit_code=1)


def _nothing_done(study: Study) -> StudyOutcome:
    finished = (tuple(c.declared[plan.identity].cell for c in study.cells_of(plan)) for plan in study.plans)
    return StudyOutcome(tuple(SweepOutcome(cells, {}, (), ()) for cells in finished))


@contextmanager
def _open(open_sinks: Callable[[], Sequence[Sink]], requests: StopRequests, say: Say) -> Iterator[Sequence[Sink]]:
    """The sinks, closed at the end whatever happens. A second signal is not kept waiting by one that is slow."""
    sinks = open_sinks()
    try:
        yield sinks
    finally:
        told = requests.count
        closing = [threading.Thread(target=_close, args=(sink,), daemon=True) for sink in sinks]
        for thread in closing:
            thread.start()
        while any(thread.is_alive() for thread in closing) and not requests.hard:
            time.sleep(0.02)
            if requests.count > told:
                told = requests.count
                say(f"{asked(requests)}: no trial runs any more, the last news go out (a second signal drops them)")


def _close(sink: Sink) -> None:
    try:
        sink.close()
    except Exception as error:
        log.warning("%s could not close: %s", type(sink).__name__, error)


def unfinished(study: Study) -> tuple[str, ...]:
    """Keys of the cells that the store does not hold yet."""
    queue = queue_of(study)
    return tuple(cell.key for cell in study.cells if queue.state(cell.key) is not CellState.FINISHED)


def is_unfinished(study: Study) -> bool:
    """Whether there is anything to do: a cell that the store lacks, or a search that has not ended."""
    return bool(unfinished(study)) or any(goes_on(plan) for plan in study.plans)


def _outcome(study: Study, dispatch: Dispatch, requests: StopRequests, *, seconds: float) -> StudyOutcome:
    failed = bool(dispatch.cells_in(CellState.HELD))
    return StudyOutcome(
        sweeps=tuple(_standing(study, plan, dispatch) for plan in study.plans),
        trained=dict(dispatch.trained),
        seconds=seconds,
        exit_code=requests.exit_code or (1 if failed else 0),
        hard=requests.hard,
        stopped_by=requests.by,
    )


def _standing(study: Study, plan: SweepPlan, dispatch: Dispatch) -> SweepOutcome:
    ids = {cell.key: cell.declared[plan.identity].cell for cell in study.cells_of(plan)}
    states = {cell.key: state for state in CellState for cell in dispatch.cells_in(state)}

    def of(*wanted: CellState) -> tuple[str, ...]:
        """Ids of the sweep's cells in these states."""
        return tuple(cell for key, cell in ids.items() if states[key] in wanted)

    left = of(CellState.WAITING, CellState.RUNNING)
    drained = {ids[key] for key in dispatch.drained if key in ids}
    return SweepOutcome(
        finished=of(CellState.FINISHED),
        failed={ids[key]: failure for key, failure in dispatch.failures.items() if key in ids},
        held=of(CellState.HELD),
        left=left,
        saved=tuple(cell for cell in left if cell in drained),
    )
