"""T5 and T20 over the embedded SQLite file: locked, full, read-only, torn, moved away, of another MLflow; no guards."""

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import threading
import urllib.request
from contextlib import closing, contextmanager, suppress

import pytest
from tracked_sweep import (
    TrackedSweep,
    client_of,
    copied_database,
    differences,
    dump,
    runs_of,
    untracked_events,
    wait_for,
)
from tracking_server import TrackingServer

from uscl.errors import StoreError
from uscl.tracking import mirror as mirror_module

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    from uscl.tracking.client import Tracker, short_patience
    from uscl.tracking.location import find_location

    root = tmp_path_factory.mktemp("empty")
    with short_patience():
        Tracker(find_location(root, f"sqlite:///{root}/mlflow.db"), "made")
    return root / "mlflow.db"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The events of a sweep without a tracker."""
    return untracked_events(tmp_path_factory.mktemp("alone"))


@pytest.fixture
def folder(tmp_path):
    """Where the database lies that things happen to."""
    return tmp_path / "database"


@pytest.fixture
def sweep(tmp_path, folder, monkeypatch, empty_database):
    monkeypatch.setattr(mirror_module, "RETRY_S", (0.1, 0.3))
    sweep = TrackedSweep(tmp_path)
    sweep.uri = copied_database(empty_database, folder)
    sweep.undisturbed = copied_database(empty_database, tmp_path / "undisturbed")
    sweep.mirror_to(sweep.undisturbed, warn=pytest.fail)
    yield sweep
    sweep.close()


def begin(sweep, num_cells=2):
    """The mirror, and some cells that it shows."""
    sweep.mirror_to(sweep.uri)
    sweep.run(num_cells)
    sweep.wait_until_shown(sweep.uri)


def check(sweep, alone, *, warned=1):
    """To the end of the sweep, then everything that T5 and T20 promise."""
    sweep.run()
    sweep.close()
    assert sweep.events() == alone
    assert len(sweep.warnings) == warned, sweep.warnings
    assert_same(sweep)


def assert_same(sweep):
    """The two mirrors say the same."""
    assert differences(dump(sweep.uri, sweep.name), dump(sweep.undisturbed, sweep.name)) == []


@contextmanager
def small_disk(folder, *, size="4m"):
    """A file system of its own; skipped where this user may not mount one."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_read_by_a_server_and_locked_by_another_process(sweep, folder, alone):
    """As by `uscl ui` with an open page, and somebody's `sqlite3` shell: the mirror waits, the sweep does not."""
    server = TrackingServer(folder, database=sweep.uri)
    server.start()
    try:
        begin(sweep, 1)
        reader = Reader(server.url, sweep.name)
        with closing(sqlite3.connect(folder / "mlflow.db", isolation_level=None, timeout=10)) as other:
            other.execute("BEGIN EXCLUSIVE")
            sweep.run(3)
            assert sweep.done == 4
            other.execute("ROLLBACK")
        check(sweep, alone, warned=0)
        assert reader.end() == sweep.name, "somebody read all the time"
    finally:
        server.kill()


class Reader:
    """Asks a server for an experiment, over and over."""

    def __init__(self, url, name):
        self._url, self._name, self._end, self._seen = url, name, threading.Event(), ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        address = f"{self._url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={self._name}"
        while not self._end.wait(0.05):
            with suppress(OSError), urllib.request.urlopen(address, timeout=30) as answer:
                self._seen = json.load(answer)["experiment"]["name"]

    def end(self):
        """The name that it read last."""
        self._end.set()
        self._thread.join()
        return self._seen


def test_full_disk(sweep, folder, empty_database, alone):
    folder.mkdir(exist_ok=True)
    with small_disk(folder):
        copied_database(empty_database, folder)
        begin(sweep, 1)
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
            while True:
                stream.write(bytes(4096))
        sweep.run(2)
        wait_for(lambda: sweep.warnings)
        filler.unlink()
        check(sweep, alone)


def test_read_only(sweep, folder, empty_database, alone):
    folder.mkdir(exist_ok=True)
    with small_disk(folder):
        copied_database(empty_database, folder)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        sweep.mirror_to(sweep.uri)
        sweep.run(2)
        wait_for(lambda: sweep.warnings)
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        check(sweep, alone)


@pytest.mark.parametrize("damage", ["overwritten", "empty", "moved away"])
def test_torn_database(sweep, folder, alone, damage, monkeypatch, empty_database):
    """It is moved aside, and a new one is filled."""
    if damage != "overwritten":  # once in earnest: MLflow takes seconds to make one
        monkeypatch.setattr("uscl.tracking.database._make_whole", lambda path: shutil.copy(empty_database, path))
    begin(sweep)
    database = folder / "mlflow.db"
    if damage == "moved away":
        database.rename(folder / "mine.db")
    else:
        with database.open("r+b") as stream:
            stream.write(os.urandom(database.stat().st_size))
            stream.truncate(0 if damage == "empty" else None)
    check(sweep, alone)
    kept = [path.name for path in folder.iterdir() if path.name.startswith(("mlflow.db.torn-", "mine"))]
    assert kept


def old_database(folder, empty_database, revision):
    """A database as an older MLflow left it: by MLflow's own migrations, up to there."""
    from alembic import command
    from mlflow.store.db import utils as schema
    from mlflow.store.tracking.dbmodels.initial_models import Base

    path = folder / "mlflow.db"
    path.unlink(missing_ok=True)
    engine = schema.create_sqlalchemy_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = schema._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (7, 'of last year', 'somewhere', 'active')"
        )
        connection.commit()
    return path


def test_a_database_of_an_older_mlflow_is_upgraded_and_kept(sweep, folder, empty_database, alone):
    revision = "7f2a7d5fae7d"  # MLflow 2.8
    path = old_database(folder, empty_database, revision)
    before = path.read_bytes()
    sweep.mirror_to(sweep.uri)
    check(sweep, alone, warned=0)
    assert (folder / f"mlflow.db.{revision}").read_bytes() == before
    assert client_of(sweep.uri).get_experiment_by_name("of last year").experiment_id == "7"


def test_a_database_of_a_newer_mlflow_is_refused_and_left_alone(sweep, folder, alone):
    path = folder / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
        connection.commit()
    before = path.read_bytes()
    sweep.mirror_to(sweep.uri)
    sweep.run()
    sweep.close()
    assert sweep.events() == alone
    assert "has schema fffffffffff0, which MLflow" in sweep.warnings[0]
    with pytest.raises(StoreError, match="a newer MLflow made it; install that one, or move the file away"):
        sweep.sync(sweep.uri)
    assert path.read_bytes() == before


def test_names_that_mlflow_does_not_take(sweep, alone, monkeypatch):
    """A class named otherwise than MLflow's metrics may be, and a name that is too long."""
    from uscl.tracking import copier
    from uscl.tracking.content import Measurement

    strange = ["test/dsc/left (kidney)", "test/dsc/left [kidney]", "../x", "a//b", "", "x" * 300, "größe/naïve µm"]
    measured = copier.measurements
    more = [Measurement(name, 1.0, 0) for name in strange]
    monkeypatch.setattr(copier, "measurements", lambda *args: [*measured(*args), *more])
    begin(sweep)
    check(sweep, alone, warned=0)
    run = next(run for run in runs_of(client_of(sweep.uri), sweep.name) if "uscl.cell" in run.data.tags)
    shown = [name for name in run.data.metrics if name.startswith(("test/dsc/left", "x", "größe"))]
    assert len(shown) == 5 and "größe/naïve µm" in shown


# ---- guards taken away


def test_guard_removed_points_are_shown_twice(sweep, alone, monkeypatch):
    """Without 'only later steps' and without rows that are the same whoever sends them, T20 fails."""
    from uscl.tracking import client

    clock, metric_of = itertools.count(10**12), client._metric

    def stamped_now(known, measurement):
        known.last_steps.clear()
        metric = metric_of(known, measurement)
        metric._timestamp = next(clock)
        return metric

    monkeypatch.setattr(client, "_metric", stamped_now)
    begin(sweep)
    with pytest.raises(AssertionError, match="/metrics/"):
        check(sweep, alone, warned=0)
    histories = [points for _, run in dump(sweep.uri, sweep.name)[0] for points in run["metrics"].values()]
    assert any(len(points) > len({step for step, *_ in points}) for points in histories)
