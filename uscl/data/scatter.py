"""Points of a plane drawn by class: a small picture with a title, in the colours of the overlays.

Drawn by OpenCV like those: importing matplotlib alone takes three times as long as scoring 32 cases of the demo.
"""
# M points

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH_PX, HEIGHT_PX = 500, 450
MARGIN_PX = 26
HEADING_PX = 24
LEGEND_ROW_PX = 18
INSET = 0.05
"""Free part of the plot's side on each side of the outermost points."""
PAPER, INK, FRAME = (18, 18, 18), (235, 235, 235), (90, 90, 90)
RADIUS_PX = 3
SUBPIXEL_BITS = 4
"""OpenCV's fixed point coordinates: points lie on sixteenths of a pixel."""


def draw_scatter(
    point_M2: NDArray[np.float64],
    label_M: NDArray[np.int64],
    *,
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    title: str,
    axes: tuple[str, str],
) -> NDArray[np.uint8]:
    """An RGB picture (450, 500, 3) of points (right, up), each in the colour of its class.

    The legend below the title names the classes that have points, in rows as needed; each axis has its own scale.
    """
    picture = np.full((HEIGHT_PX, WIDTH_PX, 3), PAPER, np.uint8)
    _write(picture, title, (8, 17), INK)
    shown = np.unique(label_M).tolist()
    top = HEADING_PX + _legend(picture, [names[label] for label in shown], [colours[label] for label in shown])
    bottom, left, right = HEIGHT_PX - MARGIN_PX, MARGIN_PX, WIDTH_PX - 8
    cv2.rectangle(picture, (left, top), (right, bottom), FRAME, 1)
    _write(picture, axes[0], (left, HEIGHT_PX - 8), INK)
    picture[top:bottom, :left] = _upward(axes[1], bottom - top, left)
    places = _placed(point_M2, (left, right), (bottom, top))
    for place, label in zip(places, label_M, strict=True):
        cv2.circle(picture, place, RADIUS_PX << SUBPIXEL_BITS, colours[label], -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return picture


def _placed(point_M2: NDArray[np.float64], across: tuple[int, int], upwards: tuple[int, int]) -> list[tuple[int, int]]:
    """Points in fixed-point pixels, column and row."""
    if not len(point_M2):
        return []
    low, high = point_M2.min(axis=0), point_M2.max(axis=0)
    share = INSET + (1 - 2 * INSET) * (point_M2 - low) / np.maximum(high - low, 1e-12)
    starts, ends = (np.array(edge, np.float64) for edge in zip(across, upwards, strict=True))
    fixed = np.round((starts + share * (ends - starts)) * (1 << SUBPIXEL_BITS)).astype(int)
    return [(int(column), int(row)) for column, row in fixed]


def _legend(picture: NDArray[np.uint8], names: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> int:
    """Write the names in their colours, in rows; the height they take."""
    left, row = 8, 0
    for name, colour in zip(names, colours, strict=True):
        width = _width(name) + 22
        if left > 8 and left + width > WIDTH_PX:
            left, row = 8, row + 1
        base = HEADING_PX + row * LEGEND_ROW_PX + 12
        cv2.circle(picture, (left + 4, base - 4), 4, colour, -1, cv2.LINE_AA)
        _write(picture, name, (left + 12, base), colour)
        left += width
    return (row + 1) * LEGEND_ROW_PX + 2


def _upward(text: str, height: int, width: int) -> NDArray[np.uint8]:
    """A strip (height, width, 3) with the text written from bottom to top."""
    strip = np.full((width, height, 3), PAPER, np.uint8)
    _write(strip, text, (0, 17), INK)
    return np.rot90(strip)


def _write(picture: NDArray[np.uint8], text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0])
