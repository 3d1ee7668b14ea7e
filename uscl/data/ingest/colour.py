"""Colour in an ultrasound frame: Doppler boxes, tinted B-mode, coloured graphics. Measured before greying."""

from __future__ import annotations

import cv2
import numpy as np

MIN_CHANNEL_SPREAD = 20
"""Largest less smallest channel above which a pixel is coloured (data-formats.md 11): compression stays below."""
MIN_COLOUR_FRACTION = 0.005
"""Share of coloured pixels from which a frame counts as colour; scanner graphics in B-mode stay well below."""


def colour_share(frame: np.ndarray) -> float:
    """Share in [0, 1] of the pixels of `frame` (H, W, 3) uint8 RGB whose channels differ by more than 20 levels."""
    red, green, blue = cv2.split(frame)
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    return float(np.count_nonzero(spread > MIN_CHANNEL_SPREAD)) / spread.size


def is_colour(frame: np.ndarray) -> bool:
    """Whether `frame` (H, W, 3) uint8 RGB shows more colour than B-mode does."""
    return colour_share(frame) > MIN_COLOUR_FRACTION


def colour_note(coloured: int, count: int) -> str:
    """What is noted of a clip with `coloured` colour frames of `count`."""
    return f"colour (Doppler?) in {coloured} of {count} frames"
