"""`manifest.csv`: a table that says of any data set which files are clips, images and masks, and whose they are."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from uscl.data.ingest.annotation_text import BadEntry, count, image_path, number, read_text
from uscl.data.ingest.problems import BadFile
from uscl.data.ingest.table import FileRow
from uscl.errors import DataError

COLUMNS = ("clip", "image", "frame", "label", "rater", "fps")
"""Beside those of a `FileRow`: patient, group, split, licence, attribution, source_url, quality, view."""
_OWNER_COLUMNS = tuple(field.name for field in fields(FileRow))
_OF_A_DRAWING = ("quality", "view")
_ANNOTATION_SUFFIXES = frozenset((".csv", ".json", ".xml"))
_MAX_FPS = 10_000
_MAX_FRAME = 10_000_000
_WORDS = {"file_path": "clip", "mask": "label", "fold": "split", "frame_rate": "fps", "license": "licence"}
"""What others call a column."""


@dataclass(frozen=True)
class ManifestRow:
    """One row: a clip, a labelled image, or a labelled frame of a clip."""

    line: int
    file: str
    """The clip or image, as a path below the manifest's folder."""
    is_clip: bool
    frame: int | None
    """Of a clip, from 0; None: the label is the whole file's."""
    label: str
    """The mask, as such a path; empty: none."""
    rater: str
    quality: str
    view: str


@dataclass(frozen=True)
class Manifest:
    """All rows whose files are there."""

    path: Path
    rows: tuple[ManifestRow, ...]
    owners: Mapping[str, FileRow]
    """Patient, group, split and source of each file."""
    frame_rate_hz: float | None
    """Of clips that do not say."""
    bad: tuple[BadFile, ...]
    """Rows that name files which are not there."""


def read_manifest(path: Path) -> Manifest:
    """Read and check the table. DataError, with file and line, where a row does not say what it must."""
    rows: list[ManifestRow] = []
    bad: list[BadFile] = []
    owners: dict[str, tuple[int, FileRow]] = {}
    rates: dict[float, int] = {}
    for line, cells in _lines(path):
        where = f"{path}:{line}"
        row = _row(line, cells, where)
        lacking = next((name for name in (row.file, row.label) if name and not _is_there(path.parent, name)), None)
        if lacking is not None:
            bad.append(BadFile(lacking, f"no such file below the manifest's folder (line {line})"))
            continue
        _own(owners, row, FileRow(**{name: cells.get(name, "") for name in _OWNER_COLUMNS}), where)
        if cells.get("fps"):
            rates.setdefault(_fps(cells["fps"], where), line)
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: no row is left; {bad[0]}" if bad else f"{path}:1: holds no row")
    _check_labelled_once(path, rows)
    _check_one_rate(path, rates)
    of_file = {file: row for file, (_, row) in owners.items()}
    return Manifest(path, tuple(rows), of_file, next(iter(rates), None), tuple(bad))


def _check_labelled_once(path: Path, rows: Sequence[ManifestRow]) -> None:
    seen: dict[tuple[str, int | None, str], int] = {}
    for row in (row for row in rows if row.label):
        first = seen.setdefault((row.file, row.frame, row.rater), row.line)
        if first != row.line:
            raise DataError(
                f"{path}:{row.line}: {row.file} is labelled in line {first} already; a column rater says who"
            )


def _check_one_rate(path: Path, rates: Mapping[float, int]) -> None:
    if len(rates) > 1:
        (first, _), (other, line) = list(rates.items())[:2]
        raise DataError(
            f"{path}:{line}: fps {other:g} after {first:g}; one manifest has one: import two and join them with "
            "`uscl data merge`, or leave fps empty where the files say it themselves"
        )


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and columns of every row that is not blank. DataError where the header is not a manifest's."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        header = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_header(path, header)
        reader.fieldnames = header
        for cells in reader:
            if None in cells:
                raise DataError(f"{path}:{reader.line_num}: has more fields than the header")
            if None in cells.values():
                raise DataError(f"{path}:{reader.line_num}: has fewer fields than the header")
            row = {name: text.strip() for name, text in cells.items()}
            if any(row.values()):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: cannot be read as CSV: {error}") from None


def _check_header(path: Path, header: Sequence[str]) -> None:
    known = (*COLUMNS, *_OWNER_COLUMNS)
    for name in header:
        if name not in known:
            near = _WORDS.get(name) or next(iter(difflib.get_close_matches(name, known, n=1)), "")
            hint = f"; did you mean {near!r}?" if near else ""
            raise DataError(f"{path}:1: has a column {name[:40]!r}{hint} (known: {', '.join(known)})")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice:
        raise DataError(f"{path}:1: has two columns {twice!r}")
    if not {"clip", "image"} & set(header):
        raise DataError(f"{path}:1: has neither a column clip nor a column image")
    if not {"patient", "group"} & set(header):
        raise DataError(
            f"{path}:1: has neither a patient nor a group column, so no split could keep a patient together; "
            "add a column patient, empty where nobody knows"
        )


def _row(line: int, cells: Mapping[str, str], where: str) -> ManifestRow:
    clip, image, frame = (cells.get(name, "") for name in ("clip", "image", "frame"))
    label = cells.get("label", "")
    if bool(clip) == bool(image):
        raise DataError(f"{where}: names {'both a clip and an image' if clip else 'neither a clip nor an image'}")
    if image and not label:
        raise DataError(f"{where}: an image without label; give its mask, or leave the row out")
    if frame and not (clip and label):
        raise DataError(f"{where}: has a frame; a frame needs its clip and a label")
    if Path(label).suffix.lower() in _ANNOTATION_SUFFIXES:
        hint = "draw it as a mask first, or take `uscl data import outlines`"
        raise DataError(f"{where}: label is an annotation file; {hint}")
    try:
        file = image_path(clip or image)
        mask = image_path(label) if label else ""
        shown = count(frame, most=_MAX_FRAME) if frame else None
    except BadEntry as error:
        raise DataError(f"{where}: {error}") from None
    return ManifestRow(
        line, file, bool(clip), shown, mask, *(cells.get(name, "") for name in ("rater", *_OF_A_DRAWING))
    )


def _own(owners: dict[str, tuple[int, FileRow]], row: ManifestRow, given: FileRow, where: str) -> None:
    """Take what a row says of its file. DataError where an earlier row of that file says something else."""
    line, first = owners.setdefault(row.file, (row.line, given))
    for name in _OWNER_COLUMNS:
        one, other = getattr(first, name), getattr(given, name)
        if one != other and name not in _OF_A_DRAWING:
            raise DataError(f"{where}: {row.file} has another {name} than in line {line}")


def _fps(text: str, where: str) -> float:
    try:
        rate = number(text, most=_MAX_FPS)
    except BadEntry:
        rate = 0.0
    if rate <= 0:
        raise DataError(f"{where}: fps is no number above 0 and up to {_MAX_FPS}")
    return rate


def _is_there(folder: Path, name: str) -> bool:
    """Also where it is a link: only to what lies below the folder."""
    try:
        found = (folder / name).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return False
    return found.is_relative_to(folder.resolve())
