"""Weighted means over soft regions, and which regions hold enough speckle to be fitted.

Every model of speckle sees one layout: R rows of N pixels (a frame, or a patch of one), and K weights per pixel, one
per class. Means are matrix products, so no plane of pixels is made per row, class and moment.
"""

# R rows, K classes, F features, N pixels

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MIN_WEIGHT = 1e-6
"""Least total weight of a region: an empty prediction gives finite values and gradients, not NaN."""
MIN_SPREAD = 1e-6
"""Least variance of the squared B-mode amplitude of a region that counts: below it is a constant patch."""


def weighted_means(features_RN: Sequence[Tensor], weight_RKN: Tensor) -> tuple[Tensor, ...]:
    """Mean of each feature over each soft region, (R, K) each; 0 for a region without weight.

    `weight` in [0, 1]. float32 (float64 where all is) whatever the autocast; differentiable in both.
    """
    with torch.autocast(weight_RKN.device.type, enabled=False):
        weight = precise(weight_RKN)
        features_RNF = torch.stack([precise(feature) for feature in features_RN], dim=-1)
        total_RK1 = weight.sum(-1, keepdim=True).clamp_min(MIN_WEIGHT)
        return ((weight @ features_RNF) / total_RK1).unbind(-1)


def has_speckle(b_mode_RN: Tensor, region_RKN: Tensor, *, min_pixels: int) -> Tensor:
    """Which regions can be fitted, (R, K) bool: at least `min_pixels` pixels that are not all alike.

    Judged on the B-mode image in [0, 1] whatever the domain or model, so that all of them see the same regions. Asked
    of the annotation alone: if the prediction had a say, predicting nothing would escape the loss.
    """
    power = precise(b_mode_RN).square()
    mean, square = weighted_means([power, power.square()], region_RKN)
    return (precise(region_RKN).sum(-1) >= min_pixels) & (square - mean.square() > MIN_SPREAD)


def precise(values: Tensor) -> Tensor:
    """float32, or float64 where it is that already: squares of squares overflow half precision."""
    return values if values.dtype == torch.float64 else values.float()
