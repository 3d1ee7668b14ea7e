"""The embedded SQLite database: made whole, brought up to date with a copy kept, moved aside where it is torn.

Nothing that is only there is lost: what is replaced stays beside it under another name. Imports mlflow.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.store.db import utils as schema
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service import utils as service
from mlflow.version import VERSION

from uscl.errors import StoreError

log = logging.getLogger(__name__)


@contextmanager
def sole_opener(database: Path | None) -> Iterator[None]:
    """One process at a time makes, mends or upgrades an SQLite file: of six that try at once, five die.

    Inside, the file is a whole database of this MLflow's schema. StoreError where it is of a schema that this MLflow
    does not know.
    """
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{database}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _forget(database)
        if database.exists() and is_torn(database):
            _set_aside(database)
        if database.exists():
            _bring_up_to_date(database)
        else:
            _make_whole(database)
        yield


def is_torn(database: Path) -> bool:
    """Whether SQLite finds the file damaged. One that is locked or that may not be read is not."""
    if database.stat().st_size == 0:
        return True
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True


def _forget(database: Path) -> None:
    """Drop the connections that MLflow keeps: the file they have open may be one that was moved away since."""
    with suppress(AttributeError):  # MLflow's own names, and it is well without
        engine = SqlAlchemyStore._engine_map.pop(f"sqlite:///{database}", None)
        if engine is not None:
            engine.dispose()
        service._tracking_store_registry._get_store_with_resolved_uri.cache_clear()


def _set_aside(database: Path) -> None:
    kept = database.with_name(f"{database.name}.torn-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    for suffix in ("-journal", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{database}{suffix}").rename(f"{kept}{suffix}")
    database.rename(kept)
    log.warning("%s is torn; moved to %s, and `uscl sync` fills a new one with every sweep", database, kept.name)


def _make_whole(database: Path) -> None:
    """Make an SQLite file aside and rename it: a kill between two of its tables would leave one that never opens."""
    aside = _cleared_aside(database)
    MlflowClient(f"sqlite:///{aside}").search_experiments(max_results=1)
    aside.rename(database)


def _bring_up_to_date(database: Path) -> None:
    """Upgrade a copy and put it in place; the old file stays as `mlflow.db.<schema>`.

    MLflow would do it in place for some schemas and refuse others, and its migrations are not transactions.
    """
    found = _revision(database)
    if found == schema._get_latest_schema_revision():
        return
    _require_known(database, found)
    aside = _cleared_aside(database)
    with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(aside)) as new:
        old.backup(new)
    engine = schema.create_sqlalchemy_engine(f"sqlite:///{aside}")
    try:
        (schema._upgrade_db if found else schema._initialize_tables)(engine)
    finally:
        engine.dispose()
    kept = database.with_name(f"{database.name}.{found or 'without-schema'}")
    if not kept.exists():
        _second_name(database, kept)
    aside.replace(database)
    log.warning("%s was of an older MLflow: upgraded, the old one is kept as %s", database, kept.name)


def _revision(database: Path) -> str:
    """The schema that the file says it has; empty where it says none."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        raise
    return str(row[0]) if row else ""


def _require_known(database: Path, found: str) -> None:
    try:
        if found:
            ScriptDirectory.from_config(schema._get_alembic_config("")).get_revision(found)
    except CommandError as error:
        raise StoreError(
            f"{database} has schema {found}, which MLflow {VERSION} does not know: a newer MLflow made it; install "
            "that one, or move the file away, and `uscl sync` fills a new one"
        ) from error


def _cleared_aside(database: Path) -> Path:
    aside = database.with_name(f"{database.name}.new")
    _forget(aside)
    for left in database.parent.glob(f"{aside.name}*"):
        left.unlink()
    return aside


def _second_name(path: Path, name: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(path, name)
    except OSError:
        shutil.copy2(path, name)
