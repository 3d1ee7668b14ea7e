"""Nakagami parameters of soft regions: the shape m and the scale Omega of the amplitude, differentiable.

The squared amplitude of a Nakagami variable is Gamma distributed with shape m and mean Omega. m = 1 is fully
developed speckle, m < 1 few strong scatterers, m > 1 a coherent part. m does not change with gain; Omega grows
with its square.
"""

# R rows (frames, or patches of frames), K classes, N pixels

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from uscl.speckle.amplitude import B_MODE_GUARD, Guard
from uscl.speckle.weights import precise, weighted_means

MAX_M = 20.0
"""Largest m: log-compressed images reach 8 to 40 (science.md 6.2), and m explodes in flat regions."""
MIN_LOG_EXCESS = 1e-2
"""Least ln E[a] - E[ln a]; about 1 / (2 m), so this is m = 50, above MAX_M."""


class NakagamiParameters(NamedTuple):
    """Shape m in (0, 20] and scale Omega > 0 (units of the squared amplitude), each of shape (R, K)."""

    m: Tensor
    omega: Tensor


def nakagami_moments(
    intensity_RN: Tensor, weight_RKN: Tensor, *, known_RN: Tensor | None = None, guard: Guard = B_MODE_GUARD
) -> NakagamiParameters:
    """Moment estimates of the Nakagami shape m and scale Omega over soft regions.

    `intensity` is raw amplitude before any intensity augmentation; `weight` in [0, 1] is the
    region, `known` in [0, 1] which pixels count at all. Omega = E[x^2],
    m = Omega^2 / Var[x^2], with weighted means. Whether a region counts is the caller's choice, made on the ground
    truth (`weights.has_speckle`); an empty or constant region gives finite numbers of no meaning. float32 whatever
    the autocast. Kolar et al. 2004; Singla et al. 2022, eq. 3-4.
    """
    power = precise(intensity_RN).square()
    omega, square = weighted_means([power, power.square()], weight_RKN, known_RN)
    squared = omega.square()
    # both limits before dividing: masking an infinite quotient afterwards would keep its NaN gradient
    variance = torch.maximum((square - squared).clamp_min(guard.power_variance), squared / MAX_M)
    return NakagamiParameters(squared / variance, omega)


def nakagami_log_moments(
    intensity_RN: Tensor, weight_RKN: Tensor, *, known_RN: Tensor | None = None, guard: Guard = B_MODE_GUARD
) -> NakagamiParameters:
    """Log-moment estimates of m and Omega over soft regions; arguments and limits as `nakagami_moments`.

    s = ln E[x^2] - E[ln x^2], m = (3 - s + sqrt((s - 3)^2 + 24 s)) / (12 s): the closed form for the Gamma shape
    (Minka 2002). About half the standard deviation of the moment estimate at small m (science.md 6.1).
    Amplitudes below `guard.amplitude` (one grey level) count as that.
    """
    power = precise(intensity_RN).clamp_min(guard.amplitude).square()
    omega, mean_log = weighted_means([power, power.log()], weight_RKN, known_RN)
    excess = (omega.clamp_min(guard.amplitude**2).log() - mean_log).clamp_min(MIN_LOG_EXCESS)
    m = (3 - excess + ((excess - 3).square() + 24 * excess).sqrt()) / (12 * excess)
    return NakagamiParameters(m.clamp(max=MAX_M), omega)
