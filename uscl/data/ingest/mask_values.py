"""One mask file -> class planes: by value, by colour, or cut at a threshold; nothing is guessed."""

# K classes, T frames, H x W pixels

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from uscl.data.ingest.label_volumes import is_volume, read_volume
from uscl.data.ingest.masks import ClassMap, colour_text, open_image
from uscl.errors import DataError
from uscl.spec.regions import all_within

JPEG_THRESHOLD = 128
"""JPEG leaves values between 0 and 255; thresholds of 100 to 150 are in use (data-formats.md 4)."""
_MAX_ASPECT_CHANGE = 0.02
"""A mask is scaled to its image where both have one shape; rounding moves that by less."""
_SHOWN = 5

Decision = Literal["", "absent", "skip"]
"""What it means that nothing is drawn: the classes are not there, or nobody looked. Empty: not decided."""


@dataclass(frozen=True)
class MaskRules:
    """What the user decided about masks that say too little by themselves."""

    threshold: int | None = None
    """A mask of one class is cut here: this grey level and above is the class. None: values are taken as they are."""
    colour_tolerance: int = 0
    """Levels by which a channel may miss a named colour, for anti-aliased edges; the nearest colour is taken."""
    resize: bool = False
    """A mask of another size than its image is scaled to it, nearest pixel."""
    empty: Decision = ""
    """Masks without a pixel of any class."""
    unlisted: Decision = ""
    """Images without a mask."""
    missing: Literal["", "absent", "skip-image"] = ""
    """A class without a file on an image that has files of others: it is not there, or the image is left out."""
    consensus: bool = False
    """Adds what more than half of an image's raters drew, as a rater of its own."""


NOTHING_DECIDED = MaskRules()
"""Masks must speak for themselves."""


@dataclass(frozen=True)
class MaskFile:
    """A file that shows classes of one image."""

    path: Path
    class_name: str = ""
    """Where it shows one class alone, and its values do not name it."""


@dataclass(frozen=True)
class ReadMask:
    """A mask file's content, frame by frame."""

    masks: np.ndarray
    """(K, T, H, W) bool, in the order of the map's classes; inner classes are not yet in the outer ones."""
    known: np.ndarray
    """(T, H, W) bool."""
    between: int = 0
    """Pixels that were neither 0 nor the largest value, cut by a threshold or given to the nearest colour."""
    resized: int = 0
    """Files among them that were scaled to their image."""


def read_mask(file: MaskFile, class_map: ClassMap, rules: MaskRules) -> ReadMask:
    """Read a mask file at its own size. DataError, naming it, where values or colours have no meaning."""
    threshold = rules.threshold
    if threshold is None and file.path.suffix.lower() in (".jpg", ".jpeg"):
        threshold = JPEG_THRESHOLD
    if threshold is not None:
        return _cut(file, _values(file.path, as_grey=True), class_map, threshold)
    if class_map.colours and not file.class_name:
        return _by_colour(file.path, class_map, rules.colour_tolerance)
    values = _values(file.path)
    return _of_one_class(file, values, class_map) if file.class_name else _by_value(file.path, values, class_map)


def combine(reads: Iterable[ReadMask], class_map: ClassMap) -> ReadMask:
    """Several mask files of one image as one: what any shows is there, what one does not know is unknown.

    Inner classes are put into the outer ones.
    """
    given = list(reads)
    masks = np.logical_or.reduce([read.masks for read in given])
    for place, outer in enumerate(class_map.classes):
        for inner in all_within(outer, class_map.contains):
            masks[place] |= masks[class_map.classes.index(inner)]
    known = np.logical_and.reduce([read.known for read in given])
    return ReadMask(masks, known, sum(read.between for read in given), sum(read.resized for read in given))


def fit(read: ReadMask, shape: tuple[int, ...], *, image: Path, mask: Path, resize: bool) -> ReadMask:
    """The mask at the size (T, H, W) of its image. DataError where sizes differ and no rule says what to do."""
    own = read.known.shape
    if own == shape:
        return read
    if own[0] != shape[0]:
        raise DataError(f"{image} has {shape[0]} frames, but its mask {mask} has {own[0]}")
    sizes = [f"{width} x {height} px" for height, width in (shape[1:], own[1:])]
    said = f"{image} is {sizes[0]} (width x height), but its mask {mask} is {sizes[1]}"
    scales = own[1] / shape[1], own[2] / shape[2]
    if abs(scales[0] / scales[1] - 1) > _MAX_ASPECT_CHANGE:
        raise DataError(f"{said}: another shape, so it cannot be scaled to it")
    if not resize:
        raise DataError(f"{said}; --mask-size resize-nearest scales masks to their images")
    masks = np.stack([_scaled(plane, shape[1:]) for plane in read.masks])
    return ReadMask(masks, _scaled(read.known, shape[1:]), read.between, resized=1)


def _scaled(planes_THW: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    height, width = size
    frames = [
        cv2.resize(plane.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        for plane in planes_THW
    ]
    return np.stack(frames).astype(bool)


def _values(path: Path, *, as_grey: bool = False) -> np.ndarray:
    """(T, H, W) int64 mask values. Palettes keep their indices; colour is taken where all channels agree.

    `as_grey`: colour becomes its luminance, as for a picture.
    """
    if is_volume(path):
        return _volume_values(path)
    image = open_image(path)
    if as_grey and image.mode not in ("1", "L", "I", "I;16", "F"):
        image = image.convert("RGB").convert("L")
    values = np.asarray(image)
    if values.dtype.kind == "f" and np.any(values != np.rint(values)):
        raise DataError(f"{path}: holds values with fractions; a mask names its classes by whole numbers")
    values = values.astype(np.int64)
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        if np.any(colours != colours[..., :1]):
            raise DataError(
                f"{path}: is a colour picture, so its values name no classes; save it as palette or grey, or name its "
                "colours in a class map (colours: {'#ff0000': nerve})"
            )
        values = colours[..., 0]
    return values[None]


def _volume_values(path: Path) -> np.ndarray:
    frames = read_volume(path).frames
    if frames.ndim != 3:
        raise DataError(f"{path}: is a colour volume; a mask volume holds one value a pixel")
    if frames.dtype.kind == "f" and np.any(frames != np.rint(frames)):
        raise DataError(f"{path}: holds values with fractions; a mask names its classes by whole numbers")
    return frames.astype(np.int64)


def _by_value(path: Path, values: np.ndarray, class_map: ClassMap) -> ReadMask:
    ignored = np.zeros(values.shape, bool) if class_map.ignore is None else values == class_map.ignore
    known_values = {0, *class_map.names} | ({class_map.ignore} if class_map.ignore is not None else set())
    counts = _counts(values)
    unnamed = {value: count for value, count in counts.items() if value not in known_values}
    if unnamed:
        listed = ", ".join(f"{value} ({count} px)" for value, count in list(unnamed.items())[:_SHOWN])
        more = ", ..." if len(unnamed) > _SHOWN else ""
        hint = "; edges between classes? --threshold 128 cuts the masks of one class" if len(unnamed) > _SHOWN else ""
        raise DataError(f"{path}: holds value {listed}{more}, which --classes does not name{hint}")
    planes = {name: np.zeros(values.shape, bool) for name in class_map.classes}
    for value, name in class_map.names.items():
        planes[name] |= values == value
    return ReadMask(np.stack(list(planes.values())), ~ignored)


def _of_one_class(file: MaskFile, values: np.ndarray, class_map: ClassMap) -> ReadMask:
    """A mask of one class: 0 and one other value."""
    counts = {value: count for value, count in _counts(values).items() if value and value != class_map.ignore}
    if len(counts) > 1:
        listed = ", ".join(f"{value} ({count} px)" for value, count in list(counts.items())[:_SHOWN])
        more = ", ..." if len(counts) > _SHOWN else ""
        raise DataError(
            f"{file.path}: shows {file.class_name} alone, but holds values {listed}{more}; --threshold 128 cuts it"
        )
    ignored = np.zeros(values.shape, bool) if class_map.ignore is None else values == class_map.ignore
    return ReadMask(_plane(file.class_name, (values != 0) & ~ignored, class_map), ~ignored)


def _cut(file: MaskFile, values: np.ndarray, class_map: ClassMap, threshold: int) -> ReadMask:
    named = tuple(dict.fromkeys([*class_map.names.values(), *class_map.colours.values()]))
    if not file.class_name and len(named) != 1:
        if file.path.suffix.lower() in (".jpg", ".jpeg"):
            raise DataError(f"{file.path}: JPEG does not keep the values of several classes; save masks as PNG")
        raise DataError(f"--threshold cuts masks of one class, and {len(named)} are named: {', '.join(named)}")
    largest = int(values.max(initial=0))
    if 0 < largest < threshold:
        raise DataError(f"{file.path}: no pixel reaches the threshold {threshold}; its largest value is {largest}")
    between = int(np.count_nonzero((values > 0) & (values < max(largest, threshold))))
    planes = _plane(file.class_name or named[0], values >= threshold, class_map)
    return ReadMask(planes, np.ones(values.shape, bool), between)


def _plane(name: str, mask: np.ndarray, class_map: ClassMap) -> np.ndarray:
    """(K, T, H, W): `mask` as that class, nothing of the others."""
    return np.stack([mask if name == other else np.zeros(mask.shape, bool) for other in class_map.classes])


def _by_colour(path: Path, class_map: ClassMap, tolerance: int) -> ReadMask:
    """By exact colour; with a tolerance the other pixels by the nearest one, black among them."""
    pixels = np.asarray(open_image(path).convert("RGB"))
    palette, place, counts = _distinct_colours(pixels)
    named = {(0, 0, 0): ""} | dict(class_map.colours)
    if class_map.ignore_colour is not None:
        named[class_map.ignore_colour] = "ignored"
    colours = list(named)
    distances = np.abs(palette[:, None].astype(int) - np.array(colours)[None]).max(axis=2)
    nearest, off = distances.argmin(axis=1), distances.min(axis=1)
    if np.any(off > tolerance):
        raise DataError(f"{path}: {_unnamed_colours(palette, counts, off, tolerance)}")
    chosen = nearest[place].reshape(pixels.shape[:2])
    planes = {name: np.zeros(chosen.shape, bool) for name in class_map.classes}
    for number, colour in enumerate(colours):
        if colour in class_map.colours:
            planes[class_map.colours[colour]] |= chosen == number
    ignore = class_map.ignore_colour
    ignored = np.zeros(chosen.shape, bool) if ignore is None else chosen == colours.index(ignore)
    return ReadMask(np.stack(list(planes.values()))[:, None], ~ignored[None], int(counts[off > 0].sum()))


def _distinct_colours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 3) colours that occur, the number of each pixel's colour, and how many pixels each has."""
    wide = pixels.astype(np.uint32)
    packed = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    found, place, counts = np.unique(packed, return_inverse=True, return_counts=True)
    palette = np.stack([found >> 16, (found >> 8) & 255, found & 255], axis=1).astype(np.uint8)
    return palette, place, counts


def _unnamed_colours(palette: np.ndarray, counts: np.ndarray, off: np.ndarray, tolerance: int) -> str:
    strange = np.flatnonzero(off > tolerance)
    first = strange[np.argsort(-counts[strange], kind="stable")][:_SHOWN]
    listed = ", ".join(f"{colour_text(palette[number])} ({counts[number]} px)" for number in first)
    more = ", ..." if len(strange) > _SHOWN else ""
    furthest = int(off.max())
    hint = f"; soft edges? --colour-tolerance {furthest} takes the nearest named colour"
    return f"holds colour {listed}{more}, which the class map does not name{hint}"


def _counts(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
