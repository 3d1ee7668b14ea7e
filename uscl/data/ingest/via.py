"""VGG Image Annotator: CSV of version 1 and 2, JSON of version 1 (regions a dict) and 2 (a list).

Quirks as counted in the kidneyUS files (data-formats.md 7.1).
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uscl.data.ingest.annotation import Annotation, Region
from uscl.data.ingest.annotation_text import (
    BadEntry,
    count,
    image_path,
    kept_attributes,
    lost,
    parse_json,
    read_json,
    read_text,
)
from uscl.data.ingest.via_shapes import via_region
from uscl.data.wording import counted, listed
from uscl.errors import DataError

COLUMNS = ("filename", "file_attributes", "region_shape_attributes", "region_attributes")
"""Those that a VIA CSV must have; version 1 begins its header with #."""
_REGION_KEYS = ("shape_attributes", "region_attributes")
_FIELD_CHARS = 1 << 26
"""csv stops at 131,072 characters, which an outline of some ten thousand points exceeds."""


@dataclass
class _Entry:
    """One image while its rows are read."""

    file_attributes: Mapping[str, Any] | None = None
    shapes: list[tuple[str, Any, Any]] = field(default_factory=list)
    """Place in the file, shape attributes, region attributes."""
    ids: list[str] = field(default_factory=list)
    num_claimed: int | None = None
    remarks: dict[str, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_via_csv(path: Path, *, class_key: str | None = None) -> list[Annotation]:
    """Every image of a VIA CSV, in order of first mention; an empty `{}` row is an image seen with nothing drawn.

    `class_key` is the region attribute that names the class; the only one there is where not given. Rows of one file
    that disagree in their attributes: the first counts, and a remark says so. A broken row becomes a problem of its
    image, named by line; so does a row that names none, of an annotation without image. DataError where the file is
    no VIA CSV.
    """
    entries: dict[str, _Entry] = {}
    without: list[Annotation] = []
    for line, row in _rows(path):
        try:
            entry = entries.setdefault(image_path(row["filename"]), _Entry())
        except BadEntry as error:
            without.append(lost(f"{path}:{line}: filename {error}"))
            continue
        _take_row(entry, row, f"{path}:{line}")
    for entry in entries.values():
        _check_counts(entry)
    return _annotations(path, entries, class_key) + without


def read_via_json(path: Path, *, class_key: str | None = None) -> list[Annotation]:
    """As `via_annotations`, of a file."""
    return via_annotations(path, read_json(path), class_key=class_key)


def via_annotations(path: Path, document: Any, *, class_key: str | None = None) -> list[Annotation]:
    """Every image of a VIA JSON: a project, or the annotations alone. As `read_via_csv`."""
    images = document.get("_via_img_metadata", document) if isinstance(document, dict) else None
    if not isinstance(images, dict) or not all(isinstance(image, dict) for image in images.values()):
        raise DataError(f"{path}: is no VIA JSON; expected an object with one entry per image")
    entries: dict[str, _Entry] = {}
    without: list[Annotation] = []
    for position, image in enumerate(images.values(), 1):
        where = f"{path}: entry {position}"
        try:
            name = image_path(image.get("filename"))
        except BadEntry as error:
            without.append(lost(f"{where}: filename {error}"))
            continue
        if name in entries:
            entries[name].remarks["two entries name this image: their regions are joined"] = None
        _take_image(entries.setdefault(name, _Entry()), image, where)
    return _annotations(path, entries, class_key) + without


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and columns of each row that is not blank. DataError where the header is not VIA's."""
    lines = list(io.StringIO(read_text(path), newline=""))
    before = csv.field_size_limit(_FIELD_CHARS)
    try:
        reader = csv.reader(lines)
        header = [name.strip().removeprefix("#").strip() for name in next(reader, [])]
        lacking = [name for name in COLUMNS if name not in header]
        if lacking:
            separator = "; save it with commas" if any(";" in name for name in header) else ""
            raise DataError(f"{path}:1: is no VIA CSV: has no column {lacking[0]}{separator}")
        end = reader.line_num
        for fields in reader:
            line, end = end + 1, reader.line_num
            if any(text.strip() for text in fields):
                yield line, _named(header, fields, lines[line - 1 : end], f"{path}:{line}")
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: cannot be read as CSV: {error}") from None
    finally:
        csv.field_size_limit(before)


def _named(header: list[str], fields: list[str], lines: list[str], where: str) -> dict[str, str]:
    """The row by column. A row of bare JSON with commas in it is split again with its braces in mind.

    Of a row that is broken all the same, only the file name. DataError where it runs over lines: then a quote was
    never closed, and the images of the rows it swallowed would go unnoticed.
    """
    if len(fields) != len(header) and len(lines) == 1:
        fields = _split_bare(lines[0].rstrip("\r\n")) or fields
    row = dict(zip(header, fields, strict=False))
    whole = len(fields) == len(header)
    if len(lines) > 1 and not (whole and all(_object(row[column]) is not None for column in COLUMNS[1:])):
        raise DataError(f"{where}: a quote is never closed: the row runs over {len(lines)} lines")
    return row if whole else {"filename": row.get("filename", "")}


def _split_bare(line: str) -> list[str] | None:
    """Fields of a row whose JSON may stand without quotes; None where it cannot be split so either."""
    fields, start = [], 0
    decoder = json.JSONDecoder()
    while start <= len(line):
        if line[start : start + 1] == "{":
            try:
                end = decoder.raw_decode(line, start)[1]
            except (ValueError, RecursionError):
                return None
            fields.append(line[start:end])
        elif line[start : start + 1] == '"':
            end = start + 1
            while (end := line.find('"', end)) >= 0 and line[end + 1 : end + 2] == '"':
                end += 2
            if end < 0:
                return None
            end += 1
            fields.append(line[start + 1 : end - 1].replace('""', '"'))
        else:
            end = line.find(",", start)
            end = len(line) if end < 0 else end
            fields.append(line[start:end])
        if end < len(line) and line[end] != ",":
            return None
        start = end + 1
    return fields


def _take_row(entry: _Entry, row: Mapping[str, str], where: str) -> None:
    """Add a row to its image; what of it is broken becomes a problem or, beside the regions, a remark."""
    if "region_attributes" not in row:
        entry.problems.append(f"{where}: has not as many fields as the header; is its JSON broken or unquoted?")
        return
    attributes = _object(row["file_attributes"])
    if attributes is None:
        entry.remarks["file_attributes of a row are broken JSON: not read"] = None
    elif entry.file_attributes is None:
        entry.file_attributes = attributes
    elif attributes != entry.file_attributes:
        entry.remarks["rows disagree in file_attributes: the first counts"] = None
    if row.get("region_count", "").strip():
        _take_count(entry, row["region_count"])
    shape, region = (_object(row[column]) for column in ("region_shape_attributes", "region_attributes"))
    if shape is None or region is None:
        column = "region_shape_attributes" if shape is None else "region_attributes"
        entry.problems.append(f"{where}: {column} is broken JSON")
    elif shape or region:
        entry.shapes.append((where, shape, region))
        entry.ids.append(row.get("region_id", "").strip())


def _take_count(entry: _Entry, text: str) -> None:
    try:
        claimed = count(text)
    except BadEntry:
        entry.remarks["region_count is no number"] = None
        return
    if entry.num_claimed not in (None, claimed):
        entry.remarks["rows disagree in region_count"] = None
    entry.num_claimed = claimed if entry.num_claimed is None else entry.num_claimed


def _check_counts(entry: _Entry) -> None:
    """Remarks where the numbering does not fit the rows; deleting a region in VIA's page leaves such traces."""
    found = len(entry.shapes) + len(entry.problems)
    if entry.num_claimed is not None and entry.num_claimed != found:
        entry.remarks["region_count disagrees with the rows"] = None
    if any(entry.ids) and entry.ids != [str(number) for number in range(len(entry.ids))]:
        entry.remarks["region_ids are not 0, 1, 2, ..."] = None


def _take_image(entry: _Entry, image: Mapping[str, Any], where: str) -> None:
    """Add an entry of a JSON to its image."""
    attributes = image.get("file_attributes", {})
    entry.file_attributes = entry.file_attributes or (attributes if isinstance(attributes, dict) else {})
    regions = image.get("regions", [])
    listed_regions = list(regions.values()) if isinstance(regions, dict) else regions
    if not isinstance(listed_regions, list):
        entry.problems.append(f"{where}: regions are neither a list nor an object")
        return
    for number, region in enumerate(listed_regions):
        shape, attributes = (region.get(key, {}) if isinstance(region, dict) else None for key in _REGION_KEYS)
        place = f"{where}: regions[{number}]"
        if isinstance(shape, dict) and isinstance(attributes, dict):
            entry.shapes.append((place, shape, attributes))
        else:
            entry.problems.append(f"{place}: is no region")


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object of a cell, an empty one of an empty cell; None where it is broken."""
    try:
        found = parse_json(text) if text.strip() else {}
    except BadEntry:
        return None
    return found if isinstance(found, dict) else None


def _annotations(path: Path, entries: Mapping[str, _Entry], class_key: str | None) -> list[Annotation]:
    key = class_key or _only_key(path, entries)
    return [_annotation(image, entry, key) for image, entry in entries.items()]


def _only_key(path: Path, entries: Mapping[str, _Entry]) -> str:
    """The region attribute that names the class, where there is one. DataError where several could."""
    keys = Counter(key for entry in entries.values() for _, _, region in entry.shapes for key in region)
    if len(keys) > 1:
        names = listed([f"{key[:40]!r} ({counted(number, 'region')})" for key, number in keys.most_common()], shown=6)
        raise DataError(f"{path}: which attribute of a region names its class? It has {names}; say so with --class-key")
    return next(iter(keys), "")


def _annotation(image: str, entry: _Entry, key: str) -> Annotation:
    regions: list[Region] = []
    problems = list(entry.problems)
    for where, shape, attributes in entry.shapes:
        try:
            regions += via_region(shape, attributes, key)
        except BadEntry as error:
            problems.append(f"{where}: {error}")
    kept = kept_attributes(entry.file_attributes or {})
    return Annotation(image, tuple(regions), attributes=kept, remarks=tuple(entry.remarks), problems=tuple(problems))
