"""run_sweep: one fresh Ray Tuner over the cells that are left, with its lease, its signals and its books.

`Tuner.fit` runs in a thread; the main thread owns the signals. Nothing of Ray's own state is kept: claims live in
the queue, results in the store, and a killed driver starts again from there. Importing this imports no Ray.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uscl.errors import ClusterError, StoreError
from uscl.records import Failed, Sink
from uscl.store.strict_json import decode_json, encode_json
from uscl.store.sweeps import SweepFolder
from uscl.sweep.cluster import find_site, running_ray
from uscl.sweep.dispatch import Dispatch, Terms
from uscl.sweep.order import DRAINING, RUN_TRIAL, RUNNING
from uscl.sweep.plan import SweepPlan, queue_cells, survey
from uscl.sweep.preflight import Placement, check_store, have_data
from uscl.sweep.queue import CellQueue, CellState
from uscl.sweep.signals import StopRequests, stop_requests

log = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """How a start of a sweep ended."""

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
    trained: Mapping[str, int] = field(default_factory=dict)
    """Stage kind -> stages trained by this start."""
    seconds: float = 0.0
    exit_code: int = 0
    """0: all finished; 1: cells failed; 128 + n: drained by signal n."""
    hard: bool = False
    """A second signal ended it without waiting; the caller should leave the process at once."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a sweep; nothing here changes a result."""

    workers: int | None = None
    address: str | None = None
    """A running Ray cluster; None: a Ray of our own on this machine."""
    require_gpu: bool = False
    run_trial: str = RUN_TRIAL


def run_sweep(
    plan: SweepPlan, open_sinks: Callable[[], Sequence[Sink]], *, options: RunOptions = RunOptions(), say: Say = print
) -> SweepOutcome:
    """Run what is missing of a plan; `say` gets the few lines a user should read.

    `open_sinks` is called once the lease is held and the sweep's folder is written; each sink gets every event and is
    closed at the end. LeaseHeld where another driver runs this sweep; StoreError, DataError or ClusterError where it
    cannot start, before anything is made where the machine or the address is at fault. With nothing to do, and
    nothing to tell, it returns at once.
    """
    started = time.monotonic()
    folder = SweepFolder(plan.store_root, plan.identity)
    idle = not unfinished(plan)
    if idle and not _sessions(folder) and _is_known(plan, folder):
        return _nothing_done(plan)
    site = None
    if not idle:
        site = find_site(
            plan.spec.resources, address=options.address, workers=options.workers, require_gpu=options.require_gpu
        )
    check_store(plan.store_root)
    with folder.acquire_lease(), stop_requests() as requests, _session(folder, requests) as session:
        _write_plan(plan, folder, say)
        if site is None:  # a killed driver, or sweeps that share its stages, left nothing to train: only the sinks hear
            with _open(open_sinks, requests):
                return _nothing_done(plan)
        have_data(plan, say)
        with (
            running_ray(plan, site, workers=options.workers, requests=requests, say=say) as placement,
            _open(open_sinks, requests) as sinks,
        ):
            requests.install()
            terms = Terms(placement.device, placement.cpus_per_trial, options.run_trial, session)
            dispatch = _dispatch(plan, folder, sinks=sinks, terms=terms, slots=placement.workers)
            _fit(dispatch, placement, session=session, requests=requests, say=say)
        if requests.hard:
            say("stopped at once; what is in the store stays, run again to go on")
        elif dispatch.error is not None:
            raise dispatch.error
        return _outcome(dispatch, requests, seconds=time.monotonic() - started)


def _nothing_done(plan: SweepPlan) -> SweepOutcome:
    return SweepOutcome(tuple(planned.plan.cell for planned in plan.cells), {}, (), ())


@contextmanager
def _open(open_sinks: Callable[[], Sequence[Sink]], requests: StopRequests) -> Iterator[Sequence[Sink]]:
    """The sinks, closed at the end whatever happens. A second signal is not kept waiting by one that is slow."""
    sinks = open_sinks()
    try:
        yield sinks
    finally:
        for sink in sinks:
            closing = threading.Thread(target=_close, args=(sink,), daemon=True)
            closing.start()
            while closing.is_alive() and not requests.hard:
                closing.join(0.05)


def _close(sink: Sink) -> None:
    try:
        sink.close()
    except Exception as error:
        log.warning("%s could not close: %s", type(sink).__name__, error)


def unfinished(plan: SweepPlan) -> tuple[str, ...]:
    """Cells that the store does not hold yet."""
    found = survey(plan.cells, plan.store_root)
    queue = CellQueue(queue_cells(plan.cells), present=found.present, diverged=found.diverged)
    return tuple(p.plan.cell for p in plan.cells if queue.state(p.plan.cell) is not CellState.FINISHED)


@contextmanager
def _session(folder: SweepFolder, requests: StopRequests) -> Iterator[Path]:
    """The file through which trials hear that the sweep drains. One left behind tells of a driver that was killed."""
    for stale in _sessions(folder):
        stale.unlink(missing_ok=True)
    for stale in folder.path.glob("tune-*"):
        shutil.rmtree(stale, ignore_errors=True)
    session = folder.path / f"session-{secrets.token_hex(8)}"
    session.write_bytes(RUNNING)
    try:
        yield session
    finally:
        if not requests.hard:
            session.unlink(missing_ok=True)


def _sessions(folder: SweepFolder) -> list[Path]:
    return list(folder.path.glob("session-*"))


def _is_known(plan: SweepPlan, folder: SweepFolder) -> bool:
    """Whether the folder holds exactly this plan, and its report: its sinks have heard of it."""
    try:
        known = [cell.to_json() for cell in folder.read_cells()]
    except StoreError:
        return False
    report = plan.spec.to_json().get("report")
    if (folder.read_sweep() or {}).get("report", report) != report:
        return False
    return bool(known == decode_json(encode_json([planned.plan.to_json() for planned in plan.cells])))


def _write_plan(plan: SweepPlan, folder: SweepFolder, say: Say) -> None:
    data = plan.spec.data if plan.spec.data == "phantom" else str(plan.dataset_path)
    folder.write_sweep(plan.spec.to_json() | {"data": data, "dataset_fingerprint": plan.dataset_fingerprint})
    changed = _changed(plan, folder)
    if changed:
        say(changed)
    folder.write_cells([planned.plan for planned in plan.cells])
    folder.write_dataset(plan.facts)


def _changed(plan: SweepPlan, folder: SweepFolder) -> str:
    """How the cells differ from those of the last start; empty where they do not."""
    try:
        known = {cell.cell for cell in folder.read_cells()}
    except StoreError:
        return ""
    now = {planned.plan.cell for planned in plan.cells}
    gone, new = len(known - now), len(now - known)
    if not gone:
        return f"{plan.identity}: {new} cells are new since the last start" if new else ""
    return (
        f"{plan.identity}: {gone} of {len(known)} cells of the last start are no longer declared (their results stay "
        f"in the store), {new} are new; --name keeps the two apart"
    )


def _dispatch(plan: SweepPlan, folder: SweepFolder, *, sinks: Sequence[Sink], terms: Terms, slots: int) -> Dispatch:
    found = survey(plan.cells, plan.store_root)
    queue = CellQueue(queue_cells(plan.cells), present=found.present, diverged=found.diverged, slots=slots)
    return Dispatch(plan, queue, folder=folder, sinks=sinks, terms=terms)


def _outcome(dispatch: Dispatch, requests: StopRequests, *, seconds: float) -> SweepOutcome:
    cells = {state: tuple(p.plan.cell for p in dispatch.cells_in(state)) for state in CellState}
    held, left = cells[CellState.HELD], (*cells[CellState.WAITING], *cells[CellState.RUNNING])
    return SweepOutcome(
        finished=cells[CellState.FINISHED],
        failed=dict(dispatch.failures),
        held=held,
        left=left,
        saved=tuple(cell for cell in left if cell in dispatch.drained),
        trained=dict(dispatch.trained),
        seconds=seconds,
        exit_code=requests.exit_code or (1 if held else 0),
        hard=requests.hard,
    )


def _fit(dispatch: Dispatch, placement: Placement, *, session: Path, requests: StopRequests, say: Say) -> None:
    """Run the Tuner to its end, or until a second signal; drain when asked."""
    # beside the session file: a node of a cluster may want to see Tune's folder too
    scratch = Path(tempfile.mkdtemp(prefix="tune-", dir=session.parent))
    ended, errors = threading.Event(), []

    def fit() -> None:
        """Body of the thread."""
        try:
            _tuner(dispatch, placement, scratch).fit()
        except BaseException as error:  # a SystemExit from inside Tune is an error here too
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=fit, name="tune", daemon=True).start()
    try:
        _watch(dispatch, ended, session=session, requests=requests, say=say)
    finally:
        if not requests.hard:  # the thread still writes there; the next start removes it
            shutil.rmtree(scratch, ignore_errors=True)
    if errors and not requests.hard:
        error = errors[0]
        raise ClusterError(f"Ray Tune gave up: {type(error).__name__}: {error}; run again to go on") from error


def _watch(dispatch: Dispatch, ended: threading.Event, *, session: Path, requests: StopRequests, say: Say) -> None:
    draining = False
    while not ended.wait(0.1):
        if requests.hard:
            return
        if not draining and (requests.count or dispatch.stopping.is_set()):
            draining = True
            say("stopping: trials save their progress (a second signal ends them at once)")
            dispatch.drain()
            with suppress(OSError), session.open("ab") as stream:
                stream.write(DRAINING)


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
