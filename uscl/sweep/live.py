"""What runs where, written down for other processes: each sweep's live.json while its driver runs. Knows no Ray."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uscl.errors import StoreError
from uscl.records import CellFinished, CellPlan, Drained, Failed, Progress, Sink, StageRef, SweepEvent, TrialEvent
from uscl.store.sweeps import SweepFolder
from uscl.sweep.folders import folder_of
from uscl.sweep.preflight import Placement
from uscl.sweep.study import OneSweep, Study

WRITE_EVERY_S = 3.0
"""Between two writes of a live.json; nothing is written while nothing happens."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LiveTrial:
    """A trial under way, as its last event left it."""

    cell: str
    attempt: str
    node: str
    stage: str
    """The stage it is at, by its name in the chain: `decoder`, `evaluate/val`."""
    kind: str
    key: str
    step: int
    steps: int
    """0 where the stage has not said yet."""
    frames_per_s: float
    since_s: float
    """Unix time of the attempt's first event."""
    stage_since_s: float
    """Unix time from which it has been at this stage."""
    time_s: float
    """Unix time of the last event."""


class LiveFile:
    """A sink that keeps live.json, in a thread of its own; neither the sweep nor its end waits for a slow store."""

    def __init__(
        self,
        folder: SweepFolder,
        cells: dict[str, CellPlan],
        *,
        placement: Placement,
        every_s: float = WRITE_EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Starts the thread. `cells`: id -> plan, of the sweep whose folder it is."""
        self._folder, self._cells, self._placement = folder, cells, placement
        self._clock, self._started_s = clock, clock()
        self._trials: dict[str, LiveTrial] = {}
        self._guard = threading.Lock()
        self._news = True
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(every_s,), name="uscl-live", daemon=True)
        self._thread.start()

    def on_event(self, event: SweepEvent) -> None:
        """Note it for the thread."""
        with self._guard:
            if isinstance(event.event, (CellFinished, Drained, Failed)):
                self._trials.pop(event.cell, None)
            else:
                self._trials[event.cell] = self._after(event)
            self._news = True

    def on_cells(self, cells: Sequence[CellPlan]) -> None:
        """A search has proposed more."""
        self._cells = {cell.cell: cell for cell in cells}

    def close(self) -> None:
        """End the thread and remove the file."""
        self._closing.set()
        self._thread.join(10.0)
        try:
            self._folder.clear_live()
        except StoreError as error:
            log.debug("live.json stays: %s", error)

    def _after(self, happened: SweepEvent) -> LiveTrial:
        event, chain = happened.event, self._cells[happened.cell].stages
        stage, ref = _at(event, chain)
        before = self._trials.get(happened.cell)
        known = before if before is not None and before.attempt == happened.attempt else None
        progress = event if isinstance(event, Progress) else None
        return LiveTrial(
            cell=happened.cell,
            attempt=happened.attempt,
            node=happened.node or (known.node if known else ""),
            stage=stage,
            kind=ref.kind,
            key=ref.key,
            step=progress.step if progress else 0,
            steps=progress.steps if progress else 0,
            frames_per_s=round(progress.frames_per_s, 1) if progress else 0.0,
            since_s=known.since_s if known else happened.time_s,
            stage_since_s=known.stage_since_s if known and known.key == ref.key else happened.time_s,
            time_s=happened.time_s,
        )

    def _run(self, every_s: float) -> None:
        while not self._closing.is_set():
            with self._guard:
                news, self._news, document = self._news, False, self._document()
            if news:
                try:
                    self._folder.write_live(document)
                except StoreError as error:  # a full disk: the sweep pauses for reasons of its own
                    log.debug("live.json: %s", error)
            self._closing.wait(every_s)

    def _document(self) -> dict[str, Any]:
        return {
            "started_s": self._started_s,
            "time_s": self._clock(),
            "workers": self._placement.workers,
            "device": self._placement.device,
            "gpus_per_trial": self._placement.gpus_per_trial,
            "trials": [asdict(trial) for trial in self._trials.values()],
        }


def _at(event: TrialEvent, chain: Mapping[str, StageRef]) -> tuple[str, StageRef]:
    """The stage that a trial is at after an event: that of its progress, or the one behind a stage that is there."""
    names, key = list(chain), getattr(event, "key", "")
    found = [number for number, name in enumerate(names) if chain[name].key == key]
    if not found:
        return names[0], chain[names[0]]
    behind = found[0] if isinstance(event, Progress) else min(found[0] + 1, len(names) - 1)
    return names[behind], chain[names[behind]]


def live_sinks(study: Study, placement: Placement) -> list[Sink]:
    """One for each sweep of a study."""
    sinks: list[Sink] = []
    for plan in study.plans:
        cells = {planned.plan.cell: planned.plan for planned in plan.cells}
        sinks.append(OneSweep(study, plan, LiveFile(folder_of(plan), cells, placement=placement)))
    return sinks
