"""events.jsonl of the sweeps that one start drives. What the disk has no room for waits, and is written later."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from uscl.errors import StoreError
from uscl.records import SweepEvent, event_to_json
from uscl.store.files import StoreFull
from uscl.store.sweeps import SweepFolder

MOST_WAITING = 10_000
"""Records kept for a disk that is full; beyond that the oldest are lost, and nothing but history with them."""

log = logging.getLogger(__name__)


class EventLog:
    """Appends records, in order, to each sweep's events.jsonl. Never raises for a file's sake."""

    def __init__(self, folders: Mapping[str, SweepFolder]) -> None:
        self._folders = folders
        self._waiting: deque[tuple[str, Mapping[str, Any]]] = deque(maxlen=MOST_WAITING)
        self._warned: set[str] = set()

    def append(self, sweep: str, record: Mapping[str, Any]) -> None:
        """Add a record to one sweep's file, behind those that wait for room."""
        self._waiting.append((sweep, record))
        self.flush()

    def append_all(self, record: Mapping[str, Any]) -> None:
        """Add a record to every sweep's file."""
        for sweep in self._folders:
            self.append(sweep, record)

    def flush(self) -> None:
        """Write what waits, as far as there is room."""
        while self._waiting:
            sweep, record = self._waiting[0]
            try:
                self._folders[sweep].append_event(record)
            except StoreFull as error:
                self._warn_once(f"events.jsonl: {error}")
                return
            except StoreError as error:
                self._warn_once(f"events.jsonl: {error}; results are not affected")
            self._waiting.popleft()

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message)


def event_record(happened: SweepEvent) -> dict[str, Any]:
    """A line of events.jsonl, without what belongs to one kind of event only."""
    return {
        "time_s": happened.time_s,
        "cell": happened.cell,
        "attempt": happened.attempt,
        "node": happened.node,
    } | event_to_json(happened.event)
