"""Speckle without a model: the distribution of grey levels of a soft region, on fixed knots."""

# R rows (frames, or patches of frames), K classes, N pixels, T knots

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from uscl.speckle.amplitude import B_MODE_GUARD, Guard
from uscl.speckle.weights import MIN_WEIGHT, precise

NUM_KNOTS = 65
"""Knots from 0 to 1, four 8-bit grey levels apart: finer than regions of some 64 pixels can tell."""


class HistogramParameters(NamedTuple):
    """Cumulative distribution at the knots, (R, K, T), rising to 1 (0 throughout for a region without weight)."""

    cumulative: Tensor


def histogram(
    intensity_RN: Tensor, weight_RKN: Tensor, *, known_RN: Tensor | None = None, guard: Guard = B_MODE_GUARD
) -> HistogramParameters:
    """The weighted distribution of amplitudes in [0, 1] over soft regions; differentiable in the weights.

    Each pixel lends its weight to the two knots around its amplitude, the nearer more, so that means are kept.
    Arguments as `nakagami.nakagami_moments`; `guard` is not read. It assumes nothing of speckle: a term that works as
    well with it as with Nakagami owes nothing to Nakagami (science.md 6.3). float32 whatever the autocast.
    """
    weight = precise(weight_RKN) if known_RN is None else precise(weight_RKN) * precise(known_RN)[:, None]
    position_RN = precise(intensity_RN).clamp(0, 1) * (NUM_KNOTS - 1)
    lower_RN = position_RN.floor().clamp(max=NUM_KNOTS - 2)
    upper_share_RN = position_RN - lower_RN
    knot_RKN = lower_RN.long()[:, None].expand(weight.shape)
    upper_RKN = weight * upper_share_RN[:, None]
    mass_RKT = weight.new_zeros((*weight.shape[:2], NUM_KNOTS))
    mass_RKT = mass_RKT.scatter_add(2, knot_RKN, weight - upper_RKN).scatter_add(2, knot_RKN + 1, upper_RKN)
    total_RK1 = weight.sum(-1, keepdim=True).clamp_min(MIN_WEIGHT)
    return HistogramParameters(mass_RKT.cumsum(-1) / total_RK1)


def wasserstein1(one: HistogramParameters, other: HistogramParameters) -> Tensor:
    """First Wasserstein distance in units of the amplitude, (R, K): the area between two cumulative distributions.

    Symmetric, 0 where they agree; moving all of a region's grey levels by d gives d.
    """
    difference_RKT: Tensor = one.cumulative - other.cumulative
    # the last knot is 1 on both sides, but for regions without weight
    return torch.sum(difference_RKT[..., :-1].abs(), dim=-1) / (NUM_KNOTS - 1)
