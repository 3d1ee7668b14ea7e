"""What an annotation file says of an image, whatever its format: regions with class, rater and origin."""

# H x W pixels of the image, P points of an outline

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np


@dataclass(frozen=True)
class Region:
    """One drawn region; an outline, or a mask within a box of the image."""

    name: str
    """As the file has it; a class map says which class that is."""
    outline: np.ndarray | None = None
    """(P, 2) x, y in pixels of the image, closed by itself."""
    mask: np.ndarray | None = None
    """(h, w) bool, where the file holds pixels."""
    left: int = 0
    top: int = 0
    """Where the mask's first pixel lies in the image."""
    origin: str = "human"
    """`human`, `interpolated`, `tracked` or `model`, as far as the file tells."""
    enclosed: bool = True
    """False for an open line or points, which have a place but no pixels."""


@dataclass(frozen=True)
class Annotation:
    """All that one rater drew on one image."""

    image: str
    """The image's path below the folder, as the annotation file names it, with forward slashes; empty where an entry
    names none that can be used: then `problems` says why."""
    regions: tuple[Region, ...] = ()
    rater: str = ""
    size: tuple[int, int] | None = None
    """Height and width that the file gives for the image, px; None where it gives none."""
    frame: int | None = None
    """Of a video or volume, counted from 0; None for an image."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Of the image: `View`, `Quality`, ...; never free text such as comments."""
    remarks: tuple[str, ...] = ()
    """What is odd about the entry, without its values: `region_count disagrees with the rows`."""
    problems: tuple[str, ...] = ()
    """What could not be read of it, with the place in the file. Where there is any, regions are missing, so the image
    must not count as completely annotated."""


def rasterise(regions: Iterable[Region], shape: tuple[int, int], *, even_odd: bool = True) -> np.ndarray:
    """(H, W) bool: the pixels of regions of one class.

    Outlines by `cv2.fillPoly` on int32 points (rounded down: a point belongs to the pixel it lies in), as the published
    kidneyUS masks are made (data-formats.md 6); over several outlines it is even-odd, so overlaps cancel, unless
    `even_odd` is False: then each is filled by itself. Open lines have no pixels.
    """
    canvas = np.zeros(shape, np.uint8)
    outlines = []
    for region in regions:
        if not region.enclosed:
            continue
        if region.outline is not None:
            outlines.append(np.floor(region.outline).astype(np.int32).reshape(-1, 1, 2))
        elif region.mask is not None:
            _paste(canvas, region.mask, top=region.top, left=region.left)
    for group in [outlines] if even_odd else [[outline] for outline in outlines]:
        filled = np.zeros(shape, np.uint8)
        if group:
            cv2.fillPoly(filled, group, 1)
        canvas |= filled
    return canvas.astype(bool)


def _paste(canvas: np.ndarray, mask: np.ndarray, *, top: int, left: int) -> None:
    """Set the mask's pixels that lie within the canvas."""
    height, width = canvas.shape
    rows, columns = slice(max(0, -top), height - top), slice(max(0, -left), width - left)
    part = mask[rows, columns]
    first_row, first_column = max(0, top), max(0, left)
    canvas[first_row : first_row + part.shape[0], first_column : first_column + part.shape[1]] |= part.astype(np.uint8)


def classes_named(annotations: Sequence[Annotation]) -> dict[str, int]:
    """Every region name that occurs, and how often, most frequent first."""
    counts: dict[str, int] = {}
    for annotation in annotations:
        for region in annotation.regions:
            counts[region.name] = counts.get(region.name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
