"""The Tuner of a start, in a thread, and what the main thread looks after meanwhile: signals, the clock, room, Ray."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.errors import ClusterError, StoreError
from uscl.records import Failed
from uscl.store.roots import StoreRoot, open_files
from uscl.sweep.cluster import HeadWatch
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.failures import class_of
from uscl.sweep.order import DRAINING, RUNNING
from uscl.sweep.preflight import Placement
from uscl.sweep.signals import StopRequests
from uscl.sweep.space import SpaceWatch, low_space

log = logging.getLogger(__name__)


def fit(dispatch: Dispatch, placement: Placement, watch: Watch) -> None:
    """Run the Tuner to its end, or until a second signal. One that a full disk ends is followed by another.

    ClusterError where Tune gives up for another reason.
    """
    while True:
        error = _fit_once(dispatch, placement, watch)
        if error is None or watch.requests.hard:
            return
        if not dispatch.paused and class_of(error) != "full" and not low_space(dispatch.store_root):
            raise ClusterError(f"Ray Tune gave up: {type(error).__name__}: {error}; run again to go on") from error
        full = Failed("full", f"Ray Tune ended, as the disk is full: {error}"[:500], "")
        dispatch.pause(full.message)
        dispatch.abandon(full)
        watch.until(lambda: not dispatch.paused or watch.draining)
        if watch.draining:
            return


def _fit_once(dispatch: Dispatch, placement: Placement, watch: Watch) -> BaseException | None:
    """One Tuner, to its end or a second signal; the error that ended it."""
    ended, errors = threading.Event(), []
    # beside the session file, where that is a folder: a node of a cluster may want to see Tune's folder too
    folder = watch.session_path.parent if isinstance(watch.session_path, Path) else None

    def body() -> None:
        """Of the thread."""
        try:
            with _scratch(folder, watch.requests) as scratch:
                _tuner(dispatch, placement, scratch).fit()
        except BaseException as error:  # a SystemExit from inside Tune is an error here too
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=body, name="tune", daemon=True).start()
    watch.until(ended.is_set)
    return errors[0] if errors else None


@contextmanager
def _scratch(folder: Path | None, requests: StopRequests) -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="tune-", dir=folder))
    try:
        yield scratch
    finally:
        if not requests.hard:  # else the next start removes it
            shutil.rmtree(scratch, ignore_errors=True)


@dataclass(slots=True)
class Watch:
    """The main thread's part while trials run."""

    dispatch: Dispatch
    space: SpaceWatch
    head: HeadWatch
    session_path: StoreRoot
    requests: StopRequests
    say: Callable[[str], None]
    draining: bool = False
    told: bool = False
    """The trials have been told that the study drains."""
    paused: bool = False

    def until(self, ended: Callable[[], bool]) -> None:
        """Look after everything until it has ended, or nothing can be waited for any more."""
        while not ended():
            self.requests.lost = self.head.lost()
            if self.requests.hard:
                return
            self._drain_if_asked()
            self._look_for_space()
            time.sleep(0.1)

    def _drain_if_asked(self) -> None:
        why = "" if self.draining else _why_stop(self.dispatch, self.requests)
        if why:
            self.draining = True
            self.say(f"{why}: trials save their progress (a second signal ends them at once)")
            self.dispatch.drain()
        self.told = self.told or (self.draining and _tell_trials(self.session_path))

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


def _tell_trials(session_path: StoreRoot) -> bool:
    """Say in the session file that the study drains; False where that has to be tried again."""
    files = open_files(session_path.parent, patience_s=0.0)
    try:
        if isinstance(session_path, Path):
            files.append(session_path.name, DRAINING.rstrip())
        else:
            files.write(session_path.name, RUNNING + DRAINING)
    except StoreError as error:
        log.debug("%s", error)
        return False
    return True


def _why_stop(dispatch: Dispatch, requests: StopRequests) -> str:
    """Why the study is to drain now; empty where it is to go on."""
    if requests.count or dispatch.stopping.is_set():
        return asked(requests)
    return requests.due(time.time())


def asked(requests: StopRequests) -> str:
    """`stopping`, and who asked for it, where that was not a signal."""
    return f"stopping, as {requests.by} asked" if requests.by else "stopping"


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
