"""`uscl ui` and `uscl sync`: the store's sweeps in MLflow's pages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

import click

from uscl.cli.options import store_option
from uscl.errors import LeaseHeld, SpecError, StoreError, UsclError
from uscl.report.figures import draw_figures
from uscl.report.page import stored_report, table_files
from uscl.store.roots import StoreRoot, store_root
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder, list_sweeps
from uscl.tracking import mirror
from uscl.tracking.location import Location, find_location
from uscl.tracking.mirror import Synced

HOST = "127.0.0.1"
"""Loopback only: without a login, whoever reaches an MLflow server may delete (sweep-engine.md 4.4)."""
START_S = 120.0
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@click.command("sync")
@click.argument("sweep", required=False)
@store_option
def sync(sweep: str | None, store: StoreRoot) -> None:
    """Bring MLflow up to date with the store.

    For SWEEP, or for every sweep of the store; an empty MLflow is filled.
    """
    folders = _folders(store, sweep)
    for folder in folders:
        synced = _sync_unless_running(store, folder, must=sweep is not None)
        if synced is not None:
            click.echo(f"{folder.identity}: {synced.num_runs} runs in {synced.location.uri}")


@click.command("ui")
@click.argument("sweep", required=False)
@store_option
@click.option("--port", default=5000, show_default=True, help="Where to serve; a busy one is passed over.")
def ui(sweep: str | None, store: StoreRoot, port: int) -> None:
    """Bring MLflow up to date, then serve its pages.

    On this machine only (127.0.0.1), until Ctrl-C. With MLFLOW_TRACKING_URI set, prints where the pages are.
    """
    synced: dict[str, Synced] = {}
    for folder in _folders(store, sweep):
        result = _sync_unless_running(store, folder, must=False)
        if result is not None:
            synced[folder.identity] = result
    location = find_location(StageStore(store).root)
    if location.database is None:
        _print_links(location.uri, synced)
        return
    port = free_port(port)
    click.echo("starting MLflow's server", err=True)
    try:
        with serving(location, port=port) as server:
            _print_links(f"http://{HOST}:{port}", synced)
            click.echo("Ctrl-C ends it.")
            server.wait()
    except KeyboardInterrupt:
        click.echo("stopped")


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on. UsclError where a hundred are taken."""
    for port in range(first, min(first + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UsclError(f"ports {first} to {first + 99} are all taken; give another with --port")


@contextmanager
def serving(location: Location, *, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server with one worker on loopback, over the embedded database; ended on leaving.

    Yields once it answers. UsclError where it does not within two minutes.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", location.uri, "--host", HOST]
    command += ["--port", str(port), "--workers", "1"]
    if location.artifact_root is not None:
        command += ["--default-artifact-root", location.artifact_root.as_uri()]
    # A session of its own: a server has child processes, and all of them must end with this command.
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(command, env=_QUIET | os.environ, stdout=said, stderr=said, start_new_session=True)
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            _await_answer(server, port, said)
            yield server
        finally:
            signal.signal(signal.SIGTERM, before)
            _end(server)


def _folders(store: StoreRoot, sweep: str | None) -> list[SweepFolder]:
    folders = list(list_sweeps(store))
    if sweep is None:
        if not folders:
            raise StoreError(f"{store_root(store)}: no sweep in this store yet; run one, or give another --store")
        return folders
    known = [folder for folder in folders if folder.identity == sweep]
    if not known:
        names = ", ".join(folder.identity for folder in folders) or "none"
        raise SpecError(f"no sweep {sweep!r} in {store_root(store)}; it has: {names}")
    return known


def _sync_unless_running(store: StoreRoot, folder: SweepFolder, *, must: bool) -> Synced | None:
    """Copy one sweep under its lease; a sweep under way copies itself, so it is passed over unless `must`."""
    stages = StageStore(store)
    try:
        with folder.acquire_lease():
            return mirror.sync(
                stages,
                folder.identity,
                cells=folder.read_cells(),
                table=lambda: table_files(stored_report(stages, folder)),
                figures=lambda: draw_figures(stored_report(stages, folder)),
            )
    except LeaseHeld:
        if must:
            raise
        click.echo(f"{folder.identity}: is running and copies itself", err=True)
        return None


def _print_links(address: str, synced: Mapping[str, Synced]) -> None:
    """The sweeps' own pages first: a terminal's reader opens the first link, and MLflow's home shows no run."""
    for identity, result in synced.items():
        page = click.style(f"{address}/#/experiments/{result.experiment_id}/runs?viewStateShareKey=uscl", bold=True)
        click.echo(f"{identity} ({result.num_runs} runs): {page}")
    click.echo(f"MLflow's home: {address}")


def _await_answer(server: subprocess.Popen[bytes], port: int, said: IO[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or [f"exit code {server.returncode}"]
            raise UsclError(f"the MLflow server ended at once: {lines[-1]}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise UsclError(f"the MLflow server does not answer on port {port} after {START_S:.0f} s")


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask the server and its children to end; insist after ten seconds."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, how)
            server.wait(10)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
