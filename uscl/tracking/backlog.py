"""What has happened and is not in MLflow yet, folded as it comes in: as large as the sweep, whatever MLflow does."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from uscl.records import CellFinished, Drained, Failed, Progress, StagePublished, StageRef, SweepEvent
from uscl.tracking.content import CellHistory, after, fold, interrupted


@dataclass(frozen=True, slots=True)
class News:
    """What came in since the last look, and how every cell stands."""

    histories: Mapping[str, CellHistory]
    """By cell id; those of cells that have begun."""
    cells: frozenset[str] = frozenset()
    """Cells that events speak of. Progress that saved nothing new is no news."""
    stages: frozenset[StageRef] = frozenset()
    """Stages just published: every cell that shares one shows its curve."""
    cell_ended: bool = False


class Backlog:
    """Events in, news out; from two threads. No event is kept."""

    def __init__(self, past: Iterable[SweepEvent] = ()) -> None:
        """`past` events are those of earlier starts: what was running then was killed."""
        self._lock = threading.Lock()
        self._histories = interrupted_all(past)
        self._durable: dict[StageRef, int] = {}
        self._cells: set[str] = set()
        self._stages: set[StageRef] = set()
        self._cell_ended = False

    def note(self, event: SweepEvent) -> None:
        """Fold one event in; microseconds, for this is the sweep's own time."""
        with self._lock:
            before = self._histories.get(event.cell, CellHistory())
            self._histories[event.cell] = after(before, event)
            if self._is_news(before, event):
                self._cells.add(event.cell)
            if isinstance(event.event, StagePublished):
                self._stages.add(StageRef(event.event.kind, event.event.key))
            self._cell_ended |= isinstance(event.event, CellFinished | Failed | Drained)

    def history(self, cell: str) -> CellHistory:
        """How a cell stands at this moment."""
        with self._lock:
            return self._histories.get(cell, CellHistory())

    def take(self) -> News:
        """All that is new, once."""
        with self._lock:
            news = News(dict(self._histories), frozenset(self._cells), frozenset(self._stages), self._cell_ended)
            self._cells.clear()
            self._stages.clear()
            self._cell_ended = False
            return news

    def _is_news(self, before: CellHistory, event: SweepEvent) -> bool:
        progress = event.event
        if not isinstance(progress, Progress):
            return True
        stage = StageRef(progress.kind, progress.key)
        moved = progress.durable_step > self._durable.get(stage, 0)
        self._durable[stage] = max(progress.durable_step, self._durable.get(stage, 0))
        return moved or before.state != "running"


def interrupted_all(events: Iterable[SweepEvent]) -> dict[str, CellHistory]:
    """Histories by cell id once the driver that had these events is gone."""
    return {cell: interrupted(history) for cell, history in fold(events).items()}
