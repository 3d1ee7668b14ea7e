"""Where speckle is compared: in whole masks, in a band along their boundary, or patch by patch."""

# B frames, C planes, K classes, H x W pixels, G patches of a frame, N pixels of a patch

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def boundary_band(mask_BKHW: Tensor, *, width_px: int) -> Tensor:
    """1 within `width_px` pixels (in rows or columns) of a mask's boundary, on either side of it, else 0; same shape.

    `mask` in {0, 1}, floating point. The image's own border is no boundary. An absent class has no band.
    """
    return _widened(mask_BKHW, width_px) + _widened(-mask_BKHW, width_px)


def _widened(mask_BKHW: Tensor, width_px: int) -> Tensor:
    """The largest value within a square of `width_px` around each pixel: one pass along rows, one along columns."""
    side = 2 * width_px + 1
    along_rows = functional.max_pool2d(mask_BKHW, (1, side), stride=1, padding=(0, width_px))
    return functional.max_pool2d(along_rows, (side, 1), stride=1, padding=(width_px, 0))


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
