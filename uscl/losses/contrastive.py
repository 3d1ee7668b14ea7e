"""Contrastive losses of whole frames: InfoNCE forms and the pairwise loss. Regions: losses/local.py.

Embeddings need not be normalised. All arithmetic is float32 (or float64 where given) whatever the autocast;
nothing here waits for the device. A loss is "at chance" at the value that constant embeddings give.
"""
# N views, D embedding

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NORM_EPS = 1e-6
"""Embeddings shorter than this are not stretched to the unit sphere: bounds the gradient at zero."""
DISTANCE_EPS = 1e-10
"""Under the root of the Euclidean distance: a finite gradient at D = 0 (science.md 4)."""
SMALLEST_SUM = 1e-30
"""Below any sum of weights that is not 0: the mean over nothing is 0."""


def info_nce(
    embedding_ND: Tensor,
    positive_NN: Tensor,
    negative_NN: Tensor,
    *,
    form: str,
    temperature: float,
    weight_NN: Tensor | None = None,
    hard_beta: float = 0.0,
) -> Tensor:
    """InfoNCE with cosine similarity / temperature, mean over its terms; each anchor-positive pair is one term.

    `form`: `per_pair_neg_only` has that positive and the anchor's negatives in the denominator (Chaitanya et al.
    2020); `supcon_out` all positives and negatives, averaged over positives, then anchors (Khosla et al. 2020);
    `simclr` is the same for exactly one positive per anchor (Chen et al. 2020). Ignored pairs are in no
    denominator. Terms without a negative are left out; 0 with a gradient of 0 where no term is left.
    `weight_NN` (positive) weights the terms in their means, not the denominators. `hard_beta`: see `negative_mass`.
    """
    with torch.autocast(embedding_ND.device.type, enabled=False):
        similarity_NN = cosine(embedding_ND) / temperature
        if form == "per_pair_neg_only":
            denominator_N = negative_mass(similarity_NN, negative_NN, hard_beta=hard_beta)
            term_NN = F.softplus(denominator_N[:, None] - similarity_NN)
        elif hard_beta:
            mass_N = negative_mass(similarity_NN, negative_NN, hard_beta=hard_beta)
            term_NN = torch.logaddexp(masked_logsumexp(similarity_NN, positive_NN), mass_N)[:, None] - similarity_NN
        else:
            term_NN = masked_logsumexp(similarity_NN, positive_NN | negative_NN)[:, None] - similarity_NN
        term_weight_NN = _term_weights(positive_NN, negative_NN, form=form, dtype=term_NN.dtype, weight_NN=weight_NN)
        return (term_NN * term_weight_NN).sum()


def info_nce_chance(positive_NN: Tensor, negative_NN: Tensor, *, form: str, weight_NN: Tensor | None = None) -> Tensor:
    """What `info_nce` gives on constant embeddings, as a scalar tensor: ln of the denominator's size, per term.

    The same for every `hard_beta`: equally hard negatives keep their weights.
    """
    size_N = 1 + negative_NN.sum(dim=1)
    if form != "per_pair_neg_only":
        size_N = (positive_NN | negative_NN).sum(dim=1).clamp(min=1)
    term_weight_NN = _term_weights(positive_NN, negative_NN, form=form, dtype=torch.float32, weight_NN=weight_NN)
    return (size_N.log()[:, None] * term_weight_NN).sum()


def negative_mass(similarity: Tensor, negative: Tensor, *, hard_beta: float = 0.0) -> Tensor:
    """log of the negatives' part of an InfoNCE denominator, over the last dimension.

    `hard_beta` 0: log sum exp. Else n x the mean of exp(similarity) under weights proportional to exp(hard_beta x
    similarity): the harder a negative, the more it counts, while n equal ones count as before (Robinson et al. 2021,
    eq. 4, without debiasing: tau+ = 0). `similarity` is already divided by the temperature, as in the authors' code.
    """
    if not hard_beta:
        return masked_logsumexp(similarity, negative)
    raised = masked_logsumexp((1.0 + hard_beta) * similarity, negative)
    level = masked_logsumexp(hard_beta * similarity, negative)
    number = negative.sum(dim=-1)
    mass = number.clamp(min=1).to(raised.dtype).log() + raised - level
    return torch.where(number > 0, mass, torch.finfo(mass.dtype).min / 4)


def pairwise(
    embedding_ND: Tensor,
    positive_NN: Tensor,
    negative_NN: Tensor,
    *,
    margin: float,
    distance: str,
    weight_NN: Tensor | None = None,
) -> Tensor:
    """Pairwise contrastive loss: half mean D^2 / 2 of positives, half mean max(0, margin - D)^2 / 2 of negatives.

    `distance`: `euclidean` on the unit sphere (0 to 2) or `cosine`, 1 - cos. A batch without one kind of pair is
    the mean of the other. `weight_NN` (positive) makes the positives' mean a weighted one. Chopra et al. 2005;
    Singla et al. 2022, eq. 1.
    """
    with torch.autocast(embedding_ND.device.type, enabled=False):
        cosine_NN = cosine(embedding_ND)
        attract = masked_mean(attraction(cosine_NN, distance=distance), positive_NN, weight=weight_NN)
        repel = masked_mean(repulsion(cosine_NN, margin=margin, distance=distance), negative_NN)
        has_positive, has_negative = _presence(positive_NN, negative_NN, attract.dtype)
        return (attract + repel) / (has_positive + has_negative).clamp(min=1)


def pairwise_chance(positive_NN: Tensor, negative_NN: Tensor, *, margin: float) -> Tensor:
    """What `pairwise` gives on constant embeddings, as a scalar tensor: margin^2 / 4 where both kinds of pair exist."""
    has_positive, has_negative = _presence(positive_NN, negative_NN, torch.float32)
    return margin**2 / 2 * has_negative / (has_positive + has_negative).clamp(min=1)


def cosine(embedding_ND: Tensor) -> Tensor:
    """Cosine similarities (N, N) in float32 or float64."""
    unit_ND = unit(embedding_ND)
    return unit_ND @ unit_ND.T


def unit(embedding: Tensor) -> Tensor:
    """Embeddings on the unit sphere (last dimension), in float32 or float64."""
    wide = embedding if embedding.dtype == torch.float64 else embedding.float()
    return F.normalize(wide, dim=-1, eps=NORM_EPS)


def attraction(cosine_similarity: Tensor, *, distance: str) -> Tensor:
    """D^2 / 2 elementwise; zero, with a finite gradient, where two embeddings are equal."""
    if distance == "cosine":
        return (1 - cosine_similarity).square() / 2
    return (1 - cosine_similarity).clamp(min=0)  # D^2 = 2 - 2 cos


def repulsion(cosine_similarity: Tensor, *, margin: float, distance: str) -> Tensor:
    """max(0, margin - D)^2 / 2 elementwise; zero, with zero gradient, from D = margin on."""
    if distance == "cosine":
        length = 1 - cosine_similarity
    else:
        length = ((2 - 2 * cosine_similarity).clamp(min=0) + DISTANCE_EPS).sqrt()
    return (margin - length).clamp(min=0).square() / 2


def masked_logsumexp(value: Tensor, mask: Tensor) -> Tensor:
    """log sum exp over the last dimension where `mask`; hugely negative, with zero gradient, for an empty row."""
    # exp is much faster at -inf than where it underflows; a row of -inf alone would have no gradient
    least = value.new_full((), torch.finfo(value.dtype).min / 4)
    outside = torch.where(mask.any(dim=-1, keepdim=True), -torch.inf, least)
    return torch.where(mask, value, outside).logsumexp(dim=-1)


def masked_mean(value: Tensor, mask: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean where `mask`, weighted where `weight` (positive) is given; 0 where the mask is empty."""
    if weight is None:
        return (value * mask).sum() / mask.sum().clamp(min=1)
    weight = mask * weight.to(value.dtype)
    return (value * weight).sum() / weight.sum().clamp(min=SMALLEST_SUM)


def _term_weights(
    positive_NN: Tensor, negative_NN: Tensor, *, form: str, dtype: torch.dtype, weight_NN: Tensor | None
) -> Tensor:
    """Weight of each anchor-positive term in the mean: equal per term, or per anchor under supcon_out."""
    term_NN = (positive_NN & negative_NN.any(dim=1, keepdim=True)).to(dtype)
    if weight_NN is not None:
        term_NN = term_NN * weight_NN.to(dtype)
    if form == "supcon_out":
        term_NN = term_NN / term_NN.sum(dim=1, keepdim=True).clamp(min=SMALLEST_SUM)
    return term_NN / term_NN.sum().clamp(min=SMALLEST_SUM)


def _presence(positive_NN: Tensor, negative_NN: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return positive_NN.any().to(dtype), negative_NN.any().to(dtype)
