"""INT, TERM, HUP and USR1 while a sweep runs: the first drains, the second ends it hard."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# TERM stays open: it is how Ray ends its own processes.
_SHIELDED = {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}

ONE_REQUEST_S = 0.2
"""Signals this close together are one request: timeout(1) sends TERM to its child, and again to the child's group."""


class StopRequests:
    """How often the sweep was asked to stop, and by which signal first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None
        self._before: dict[int, Any] = {}
        self._last_s = 0.0
        self.until_s: float | None = None

    def due(self, now_s: float) -> str:
        """Why to drain by the clock, `it is 07:00`; empty before the time that `--until` gives, and without one."""
        due = self.until_s is not None and now_s >= self.until_s
        return f"it is {datetime.fromtimestamp(now_s):%H:%M}" if due else ""

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells have it (130 for Ctrl-C, 143 for TERM); 0 where nothing came."""
        return 128 + self.first if self.first is not None else 0

    @property
    def hard(self) -> bool:
        """Asked twice: wait for nothing any more."""
        return self.count >= 2

    def install(self) -> None:
        """Take the four signals from here on; outside the main thread nothing happens."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._before.setdefault(number, signal.signal(number, self._take))

    def restore(self) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _take(self, number: int, frame: FrameType | None = None) -> None:
        now = time.monotonic()
        if self.count == 0 or now - self._last_s >= ONE_REQUEST_S:
            self.first = self.first or number
            self.count += 1
        self._last_s = now


@contextmanager
def shielded() -> Iterator[None]:
    """Processes started inside inherit INT, HUP and USR1 as blocked: a Ctrl-C in the terminal reaches the driver
    alone, which drains. What arrives meanwhile is delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SHIELDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Requests that count once `install` was called, which has to follow ray.init; the signals are given back after."""
    requests = StopRequests()
    try:
        yield requests
    finally:
        requests.restore()
