"""Where speckle is compared: in whole masks, in a band along their boundary, or patch by patch."""

# B frames, C planes, K classes, H x W pixels, G patches of a frame, N pixels of a patch

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def boundary_band(mask_BKHW: Tensor, *, width_px: int) -> Tensor:
    """1 within `width_px` pixels (in rows or columns) of a mask's boundary, on either side of it, else 0; same shape.

    `mask` in {0, 1}, floating point. The image's own border is no boundary. An absent class has no band.
    """
    inside_BKHW = _box_sums(mask_BKHW, width_px)
    all_HW = _box_sums(torch.ones_like(mask_BKHW[:1, :1]), width_px)
    return ((inside_BKHW > 0) & (inside_BKHW < all_HW)).to(mask_BKHW.dtype)


def _box_sums(planes_BKHW: Tensor, width_px: int) -> Tensor:
    """Sums over the square of `width_px` around each pixel, as far as it is in the image, by running sums."""
    for dimension in (-1, -2):
        size = planes_BKHW.shape[dimension]
        reach = min(width_px, size)
        padding = (reach + 1, reach, 0, 0) if dimension == -1 else (0, 0, reach + 1, reach)
        running = functional.pad(planes_BKHW, padding).cumsum(dimension)
        upper = running.narrow(dimension, 2 * reach + 1, size)
        planes_BKHW = upper - running.narrow(dimension, 0, size)
    return planes_BKHW


def patches(planes_BCHW: Tensor, *, size_px: int | None) -> Tensor:
    """Planes as rows of pixels, (B * G, C, N): one row per frame, or one per square patch of `size_px`.

    Patches tile the frame from its top left corner; those that reach over its edge are filled up with zeros.
    """
    if size_px is None:
        return planes_BCHW.flatten(2)
    count, planes, height, width = planes_BCHW.shape
    missing = (-width % size_px, -height % size_px)
    if any(missing):
        planes_BCHW = functional.pad(planes_BCHW, (0, missing[0], 0, missing[1]))
    down, across = -(-height // size_px), -(-width // size_px)
    tiled = planes_BCHW.reshape(count, planes, down, size_px, across, size_px).permute(0, 2, 4, 1, 3, 5)
    return tiled.reshape(count * down * across, planes, size_px * size_px)
