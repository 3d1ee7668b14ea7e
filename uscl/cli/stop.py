"""`uscl stop`: drain the driver of a sweep, wherever it runs."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import asdict

import click

from uscl.cli.options import json_option, store_option, stored_sweep
from uscl.store.lease import Holder
from uscl.store.roots import StoreRoot
from uscl.sweep.board import duration
from uscl.sweep.snapshot import look
from uscl.sweep.status import summary
from uscl.sweep.stop_orders import StopResult, stop_driver

TELL_EVERY_S = 10.0


@click.command()
@click.argument("sweep", metavar="SWEEP")
@store_option
@click.option("--hard", is_flag=True, help="End it at once, as a second signal does: live trials save nothing more.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer.")
@json_option
def stop(sweep: str, *, store: StoreRoot, hard: bool, timeout_s: float | None, as_json: bool) -> int:
    """Drain a running sweep, from any machine that sees its store.

    Trials save their progress, the driver ends as after a signal (its exit code is 143), and `uscl sweep` goes on from
    there. SWEEP is a sweep's name, or its file; a command that runs several sweeps stops as a whole. Where nobody runs
    it there is nothing to do: exit code 0. Exit code 1 where it still runs after --timeout.
    """
    folder = stored_sweep(store, sweep)
    waiting = _Waiting(folder.identity, silent=as_json)
    result = stop_driver(folder, by=_myself(), hard=hard, timeout_s=timeout_s, tell=waiting.tell)
    cells = summary(look(folder, store)).cells
    if as_json:
        click.echo(json.dumps({"sweep": folder.identity, **asdict(result), "cells": dict(cells)}, indent=2))
    else:
        click.echo(_said(folder.identity, result, cells["finished"], sum(cells.values())))
    return 0 if result.stopped else 1


def _myself() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container without a user database
        return socket.gethostname()


def _said(sweep: str, result: StopResult, finished: int, total: int) -> str:
    if result.driver is None:
        return f"{sweep}: nobody runs it; {finished}/{total} cells finished"
    if not result.stopped:
        return f"{sweep}: {result.driver} still runs after {duration(result.seconds)}; --hard ends it at once"
    done = f"stopped in {duration(result.seconds)}; {finished}/{total} cells finished"
    return f"{sweep}: {done}; the same command goes on: {result.driver.command}"


class _Waiting:
    """What a person reads while the trials save: who was asked, then a line now and again."""

    def __init__(self, sweep: str, *, silent: bool) -> None:
        self._sweep, self._silent, self._next_s = sweep, silent, 0.0

    def tell(self, driver: Holder, seconds: float) -> None:
        """Called at each look."""
        if self._silent or seconds < self._next_s:
            return
        first, self._next_s = self._next_s == 0.0, seconds + TELL_EVERY_S
        asked = f"asked {driver}" if first else f"still waiting after {duration(seconds)}"
        click.echo(f"{self._sweep}: {asked}; its trials save their progress")
