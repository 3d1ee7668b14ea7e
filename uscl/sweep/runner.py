"""run_study: one fresh Ray Tuner over the cells that are left, with its leases, its signals and its books.

`Tuner.fit` runs in a thread; the main thread owns the signals. Nothing of Ray's own state is kept: claims live in
the queue, results in the store, and a killed driver starts again from there. Importing this imports no Ray.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uscl.errors import ClusterError
from uscl.records import Failed, Sink
from uscl.sweep.cluster import find_site, running_ray
from uscl.sweep.dispatch import Dispatch, Terms
from uscl.sweep.failures import class_of
from uscl.sweep.folders import knows, leased, session, write_plans
from uscl.sweep.order import DRAINING, RUN_TRIAL
from uscl.sweep.plan import SweepPlan
from uscl.sweep.preflight import Placement, check_store, have_data
from uscl.sweep.queue import CellState
from uscl.sweep.signals import StopRequests, stop_requests
from uscl.sweep.skipped import failed_links
from uscl.sweep.space import SpaceWatch, low_space
from uscl.sweep.study import Study, queue_of

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


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run; nothing here changes a result."""

    workers: int | None = None
    address: str | None = None
    """A running Ray cluster; None: a Ray of our own on this machine."""
    require_gpu: bool = False
    run_trial: str = RUN_TRIAL
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
    idle = not unfinished(study)
    if idle and all(knows(plan) for plan in study.plans):
        return _nothing_done(study)
    site = None
    if not idle:
        site = find_site(
            study.resources, address=options.address, workers=options.workers, require_gpu=options.require_gpu
        )
    check_store(study.store_root)
    with leased(study), stop_requests() as requests, session(study, requests) as session_path:
        write_plans(study, say)
        if site is None:  # a killed driver, or sweeps that share its stages, left nothing to train: only the sinks hear
            with _open(open_sinks, requests):
                return _nothing_done(study)
        for plan in study.datasets:
            have_data(plan, say)
        with (
            running_ray(study, site, workers=options.workers, requests=requests, say=say) as placement,
            _open(open_sinks, requests) as sinks,
        ):
            requests.install()
            terms = Terms(placement.device, placement.cpus_per_trial, options.run_trial, session_path)
            queue = queue_of(study, slots=placement.workers)
            if options.skip_failed:
                queue.hold(failed_links(study, say))
            dispatch = Dispatch(study, queue, sinks=sinks, terms=terms)
            _fit(dispatch, placement, session_path=session_path, requests=requests, say=say)
        if requests.hard:
            say("stopped at once; what is in the store stays, run again to go on")
        elif dispatch.error is not None:
            raise dispatch.error
        return _outcome(study, dispatch, requests, seconds=time.monotonic() - started)


def _nothing_done(study: Study) -> StudyOutcome:
    finished = (tuple(planned.plan.cell for planned in plan.cells) for plan in study.plans)
    return StudyOutcome(tuple(SweepOutcome(cells, {}, (), ()) for cells in finished))


@contextmanager
def _open(open_sinks: Callable[[], Sequence[Sink]], requests: StopRequests) -> Iterator[Sequence[Sink]]:
    """The sinks, closed at the end whatever happens. A second signal is not kept waiting by one that is slow."""
    sinks = open_sinks()
    try:
        yield sinks
    finally:
        closing = [threading.Thread(target=_close, args=(sink,), daemon=True) for sink in sinks]
        for thread in closing:
            thread.start()
        while any(thread.is_alive() for thread in closing) and not requests.hard:
            time.sleep(0.02)


def _close(sink: Sink) -> None:
    try:
        sink.close()
    except Exception as error:
        log.warning("%s could not close: %s", type(sink).__name__, error)


def unfinished(study: Study) -> tuple[str, ...]:
    """Keys of the cells that the store does not hold yet."""
    queue = queue_of(study)
    return tuple(cell.key for cell in study.cells if queue.state(cell.key) is not CellState.FINISHED)


def _outcome(study: Study, dispatch: Dispatch, requests: StopRequests, *, seconds: float) -> StudyOutcome:
    failed = bool(dispatch.cells_in(CellState.HELD))
    return StudyOutcome(
        sweeps=tuple(_standing(study, plan, dispatch) for plan in study.plans),
        trained=dict(dispatch.trained),
        seconds=seconds,
        exit_code=requests.exit_code or (1 if failed else 0),
        hard=requests.hard,
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


def _fit(dispatch: Dispatch, placement: Placement, *, session_path: Path, requests: StopRequests, say: Say) -> None:
    """Run the Tuner to its end, or until a second signal. One that a full disk ends is followed by another."""
    watch = _Watch(dispatch, SpaceWatch(dispatch.store_root), session_path, requests, say)
    while True:
        error = _fit_once(dispatch, placement, watch)
        if error is None or requests.hard:
            return
        if not dispatch.paused and class_of(error) != "full" and not low_space(dispatch.store_root):
            raise ClusterError(f"Ray Tune gave up: {type(error).__name__}: {error}; run again to go on") from error
        full = Failed("full", f"Ray Tune ended, as the disk is full: {error}"[:500], "")
        dispatch.pause(full.message)
        dispatch.abandon(full)
        watch.until(lambda: not dispatch.paused or watch.draining)
        if watch.draining:
            return


def _fit_once(dispatch: Dispatch, placement: Placement, watch: _Watch) -> BaseException | None:
    """One Tuner, to its end or a second signal; the error that ended it."""
    ended, errors = threading.Event(), []
    folder = watch.session_path.parent

    def fit() -> None:
        """Body of the thread."""
        try:
            # beside the session file: a node of a cluster may want to see Tune's folder too
            with _scratch(folder, watch.requests) as scratch:
                _tuner(dispatch, placement, scratch).fit()
        except BaseException as error:  # a SystemExit from inside Tune is an error here too
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=fit, name="tune", daemon=True).start()
    watch.until(ended.is_set)
    return errors[0] if errors else None


@contextmanager
def _scratch(folder: Path, requests: StopRequests) -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="tune-", dir=folder))
    try:
        yield scratch
    finally:
        if not requests.hard:  # else the next start removes it
            shutil.rmtree(scratch, ignore_errors=True)


@dataclass(slots=True)
class _Watch:
    """The main thread's part while trials run: signals, and the room that is left in the store."""

    dispatch: Dispatch
    space: SpaceWatch
    session_path: Path
    requests: StopRequests
    say: Say
    draining: bool = False
    paused: bool = False

    def until(self, ended: Callable[[], bool]) -> None:
        """Look after both until it has ended, or a second signal came."""
        while not ended() and not self.requests.hard:
            self._drain_if_asked()
            self._look_for_space()
            time.sleep(0.1)

    def _drain_if_asked(self) -> None:
        why = "" if self.draining else _why_stop(self.dispatch, self.requests)
        if why:
            self.draining = True
            self.say(f"{why}: trials save their progress (a second signal ends them at once)")
            self.dispatch.drain()
            with suppress(OSError), self.session_path.open("ab") as stream:
                stream.write(DRAINING)

    def _look_for_space(self) -> None:
        shortage = self.space.shortage(paused=bool(self.dispatch.paused))
        if shortage:
            self.dispatch.pause(shortage)
        elif shortage == "":
            self.dispatch.resume()
        if self.paused != bool(self.dispatch.paused):
            self.paused = not self.paused
            # the first clause: what follows tells a command that ends to be started again
            why = self.dispatch.paused.split(";")[0].split("\n")[0][:300]
            goes_on = "there is space again: the sweep goes on"
            self.say(f"PAUSED: {why}; free some space, and it goes on by itself" if self.paused else goes_on)


def _why_stop(dispatch: Dispatch, requests: StopRequests) -> str:
    """Why the study is to drain now; empty where it is to go on."""
    return "stopping" if requests.count or dispatch.stopping.is_set() else ""


def _tuner(dispatch: Dispatch, placement: Placement, scratch: Path) -> Any:
    # a custom searcher gets one pending trial otherwise, and a freed slot waits for it
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(placement.workers)
    from ray import tune

    # what happens to a trial is told by our own events; Tune would repeat it as pages of its own frames
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    from uscl.sweep.tune_adapter import CellSearcher, CellTrainable, EventCallback

    resources = {"cpu": placement.cpus_per_trial, "gpu": placement.gpus_per_trial}
    return tune.Tuner(
        tune.with_resources(CellTrainable, {name: count for name, count in resources.items() if count}),
        tune_config=tune.TuneConfig(
            search_alg=CellSearcher(dispatch), num_samples=-1, reuse_actors=placement.device == "cpu"
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[EventCallback(dispatch)],
            verbose=0,
            log_to_file=False,
        ),
    )
