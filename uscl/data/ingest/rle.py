"""Run-length masks: those of COCO (column by column, as list or packed into a string) and of CVAT (row by row)."""

# H x W pixels of the mask

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uscl.data.ingest.annotation_text import MAX_MASK_PIXELS, BadEntry, count


def from_counts(counts: object, shape: tuple[int, int], *, by_columns: bool) -> np.ndarray:
    """(H, W) bool of run lengths, the first of zeros. BadEntry where they do not fill the shape exactly."""
    height, width = shape
    if not 0 < height * width <= MAX_MASK_PIXELS:
        raise BadEntry(f"mask is {width} x {height} px; expected 1 to {MAX_MASK_PIXELS} pixels")
    if not isinstance(counts, Sequence) or isinstance(counts, str):
        raise BadEntry("mask lacks its run lengths")
    runs = np.array([count(run, most=MAX_MASK_PIXELS) for run in counts], np.int64)
    if runs.sum() != height * width:
        raise BadEntry(f"mask's runs cover {runs.sum()} pixels, but it is {width} x {height} px")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.asarray(flat.reshape(width, height).T if by_columns else flat.reshape(height, width))


def unpack_counts(text: str) -> list[int]:
    """Run lengths of COCO's compressed string: 5 bits a character from `0` on, low ones first, bit 6 for more to come.

    The last character's bit 5 is the sign; from the fourth run on, each is the difference to the one before the last.
    As `rleFrString` of the COCO API's maskApi.c. BadEntry where the text is none.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise BadEntry("mask's run lengths are no COCO string")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise BadEntry("mask's run lengths end too early")
    return runs
