"""The Rayleigh model of speckle: many scatterers and nothing else, one parameter."""

# R rows (frames, or patches of frames), K classes, N pixels

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from uscl.speckle.amplitude import B_MODE_GUARD, Guard
from uscl.speckle.weights import precise, weighted_means


class RayleighParameters(NamedTuple):
    """sigma^2 > 0 (units of the squared amplitude), of shape (R, K): Nakagami with m = 1 and Omega = 2 sigma^2."""

    sigma2: Tensor


def rayleigh(
    intensity_RN: Tensor, weight_RKN: Tensor, *, known_RN: Tensor | None = None, guard: Guard = B_MODE_GUARD
) -> RayleighParameters:
    """sigma^2 = E[x^2] / 2 over soft regions: the maximum-likelihood estimate, weighted.

    Arguments as `nakagami.nakagami_moments`; nothing is divided, so `guard` is not read. It knows brightness alone:
    against Nakagami it tells what the shape m adds. float32 whatever the autocast.
    """
    (power,) = weighted_means([precise(intensity_RN).square()], weight_RKN, known_RN)
    return RayleighParameters(power / 2)
