"""How well an embedding of labelled pixels keeps its classes: compact within, apart between, and of what rank.

The paper closes by asking for the first two. All are taken on the unit sphere and in float64, without gradient, and
none depends on how many pixels a class has.
"""
# M pixels, D embedding, K classes

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

VARIANCE_EPS = 1e-12
"""Below this nothing varies: two classes that are one and the same point are not apart at all."""


@torch.no_grad()
def compactness(embedding_MD: Tensor, label_M: Tensor, *, num_classes: int) -> Tensor:
    """Mean cosine similarity of two different pixels of a class (K,): 1 where the class is one point (best).

    0 where its directions are spread evenly, at least -1 / (n - 1) for n pixels; NaN for fewer than two. Equals
    1 - V of directional statistics (circular variance) for the squared mean length, with the pairs of a pixel with
    itself taken out. Mardia and Jupp 2000, ch. 9.
    """
    mean_KD, number_K = _class_means(embedding_MD, label_M, num_classes)
    same_K = number_K * mean_KD.square().sum(dim=1)
    return torch.where(number_K > 1, (same_K - 1) / (number_K - 1).clamp(min=1), torch.nan)


@torch.no_grad()
def separability(embedding_MD: Tensor, label_M: Tensor, *, num_classes: int) -> Tensor:
    """How far each class is from the class nearest to it (K,): the share of both classes' variance between them.

    0 where the two means coincide, 1 where both classes are points apart (best). For classes of equal weight, with
    means a and b and variances u and v, it is |a - b|^2 / (|a - b|^2 + 2 u + 2 v): Fisher's ratio, bounded (the
    squared correlation ratio). NaN for a class of fewer than two pixels, or where it is the only one. Fisher 1936.
    """
    mean_KD, number_K = _class_means(embedding_MD, label_M, num_classes)
    within_K = (_class_lengths(embedding_MD, label_M, num_classes) - mean_KD.square().sum(dim=1)).clamp(min=0)
    between_KK = (mean_KD[:, None] - mean_KD[None]).square().sum(dim=-1)
    total_KK = between_KK + 2 * (within_K[:, None] + within_K[None])
    share_KK = between_KK / total_KK.clamp(min=VARIANCE_EPS)
    counts_K = number_K > 1
    others_KK = counts_K[:, None] & counts_K[None] & ~torch.eye(num_classes, dtype=torch.bool)
    nearest_K = share_KK.masked_fill(~others_KK, torch.inf).amin(dim=1)
    return torch.where(others_KK.any(dim=1), nearest_K, torch.nan)


@torch.no_grad()
def effective_rank(embedding_MD: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values of the centred embeddings, a scalar.

    How many directions the pixels fill: 1 on a line, min(M - 1, D) where all are filled alike; 0 where all pixels
    are one point. Centred, because the maps end in a ReLU and share a large mean. Roy and Vetterli 2007.
    """
    unit_MD = _unit(embedding_MD)
    singular = torch.linalg.svdvals(unit_MD - unit_MD.mean(dim=0))
    if singular.sum() < VARIANCE_EPS**0.5 * len(unit_MD):
        return torch.zeros((), dtype=unit_MD.dtype)
    entropy: Tensor = torch.special.entr(singular / singular.sum()).sum()
    return entropy.exp()


def same_class_elsewhere(label_M: Tensor, patient_M: Tensor) -> Tensor:
    """bool (M, M): pixels of one class in different patients, the positive pairs of a segmentation's `alignment`."""
    return (label_M[:, None] == label_M[None]) & (patient_M[:, None] != patient_M[None])


def _class_means(embedding_MD: Tensor, label_M: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean of each class's unit vectors (K, D), and its number of pixels (K,), in float64."""
    unit_MD = _unit(embedding_MD)
    number_K = torch.bincount(label_M, minlength=num_classes).double()
    total_KD = unit_MD.new_zeros(num_classes, unit_MD.shape[1]).index_add_(0, label_M, unit_MD)
    return total_KD / number_K.clamp(min=1)[:, None], number_K


def _class_lengths(embedding_MD: Tensor, label_M: Tensor, num_classes: int) -> Tensor:
    """Mean squared length of each class's unit vectors (K,): 1, but for pixels whose features are all zero."""
    squared_M = _unit(embedding_MD).square().sum(dim=1)
    number_K = torch.bincount(label_M, minlength=num_classes).clamp(min=1)
    return squared_M.new_zeros(num_classes).index_add_(0, label_M, squared_M) / number_K


def _unit(embedding_MD: Tensor) -> Tensor:
    return F.normalize(embedding_MD.double(), dim=-1)
