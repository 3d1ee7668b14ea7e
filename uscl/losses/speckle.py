"""The speckle term: predicted regions must hold the speckle that the annotated regions hold."""

# B frames, K classes, H x W pixels, P valid (frame, class) pairs

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from uscl.speckle.nakagami import NakagamiParameters, has_speckle, nakagami_log_moments, nakagami_moments

EPSILON = 1e-8
"""Under the root of the Euclidean distance: a finite gradient where prediction and truth agree."""

Estimator = Literal["moment", "log_moment"]
Form = Literal["euclidean", "log"]


def speckle_loss(
    intensity_BHW: Tensor,
    probability_BKHW: Tensor,
    truth_BKHW: Tensor,
    *,
    classes: Sequence[int],
    estimator: Estimator = "moment",
    form: Form = "euclidean",
    min_pixels: int = 64,
    known_BHW: Tensor | None = None,
) -> Tensor:
    """Mean distance of (m, Omega) between predicted and annotated regions, over valid (frame, class) pairs.

    `intensity` is raw B-mode in [0, 1] under the spatial transform of the masks, before intensity augmentation;
    `probability` the soft prediction; `truth` the annotation in {0, 1}; `known` in [0, 1] where pixels count (leaves
    out unlabelled ground, text and the outside of the sector). `classes` indexes K; background never belongs there.
    A pair is valid by its annotation alone (`min_pixels`, some variance): predicting nothing is no way out. Returns
    a float32 scalar >= 0; zero with a graph behind it where no pair is valid. Runs outside autocast. It is blind to
    position (science.md 6.5). Singla et al. 2022, eq. 3-5, read as a Euclidean distance.
    """
    with torch.autocast(intensity_BHW.device.type, enabled=False):
        known = torch.ones_like(intensity_BHW) if known_BHW is None else known_BHW
        predicted_BKHW = _planes(probability_BKHW, classes) * known.float()[:, None]
        annotated_BKHW = _planes(truth_BKHW, classes) * known.float()[:, None]
        shape = predicted_BKHW.shape
        intensity_PHW = intensity_BHW.float()[:, None].expand(shape).flatten(0, 1)
        annotated_PHW, predicted_PHW = annotated_BKHW.flatten(0, 1), predicted_BKHW.flatten(0, 1)
        valid_P = has_speckle(intensity_PHW, annotated_PHW, min_pixels=min_pixels)
        fit = nakagami_moments if estimator == "moment" else nakagami_log_moments
        found, wanted = fit(intensity_PHW, predicted_PHW), fit(intensity_PHW, annotated_PHW)
        # invalid regions are weighted away, not indexed away: choosing them would wait for the GPU
        distance_P = nakagami_distance(found, wanted, form=form) * valid_P
        mean: Tensor = distance_P.sum() / valid_P.sum().clamp_min(1)
        return mean


def _planes(masks_BKHW: Tensor, classes: Sequence[int]) -> Tensor:
    """Some classes of masks; taken one by one, as a list of indices would be copied to the GPU in every step."""
    return torch.stack([masks_BKHW[:, number].float() for number in classes], dim=1)


def nakagami_distance(found: NakagamiParameters, wanted: NakagamiParameters, *, form: Form = "euclidean") -> Tensor:
    """Distance of two parameter sets, elementwise; symmetric, 0 where they agree.

    `euclidean`: sqrt(dm^2 + dOmega^2), depends on the grey scale (m is 1 to 8 on [0, 1] B-mode, Omega 0.1 to 0.2).
    `log`: (d ln m)^2 + (d ln Omega)^2, which a gain change alters by a constant only.
    """
    if form == "euclidean":
        squared = (found.m - wanted.m).square() + (found.omega - wanted.omega).square()
        return (squared + EPSILON).sqrt() - math.sqrt(EPSILON)
    shape = (found.m.clamp_min(EPSILON) / wanted.m.clamp_min(EPSILON)).log()
    scale = (found.omega.clamp_min(EPSILON) / wanted.omega.clamp_min(EPSILON)).log()
    return shape.square() + scale.square()
