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
from uscl.sweep.dispatch import Dispatch, Terms
from uscl.sweep.order import DRAINING, RUN_TRIAL, RUNNING
from uscl.sweep.plan import SweepPlan, queue_cells, survey
from uscl.sweep.preflight import Placement, check_nodes, check_store, have_data, local_gpus, place, place_on_cluster
from uscl.sweep.queue import CellQueue, CellState
from uscl.sweep.signals import StopRequests, shielded, stop_requests

OBJECT_STORE_BYTES = 100 * 1024**2
"""Ray's shared memory: trials exchange a line of JSON, so its default (30 % of the machine) would be waste."""

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
    cannot start. With nothing to do, and nothing to tell, it returns at once.
    """
    started = time.monotonic()
    folder = SweepFolder(plan.store_root, plan.identity)
    idle = not unfinished(plan)
    if idle and not _sessions(folder) and _is_known(plan, folder):
        return _nothing_done(plan)
    check_store(plan.store_root)
    with folder.acquire_lease(), stop_requests() as requests, _session(folder, requests) as session:
        _write_plan(plan, folder)
        if idle:  # a killed driver, or sweeps that share all its stages, left nothing to train: only the sinks hear
            with _open(open_sinks, requests):
                return _nothing_done(plan)
        have_data(plan, say)
        with _open(open_sinks, requests) as sinks, _ray(plan, options, say) as placement:
            requests.install()
            terms = Terms(placement.device, placement.cpus_per_trial, options.run_trial, session)
            dispatch = _dispatch(plan, folder, sinks=sinks, terms=terms, slots=placement.workers)
            _fit(dispatch, placement, session=session, requests=requests, say=say)
        if dispatch.error is not None:
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
    """Whether the folder holds exactly this plan: its sinks have heard of it."""
    try:
        known = [cell.to_json() for cell in folder.read_cells()]
    except StoreError:
        return False
    return bool(known == decode_json(encode_json([planned.plan.to_json() for planned in plan.cells])))


def _write_plan(plan: SweepPlan, folder: SweepFolder) -> None:
    data = plan.spec.data if plan.spec.data == "phantom" else str(plan.dataset_path)
    folder.write_sweep(plan.spec.to_json() | {"data": data, "dataset_fingerprint": plan.dataset_fingerprint})
    folder.write_cells([planned.plan for planned in plan.cells])


def _dispatch(plan: SweepPlan, folder: SweepFolder, *, sinks: Sequence[Sink], terms: Terms, slots: int) -> Dispatch:
    found = survey(plan.cells, plan.store_root)
    queue = CellQueue(queue_cells(plan.cells), present=found.present, diverged=found.diverged, slots=slots)
    return Dispatch(plan, queue, folder=folder, sinks=sinks, terms=terms)


def _outcome(dispatch: Dispatch, requests: StopRequests, *, seconds: float) -> SweepOutcome:
    cells = {state: tuple(p.plan.cell for p in dispatch.cells_in(state)) for state in CellState}
    held = cells[CellState.HELD]
    return SweepOutcome(
        finished=cells[CellState.FINISHED],
        failed=dict(dispatch.failures),
        held=held,
        left=(*cells[CellState.WAITING], *cells[CellState.RUNNING]),
        trained=dict(dispatch.trained),
        seconds=seconds,
        exit_code=requests.exit_code or (1 if held else 0),
        hard=requests.hard,
    )


# ---- Ray


@contextmanager
def _ray(plan: SweepPlan, options: RunOptions, say: Say) -> Iterator[Placement]:
    """A Ray of our own, or a connection to a cluster, checked; shut down at the end."""
    if options.address is None:
        gpus = local_gpus()
        placement = place(
            plan.spec.resources, workers=options.workers, gpus=gpus, cpus=os.cpu_count() or 1,
            require_gpu=options.require_gpu,
        )  # fmt: skip
        if placement.fallback:
            say("NO GPU FOUND: trials run on the CPU (resources.gpus_per_trial asks for one; --require-gpu insists)")
    _quiet_environment()
    import ray

    try:
        with shielded():
            if options.address is None:
                _start_local(ray, placement, gpus=gpus)
            else:
                _connect(ray, options.address)
        if options.address is not None:
            placement = place_on_cluster(plan.spec.resources, ray, workers=options.workers)
        if options.address is not None or placement.device == "cuda":
            check_nodes(ray, store_root=plan.store_root, dataset_path=plan.dataset_path)
        yield placement
    finally:
        ray.shutdown()


def _quiet_environment() -> None:
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        "TUNE_RESULT_DELIM": "/",
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": str(10**9),
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }.items():
        os.environ.setdefault(name, value)


def _start_local(ray: Any, placement: Placement, *, gpus: int) -> None:
    ray.init(
        address="local",
        num_cpus=max(1, -int(-placement.workers * placement.cpus_per_trial // 1)),
        num_gpus=gpus if placement.device == "cuda" else 0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"--address {address}: no Ray answers there: {str(error).splitlines()[0]}") from error


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
        shutil.rmtree(scratch, ignore_errors=True)
    if errors and not requests.hard:
        error = errors[0]
        raise ClusterError(f"Ray Tune gave up: {type(error).__name__}: {error}; run again to go on") from error


def _watch(dispatch: Dispatch, ended: threading.Event, *, session: Path, requests: StopRequests, say: Say) -> None:
    draining = False
    while not ended.wait(0.1):
        if requests.hard:
            say("stopped at once; what is in the store stays, run again to go on")
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
