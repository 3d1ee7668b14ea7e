"""Look through a folder for what could identify somebody, before anything is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.data.ingest.traces import Trace, traces_of
from uscl.data.wording import counted
from uscl.errors import DataError


@dataclass(frozen=True)
class FileTraces:
    """What was found in a file."""

    name: str
    """Path below the folder."""
    traces: tuple[Trace, ...] = ()
    problem: str = ""
    """Why it could not be looked at."""


@dataclass(frozen=True)
class PrivacyReport:
    """The files below a folder that something was found in, or that could not be looked at."""

    num_files: int
    files: tuple[FileTraces, ...]

    @property
    def found(self) -> bool:
        """Whether there is anything to tell; a file that cannot be looked at is, too."""
        return bool(self.files)

    @property
    def kinds(self) -> dict[str, int]:
        """Kind of trace -> files that hold it."""
        return dict(Counter(kind for file in self.files for kind in dict.fromkeys(trace.kind for trace in file.traces)))

    def as_json(self) -> dict[str, Any]:
        """Counts, and per file the kinds, the names of entries and what an import does; never a value."""
        files = [
            {"file": file.name, "traces": [_trace_json(trace) for trace in file.traces]}
            | ({"problem": file.problem} if file.problem else {})
            for file in self.files
        ]
        return {"files_looked_at": self.num_files, "files_by_kind": self.kinds, "files": files}


def check_folder(folder: Path, *, progress: Callable[[str, int, int], None]) -> PrivacyReport:
    """Look at every file below `folder`; links are not followed. DataError where there is no such folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
    files = []
    for number, path in enumerate(paths):
        progress("looking", number, len(paths))
        looked = _look(path, path.relative_to(folder).as_posix())
        files += [looked] if looked.traces or looked.problem else []
    progress("looking", len(paths), len(paths))
    return PrivacyReport(len(paths), tuple(files))


def report_lines(report: PrivacyReport) -> Iterator[str]:
    """One line per file, and a summary."""
    for file in report.files:
        told: Sequence[str] = [*map(str, file.traces), *([file.problem] if file.problem else [])]
        yield f"{file.name}: {'; '.join(told)}"
    if not report.files:
        yield f"{counted(report.num_files, 'file')}: nothing found that identifies anybody"
        return
    yield f"{len(report.files)} of {counted(report.num_files, 'file')} hold something that may identify:"
    for kind, count in sorted(report.kinds.items()):
        yield f"  {kind}: {counted(count, 'file')}"
    unread = sum(bool(file.problem) for file in report.files)
    if unread:
        yield f"  could not be looked at: {counted(unread, 'file')}"


def _look(path: Path, name: str) -> FileTraces:
    traces: list[Trace] = []
    try:
        traces.extend(traces_of(path, name))
    except DataError as error:
        return FileTraces(name, tuple(traces), str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return FileTraces(name, tuple(traces), f"cannot be read: {error.strerror or 'input error'}")
    return FileTraces(name, tuple(traces))


def _trace_json(trace: Trace) -> dict[str, Any]:
    return {"kind": trace.kind, "entries": dict(trace.entries), "action": trace.action}
