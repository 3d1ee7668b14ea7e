"""The live mirror of a sweep in MLflow, in a thread of its own, and `sync`, which rebuilds it from the store.

The mirror may lag, fail and catch up; the sweep neither waits for it nor hears of its troubles. What it says at the
end is what `sync` says: both are a function of the store and the sweep's events.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from uscl.errors import StoreError, UsclError
from uscl.records import CellFinished, CellPlan, Drained, Failed, Progress, StagePublished, StageRef, SweepEvent
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.tracking.content import CellHistory, after, event_of, fold, interrupted
from uscl.tracking.location import Location, find_location

log = logging.getLogger(__name__)

TableFiles = Callable[[], Mapping[str, str]]
"""Gives the report of the sweep as the store stands, by file name; `table.md` is shown as the parent run's note."""
FigureFiles = Callable[[], Mapping[str, bytes]]
"""Gives the sweep's figures; asked for when it ends, for drawing takes a second."""

RETRY_S = (5.0, 15.0, 60.0)
"""Pauses after failures in a row: a server that restarts is met soon, one that is gone costs little."""

_ONE_AT_A_TIME = threading.Lock()
"""Mirrors of several sweeps in one process take turns: one SQLite file, and one environment to set patience in."""


class TrackerError(UsclError):
    """MLflow does not answer, or refuses; the store has everything."""


@dataclass(frozen=True, slots=True)
class Synced:
    """Where a sweep's copy is."""

    location: Location
    experiment_id: str
    num_runs: int
    """Runs of cells, the parent not counted."""


def no_table() -> Mapping[str, str]:
    """For a sweep without a report."""
    return {}


def no_figures() -> Mapping[str, bytes]:
    """For a sweep without figures."""
    return {}


def sync(
    store: StageStore,
    identity: str,
    *,
    cells: Sequence[CellPlan],
    tracking_uri: str | None = None,
    table: TableFiles = no_table,
    figures: FigureFiles = no_figures,
) -> Synced:
    """Rebuild a sweep's experiment from the store; whoever calls holds the sweep's lease. TrackerError, StoreError.

    `cells` are those of the plan. Nothing is taken back that MLflow has already, and nothing is said twice.
    """
    location = find_location(store.root, tracking_uri)
    histories = _interrupted(_past_events(store, identity))
    from uscl.tracking.client import short_patience
    from uscl.tracking.copier import Copier

    try:
        with short_patience():
            copier = Copier(store, identity, cells=cells, location=location, table=table, figures=figures)
            num_runs = _copy_all(copier, cells, histories)
    except UsclError:
        raise
    except Exception as error:
        raise TrackerError(f"MLflow at {location.uri} cannot be written: {_reason(error)}") from error
    return Synced(location, copier.experiment_id, num_runs)


class Mirror:
    """A sink that copies the sweep to MLflow as it goes. Its methods return at once, but `close`, and never raise."""

    def __init__(
        self,
        store: StageStore,
        identity: str,
        *,
        cells: Sequence[CellPlan],
        tracking_uri: str | None = None,
        table: TableFiles = no_table,
        figures: FigureFiles = no_figures,
        warn: Callable[[str], None] = log.warning,
        every_s: float = 5.0,
        close_s: float = 120.0,
    ) -> None:
        """Starts the thread. The sweep folder (sweep.yaml, events.jsonl) is there already; its lease is ours.

        `every_s` is the pause between two looks at what is new, `close_s` how long `close` waits for the last one.
        """
        self._store, self._identity, self._cells = store, identity, tuple(cells)
        self._table, self._figures = table, figures
        self._location = find_location(store.root, tracking_uri)
        self._warn, self._every_s, self._close_s = warn, every_s, close_s
        self._warned = False
        self._events: deque[SweepEvent] = deque()
        self._closing = threading.Event()
        self._histories = _interrupted(_quietly(lambda: _past_events(store, identity)))
        self._stale: set[str] = set()
        self._durable: dict[tuple[str, str], int] = {}
        self._copier: Any = None  # made in the thread: its import takes seconds
        self._thread = threading.Thread(target=self._run, name="uscl-mirror", daemon=True)
        self._thread.start()

    def on_event(self, event: SweepEvent) -> None:
        """Note the event for the thread."""
        self._events.append(event)

    def on_cells(self, cells: Sequence[CellPlan]) -> None:
        """Note the cells of a search for the thread, which takes them up at its next look."""
        self._cells = tuple(cells)

    def close(self) -> None:
        """Let the thread say how the sweep ended; waits for it, but not for ever."""
        self._closing.set()
        self._thread.join(self._close_s)
        if self._thread.is_alive():
            self._complain("is slow")

    def _run(self) -> None:
        pause, failures = 0.0, 0
        while True:
            closing = self._closing.wait(pause)
            failures = 0 if self._attempt(final=closing) else failures + 1
            if closing:
                return
            pause = RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else self._every_s

    def _attempt(self, *, final: bool) -> bool:
        """Copy what is new; False, with one warning in the life of the mirror, where that failed."""
        from uscl.tracking.client import short_patience

        try:
            with _ONE_AT_A_TIME, short_patience():
                self._copy(final=final)
        except Exception as error:  # whatever it is, it is not the sweep's trouble
            self._copier = None
            self._complain(f"does not answer ({_reason(error)})")
            log.debug("mirror of %s", self._identity, exc_info=True)
            return False
        return True

    def _copy(self, *, final: bool) -> None:
        from uscl.tracking.copier import Copier

        first = self._copier is None
        if first:
            self._copier = Copier(
                self._store,
                self._identity,
                cells=self._cells,
                location=self._location,
                table=self._table,
                figures=self._figures,
            )
        cells, cell_ended = self._cells, self._take_events()
        self._copier.cells = cells
        if first or final:
            histories = {c: interrupted(h) for c, h in self._histories.items()} if final else self._histories
            _copy_all(self._copier, cells, histories, live=not final)
            self._stale.clear()
            return
        if cell_ended:
            self._copier.copy_parent(self._histories, live=True)
        for cell in cells:
            if cell.cell in self._stale:
                self._copier.copy_cell(cell, self._histories.get(cell.cell, CellHistory()))
                self._stale.discard(cell.cell)

    def _take_events(self) -> bool:
        """Fold what came in; whether a cell ended. Progress that saved nothing new leaves no cell stale."""
        ended = False
        while self._events:
            event = self._events.popleft()
            before = self._histories.get(event.cell, CellHistory())
            self._histories[event.cell] = after(before, event)
            ended |= isinstance(event.event, CellFinished | Failed | Drained)
            if self._is_news(before, event):
                self._stale |= {event.cell, *self._sharers(event)}
        return ended

    def _is_news(self, before: CellHistory, event: SweepEvent) -> bool:
        progress = event.event
        if not isinstance(progress, Progress) or before.state != "running":
            return True
        stage = (progress.kind, progress.key)
        moved = progress.durable_step > self._durable.get(stage, 0)
        self._durable[stage] = max(progress.durable_step, self._durable.get(stage, 0))
        return moved

    def _sharers(self, event: SweepEvent) -> set[str]:
        """Cells that a stage just published belongs to: each run carries the curves of all its stages."""
        if not isinstance(event.event, StagePublished):
            return set()
        ref = StageRef(event.event.kind, event.event.key)
        return {cell.cell for cell in self._cells if ref in cell.stages.values()}

    def _complain(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                f"MLflow at {self._location.uri} {what}; the sweep goes on without it, "
                f"`uscl sync {self._identity}` catches up"
            )


def _copy_all(
    copier: Any, cells: Sequence[CellPlan], histories: Mapping[str, CellHistory], *, live: bool = False
) -> int:
    """Parent, every cell, then whatever a killed driver left RUNNING. How many cells have a run."""
    copier.copy_parent(histories, live=live)
    runs = [copier.copy_cell(cell, histories.get(cell.cell, CellHistory())) for cell in cells]
    there = [run for run in runs if run is not None]
    copier.kill_strays(there)
    return len(there)


def _past_events(store: StageStore, identity: str) -> list[SweepEvent]:
    """The events that the sweep folder holds; what is no event (a later release's) is passed over."""
    events = []
    for document in SweepFolder(store.root, identity).read_events():
        with suppress(KeyError, TypeError, ValueError):
            events.append(event_of(document))
    return events


def _interrupted(events: Sequence[SweepEvent]) -> dict[str, CellHistory]:
    return {cell: interrupted(history) for cell, history in fold(events).items()}


def _quietly(read: Callable[[], list[SweepEvent]]) -> list[SweepEvent]:
    try:
        return read()
    except StoreError as error:
        log.warning("mirror: %s", error)
        return []


def _reason(error: Exception) -> str:
    """The first line of an error, short."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 160 else line[:157] + "..."
