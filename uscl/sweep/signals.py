"""INT, TERM, HUP and USR1 while a sweep runs: the first drains, the second ends it hard.

A request of `uscl stop`, from whatever machine, counts as a TERM.
"""

from __future__ import annotations

import os
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

HARD_WITHIN_S = 10.0
"""After a second request the process ends within this time, whatever hangs: an NFS server, Ray, a slow sink."""


class Stopped(BaseException):
    """A request to stop while no trial runs: nothing is to be saved. No Exception, so that nothing takes it for one."""


class StopRequests:
    """How often the sweep was asked to stop, and by which signal first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None
        self.by = ""
        """Who asked with `uscl stop`; empty where it was a signal."""
        self.lost = ""
        """Why nothing can be waited for any more: the head of the cluster is gone. Nobody asked, and it is as hard."""
        self._before: dict[int, Any] = {}
        self._last_s = 0.0
        self.until_s: float | None = None
        """When to drain by the clock (Unix time); None: never."""
        self._at_once = False

    def due(self, now_s: float) -> str:
        """Why to drain by the clock, `it is 07:00`; empty before the time that `--until` gives, and without one."""
        due = self.until_s is not None and now_s >= self.until_s
        return f"it is {datetime.fromtimestamp(now_s):%H:%M}" if due else ""

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells have it (130 for Ctrl-C, 143 for TERM); 2 where Ray is gone; 0 where nothing came."""
        if self.first is not None:
            return 128 + self.first
        return 2 if self.lost else 0

    @property
    def hard(self) -> bool:
        """Asked twice, or Ray is gone: wait for nothing any more."""
        return self.count >= 2 or bool(self.lost)

    def install(self) -> None:
        """Take the four signals from here on, or once more; outside the main thread nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        first = not self._before
        for number in STOP_SIGNALS:
            self._before.setdefault(number, signal.signal(number, self._take))
        if first:
            threading.Thread(target=self._end_hard, name="uscl-second-signal", daemon=True).start()

    def restore(self) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def ask(self, by: str) -> None:
        """As a TERM, from another thread, on behalf of somebody."""
        self.by = self.by or by
        if self._before:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._count(signal.SIGTERM)

    def check(self) -> None:
        """`Stopped` where somebody has asked: called between the steps of a start."""
        if self.count:
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a request raises `Stopped` where the main thread stands: for long work that is undone or harmless."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def _take(self, number: int, frame: FrameType | None = None) -> None:
        self._count(number)
        if self._at_once:
            self._at_once = False  # once: a second request must not break what the first has set off
            raise Stopped

    def _count(self, number: int) -> None:
        now = time.monotonic()
        if self.count == 0 or now - self._last_s >= ONE_REQUEST_S:
            self.first = self.first or number
            self.count += 1
        self._last_s = now

    def _end_hard(self) -> None:
        """Ends the process where a second request has not ended it."""
        while self._before:
            time.sleep(0.2)
            if self.hard:
                time.sleep(HARD_WITHIN_S)
                if self._before:
                    os._exit(self.exit_code)


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
    """Requests that count once `install` was called; the signals are given back after."""
    requests = StopRequests()
    try:
        yield requests
    finally:
        requests.restore()
