"""Where a store's mirror lives: a server that the user names, or an SQLite file that belongs to the store."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from uscl.errors import StoreError
from uscl.store.roots import StoreRoot, cache_folder

MOUNTS = Path("/proc/self/mounts")
SHARED_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "beegfs", "gpfs", "ceph", "glusterfs", "9p", "afs", "fuse.sshfs")
"""Beginnings of file system names on which SQLite's locks cannot be trusted (SQLite FAQ 5)."""


@dataclass(frozen=True, slots=True)
class Location:
    """An MLflow tracking address, absolute, so that it means the same from every folder."""

    uri: str
    artifact_root: Path | None
    """Folder for artifacts of the embedded database; None where a server decides."""

    @property
    def database(self) -> Path | None:
        """The embedded SQLite file; None where a server keeps the runs."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None


def find_location(store_root: StoreRoot, tracking_uri: str | None = None, *, mounts: Path = MOUNTS) -> Location:
    """The given address, else MLFLOW_TRACKING_URI, else the store's own database.

    On a shared file system the database lies in the user's cache folder; where the store is a bucket, the artifacts
    too. StoreError for a plain folder: MLflow
    refuses file stores since 3.13.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    home = _home(store_root)
    if not uri:
        return _embedded(store_root, home, mounts)
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).absolute()
        return Location(f"sqlite:///{database}", home / "mlartifacts")
    if "://" not in uri or uri.startswith("file:"):
        raise StoreError(
            f"MLFLOW_TRACKING_URI={uri}: MLflow keeps no runs in a folder; give http://... or sqlite:///..."
        )
    return Location(uri, None)


def file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """The kind of file system (`ext4`, `nfs4`) that holds a path, which need not exist; empty where unknown."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    points = {fields[1].encode().decode("unicode_escape"): fields[2] for fields in lines if len(fields) > 2}
    resolved = path.absolute().resolve()
    for folder in (resolved, *resolved.parents):
        if str(folder) in points:
            return points[str(folder)]
    return ""


def _embedded(store_root: StoreRoot, home: Path, mounts: Path) -> Location:
    database = home / "mlflow.db"
    if file_system(home, mounts).startswith(SHARED_FILE_SYSTEMS) and isinstance(store_root, Path):
        database = _cache_of(home) / "mlflow.db"
    return Location(f"sqlite:///{database.absolute()}", home / "mlartifacts")


def _home(store_root: StoreRoot) -> Path:
    """The folder of what belongs to a store's mirror: the store's own, or this user's for a bucket."""
    return store_root.absolute() if isinstance(store_root, Path) else _cache_of(store_root).absolute()


def _cache_of(store_root: StoreRoot) -> Path:
    return cache_folder() / "mlflow" / hashlib.sha256(str(store_root).encode()).hexdigest()[:16]
