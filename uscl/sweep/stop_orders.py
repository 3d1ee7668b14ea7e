"""What `uscl stop` asks of a running driver, from any machine that sees the store, and how the driver hears of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from uscl.errors import StoreError
from uscl.store.lease import Holder
from uscl.store.sweeps import SweepFolder
from uscl.sweep.folders import folder_of
from uscl.sweep.signals import ONE_REQUEST_S, StopRequests
from uscl.sweep.study import Study

LOOK_EVERY_S = 1.0
"""How often a driver looks for a request: what `uscl stop` costs at most before the drain begins."""

log = logging.getLogger(__name__)


@contextmanager
def stop_orders(study: Study, requests: StopRequests, *, every_s: float = LOOK_EVERY_S) -> Iterator[None]:
    """Inside, a request in the folder of any sweep of the study counts as a TERM; one to be hard, as two.

    Requests from before are removed first, and those at the end: none stops a later start. One that is addressed to
    another driver is not obeyed.
    """
    folders = [folder_of(plan) for plan in study.plans]
    for folder in folders:
        folder.clear_stop()
    over = threading.Event()
    thread = threading.Thread(target=_look, args=(folders, requests, over, every_s), name="uscl-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        if not requests.hard:  # the thread may hang in a store that does not answer
            thread.join(every_s)
            for folder in folders:
                folder.clear_stop()


def _look(folders: list[SweepFolder], requests: StopRequests, over: threading.Event, every_s: float) -> None:
    obeyed: set[str] = set()
    while not over.wait(every_s):
        for folder in folders:
            try:
                asked = folder.stop_request()
                if asked is None or asked.token in obeyed or not asked.meant_for(folder.holder()):
                    continue
            except StoreError as error:
                log.debug("no request to be read: %s", error)
                continue
            obeyed.add(asked.token)
            if asked.hard or not requests.count:  # asking a second time is no second signal: only --hard is
                requests.ask(asked.by)
            if asked.hard and not requests.hard:
                over.wait(2 * ONE_REQUEST_S)  # nearer ones count as one
                requests.ask(asked.by)


@dataclass(frozen=True, slots=True)
class StopResult:
    """What came of asking."""

    driver: Holder | None
    """Who was asked; None where nobody drove the sweep."""
    stopped: bool
    """Whether the sweep is free now."""
    seconds: float


def stop_driver(
    folder: SweepFolder,
    *,
    by: str,
    hard: bool = False,
    timeout_s: float | None = None,
    tell: Callable[[Holder, float], None] = lambda driver, seconds: None,
    look_every_s: float = 0.5,
) -> StopResult:
    """Ask the driver of a sweep to stop, and wait until it has ended or the time is up (None: as long as it takes).

    `tell` is called at each look, with the driver and the seconds since it was asked. A driver that has started since
    is another one: it is left alone.
    """
    started = time.monotonic()
    driver = folder.driver()
    if driver is None:
        return StopResult(None, True, 0.0)
    folder.ask_to_stop(by, driver, hard=hard)
    while True:
        seconds = time.monotonic() - started
        if folder.driver() != driver:
            return StopResult(driver, True, seconds)
        if timeout_s is not None and seconds >= timeout_s:
            return StopResult(driver, False, seconds)
        tell(driver, seconds)
        time.sleep(look_every_s)
