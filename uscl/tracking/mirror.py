"""The live mirror of a sweep in MLflow, in a thread of its own, and `sync`, which rebuilds it from the store.

The mirror may lag, fail and catch up; the sweep neither waits for it nor hears of its troubles. What it says at the
end is what `sync` says: both are a function of the store and the sweep's events.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from uscl.errors import StoreError, UsclError
from uscl.records import CellPlan, SweepEvent
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.tracking.backlog import Backlog, News, interrupted_all
from uscl.tracking.content import CellHistory, event_of, interrupted
from uscl.tracking.location import Location, find_location

log = logging.getLogger(__name__)

TableFiles = Callable[[], Mapping[str, str]]
"""Gives the report of the sweep as the store stands, by file name; `table.md` is shown as the parent run's note."""
FigureFiles = Callable[[], Mapping[str, bytes]]
"""Gives the sweep's figures; asked for when it ends, for drawing takes a second."""

RETRY_S = (5.0, 15.0, 60.0)
"""Pauses after failures in a row: a server that restarts is met soon, one that is gone costs little."""

CLOSE_S = 60.0
"""How long the end of a sweep waits for its mirror: what MLflow has not taken by then is left to `uscl sync`."""

PARENT_FRACTION = 0.05
"""Of its time the mirror spends at most this on the report that it shows while the sweep runs."""

_ONE_AT_A_TIME = threading.Lock()
"""Mirrors of several sweeps in one process take turns: one SQLite file, and one environment to set patience in."""


class TrackerError(UsclError):
    """MLflow does not answer, or refuses; the store has everything."""


class RefusedError(TrackerError):
    """MLflow answers, and will not have some of the runs; the others are there."""


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
    histories = interrupted_all(_past_events(store, identity))
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
    """A sink that copies the sweep to MLflow as it goes. Its methods never raise, and return at once; `close` soon."""

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
        close_s: float = CLOSE_S,
    ) -> None:
        """Starts the thread. The sweep folder (sweep.yaml, events.jsonl) is there already; its lease is ours.

        `every_s` is the pause between two looks at what is new, `close_s` how long `close` waits for the last one.
        """
        self._store, self._identity, self._cells = store, identity, tuple(cells)
        self._table, self._figures = table, figures
        self._location = find_location(store.root, tracking_uri)
        self._warn, self._every_s, self._close_s = warn, every_s, close_s
        self._warned = False
        self._closing = threading.Event()
        self._backlog = Backlog(_quietly(lambda: _past_events(store, identity)))
        self._parent_is_old, self._parent_due_s = False, 0.0
        self._copier: Any = None  # made in the thread: its import takes seconds
        self._all_copied = False
        self._thread = threading.Thread(target=self._run, name="uscl-mirror", daemon=True)
        self._thread.start()

    def on_event(self, event: SweepEvent) -> None:
        """Note the event for the thread."""
        self._backlog.note(event)

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
        try:
            from uscl.tracking.client import short_patience

            with _ONE_AT_A_TIME, short_patience():
                self._copy(final=final)
        except Exception as error:  # whatever it is, it is not the sweep's trouble
            self._copier = None
            what = "refuses a run" if isinstance(error, RefusedError) else "does not answer"
            self._complain(f"{what} ({_reason(error)})")
            log.debug("mirror of %s", self._identity, exc_info=True)
            return False
        return True

    def _copy(self, *, final: bool) -> None:
        # The end is checked against what MLflow has: somebody may have deleted a run, and a request that was given up
        # may have been carried out since.
        if final or self._copier is None:
            self._copier, self._all_copied = self._open(), False
        else:
            self._copier.require_same_file()
        news = self._backlog.take()
        self._copier.cells = cells = self._cells
        if self._all_copied:
            self._copy_parent(news)
            _copy_cells(self._copier, self._told_of(news, cells), self._backlog.history)
        elif (
            news.histories or final
        ):  # a run says when it began, and that cannot be changed: none before the first event
            if final:
                ended = {cell: interrupted(history) for cell, history in news.histories.items()}
                _copy_all(self._copier, cells, ended)
            else:
                _copy_all(self._copier, cells, news.histories, history_of=self._backlog.history)
            self._all_copied = True

    def _open(self) -> Any:
        from uscl.tracking.copier import Copier

        return Copier(
            self._store,
            self._identity,
            cells=self._cells,
            location=self._location,
            table=self._table,
            figures=self._figures,
        )

    def _copy_parent(self, news: News) -> None:
        """The sweep's own run, once a cell has ended; less often where its report takes long to compute."""
        self._parent_is_old |= news.cell_ended
        started = time.monotonic()
        if self._parent_is_old and started >= self._parent_due_s:
            self._copier.copy_parent(news.histories, live=True)
            self._parent_is_old = False
            self._parent_due_s = started + (time.monotonic() - started) / PARENT_FRACTION

    def _told_of(self, news: News, cells: Sequence[CellPlan]) -> list[CellPlan]:
        """Cells that have something new to show: each run carries the curves of all its stages."""
        return [
            cell
            for cell in cells
            if cell.cell in news.cells or (news.stages and not news.stages.isdisjoint(cell.stages.values()))
        ]

    def _complain(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            with suppress(Exception):  # a closed terminal, say
                self._warn(
                    f"MLflow at {self._location.uri} {what}; the sweep goes on without it, "
                    f"`uscl sync {self._identity}` catches up"
                )


def _copy_all(
    copier: Any,
    cells: Sequence[CellPlan],
    histories: Mapping[str, CellHistory],
    *,
    history_of: Callable[[str], CellHistory] | None = None,
) -> int:
    """Parent, every cell, then whatever a killed driver left RUNNING. How many cells have a run.

    With `history_of` the sweep is under way, and that says how a cell stands by now.
    """
    copier.copy_parent(histories, live=history_of is not None)
    there = _copy_cells(copier, cells, history_of or (lambda cell: histories.get(cell, CellHistory())))
    copier.kill_strays(there)
    return len(there)


def _copy_cells(copier: Any, cells: Sequence[CellPlan], history_of: Callable[[str], CellHistory]) -> list[str]:
    """The ids of the cells' runs. A cell that MLflow refuses costs the others nothing; then RefusedError at the end."""
    from uscl.tracking.client import is_refusal

    runs, refused = [], []
    for cell in cells:
        try:
            run = copier.copy_cell(cell, history_of)
        except Exception as error:
            if not is_refusal(error):
                raise
            refused.append((cell.number, error))
        else:
            runs += [run] if run is not None else []
    if refused:
        number, error = refused[0]
        raise RefusedError(f"cell {number}: {_reason(error)}") from error
    return runs


def _past_events(store: StageStore, identity: str) -> list[SweepEvent]:
    """The events that the sweep folder holds; what is no event (a later release's) is passed over."""
    events = []
    for document in SweepFolder(store.root, identity).read_events():
        with suppress(KeyError, TypeError, ValueError):
            events.append(event_of(document))
    return events


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
