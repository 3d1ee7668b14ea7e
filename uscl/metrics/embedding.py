"""What an embedding looks like while it is trained: spread, alignment, uniformity, and whether it encodes position.

Each is a scalar tensor on the embeddings' device, without gradient; a caller reads it when it logs.
"""
# N views, A images, R regions, D embedding

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

COLLAPSED_STD = 0.01
"""An `embedding_std` below this is a collapse; a uniform embedding has 1 / sqrt(D), 0.088 for 128 (design.md 4.1)."""


@torch.no_grad()
def embedding_std(embedding_ND: Tensor) -> Tensor:
    """Standard deviation over the batch of the normalised embedding, mean over dimensions."""
    return _std(_unit(embedding_ND))


@torch.no_grad()
def alignment(embedding_ND: Tensor, positive_NN: Tensor) -> Tensor:
    """Mean squared distance of positive pairs on the unit sphere, 0 (best) to 4; 0 where none. Wang and Isola 2020."""
    return _alignment(_squared_distances(_unit(embedding_ND)), positive_NN)


@torch.no_grad()
def uniformity(embedding_ND: Tensor) -> Tensor:
    """log mean exp(-2 D^2) over distinct pairs on the unit sphere, 0 (collapsed) downwards. Wang and Isola 2020."""
    return _uniformity(_squared_distances(_unit(embedding_ND)))


@torch.no_grad()
def figures(embedding_ND: Tensor, positive_NN: Tensor) -> dict[str, Tensor]:
    """`embedding_std`, `alignment` and `uniformity` by name, from one matrix of distances."""
    unit_ND = _unit(embedding_ND)
    squared_NN = _squared_distances(unit_ND)
    return {
        "embedding_std": _std(unit_ND),
        "alignment": _alignment(squared_NN, positive_NN),
        "uniformity": _uniformity(squared_NN),
    }


@torch.no_grad()
def position_retrieval(region_ARD: Tensor, patient_A: Tensor) -> Tensor:
    """How often a region's nearest region in images of other patients is the same grid position, in [0, 1].

    Chance is 1 / R; over 0.5 the decoder stage has learned coordinates (science.md 2.3). Images without an image
    of another patient are left out; NaN where that leaves none.
    """
    images, regions, _ = region_ARD.shape
    unit_FD = _unit(region_ARD).flatten(0, 1)
    patient_F = patient_A.repeat_interleave(regions)
    same_patient_FF = patient_F[:, None] == patient_F[None]
    nearest_F = (unit_FD @ unit_FD.T).masked_fill(same_patient_FF, -torch.inf).argmax(dim=1)
    has_other_F = ~same_patient_FF.all(dim=1)
    place_F = torch.arange(regions, device=region_ARD.device).repeat(images)
    hit_F = (place_F[nearest_F] == place_F) & has_other_F
    return hit_F.sum() / has_other_F.sum()


def _std(unit_ND: Tensor) -> Tensor:
    variance_D = (unit_ND - unit_ND.mean(dim=0)).square_().mean(dim=0)  # Tensor.std is slow over the first dimension
    return variance_D.sqrt().mean()


def _alignment(squared_NN: Tensor, positive_NN: Tensor) -> Tensor:
    return squared_NN.where(positive_NN, 0.0).sum() / positive_NN.sum().clamp(min=1)


def _uniformity(squared_NN: Tensor) -> Tensor:
    number = len(squared_NN)
    exponent_NN = (-2 * squared_NN).fill_diagonal_(-torch.inf)
    return exponent_NN.flatten().logsumexp(dim=0) - math.log(number * (number - 1))


def _unit(embedding: Tensor) -> Tensor:
    return F.normalize(embedding.double() if embedding.dtype == torch.float64 else embedding.float(), dim=-1)


def _squared_distances(unit_ND: Tensor) -> Tensor:
    return (2 - 2 * unit_ND @ unit_ND.T).clamp_(min=0)
