"""The optional CSV beside clips or images: who each file belongs to, and whose work it is."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.data.wording import counted, listed
from uscl.errors import DataError

FILE_COLUMNS = ("file", "image", "filename")
PATIENT_COLUMNS = ("patient", "patient_id")
GROUP_COLUMNS = ("group", "split_group", "near_duplicate_group")
LICENCE_COLUMNS = ("licence", "license")
SOURCE_COLUMNS = ("attribution", "source_url")
PICTURE_COLUMNS = ("quality", "view")


@dataclass(frozen=True)
class FileRow:
    """What the table says of one file; empty where it says nothing."""

    patient: str = ""
    group: str = ""
    split: str = ""
    licence: str = ""
    attribution: str = ""
    source_url: str = ""
    quality: str = ""
    """Of the picture, as somebody judged it."""
    view: str = ""


@dataclass(frozen=True)
class FileTable:
    """Rows by the path of the file relative to the folder, with forward slashes."""

    path: Path
    rows: Mapping[str, FileRow]

    def match(self, names: Sequence[str], folder: Path) -> Matched:
        """The row of each file of `names`, paths below `folder`: of that path, else of that name where only one is.

        DataError where a file has no row, as its patient would be unknown.
        """
        files, rows = (Counter(map(_basename, paths)) for paths in (names, self.rows))
        by_basename = {_basename(name): name for name in self.rows if name not in set(names)}
        found: dict[str, str] = {}
        for name in names:
            base = _basename(name)
            alone = base in by_basename and files[base] == rows[base] == 1
            found |= {name: name} if name in self.rows else {name: by_basename[base]} if alone else {}
        lacking = [name for name in names if name not in found]
        if lacking:
            raise DataError(f"{self.path}: {_lacking(lacking, by_basename, folder)}")
        used = set(found.values())
        unused = tuple(name for name in self.rows if name not in used)
        return Matched(tuple(self.rows[found[name]] for name in names), unused)


@dataclass(frozen=True)
class Matched:
    """Rows in the order of the files, and the rows that name no file."""

    rows: tuple[FileRow, ...]
    unused: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know of the table."""
        if not self.unused:
            return ()
        count = counted(len(self.unused), "row of the CSV names", "rows of the CSV name")
        return (f"{count} no file: {listed(self.unused, shown=1)}",)


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
    } | {name: name if name in header else None for name in (*SOURCE_COLUMNS, *PICTURE_COLUMNS)}
    _check_owners(path, header, chosen)
    rows: dict[str, FileRow] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for line in (reader := csv.DictReader(stream)):
            name = (line[file] or "").replace("\\", "/").removeprefix("./")
            if ".." in name.split("/"):
                raise DataError(f"{path}:{reader.line_num}: {name!r} leaves the folder; paths go down from it")
            if name in rows:
                raise DataError(f"{path}:{reader.line_num}: {name!r} occurs twice; one row per file")
            rows[name] = FileRow(**{key: (line[column] or "").strip() for key, column in chosen.items() if column})
    return FileTable(path, rows)


def match_rows(table: FileTable | None, names: Sequence[str], folder: Path) -> Matched:
    """`table.match`, and empty rows where there is no table."""
    return table.match(names, folder) if table else Matched((FileRow(),) * len(names))


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
    return ", ".join(f"{name} ({counted(count, 'file')})" for name, count in sorted(counts.items()))


def _basename(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _lacking(names: Sequence[str], rows: Mapping[str, str], folder: Path) -> str:
    """What to do about files without a row; `rows` by the bare name of a file."""
    like = rows.get(_basename(names[0]))
    doubt = f"; row {like!r} could be it or another of that name" if like else ""
    others = f" and {counted(len(names) - 1, 'other file')}" if len(names) > 1 else ""
    return f"has no row for {names[0]}{others}{doubt}; rows are paths below {folder}: add one, or take the file away"


def _check_owners(path: Path, header: Sequence[str], chosen: Mapping[str, str | None]) -> None:
    """DataError where the table seems to mean a patient or group column that it does not have, or has neither."""
    usual = {"patient": PATIENT_COLUMNS, "group": GROUP_COLUMNS}
    for kind in (kind for kind in usual if chosen[kind] is None):
        others = {name.strip().lower(): name for name in header if name not in chosen.values()}
        for wanted in usual[kind]:
            for near in difflib.get_close_matches(wanted, others, n=1, cutoff=0.8):
                raise DataError(
                    f"{path}:1: has a column {others[near]!r}; did you mean {wanted!r}? "
                    f"(else name the {kind} column with --{kind}-column)"
                )
    if not (chosen["patient"] or chosen["group"]):
        raise DataError(
            f"{path}:1: has neither a patient nor a group column, so no split could keep a patient together; its "
            f"columns are {', '.join(header)}. Name one with --patient-column, or add a column patient, "
            "empty where nobody knows"
        )


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
