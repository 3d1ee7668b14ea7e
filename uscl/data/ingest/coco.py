"""COCO JSON: images, categories and annotations with polygons or run-length masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uscl.data.ingest.annotation import Annotation, Region
from uscl.data.ingest.annotation_text import BadEntry, count, cropped, image_path, lost, points, read_json
from uscl.data.ingest.rle import from_counts, unpack_counts
from uscl.data.wording import counted
from uscl.errors import DataError


@dataclass
class _Image:
    """One image while its annotations are read."""

    name: str
    size: tuple[int, int] | None
    regions: list[Region] = field(default_factory=list)
    remarks: dict[str, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_coco(path: Path) -> list[Annotation]:
    """As `coco_annotations`, of a file."""
    return coco_annotations(path, read_json(path))


def coco_annotations(path: Path, document: Any) -> list[Annotation]:
    """Every image that the file lists, in its order, those without annotations too.

    Ids may be numbers or text: `1` and `"1"` are one. Each part of a segmentation is a region of its own; a crowd
    counts as one region. An annotation that cannot be read becomes a problem of its image; those of images that the
    file does not list, of an annotation without image. DataError where the file is no COCO JSON.
    """
    tables = [document.get(key) if isinstance(document, dict) else None for key in ("images", "annotations")]
    if not all(isinstance(table, list) for table in tables):
        raise DataError(f"{path}: is no COCO JSON; expected an object with lists images, annotations and categories")
    images, without = _images(path, tables[0] or [])
    classes = _categories(path, document.get("categories"))
    strays = 0
    for position, entry in enumerate(tables[1] or []):
        image = images.get(_identity(entry.get("image_id"))) if isinstance(entry, dict) else None
        if image is None:
            strays += 1
            continue
        _take(image, entry, classes, f"{path}: annotations[{position}]")
    if strays:
        without.append(lost(f"{path}: {counted(strays, 'annotation')} of images that the file does not list"))
    return _joined(images) + without


def _images(path: Path, entries: list[Any]) -> tuple[dict[str, _Image], list[Annotation]]:
    """Images by id, and what stands for those that cannot be used. DataError where an id occurs twice."""
    images: dict[str, _Image] = {}
    without: list[Annotation] = []
    for position, entry in enumerate(entries):
        where = f"{path}: images[{position}]"
        try:
            if not isinstance(entry, dict) or not (identity := _identity(entry.get("id"))):
                raise BadEntry("has no id")
            image = _Image(image_path(entry.get("file_name")), _size(entry))
        except BadEntry as error:
            without.append(lost(f"{where}: {error}"))
            continue
        if identity in images:
            raise DataError(f"{where}: its id occurs twice; which image do the annotations mean?")
        images[identity] = image
    return images, without


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width, where the file gives both and they are not 0."""
    if entry.get("height") is None or entry.get("width") is None:
        return None
    height, width = count(entry["height"]), count(entry["width"])
    return (height, width) if height and width else None


def _categories(path: Path, entries: object) -> dict[str, str]:
    """Names by id. DataError where there are none, or two names have one id."""
    names: dict[str, str] = {}
    for position, entry in enumerate(entries if isinstance(entries, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else None
        identity = _identity(entry.get("id")) if isinstance(entry, dict) else ""
        if not isinstance(name, str) or not name.strip() or not identity or identity in names:
            raise DataError(f"{path}: categories[{position}]: expected an id of its own and a name")
        names[identity] = name.strip()
    return names


def _take(image: _Image, entry: Mapping[str, Any], classes: Mapping[str, str], where: str) -> None:
    """Add an annotation to its image."""
    try:
        name = classes.get(_identity(entry.get("category_id")))
        if name is None:
            raise BadEntry("is of a category that the file does not list")
        image.regions += _regions(name, entry.get("segmentation"), image.size)
        if entry.get("iscrowd") in (1, True, "1"):
            image.remarks["a crowd (iscrowd) counts as one region"] = None
    except BadEntry as error:
        image.problems.append(f"{where}: {error}")


def _regions(name: str, segmentation: object, size: tuple[int, int] | None) -> list[Region]:
    if isinstance(segmentation, list) and segmentation:
        parts = segmentation if all(isinstance(part, list) for part in segmentation) else [segmentation]
        return [Region(name, outline=points(part[::2], part[1::2])) for part in parts]
    if isinstance(segmentation, dict):
        shape = segmentation.get("size")
        if not isinstance(shape, list) or len(shape) != 2:
            raise BadEntry("mask lacks its size")
        height, width = count(shape[0]), count(shape[1])
        if size not in (None, (height, width)):
            raise BadEntry(f"mask is {width} x {height} px, but its image {size[1]} x {size[0]} px")
        runs = segmentation.get("counts")
        runs = unpack_counts(runs) if isinstance(runs, str) else runs
        return [cropped(name, from_counts(runs, (height, width), by_columns=True))]
    raise BadEntry("has no outline or mask (a box alone says not which pixels)")


def _joined(images: Mapping[str, _Image]) -> list[Annotation]:
    """One annotation per file name: two entries of one image are joined, with a remark."""
    by_name: dict[str, _Image] = {}
    for image in images.values():
        first = by_name.setdefault(image.name, image)
        if first is not image:
            first.regions += image.regions
            first.problems += image.problems
            first.remarks |= image.remarks | {"two entries name this image: their regions are joined": None}
    return [
        Annotation(name, tuple(image.regions), size=image.size, remarks=(*image.remarks,), problems=(*image.problems,))
        for name, image in by_name.items()
    ]


def _identity(value: object) -> str:
    """An id as text, so that 1 and "1" are one; empty where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
