"""Annotation files of any format, recognised by their content."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uscl.data.ingest.annotation import Annotation
from uscl.data.ingest.annotation_text import check_size, lost, read_json
from uscl.data.ingest.coco import coco_annotations, read_coco
from uscl.data.ingest.cvat import read_cvat
from uscl.data.ingest.found import find_files
from uscl.data.ingest.labelme import labelme_annotations, read_labelme
from uscl.data.ingest.via import COLUMNS, read_via_csv, read_via_json, via_annotations
from uscl.errors import DataError

FORMATS = ("via-csv", "via-json", "coco", "labelme", "cvat")
_SUFFIXES = frozenset((".csv", ".json", ".xml"))
_HEAD_BYTES = 4096


def read_annotations(
    path: Path, *, format: str = "auto", class_key: str | None = None, rater: str = ""
) -> list[Annotation]:
    """All annotations of a file in the order of the file, as drawn by `rater`.

    `format` is one of `FORMATS`, or found in the content; `class_key` is for VIA files whose regions have several
    attributes. What cannot be read of an image is in its `problems`. DataError, with file and line or key, where
    the file is of no such format.
    """
    found = _read(path, format, class_key)
    return [dataclasses.replace(annotation, rater=rater) for annotation in found] if rater else found


def read_annotation_files(
    paths: Sequence[Path], *, format: str = "auto", class_key: str | None = None, rater: str = ""
) -> list[Annotation]:
    """All annotations of several files, and of every annotation file below a folder (LabelMe writes one per image).

    Image paths in a file of a folder are relative to that file. A file of a folder that cannot be read becomes a
    problem without image; DataError where a file given by name cannot be read, or a folder holds none.
    """
    found: list[Annotation] = []
    for path in paths:
        if not path.is_dir():
            found += read_annotations(path, format=format, class_key=class_key, rater=rater)
            continue
        files = [file for file in find_files(path).files if file.suffix.lower() in _SUFFIXES]
        if not files:
            raise DataError(f"{path}: holds no annotation file (.csv, .json or .xml)")
        for file in files:
            place = file.parent.relative_to(path)
            try:
                annotations = read_annotations(file, format=format, class_key=class_key, rater=rater)
            except DataError as error:
                annotations = [lost(str(error))]
            found += [_within(place, annotation) for annotation in annotations]
    return found


def _within(place: Path, annotation: Annotation) -> Annotation:
    path = (place / annotation.image).as_posix() if annotation.image else ""
    return dataclasses.replace(annotation, image=path)


def _read(path: Path, format: str, class_key: str | None) -> list[Annotation]:
    if format not in ("auto", *FORMATS):
        raise DataError(f"unknown format {format!r} of annotations; expected auto, {', '.join(FORMATS)}")
    known = _by_head(path) if format == "auto" else format
    if known == "via-csv":
        return read_via_csv(path, class_key=class_key)
    if known == "cvat":
        return read_cvat(path)
    if known == "json":
        return _read_json(path, class_key)
    if known == "via-json":
        return read_via_json(path, class_key=class_key)
    return read_coco(path) if known == "coco" else read_labelme(path)


def _by_head(path: Path) -> str:
    """`json`, `cvat` or `via-csv`, by the first bytes. DataError where they are none of these."""
    check_size(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace").lstrip()
    if text[:1] in ("{", "["):
        return "json"
    if text[:1] == "<":
        return "cvat"
    if COLUMNS[0] in text.partition("\n")[0]:
        return "via-csv"
    raise DataError(f"{path}: is no annotation file that is read; expected VIA (CSV, JSON), COCO, LabelMe or CVAT 1.1")


def _read_json(path: Path, class_key: str | None) -> list[Annotation]:
    """By the keys of the document."""
    document: Any = read_json(path)
    keys = set(document) if isinstance(document, dict) else set()
    if "shapes" in keys and keys & {"imagePath", "imageData", "version"}:
        return labelme_annotations(path, document)
    if {"images", "annotations"} <= keys:
        return coco_annotations(path, document)
    entries = list(document.values()) if isinstance(document, dict) else []
    if "_via_img_metadata" in keys or any(isinstance(entry, dict) and "filename" in entry for entry in entries):
        return via_annotations(path, document, class_key=class_key)
    if {"project", "metadata", "file"} <= keys:
        raise DataError(f"{path}: is a project of VIA 3, which is not read; export it as COCO or from VIA 2")
    raise DataError(f"{path}: is JSON, but none that is read; expected VIA 1 or 2, COCO (with images) or LabelMe")
