"""The Gamma model of speckle, and the divergence of two Gamma laws in closed form."""

# R rows (frames, or patches of frames), K classes, N pixels

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from uscl.speckle.amplitude import B_MODE_GUARD, Guard
from uscl.speckle.weights import precise, weighted_means

MAX_SHAPE = 80.0
"""Largest shape: 4 times Nakagami's largest m, since the amplitude of a Nakagami variable with large m has
(mean / std)^2 = 4 m."""


class GammaParameters(NamedTuple):
    """Shape in (0, 80] and mean > 0 (units of the amplitude) of the amplitude itself, each of shape (R, K)."""

    shape: Tensor
    mean: Tensor


def gamma(
    intensity_RN: Tensor, weight_RKN: Tensor, *, known_RN: Tensor | None = None, guard: Guard = B_MODE_GUARD
) -> GammaParameters:
    """shape = E[x]^2 / Var[x] and mean = E[x] over soft regions, by weighted moments of the amplitude.

    Arguments and limits as `nakagami.nakagami_moments`. The square root of the shape is the region's speckle SNR.
    float32 whatever the autocast.
    """
    amplitude = precise(intensity_RN)
    mean, square = weighted_means([amplitude, amplitude.square()], weight_RKN, known_RN)
    squared = mean.square()
    variance = torch.maximum((square - squared).clamp_min(guard.variance), squared / MAX_SHAPE)
    return GammaParameters(squared / variance, mean)


class GammaLaw(NamedTuple):
    """A Gamma law by shape and scale (mean / shape), tensors of any one shape."""

    shape: Tensor
    scale: Tensor


def gamma_divergence(one: GammaLaw, other: GammaLaw) -> Tensor:
    """KL(one || other) in nats, elementwise; 0 where they agree, not symmetric.

    (k1 - k2) psi(k1) - ln G(k1) + ln G(k2) + k2 ln(t2 / t1) + k1 (t1 - t2) / t2, with k the shape and t the scale.
    """
    return (
        (one.shape - other.shape) * one.shape.digamma()
        - one.shape.lgamma()
        + other.shape.lgamma()
        + other.shape * (other.scale / one.scale).log()
        + one.shape * (one.scale - other.scale) / other.scale
    )
