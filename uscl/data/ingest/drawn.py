"""Read one image or volume with the masks of its raters: frame by frame, what each drew, and what all agree on."""

# K classes, T frames, H x W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uscl.data.ingest.label_volumes import grey_frames, is_volume
from uscl.data.ingest.mask_layout import Picture
from uscl.data.ingest.mask_values import MaskRules, ReadMask, combine, fit, read_mask
from uscl.data.ingest.masks import ClassMap, read_grey
from uscl.data.raters import majority
from uscl.data.schema import CONSENSUS


@dataclass(frozen=True)
class Drawing:
    """What one rater drew on one frame."""

    rater: str
    """Empty where nobody is named."""
    masks: np.ndarray
    """(K, H, W) bool."""
    known: np.ndarray
    """(H, W) bool."""
    quality: str = ""
    """Of the picture, as this rater judged it; empty where only the table may say."""
    view: str = ""


@dataclass(frozen=True)
class DrawnFrame:
    """An image, or a frame of a volume, with what its raters drew; those whose empty masks are skipped are not here."""

    grey: np.ndarray
    """(H, W) uint8."""
    frame: int
    """From 0; -1 where the image stands alone."""
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True)
class DrawnPicture:
    """All frames of a picture on which somebody drew."""

    frames: tuple[DrawnFrame, ...]
    channels: int
    spacing_mm: tuple[float, float] | None
    empty: int
    """Masks without a pixel of any class, whatever is decided about them."""
    between: int
    """Pixels that a threshold or tolerance decided about."""
    resized: int
    """Mask files that were scaled to their image."""


def read_picture(picture: Picture, class_map: ClassMap, rules: MaskRules) -> DrawnPicture:
    """Read an image with its masks. DataError, naming the file, where one is unreadable or they do not fit."""
    grey, channels, spacing = read_grey_frames(picture.image)
    given = picture.masks or {"": ()}
    reads = {rater: _of_rater(picture, rater, grey.shape, class_map, rules) for rater in given}
    single = len(grey) == 1
    frames, empty = [], 0
    for number, image in enumerate(grey):
        drawings = [Drawing(rater, read.masks[:, number], read.known[number]) for rater, read in reads.items()]
        blank = sum(not drawing.masks.any() for drawing in drawings) if picture.masks else 0
        empty += blank
        if blank and rules.empty == "skip":
            drawings = [drawing for drawing in drawings if drawing.masks.any()]
        if rules.consensus and len(drawings) > 1:
            drawings.append(consensus(drawings))
        if drawings:
            frames.append(DrawnFrame(image, -1 if single else number, tuple(drawings)))
    between = sum(read.between for read in reads.values())
    resized = sum(read.resized for read in reads.values())
    return DrawnPicture(tuple(frames), channels, spacing, empty, between, resized)


def consensus(drawings: Sequence[Drawing]) -> Drawing:
    """What more than half of the raters drew, known where all of them looked; quality and view as the first judged."""
    masks = majority([drawing.masks for drawing in drawings])
    known = np.logical_and.reduce([drawing.known for drawing in drawings])
    return Drawing(CONSENSUS, masks, known, drawings[0].quality, drawings[0].view)


def read_grey_frames(path: Path) -> tuple[np.ndarray, int, tuple[float, float] | None]:
    """(T, H, W) uint8 of an image or volume, channels of the file, spacing of a pixel (row, column) in mm."""
    if is_volume(path):
        return grey_frames(path)
    grey, channels = read_grey(path)
    return grey[None], channels, None


def _of_rater(picture: Picture, rater: str, shape: tuple[int, ...], class_map: ClassMap, rules: MaskRules) -> ReadMask:
    """All mask files of a rater together; nothing anywhere where there is none, which the user said means absent."""
    files = picture.masks.get(rater, ())
    if not files:
        return ReadMask(np.zeros((len(class_map.classes), *shape), bool), np.ones(shape, bool))
    reads = [
        fit(read_mask(file, class_map, rules), shape, image=picture.image, mask=file.path, resize=rules.resize)
        for file in files
    ]
    return combine(reads, class_map)
