"""Nakagami parameters of soft regions: the shape m and the scale Omega of the amplitude, differentiable.

The squared amplitude of a Nakagami variable is Gamma distributed with shape m and mean Omega. m = 1 is fully
developed speckle, m < 1 few strong scatterers, m > 1 a coherent part. m does not change with gain; Omega grows
with its square.
"""

# B frames, H x W pixels

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MIN_WEIGHT = 1e-6
"""Least total weight of a region: an empty prediction gives finite values and gradients, not NaN."""
MIN_VARIANCE = 1e-6
"""Least variance of the squared amplitude; clamped before dividing, since masking an inf keeps its NaN gradient."""
MAX_M = 20.0
"""Largest m: log-compressed images reach 8 to 40 (science.md 6.2), and m explodes in flat regions."""
MIN_AMPLITUDE = 1.0 / 255.0
"""Least amplitude under the logarithm: one grey level of an 8-bit image scaled to [0, 1]."""
MIN_LOG_EXCESS = 1e-2
"""Least ln E[a] - E[ln a]; about 1 / (2 m), so this is m = 50, above MAX_M."""


class NakagamiParameters(NamedTuple):
    """Shape m in (0, 20] and scale Omega > 0 (units of the squared amplitude), each of shape (B,)."""

    m: Tensor
    omega: Tensor


def nakagami_moments(intensity_BHW: Tensor, weight_BHW: Tensor) -> NakagamiParameters:
    """Moment estimates of the Nakagami shape m and scale Omega over a soft region.

    `intensity` is raw amplitude in [0, 1] before any intensity augmentation; `weight` in [0, 1] is the region.
    Omega = E[x^2], m = Omega^2 / Var[x^2], with weighted means. Returns m and Omega of shape (B,). Whether a region
    counts is the caller's choice, made on the ground truth (`has_speckle`); an empty or constant region gives
    finite numbers of no meaning. float32 whatever the autocast. Kolar et al. 2004; Singla et al. 2022, eq. 3-4.
    """
    with torch.autocast(intensity_BHW.device.type, enabled=False):
        power = intensity_BHW.float().square()
        weight = weight_BHW.float()
        omega = _weighted_mean(power, weight)
        variance = _weighted_mean((power - omega[:, None, None]).square(), weight).clamp_min(MIN_VARIANCE)
        return NakagamiParameters((omega.square() / variance).clamp(max=MAX_M), omega)


def nakagami_log_moments(intensity_BHW: Tensor, weight_BHW: Tensor) -> NakagamiParameters:
    """Log-moment estimates of m and Omega over a soft region; arguments and guards as `nakagami_moments`.

    s = ln E[x^2] - E[ln x^2], m = (3 - s + sqrt((s - 3)^2 + 24 s)) / (12 s): the closed form for the Gamma shape
    (Minka 2002). About half the standard deviation of the moment estimate at small m (science.md 6.1).
    Amplitudes below one grey level count as one grey level.
    """
    with torch.autocast(intensity_BHW.device.type, enabled=False):
        power = intensity_BHW.float().clamp_min(MIN_AMPLITUDE).square()
        weight = weight_BHW.float()
        omega = _weighted_mean(power, weight)
        mean_log = _weighted_mean(power.log(), weight)
        excess = (omega.clamp_min(MIN_AMPLITUDE**2).log() - mean_log).clamp_min(MIN_LOG_EXCESS)
        m = (3 - excess + ((excess - 3).square() + 24 * excess).sqrt()) / (12 * excess)
        return NakagamiParameters(m.clamp(max=MAX_M), omega)


def has_speckle(intensity_BHW: Tensor, region_BHW: Tensor, *, min_pixels: int) -> Tensor:
    """Which regions hold enough speckle to fit, (B,) bool: at least `min_pixels` pixels that are not all alike."""
    with torch.autocast(intensity_BHW.device.type, enabled=False):
        power, region = intensity_BHW.float().square(), region_BHW.float()
        mean = _weighted_mean(power, region)
        variance = _weighted_mean((power - mean[:, None, None]).square(), region)
        return (region.sum((1, 2)) >= min_pixels) & (variance > MIN_VARIANCE)


def _weighted_mean(value_BHW: Tensor, weight_BHW: Tensor) -> Tensor:
    return (value_BHW * weight_BHW).sum((1, 2)) / weight_BHW.sum((1, 2)).clamp_min(MIN_WEIGHT)
