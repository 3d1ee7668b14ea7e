"""The driver's side of a running sweep: hands out orders, keeps the books, tells the sinks. Knows no Ray.

Everything that happens to a cell passes through here, from one thread at a time: into the queue, into events.jsonl of
each sweep that declares it, and to the sinks. Nothing here raises for a sink's or the history's sake.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from uscl.errors import StoreError
from uscl.records import (
    CellFinished,
    CellResult,
    Drained,
    Failed,
    Outcome,
    Progress,
    Sink,
    StagePublished,
    StageRef,
    StageReused,
    SweepEvent,
    TrialEvent,
)
from uscl.store.files import StoreFull
from uscl.store.roots import StoreRoot
from uscl.store.stages import new_attempt
from uscl.store.sweeps import shared_log
from uscl.sweep.event_log import EventLog, event_record
from uscl.sweep.failures import advised, policy_of
from uscl.sweep.folders import folder_of
from uscl.sweep.growing import Growth
from uscl.sweep.order import LAST_EVENTS, TrialOrder
from uscl.sweep.outlook import cell_store, link
from uscl.sweep.plan import PlannedCell
from uscl.sweep.queue import CellQueue, CellState, Turn
from uscl.sweep.study import Study, StudyCell, grow_queue, study_of
from uscl.sweep.terms import Terms, order_of
from uscl.sweep.trial_log import log_tail

LOG_TAIL_LINES = 20
"""Lines of an attempt's log that go into events.jsonl with its failure."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Attempt:
    cell: StudyCell
    name: str
    log_path: StoreRoot
    node: str = ""
    begun: bool = False


class Dispatch:
    """Books of one start. Cells go by their key in the study."""

    def __init__(
        self,
        study: Study,
        queue: CellQueue,
        *,
        sinks: Sequence[Sink],
        terms: Terms,
        clock: Callable[[], float] = time.time,
        growth: Growth | None = None,
        slots: int | None = None,
    ) -> None:
        """Of a search, `growth` gives it cells as it goes, when one of `slots` is free; None: they are all there."""
        self.failures: dict[str, Failed] = {}
        """The last failure of each cell that has not finished since."""
        self.trained: Counter[str] = Counter()
        """Stage kind -> stages this start trained."""
        self.drained: set[str] = set()
        self.error: Exception | None = None
        """The first bug of our own in a hook: the sweep drained because of it."""
        self.stopping = threading.Event()
        """Set where the sweep has to end for a reason of its own; the main thread looks at it."""
        self._study = study
        self._queue = queue
        self._folders = {plan.identity: folder_of(plan) for plan in study.plans}
        self._sinks = tuple(sinks)
        self._terms = terms
        self._clock = clock
        self._lock = threading.RLock()
        self._attempts: dict[str, _Attempt] = {}
        self._events = EventLog(self._folders)
        self.paused = ""
        """Why nothing is handed out until the store has room again; empty where it has."""
        self._warned: set[str] = set()
        self._growth, self._slots = growth, slots
        self._unkept, self._keep_after_s = False, 0.0
        if growth is not None:
            self._tell_cells()

    # ---- what Tune asks and tells

    def take(self, trial: str) -> TrialOrder | Turn:
        """The order for a new trial, or that there is none."""
        with self._lock:
            if self.paused and (self._queue.is_waiting or self._growth is not None) and not self._queue.draining:
                return Turn.WAIT
            taken = self._queue.take(trial)
            while isinstance(taken, Turn):
                grown = self._grow()
                if grown is None:
                    if taken is Turn.FINISHED:
                        self._keep_cells(at_once=True)
                    return taken
                if not grown:  # no space to note a proposal in; it is asked for again
                    return Turn.WAIT
                taken = self._queue.take(trial)
            cell, name = self._study.cell(taken), new_attempt()
            folders = [self._folders[sweep] for sweep in cell.declared]
            attempt = _Attempt(cell, name, shared_log(folders, cell.planned.plan.cell, name))
            self._attempts[trial] = attempt
            return order_of(self._study, cell, attempt.name, attempt.log_path, self._terms, self._queue)

    def event(self, trial: str, event: TrialEvent, *, node: str) -> None:
        """Something happened in a trial; news of a trial that is over are dropped."""
        with self._lock:
            attempt = self._attempts.get(trial)
            if attempt is None or self._queue.cell_of(trial) is None:
                return
            self._begin(attempt, node)
            self._book(trial, attempt, event)

    def started(self, trial: str, *, node: str) -> None:
        """The trial's process has taken up its order."""
        with self._lock:
            attempt = self._attempts.get(trial)
            if attempt is not None:
                self._begin(attempt, node)

    def gone(self, trial: str, failed: Failed) -> None:
        """The trial ended without saying so: its process died, or Ray could not start it."""
        self.event(trial, failed, node="")

    @property
    def store_root(self) -> StoreRoot:
        """The store of the study."""
        return self._study.store_root

    def live_trials(self) -> tuple[str, ...]:
        """Trials that hold a cell."""
        with self._lock:
            return tuple(self._queue.live)

    def look_for_lost(self, listed: dict[str, bool]) -> None:
        """Release the cells of trials that Tune has forgotten; `listed`: trial -> is it still going."""
        with self._lock:
            lost = self._queue.lost(listed)
        for trial in lost:
            self.gone(trial, Failed("lost", "Ray Tune dropped the trial without an error", ""))

    def drain(self) -> None:
        """Hand out nothing more, and ask the live trials to save and stop."""
        with self._lock:
            self._queue.drain()

    def pause(self, why: str) -> None:
        """The store has too little room: hand out nothing until `resume`; live trials go on."""
        with self._lock:
            if not self.paused:
                self.paused = why or "no room in the store"
                self._events.append_all({"time_s": self._clock(), "event": "Paused", "message": self.paused})

    def resume(self) -> None:
        """There is room again."""
        with self._lock:
            if self.paused:
                self.paused = ""
                self._events.append_all({"time_s": self._clock(), "event": "Resumed"})

    def abandon(self, failed: Failed) -> None:
        """All live trials are gone at once: Tune ended under them."""
        for trial in self.live_trials():
            self.gone(trial, failed)

    def broken(self, error: Exception) -> None:
        """A hook raised: keep the error for the end, and drain."""
        self.error = self.error or error
        self.stopping.set()
        self.drain()

    # ---- a search, which grows

    @property
    def study(self) -> Study:
        """With all cells that there are by now."""
        return self._study

    def _grow(self) -> bool | None:
        """Have a search propose, or choose its winners: whether that could be kept; None where there is no more."""
        full = self._slots is not None and len(self._queue.live) >= self._slots
        if self._growth is None or self._queue.draining or full:
            return None
        try:
            if not self._growth.more(self._queue):
                return None
        except StoreFull as error:
            self.pause(str(error))
            return False
        known = {cell.key for cell in self._study.cells}
        self._study = study_of([self._growth.plan])
        grow_queue(self._queue, self._study.cells, known=known, store_root=self._study.store_root)
        self._tell_cells()
        return True

    def _tell_cells(self) -> None:
        """Keep the cells as they stand, and tell the sinks."""
        self._unkept = True
        self._keep_cells()
        cells = [cell.plan for cell in self._study.cells]
        for sink in self._sinks:
            try:
                sink.on_cells(cells)
            except Exception:
                self._warn_once(f"{type(sink).__name__} failed; the sweep goes on")

    def _keep_cells(self, *, at_once: bool = False) -> None:
        """Write cells.json where a search has grown; whole, so it is given a tenth of the time, and all at the end."""
        started = time.monotonic()
        if not self._unkept or (started < self._keep_after_s and not at_once):
            return
        try:
            self._folders[self._study.identity].write_cells([cell.plan for cell in self._study.cells])
            self._unkept = False
        except StoreError as error:
            self._warn_once(f"cells.json: {error}; results are not affected")
        self._keep_after_s = time.monotonic() + 10 * (time.monotonic() - started)

    # ---- books

    def _book(self, trial: str, attempt: _Attempt, event: TrialEvent) -> None:
        if isinstance(event, Failed):
            self._fail(trial, attempt, event)
            return
        diverged: tuple[str, ...] = ()
        if isinstance(event, (StagePublished, StageReused)):
            diverged = self._stage_is_there(attempt.cell, event)
        self._send(self._happened(attempt, event))
        for other in diverged:
            self._tell_diverged(other, attempt)
        if isinstance(event, (CellFinished, Drained)):
            self._end(trial, attempt, event)
        if isinstance(event, LAST_EVENTS):
            self._attempts.pop(trial, None)

    def _begin(self, attempt: _Attempt, node: str) -> None:
        attempt.node = node or attempt.node
        if not attempt.begun:
            attempt.begun = True
            record = {"time_s": self._clock(), "attempt": attempt.name, "node": attempt.node, "event": "Started"}
            for sweep, plan in attempt.cell.declared.items():
                self._events.append(sweep, {**record, "cell": plan.cell})

    def _fail(self, trial: str, attempt: _Attempt, event: Failed) -> None:
        """Count it on the stage it happened in, by the policy of its class, and tell."""
        cell, policy = attempt.cell.key, policy_of(event.failure)
        blamed = self._queue.blamed(cell)
        kind, key = blamed.split("/")[-2:]
        told = replace(event, message=advised(event, kind))
        self._attempts.pop(trial, None)
        self._queue.end(trial, failure=event.failure, absent=self._absent(attempt.cell.planned))
        if policy.pauses:
            self.pause(event.message)
        else:
            self.failures[cell] = told
        deaths = self._queue.deaths(blamed)
        more = {"kind": kind, "key": key, "deaths": deaths, "deaths_left": max(0, policy.deaths - deaths)}
        more |= {"held": self._queue.is_held(blamed), "log_tail": log_tail(str(attempt.log_path), lines=LOG_TAIL_LINES)}
        self._send(self._happened(attempt, told), more)

    def _stage_is_there(self, cell: StudyCell, event: StagePublished | StageReused) -> tuple[str, ...]:
        diverged = isinstance(event, StagePublished) and event.outcome is Outcome.DIVERGED
        if isinstance(event, StagePublished):
            self.trained[event.kind] += 1
        waiting = self._queue.published(link(cell.planned.plan, StageRef(event.kind, event.key)), diverged=diverged)
        return tuple(other for other in waiting if other != cell.key)

    def _end(self, trial: str, attempt: _Attempt, event: CellFinished | Drained) -> None:
        cell, plan = attempt.cell.key, attempt.cell.planned.plan
        if isinstance(event, Drained):
            self.drained.add(cell)
        else:
            self.failures.pop(cell, None)
            ended = event.result.outcome is Outcome.DIVERGED
            # by the trial's word, also where the news of a stage was lost on the way; an encoder need not be there
            for ref in plan.stages.values():
                if ref.kind in ("finetune", "evaluate") and not (ended and ref.kind == "evaluate"):
                    self._queue.published(link(plan, ref), diverged=ended)
        self._queue.end(trial)

    def _absent(self, planned: PlannedCell) -> list[str]:
        """Links thought present that the store has no longer: torn ones, moved away."""
        store = cell_store(self._study.store_root, planned.plan)
        refs = {link(planned.plan, ref): ref for ref in planned.plan.stages.values()}
        try:
            return [name for name, ref in refs.items() if self._queue.is_present(name) and not store.has(ref)]
        except StoreError:
            return []

    # ---- history and sinks

    def _tell_diverged(self, cell: str, attempt: _Attempt) -> None:
        result = CellResult(self._study.cell(cell).planned.plan.cell, Outcome.DIVERGED, {}, ())
        self._send(SweepEvent(self._clock(), cell, attempt.name, attempt.node, CellFinished(result)))

    def _happened(self, attempt: _Attempt, event: TrialEvent) -> SweepEvent:
        return SweepEvent(self._clock(), attempt.cell.key, attempt.name, attempt.node, event)

    def _send(self, happened: SweepEvent, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """To events.jsonl, with `more` that the event itself does not say, and to the sinks."""
        if not isinstance(happened.event, Progress):
            for sweep, plan in self._study.cell(happened.cell).declared.items():
                self._events.append(sweep, event_record(replace(happened, cell=plan.cell)) | dict(more))
        for sink in self._sinks:
            try:
                sink.on_event(happened)
            except Exception:
                self._warn_once(f"{type(sink).__name__} failed; the sweep goes on")

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message, exc_info=log.isEnabledFor(logging.DEBUG))

    # ---- at the end

    def cells_in(self, state: CellState) -> tuple[StudyCell, ...]:
        """Cells of the study that stand there."""
        return tuple(cell for cell in self._study.cells if self._queue.state(cell.key) is state)
