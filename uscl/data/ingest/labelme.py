"""LabelMe JSON: one file per image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import binascii
import io
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uscl.data.ingest.annotation import Annotation, Region
from uscl.data.ingest.annotation_text import (
    MAX_MASK_PIXELS,
    BadEntry,
    box,
    count,
    cropped,
    ellipse,
    image_path,
    points,
    read_json,
)
from uscl.errors import DataError

_LINES = ("line", "linestrip", "point", "points")
_PNG = b"\x89PNG\r\n\x1a\n"


def read_labelme(path: Path) -> list[Annotation]:
    """As `labelme_annotations`, of a file."""
    return labelme_annotations(path, read_json(path))


def labelme_annotations(path: Path, document: Any) -> list[Annotation]:
    """The one image of the file. A picture inside it (`imageData`) is dropped at once and never looked at.

    Points are floats with pixel 0 from 0 to 1: a point belongs to the pixel it lies in (rounded down). `group_id` and
    `flags` change nothing: shapes of one label are one class. A shape that cannot be read becomes a problem.
    DataError where the file is no LabelMe JSON.
    """
    if isinstance(document, dict):
        document.pop("imageData", None)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise DataError(f"{path}: is no LabelMe JSON; expected an object with a list shapes and an imagePath")
    problems: list[str] = []
    name, size = "", None
    try:
        name = image_path(document.get("imagePath"))
        size = _size(document)
    except BadEntry as error:
        problems.append(f"{path}: {'imageHeight or imageWidth' if name else 'imagePath'} {error}")
    regions = []
    for position, shape in enumerate(document["shapes"]):
        try:
            regions.append(_region(shape))
        except BadEntry as error:
            problems.append(f"{path}: shapes[{position}]: {error}")
    return [Annotation(name, tuple(regions), size=size, problems=tuple(problems))]


def _size(document: Mapping[str, Any]) -> tuple[int, int] | None:
    if document.get("imageHeight") is None or document.get("imageWidth") is None:
        return None
    return count(document["imageHeight"]), count(document["imageWidth"])


def _region(shape: object) -> Region:
    if not isinstance(shape, dict) or not isinstance(label := shape.get("label"), str) or not label.strip():
        raise BadEntry("has no label")
    kind = shape.get("shape_type") or "polygon"
    drawn = _points(shape.get("points"))
    if kind == "mask":
        return _mask(label.strip(), drawn, shape.get("mask"))
    return Region(label.strip(), outline=_outline(kind, drawn), enclosed=kind not in _LINES)


def _outline(kind: object, drawn: np.ndarray) -> np.ndarray:
    if kind in ("polygon", *_LINES) or (kind in ("rectangle", "oriented_rectangle") and len(drawn) == 4):
        return drawn
    if kind not in ("rectangle", "circle"):
        raise BadEntry("is of a shape_type that is not read: expected polygon, rectangle, circle or mask")
    if len(drawn) != 2:
        raise BadEntry(f"is a {kind} of {len(drawn)} points; expected 2")
    (x0, y0), (x1, y1) = drawn.tolist()
    radius = math.dist((x0, y0), (x1, y1))
    return box(x0, y0, x1, y1) if kind == "rectangle" else ellipse(x0, y0, radius, radius)


def _points(pairs: object) -> np.ndarray:
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise BadEntry("lacks its list of points")
    return points([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _mask(label: str, corners: np.ndarray, encoded: object) -> Region:
    """A mask within its box, whose corners are the first and the last pixel."""
    if len(corners) != 2 or not isinstance(encoded, str):
        raise BadEntry("is a mask without its box or its pixels")
    left, top = np.floor(corners.min(axis=0)).astype(int).tolist()
    width, height = (np.floor(corners.max(axis=0)).astype(int) - (left, top) + 1).tolist()
    if width * height > MAX_MASK_PIXELS:
        raise BadEntry(f"is a mask of more than {MAX_MASK_PIXELS} pixels")
    try:
        content = base64.b64decode(encoded, validate=True)
        if content[:8] != _PNG or struct.unpack(">II", content[16:24]) != (width, height):
            raise BadEntry(f"is a mask whose picture is no PNG of its box, {width} x {height} px")
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
    except BadEntry:
        raise
    except (binascii.Error, struct.error, OSError, SyntaxError, ValueError) as error:
        raise BadEntry("is a mask whose picture cannot be read") from error
    return cropped(label, (pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0, left=left, top=top)
