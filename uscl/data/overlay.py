"""Masks drawn over frames: contours by class, and rows of a predicted beside a true outline."""

# K classes, H x W pixels

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS: tuple[tuple[int, int, int], ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (213, 94, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (0, 114, 178),
    (255, 255, 255),
)
"""RGB by class, distinguishable with colour-vision deficiency (Okabe and Ito 2008)."""
MIN_SIDE_PX = 256
"""Small frames are enlarged to this before lines are drawn."""


def draw_contours(
    image_HW: NDArray[np.uint8], masks_KHW: NDArray[np.bool_], *, min_side_px: int = MIN_SIDE_PX
) -> NDArray[np.uint8]:
    """The frame as RGB (h, w, 3), enlarged by a whole factor, with each class outlined in its colour."""
    factor = max(1, -(-min_side_px // min(image_HW.shape)))
    size = (image_HW.shape[1] * factor, image_HW.shape[0] * factor)
    large = cv2.resize(image_HW, size, interpolation=cv2.INTER_LINEAR)
    picture = np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)
    for mask, colour in zip(masks_KHW, COLOURS, strict=False):
        enlarged = np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST))
        outline(picture, enlarged, colour, thickness=max(1, factor // 3))
    return picture


def outline(
    picture: NDArray[np.uint8], mask_HW: NDArray[np.generic], colour: tuple[int, int, int], *, thickness: int = 1
) -> None:
    """Draw the outline of a mask (bool or 0/1, the picture's size) into an RGB picture."""
    contours, _ = cv2.findContours(mask_HW.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, thickness)


def compare_masks(
    image_HW: NDArray[np.uint8],
    truth_KHW: NDArray[np.bool_],
    prediction_KHW: NDArray[np.bool_],
    *,
    classes: Sequence[str],
    title: str,
) -> NDArray[np.uint8]:
    """Frame, truth and prediction side by side as RGB, with a line of title and the classes in their colours."""
    panels = [
        draw_contours(image_HW, truth_KHW[:0]),
        draw_contours(image_HW, truth_KHW),
        draw_contours(image_HW, prediction_KHW),
    ]
    picture = np.concatenate(panels, axis=1)
    return np.concatenate([_heading(picture.shape[1], title, classes), picture])


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """An RGB picture (h, w, 3) as PNG bytes."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    return bytes(encoded.tobytes())


def _heading(width: int, title: str, classes: Sequence[str]) -> NDArray[np.uint8]:
    heading = np.zeros((44, width, 3), np.uint8)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    cv2.putText(heading, f"{title} | frame, truth, prediction", (6, 16), font, scale, (235, 235, 235), 1, cv2.LINE_AA)
    left = 6
    for name, colour in zip(classes, COLOURS, strict=False):
        cv2.putText(heading, name, (left, 36), font, scale, colour, 1, cv2.LINE_AA)
        left += cv2.getTextSize(name, font, scale, 1)[0][0] + 14
    return heading
