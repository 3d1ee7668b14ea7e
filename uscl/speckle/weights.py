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


def weighted_means(features_RN: Sequence[Tensor], weight_RKN: Tensor, known_RN: Tensor | None = None) -> list[Tensor]:
    """Mean of each feature over each soft region, (R, K) each; 0 for a region without weight.

    `weight` in [0, 1]; `known` in [0, 1] leaves pixels out (none where None). float32 (float64 where all is) whatever
    the autocast; differentiable in features and weight.
    """
    sums_RKF = weighted_sums(features_RN, weight_RKN, known_RN)
    return list((sums_RKF[..., 1:] / sums_RKF[..., :1].clamp_min(MIN_WEIGHT)).unbind(-1))


def weighted_sums(features_RN: Sequence[Tensor], weight_RKN: Tensor, known_RN: Tensor | None = None) -> Tensor:
    """The total weight of each soft region, then its weighted sum of each feature: (R, K, 1 + F)."""
    with torch.autocast(weight_RKN.device.type, enabled=False):
        features = [precise(feature) for feature in features_RN]
        known = torch.ones_like(features[0]) if known_RN is None else precise(known_RN)
        if known_RN is not None:
            features = [feature * known for feature in features]
        return precise(weight_RKN) @ torch.stack([known, *features], dim=1).mT


def has_speckle(b_mode_RN: Tensor, region_RKN: Tensor, *, min_pixels: int, known_RN: Tensor | None = None) -> Tensor:
    """Which regions can be fitted, (R, K) bool: at least `min_pixels` known pixels that are not all alike.

    Judged on the B-mode image in [0, 1] whatever the domain or model, so that all of them see the same regions. Asked
    of the annotation alone: if the prediction had a say, predicting nothing would escape the loss.
    """
    power = precise(b_mode_RN).square()
    area, power_sum, square_sum = weighted_sums([power, power.square()], region_RKN, known_RN).unbind(-1)
    some = area.clamp_min(MIN_WEIGHT)
    variance = square_sum / some - (power_sum / some).square()
    return (area >= min_pixels) & (variance > MIN_SPREAD)


def precise(values: Tensor) -> Tensor:
    """float32, or float64 where it is that already: squares of squares overflow half precision."""
    return values if values.dtype == torch.float64 else values.float()
