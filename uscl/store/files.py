"""Files that are either whole or absent, under one root.

A file is written aside, fsynced, then renamed (last wins) or linked (first wins), and its folder is fsynced.
Plain `os` calls: pyarrow's local file system never fsyncs.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uscl.errors import StoreError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# File systems without hard links say one of these (exFAT, some FUSE mounts).
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

# What `_aside` calls a file that is being written: `.name.pid-token`.
_ASIDE = re.compile(r"\..+\.\d+-[0-9a-f]{8}")


class StoreFull(StoreError):
    """No space is left, or a quota is used up. Nothing that was published is lost."""


class Files:
    """Bytes by name below `root`; a name may hold slashes. Every failure of the file system is a StoreError."""

    def __init__(self, root: str | Path) -> None:
        """`root` need not exist: the first write makes it. StoreError where it is no folder (see roots.py)."""
        # Absolute at once: Ray changes the working directory of a trial.
        self.root = local_root(root)

    def path(self, name: str) -> Path:
        """Where `name` lies; nothing need be there."""
        return self.root / name

    def write(self, name: str, content: bytes) -> None:
        """Write the file, replacing one that is there; a reader sees the old or the new bytes, never a mixture."""
        target = self.path(name)
        with explained(target, "write"), _aside(target, content) as aside:
            aside.replace(target)
            sync_folder(target.parent)

    def link_first(self, name: str, content: bytes) -> bool:
        """Write the file unless one is there. Of many that try at once exactly one is told True: it was the first."""
        target = self.path(name)
        with explained(target, "write"), _aside(target, content) as aside:
            won = _link(aside, target)
            sync_folder(target.parent)
        return won

    def append(self, name: str, line: bytes, *, soon: bool = False) -> None:
        """Add a line to a file; one writer at a time. A torn last line is ended first.

        Not fsynced: it survives kill -9, and a power cut may cost the last lines. `soon` tells a store that cannot
        append that the line may wait for a moment, or for `flush`; here it is written at once.
        """
        path = self.path(name)
        with explained(path, "append to"):
            make_folder(path.parent)
            with path.open("ab+", buffering=0) as stream:
                # A torn last line must not swallow this record.
                start = b"" if _ends_a_line(stream.fileno()) else b"\n"
                _write_all(stream.fileno(), start + line + b"\n")

    def flush(self, name: str) -> None:
        """Nothing: what was appended is there."""

    def read(self, name: str) -> bytes:
        """The bytes of a file. StoreError where there is none."""
        with explained(self.path(name), "read"):
            return self.path(name).read_bytes()

    def read_if_there(self, name: str) -> bytes | None:
        """The bytes of a file, or None where there is none."""
        with explained(self.path(name), "read"):
            try:
                return self.path(name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name is there."""
        return self.path(name).exists()

    def list(self, folder: str) -> list[str]:
        """Names in a folder, sorted, without what is being written; empty where there is no such folder."""
        with explained(self.path(folder), "list"):
            try:
                return sorted(path.name for path in self.path(folder).iterdir() if not path.name.startswith("."))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def size(self, name: str) -> int:
        """Bytes of a file, or of all files in a folder and below; 0 where it is not there."""
        with explained(self.path(name), "look at"):
            return sum(found.st_size for found in _stats(self.path(name)) if stat.S_ISREG(found.st_mode))

    def modified_s(self, name: str) -> float:
        """Unix time of the newest change to a file, or to anything in a folder and below; 0 where it is not there."""
        with explained(self.path(name), "look at"):
            return max((found.st_mtime for found in _stats(self.path(name))), default=0.0)

    def free_bytes(self) -> int | None:
        """Space that is left where `root` lies or will lie; None where nobody can tell."""
        there = next(path for path in (self.root, *self.root.parents) if path.exists())
        with explained(there, "look at"):
            return shutil.disk_usage(there).free

    def asides(self, folder: str) -> tuple[str, ...]:
        """Names, below `root`, of what is being written in a folder and below, or was when its writer was killed."""
        with explained(self.path(folder), "list"):
            inside = sorted(path for path in self.path(folder).rglob(".*") if _ASIDE.fullmatch(path.name))
            return tuple(str(path.relative_to(self.root)) for path in inside if path.is_file())

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all it holds; nothing happens where it is not there."""
        path = self.path(name)
        with explained(path, "delete"), suppress(FileNotFoundError):
            if path.is_dir():
                _remove_tree(path)
            else:
                path.unlink()

    def move(self, name: str, target: str) -> bool:
        """Rename a file or folder to a name that is free. False where it is not there (any more)."""
        with explained(self.path(name), "move"):
            make_folder(self.path(target).parent)
            try:
                self.path(name).rename(self.path(target))
            except FileNotFoundError:
                return False
        return True


def local_root(root: str | Path) -> Path:
    """The absolute path of a folder. StoreError where it is an address such as `s3://bucket/store` (see roots.py)."""
    scheme = re.match(r"([a-z][a-z0-9+.-]+)://?", str(root))
    if scheme and scheme[1] == "file":
        raise StoreError(f"{root}: give the store as a plain path, without 'file:'")
    if scheme:
        raise StoreError(f"{root}: no folder; a store is a local or shared folder, or s3://bucket/prefix")
    return Path(root).expanduser().absolute()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    if not missing and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _aside(target: Path, content: bytes) -> Iterator[Path]:
    """The finished, fsynced bytes under a name of their own beside the target; the name is gone afterwards."""
    make_folder(target.parent)
    aside = target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield aside
    finally:
        with suppress(OSError):
            aside.unlink()


def _link(aside: Path, target: Path) -> bool:
    try:
        os.link(aside, target)
    except FileExistsError:
        # NFS may repeat a request whose answer was lost: the second try meets the first one's link.
        return aside.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            return False
        aside.replace(target)
    return True


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of a folder and all below it; what vanishes meanwhile is passed over. Links are not followed."""
    for found in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(FileNotFoundError, NotADirectoryError):
            yield found.lstat()


def _remove_tree(path: Path) -> None:
    """Remove a folder, also while its writer is removing parts of it."""
    for _ in range(3):
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
            return


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn an OSError into one clear line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise StoreFull(
                f"{path}: no space left ({reason}); free some, then start again: nothing is lost"
            ) from error
        hint = "; is --store a folder that you may write to?" if what != "read" else ""
        raise StoreError(f"{path}: cannot {what}: {reason}{hint}") from error
