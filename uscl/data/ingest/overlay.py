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
SATURATED = 247
"""From here on tissue, too, stands still; it counts as drawn only where its surroundings are much darker."""
CONTRAST = 40
MIN_MOVING_FRAMES = 8
"""Fewer different frames do not tell what is drawn from what did not move."""
FROZEN_FRACTION = 0.5
"""Where more than this of all bright pixels stands still, nothing moved, and nothing is said of any pixel."""
LETTER_LEVELS = (60, 90, 140, 200)
"""Grey levels at which letters are looked for: from dim grey to white."""
MIN_LETTERS = 4
"""On one line. None is seen in the 244 images of `usgra` and the 44 clips of `pocus`, which show no text; all 9
screens of pydicom's own files are seen."""
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
    saturated = still & (darkest >= SATURATED)
    if saturated.any():
        side = min(255, max(9, min(darkest.shape) // 12 | 1))
        around = cv2.medianBlur(darkest, side)
        still &= ~(saturated & (around > darkest - np.uint8(CONTRAST)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(still.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= MIN_MARK_PX
    large[0] = False
    return np.asarray(large[labels], bool) if count > 1 else nothing


def has_text(image: np.ndarray) -> bool:
    """Whether an image (H, W) uint8, or a clip's minimum over time, shows a line of letters on a dark ground.

    Four or more bright pieces of a letter's size side by side at one height. Letters over tissue are not seen.
    """
    return any(_shows_line(image, level) for level in LETTER_LEVELS)


def _shows_line(image: np.ndarray, level: int) -> bool:
    pieces = cv2.connectedComponentsWithStats((image >= level).astype(np.uint8), connectivity=8)
    stats, centres = pieces[2], pieces[3]
    tall, wide, area = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_AREA]
    letter = (tall >= 5) & (tall <= max(12, image.shape[0] // 16)) & (wide <= 2 * tall) & (area >= 6)
    letter &= area <= 0.8 * tall * wide
    around = cv2.erode(image, np.ones((9, 9), np.uint8))
    chosen = [number for number in np.flatnonzero(letter) if number and _on_dark(around, stats[number])]
    lines = [(centres[number][1], float(tall[number]), centres[number][0]) for number in chosen]
    return any(sum(_in_line(one, other) for other in lines) >= MIN_LETTERS for one in lines)


def _on_dark(around: np.ndarray, box: np.ndarray) -> bool:
    """Whether all round a piece, within a few pixels, the image falls to black."""
    left, top, width, height = (int(value) for value in box[:4])
    part = around[max(0, top - 2) : top + height + 2, max(0, left - 2) : left + width + 2]
    return bool(np.percentile(part, 90) < DRAWN_LEVEL)


def _in_line(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether two pieces (row, height, column) are letters of one line, a few letters apart at most."""
    size = max(one[1], other[1])
    return (
        abs(one[0] - other[0]) < 0.3 * size
        and abs(one[1] - other[1]) <= 0.35 * size
        and abs(one[2] - other[2]) < 8 * size
    )
