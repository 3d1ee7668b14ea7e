"""The optional CSV beside clips or images: who each file belongs to, and whose work it is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.errors import DataError

FILE_COLUMNS = ("file", "image", "filename")
PATIENT_COLUMNS = ("patient", "patient_id")
GROUP_COLUMNS = ("group", "split_group", "near_duplicate_group")
LICENCE_COLUMNS = ("licence", "license")
SOURCE_COLUMNS = ("attribution", "source_url")


@dataclass(frozen=True)
class FileRow:
    """What the table says of one file; empty where it says nothing."""

    patient: str = ""
    group: str = ""
    split: str = ""
    licence: str = ""
    attribution: str = ""
    source_url: str = ""


@dataclass(frozen=True)
class FileTable:
    """Rows by the path of the file relative to the folder, with forward slashes."""

    path: Path
    rows: Mapping[str, FileRow]

    def row(self, name: str) -> FileRow:
        """The row of the file `name` (relative path). DataError where there is none: its patient would be unknown."""
        found = self.rows.get(name)
        if found is None:
            raise DataError(f"{self.path}: has no row for {name}; add one, or take the file away")
        return found


def find_table(folder: Path, *, given: Path | None, **columns: str | None) -> FileTable | None:
    """The table `given`, else the one CSV of `folder` with a column of file names, else None.

    `columns`: file_column, patient_column, group_column, split_column; None means the usual names (no split).
    DataError where two CSVs could be meant, or a named column does not exist.
    """
    if given is not None:
        return read_table(given, **columns)
    candidates = [path for path in sorted(folder.glob("*.csv")) if set(_header(path)) & set(FILE_COLUMNS)]
    if len(candidates) > 1:
        names = ", ".join(path.name for path in candidates)
        raise DataError(f"{folder}: {names} could each describe the files; choose one with --csv")
    if not candidates:
        asked = [f"--{name.replace('_', '-')}" for name, column in columns.items() if column]
        if asked:
            raise DataError(f"{folder}: {asked[0]} needs a CSV, and there is none; give one with --csv")
        return None
    return read_table(candidates[0], **columns)


def read_table(
    path: Path,
    *,
    file_column: str | None = None,
    patient_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
) -> FileTable:
    """Read `path`. DataError, with file and line, where a column is missing or a file occurs twice."""
    header = _header(path)
    file = _column(path, header, given=file_column, usual=FILE_COLUMNS)
    if file is None:
        raise DataError(f"{path}:1: no column names the files; expected one of {', '.join(FILE_COLUMNS)}")
    chosen = {
        "patient": _column(path, header, given=patient_column, usual=PATIENT_COLUMNS),
        "group": _column(path, header, given=group_column, usual=GROUP_COLUMNS),
        "split": _column(path, header, given=split_column, usual=()),
        "licence": _column(path, header, given=None, usual=LICENCE_COLUMNS),
    } | {name: name if name in header else None for name in SOURCE_COLUMNS}
    rows: dict[str, FileRow] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for line in (reader := csv.DictReader(stream)):
            name = (line[file] or "").replace("\\", "/").removeprefix("./")
            if name in rows:
                raise DataError(f"{path}:{reader.line_num}: {name!r} occurs twice; one row per file")
            rows[name] = FileRow(**{key: (line[column] or "").strip() for key, column in chosen.items() if column})
    return FileTable(path, rows)


def source_list(rows: Iterable[FileRow]) -> list[dict[str, Any]]:
    """Each distinct licence, attribution and address, with how many files it covers; for dataset.json."""
    counts = Counter((row.licence, row.attribution, row.source_url) for row in rows)
    counts.pop(("", "", ""), None)
    names = ("licence", "attribution", "source_url")
    return [dict(zip(names, source, strict=True)) | {"files": count} for source, count in sorted(counts.items())]


def licence_text(sources: Sequence[Mapping[str, Any]]) -> str:
    """`CC BY 2.0 (5 files), CC BY 4.0 (39 files)`."""
    counts: Counter[str] = Counter()
    for source in sources:
        counts[source["licence"] or "unknown"] += source["files"]
    return ", ".join(f"{name} ({count} files)" for name, count in sorted(counts.items()))


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a CSV: {error}") from error


def _column(path: Path, header: Sequence[str], *, given: str | None, usual: Sequence[str]) -> str | None:
    if given is not None and given not in header:
        raise DataError(f"{path}:1: has no column {given!r}; its columns are {', '.join(header)}")
    return given or next((name for name in usual if name in header), None)
