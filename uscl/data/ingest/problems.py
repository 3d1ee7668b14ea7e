"""Files that an import leaves out: each with its reason, and a summary of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.found import printable
from uscl.data.wording import counted, listed

_SHOWN = 3


@dataclass(frozen=True)
class BadFile:
    """A file, or a pair of files, that was not imported."""

    name: str
    """Path below the imported folder, with forward slashes."""
    reason: str
    """What is wrong with it, without its path."""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def bad_file(path: Path, folder: Path, error: Exception | str) -> BadFile:
    """What `error` says of `path`, on one line and without repeating the path."""
    reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
    reason = printable(" ".join(reason.split()))
    return BadFile(printable(path.relative_to(folder).as_posix()), reason)


def problem_lines(bad: Sequence[BadFile], total: int, what: str = "file") -> list[str]:
    """How many of `total`, then each reason with its count and its first files. Empty where none is bad."""
    if not bad:
        return []
    kinds: dict[str, list[BadFile]] = {}
    for entry in bad:
        kinds.setdefault(re.sub(r"\d+", "0", entry.reason), []).append(entry)
    lines = [f"{len(bad)} of {counted(total, what)} left out:"]
    for entries in sorted(kinds.values(), key=lambda entries: -len(entries)):
        names = listed([entry.name for entry in entries], shown=_SHOWN)
        lines.append(f"  {counted(len(entries), what)}: {entries[0].reason} ({names})")
    return lines
