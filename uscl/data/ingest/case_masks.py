"""Regions of one image -> class masks, and what is wrong with their geometry. Pure functions."""

# K classes, H x W pixels of the image, P points of an outline

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from uscl.data.ingest.annotation import Annotation, Region, rasterise
from uscl.data.ingest.class_names import ClassNames
from uscl.data.wording import counted
from uscl.errors import DataError
from uscl.spec.regions import all_within

MAX_CHECKED_POINTS = 10_000
"""Sides are compared pair by pair: so many take some seconds."""
_BLOCK = 1 << 20
"""Pairs of segments compared at once: bounds the memory of an outline of many points."""


def to_case(
    annotations: Sequence[Annotation], class_names: ClassNames, shape: tuple[int, int], *, even_odd: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (K, H, W) bool in the order of the classes, and known (H, W) bool, of what one rater drew on one image.

    Outlines of one class are even-odd together, or each is filled by itself where `even_odd` is False; an outer class
    holds the pixels of its inner ones too. DataError where a region's name is in no list, or a class is drawn as an
    open line, which has no pixels.
    """
    regions = [region for annotation in annotations for region in annotation.regions]
    known = {*class_names.names, *class_names.ignore, *class_names.unknown}
    for region in regions:
        if region.name not in known:
            raise DataError(f"a region is called {region.name!r}, which --classes does not map")
        if not region.enclosed and region.name not in class_names.ignore:
            raise DataError(f"{region.name!r} is drawn as line or points, which enclose nothing: close or ignore it")
    masks = {name: np.zeros(shape, bool) for name in class_names.classes}
    for name in masks:
        drawn = [region for region in regions if class_names.names.get(region.name) == name]
        masks[name] = rasterise(drawn, shape, even_odd=even_odd)
    for outer in class_names.contains:
        for inner in all_within(outer, class_names.contains):
            masks[outer] = masks[outer] | masks[inner]
    nobody = rasterise([region for region in regions if region.name in class_names.unknown], shape, even_odd=False)
    return np.stack(list(masks.values())), ~nobody


def outline_faults(region: Region, shape: tuple[int, int]) -> tuple[str, ...]:
    """What is wrong with a region on an image (H, W): `crosses itself: ...`, `lies partly outside the image`, ...

    Empty where nothing is. An outline's crossings are pairs of its sides, not neighbours, that meet.
    """
    if not region.enclosed:
        return ()
    if region.outline is None:
        return _mask_faults(region, shape)
    outline = _without_repeats(np.asarray(region.outline, np.float64))
    if len(outline) < 3:
        return ("has fewer than 3 points", *_outside(outline, shape))
    if not cv2.contourArea(cv2.convexHull(outline.astype(np.float32))):
        return ("has no area", *_outside(outline, shape))
    if len(outline) > MAX_CHECKED_POINTS:
        return (f"has {len(outline)} points, too many to look for crossings", *_outside(outline, shape))
    crossings = count_crossings(outline)
    pairs = f"{counted(crossings, 'pair of its sides meets', 'pairs of its sides meet')}"
    return *((f"crosses itself: {pairs}",) if crossings else ()), *_outside(outline, shape)


def count_crossings(outline: np.ndarray) -> int:
    """Pairs of sides of a closed outline (P, 2) that meet though they are not neighbours."""
    start = _without_repeats(np.asarray(outline, np.float64))
    size = len(start)
    end = np.roll(start, -1, axis=0)
    total, rows = 0, max(1, _BLOCK // max(1, size))
    for first in range(0, size, rows):
        i = np.arange(first, min(size, first + rows))[:, None]
        j = np.arange(size)[None, :]
        apart = (j > i + 1) & ~((i == 0) & (j == size - 1))
        total += int((apart & _meet(start[i], end[i], start[j], end[j])).sum())
    return total


def _meet(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Whether sides a-b and c-d have a point in common; arrays of points that broadcast."""
    sides = [np.sign(_turn(*points)) for points in ((a, b, c), (a, b, d), (c, d, a), (c, d, b))]
    boxes = np.all(np.minimum(a, b) <= np.maximum(c, d), -1) & np.all(np.minimum(c, d) <= np.maximum(a, b), -1)
    return np.asarray((sides[0] * sides[1] <= 0) & (sides[2] * sides[3] <= 0) & boxes)


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Above 0 where the way a, b, c turns one way, below where the other, 0 where it is straight."""
    one, other = b - a, c - a
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])


def _without_repeats(outline: np.ndarray) -> np.ndarray:
    """Without points that equal the one before; the last closes on the first."""
    return outline[np.any(outline != np.roll(outline, 1, axis=0), axis=1)] if len(outline) > 1 else outline


def _outside(outline: np.ndarray, shape: tuple[int, int]) -> tuple[str, ...]:
    """A point on the image's border is within it: tools put the last pixel's far edge at the width or height."""
    height, width = shape
    inside = (outline >= 0).all(axis=1) & (outline[:, 0] <= width) & (outline[:, 1] <= height)
    if inside.all():
        return ()
    high, low = outline.max(axis=0), outline.min(axis=0)
    apart = high[0] < 0 or high[1] < 0 or low[0] > width or low[1] > height
    return ("lies outside the image" if apart else "lies partly outside the image",)


def _mask_faults(region: Region, shape: tuple[int, int]) -> tuple[str, ...]:
    if region.mask is None or not region.mask.any():
        return ("has no area",)
    total, within = int(region.mask.sum()), int(rasterise([region], shape).sum())
    if within == total:
        return ()
    return ("lies partly outside the image" if within else "lies outside the image",)
