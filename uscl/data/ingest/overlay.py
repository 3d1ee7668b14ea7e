"""Text and marks in the pixels: strips blanked, what never moves found. Pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

STILL_LEVELS = 8
"""Grey levels that a drawn pixel varies by over a clip: what a codec leaves. The marks inside the region of the 120
frame cine of pydicom are 205 pixels with 8 and with 16; on `pocus`, tissue passes for drawn with 16 and not with 8."""
DRAWN_LEVEL = 30
"""Grey level from which a pixel counts as drawn."""
CONTRAST = 25
"""Levels by which a drawn pixel stands out from the median around it: near-field tissue and saturated echoes stand
still, too. The menu of a SonoSite, level 50 on black, has to pass."""
MIN_MOVING_FRAMES = 8
"""Fewer different frames do not tell what is drawn from what did not move."""
FROZEN_FRACTION = 0.5
"""Where more than this of all bright pixels stands still, nothing moved, and nothing is said of any pixel."""
LETTER_LEVELS = (60, 90, 140, 200)
"""Grey levels at which letters are looked for: from dim grey to white."""
MIN_LETTERS = 4
"""On one line. None is seen in the 244 images of `usgra` and the 44 clips of `pocus`, which show no text; 8 of
the 9 screens of pydicom's own files are seen; the ninth, of half size, stands out as it never moves."""
GROUND_FRACTION = 0.45
"""The ground of letters is darker than this share of their level: a grey bar is ground enough for white ones."""
CLEAR_FRACTION = 0.97
"""Share of a row between lines that is ground; tails of letters hang into it."""
_MAX_PIECES = 2000
"""More pieces than any screen has letters are speckle."""
MIN_MARK_PX = 4
"""Smaller specks are noise."""


@dataclass(frozen=True)
class Strip:
    """A part of the picture, from its top left corner, as shares of height and width in (0, 1]."""

    height: float
    width: float = 1.0


def blanked(frame: np.ndarray, strips: Iterable[Strip]) -> np.ndarray:
    """A copy of `frame` (H, W) or (H, W, 3) with the strips 0; `frame` itself where there is none."""
    parts = list(strips)
    if not parts:
        return frame
    frame = frame.copy()
    for strip in parts:
        rows, columns = math.ceil(strip.height * frame.shape[0]), math.ceil(strip.width * frame.shape[1])
        frame[:rows, :columns] = 0
    return frame


def static_marks(brightest: np.ndarray, darkest: np.ndarray, *, moving_frames: int) -> np.ndarray:
    """(H, W) bool: pixels drawn over the ultrasound, as they never change: text, ticks, the orientation dot, menus.

    From a clip's maximum and minimum over time, (H, W) uint8; `moving_frames` counts those that are no copy of the
    one before. Nothing where too few frames differ or nothing moved.
    """
    nothing = np.zeros(brightest.shape, bool)
    if moving_frames < MIN_MOVING_FRAMES:
        return nothing
    bright = darkest >= DRAWN_LEVEL
    still = bright & (brightest - darkest <= STILL_LEVELS)
    if still.sum() > FROZEN_FRACTION * max(1, np.count_nonzero(brightest >= DRAWN_LEVEL)):
        return nothing
    side = min(255, min(darkest.shape) // 6 | 1)
    around = cv2.medianBlur(darkest, max(3, side))
    still &= cv2.subtract(darkest, around) >= CONTRAST
    count, labels, stats, _ = cv2.connectedComponentsWithStats(still.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= MIN_MARK_PX
    large[0] = False
    return np.asarray(large[labels], bool) if count > 1 else nothing


def has_text(image: np.ndarray) -> bool:
    """Whether `find_letters` finds any."""
    return bool(find_letters(image).any())


def find_letters(image: np.ndarray) -> np.ndarray:
    """(H, W) bool: lines of letters on a dark ground in an image (H, W) uint8, or in a clip's minimum over time.

    Four or more bright pieces of a letter's size side by side at one height. Letters over tissue are not seen.
    """
    around = cv2.erode(image, np.ones((9, 9), np.uint8))
    found = np.zeros(image.shape, bool)
    for level in LETTER_LEVELS:
        found |= _lines(image, around, level)
    return found


def _lines(image: np.ndarray, around: np.ndarray, level: int) -> np.ndarray:
    """(H, W) bool: the letters among the pieces of `image` that are at least `level` bright."""
    pieces = cv2.connectedComponentsWithStats((image >= level).astype(np.uint8), connectivity=8)
    stats, centres = pieces[2:]
    tall, wide, area = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_AREA]
    letter = (tall >= 5) & (tall <= max(12, image.shape[0] // 16)) & (wide <= 2 * tall) & (area >= 6)
    letter &= area <= 0.8 * tall * wide
    letter[0] = False
    if not MIN_LETTERS <= letter.sum() <= _MAX_PIECES:
        return np.zeros(image.shape, bool)
    ground = max(DRAWN_LEVEL, GROUND_FRACTION * level)
    chosen = np.array([number for number in np.flatnonzero(letter) if _on_dark(around, stats[number], ground)], int)
    if not len(chosen):
        return np.zeros(image.shape, bool)
    size = np.maximum(tall[chosen][:, None], tall[chosen])
    apart = np.abs(centres[chosen][:, None] - centres[chosen])
    alike = np.abs(tall[chosen][:, None] - tall[chosen]) <= 0.35 * size
    in_line = alike & (apart[..., 1] < 0.3 * size) & (apart[..., 0] < 8 * size)
    found = np.zeros(image.shape, bool)
    for number, mates in zip(chosen, in_line, strict=True):
        if mates.sum() >= MIN_LETTERS:
            rows, columns = _box(stats[[number]])[0], _box(stats[chosen[mates]])[1]
            if _stands_alone(image, rows, columns, ground):  # with strokes that are no letters: I, 1, -
                found[rows, columns] = image[rows, columns] >= DRAWN_LEVEL
    return found


def _box(stats: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold all the pieces."""
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    return slice(int(top.min()), int(bottom.max())), slice(int(left.min()), int(right.max()))


def _stands_alone(image: np.ndarray, rows: slice, columns: slice, ground: float) -> bool:
    """Whether a dark row runs above and below a line of pieces, close to it: between speckles none does."""
    top, bottom = rows.start, rows.stop
    near = max(2, (bottom - top) // 3)
    dark = (image[max(0, top - near) : bottom + near, columns] < ground).mean(axis=1) >= CLEAR_FRACTION
    above, below = dark[: top - max(0, top - near)], dark[bottom - max(0, top - near) :]
    return bool((above.any() or top == 0) and (below.any() or bottom == len(image)))


def _on_dark(around: np.ndarray, box: np.ndarray, ground: float) -> bool:
    """Whether all round a piece, within a few pixels, the image falls below `ground`."""
    left, top, width, height = (int(value) for value in box[:4])
    part = around[max(0, top - 2) : top + height + 2, max(0, left - 2) : left + width + 2]
    return bool(np.percentile(part, 90) < ground)
