"""What the readers of annotation files share: text of any encoding, JSON, paths of images, points."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.ingest.annotation import Annotation, Region
from uscl.errors import DataError

MAX_FILE_BYTES = 1 << 30
"""A LabelMe file with its picture inside holds some 200 MB; ten times more is no annotation file."""
MAX_COORDINATE_PX = 100_000
"""Farther out no pixel lies; larger numbers would overflow the rasteriser."""
MAX_POINTS = 100_000
MAX_MASK_PIXELS = 1 << 26
"""Of one region's mask, 67 million: 67 MB while it is read."""
KEPT_ATTRIBUTES = ("view", "quality")
"""Attributes of an image that are kept, whatever their case."""


class BadEntry(ValueError):
    """Part of an annotation file is not what it must be: what, without its values. The reader adds where."""


def read_text(path: Path) -> str:
    """The file's text: UTF-8 with or without BOM, or UTF-16 with one. DataError where it cannot be read as text."""
    content = read_bytes(path)
    encoding, said = ("utf-16", "UTF-16") if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: is not {said} text; save the file as UTF-8") from None


def read_bytes(path: Path) -> bytes:
    """The file's content. DataError where it cannot be read, or `check_size` refuses it."""
    check_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def check_size(path: Path) -> None:
    """DataError where there is no file at `path`, or one too large to be an annotation file."""
    try:
        size, is_file = path.stat().st_size, path.is_file()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'no such file'}") from None
    if not is_file or size > MAX_FILE_BYTES:
        what = f"is {size >> 20} MiB large" if is_file else "is no file"
        raise DataError(f"{path}: {what}; expected an annotation file of at most {MAX_FILE_BYTES >> 20} MiB")


def parse_json(text: str) -> Any:
    """The document. BadEntry, with line and column, where it is no JSON or is nested too deeply."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadEntry(f"is broken JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except RecursionError:
        raise BadEntry("is JSON nested too deeply") from None
    except ValueError:
        raise BadEntry("is JSON with a number too long to read") from None


def read_json(path: Path) -> Any:
    """The file's JSON document. DataError, with the line, where it is none."""
    try:
        return parse_json(read_text(path))
    except BadEntry as error:
        raise DataError(f"{path}: {error}") from None


def image_path(name: object) -> str:
    """An image's path below the folder of images, with forward slashes; BadEntry where it would leave the folder."""
    if not isinstance(name, str) or not name.strip():
        raise BadEntry("names no image")
    if not name.strip().isprintable():
        raise BadEntry("holds characters that no file name should")
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part != "."]
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]+:", name.strip()):
        raise BadEntry("leaves the folder of images (it is absolute, an address or holds ..); make it relative")
    if not (joined := "/".join(filter(None, parts))):
        raise BadEntry("names no image")
    return joined


def number(value: object, *, most: float = MAX_COORDINATE_PX) -> float:
    """A finite number within reach of an image; numbers written as text are taken. BadEntry where it is none."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        raise BadEntry("holds something that is no number") from None
    if not math.isfinite(found) or abs(found) > most:
        raise BadEntry(f"holds a number that lies in no image (beyond {most} px)")
    return found


def count(value: object, *, most: int = MAX_COORDINATE_PX) -> int:
    """A whole number from 0 to `most`. BadEntry where it is none."""
    found = number(value, most=math.inf)
    if found != int(found) or not 0 <= found <= most:
        raise BadEntry(f"holds something that is no whole number from 0 to {most}")
    return int(found)


def points(xs: object, ys: object) -> np.ndarray:
    """(P, 2) float64 x, y of two lists of one length. BadEntry where they are none."""
    if not isinstance(xs, Sequence) or not isinstance(ys, Sequence) or isinstance(xs, str) or isinstance(ys, str):
        raise BadEntry("lacks its lists of x and y")
    if len(xs) != len(ys):
        raise BadEntry(f"has {len(xs)} x but {len(ys)} y")
    if not 0 < len(xs) <= MAX_POINTS:
        raise BadEntry(f"has {len(xs)} points; expected 1 to {MAX_POINTS}")
    return np.array([(number(x), number(y)) for x, y in zip(xs, ys, strict=True)], np.float64)


def box(left: object, top: object, right: object, bottom: object) -> np.ndarray:
    """(4, 2) corners of a box, as outline."""
    x0, y0, x1, y1 = map(number, (left, top, right, bottom))
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)


def ellipse(cx: object, cy: object, rx: object, ry: object, *, angle: float = 0.0) -> np.ndarray:
    """(P, 2) outline of an ellipse turned by `angle` radians clockwise; about a point per pixel of its edge."""
    x, y, half_width, half_height = map(number, (cx, cy, rx, ry))
    if half_width < 0 or half_height < 0:
        raise BadEntry("has a negative radius")
    steps = int(np.clip(2 * np.pi * max(half_width, half_height), 16, 720))
    turn = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    across, down = half_width * np.cos(turn), half_height * np.sin(turn)
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.stack([x + across * cosine - down * sine, y + across * sine + down * cosine], axis=1)


def kept_attributes(attributes: Mapping[str, object]) -> dict[str, str]:
    """Those of an image that the allow-list names, if short; all others may be free text about a person."""
    words = {key: value.strip() for key, value in attributes.items() if isinstance(value, str)}
    return {key: word for key, word in words.items() if key.lower() in KEPT_ATTRIBUTES and 0 < len(word) <= 40}


def lost(problem: str) -> Annotation:
    """What stands for an entry that cannot be tied to an image."""
    return Annotation("", problems=(problem,))


def cropped(name: str, mask: np.ndarray, *, left: int = 0, top: int = 0, origin: str = "human") -> Region:
    """A region of the part of a mask (h, w) that holds pixels: hundreds of full-size masks would fill the memory."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Region(name, mask=np.zeros((1, 1), bool), left=left, top=top, origin=origin)
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return Region(name, mask=part, left=left + int(columns[0]), top=top + int(rows[0]), origin=origin)
