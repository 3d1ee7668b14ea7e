"""INT, TERM, HUP and USR1 while a sweep runs: the first drains, the second ends it hard."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# TERM stays open: it is how Ray ends its own processes.
_SHIELDED = {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}


class StopRequests:
    """How often the sweep was asked to stop, and by which signal first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None
        self.arrived = threading.Event()

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells have it (130 for Ctrl-C, 143 for TERM); 0 where nothing came."""
        return 128 + self.first if self.first is not None else 0

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """A signal arrived."""
        self.first = self.first or number
        self.count += 1
        self.arrived.set()


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
    """The four signals counted inside, in the main thread; elsewhere nothing is installed."""
    requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {number: signal.signal(number, requests.take) for number in STOP_SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
