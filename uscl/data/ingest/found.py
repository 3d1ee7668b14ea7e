"""The files below a folder that an import may read: within it, no loops, nothing hidden."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.wording import counted
from uscl.errors import DataError

_NOT_DATA = frozenset(("thumbs.db", "desktop.ini", "dicomdir"))
"""What systems and archives put beside data, in lower case."""


@dataclass(frozen=True)
class FoundFiles:
    """Regular files by path, and what was passed over."""

    files: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def find_files(folder: Path) -> FoundFiles:
    """Every file below `folder`, sorted. DataError where there is no such folder.

    Hidden files and folders, Thumbs.db and DICOMDIR are passed over without a word. Links to folders are not
    followed, and links to files only where they stay below `folder`: the others are counted in a remark.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    root = folder.resolve()
    files: list[Path] = []
    away: list[Path] = []
    closed: list[Path] = []
    for home, names in _walk(folder, away, closed):
        for path in (home / name for name in names if not _is_clutter(name)):
            if path.is_symlink() and not _leads_to_file_below(path, root):
                away.append(path)
            elif path.is_file():
                files.append(path)
    remarks: tuple[str, ...] = (
        _remark(away, folder, "symbolic link", "leads out of the folder, in a circle or to a folder"),
    )
    remarks += (_remark(closed, folder, "folder", "cannot be listed"),)
    return FoundFiles(tuple(sorted(files)), tuple(filter(None, remarks)))


def printable(path: Path | str) -> str:
    """A path on one line: control characters and undecodable bytes of its name as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(path))


def _walk(folder: Path, links: list[Path], closed: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Folders and the names of their files; links to folders go to `links`, unreadable folders to `closed`."""
    for home, folders, names in os.walk(folder, onerror=lambda error: closed.append(Path(error.filename))):
        kept = [name for name in sorted(folders) if not _is_clutter(name)]
        links += [Path(home, name) for name in kept if Path(home, name).is_symlink()]
        folders[:] = kept
        yield Path(home), names


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOT_DATA


def _leads_to_file_below(link: Path, root: Path) -> bool:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop, or nothing there
        return False
    return target.is_relative_to(root) and target.is_file()


def _remark(paths: Sequence[Path], folder: Path, what: str, why: str) -> str:
    if not paths:
        return ""
    example = printable(paths[0].relative_to(folder))
    return f"{counted(len(paths), what)} passed over ({example}): {why}"
