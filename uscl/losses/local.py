"""Contrastive losses of regions, for the decoder stage (science.md 2.3, "Our decoder stage").

A positive is the same region in the two maps of a pair; pairs are two views of a frame and, where near positives
are on, two near frames: the loss is the mean of both terms, each weighted by `LocalPairs.weight_P`. Negatives of a
region are its nearest other regions in both maps, and the same region of the frames that `LocalPairs.negative_NN`
marks. float32 whatever the autocast.
"""
# N views (maps), R regions, D embedding, P ordered pairs of maps

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from uscl.data.pairs import LocalPairs
from uscl.losses.contrastive import SMALLEST_SUM, attraction, masked_logsumexp, repulsion, unit


def local_info_nce(
    region_NRD: Tensor,
    pairs: LocalPairs,
    *,
    neighbour_RR: Tensor,
    form: str,
    temperature: float,
    hard_beta: float = 0.0,
) -> Tensor:
    """InfoNCE over regions; `neighbour_RR` as from data.pairs.nearest_regions, forms and `hard_beta` as in `info_nce`.

    Under `supcon_out` the denominator holds the region in every map paired with the anchor's, not only in this one.
    """
    with torch.autocast(region_NRD.device.type, enabled=False):
        own_NRR, paired_PRR, same_RNN = _cosines(unit(region_NRD), pairs)

        def mass(power: float, also_NR: Tensor | None = None) -> Tensor:
            """log sum exp(power x similarity) over a region's negatives (P, R), and over what `also_NR` sums."""
            scale = temperature / power
            own_NR = masked_logsumexp(own_NRR / scale, neighbour_RR)
            extra_NR = masked_logsumexp(same_RNN / scale, pairs.negative_NN).T
            anchor_NR = torch.logaddexp(own_NR, extra_NR)
            if also_NR is not None:
                anchor_NR = torch.logaddexp(anchor_NR, also_NR)
            return torch.logaddexp(masked_logsumexp(paired_PRR / scale, neighbour_RR), anchor_NR[pairs.first_P])

        positive_PR = _positive(paired_PRR) / temperature
        in_denominator = form == "supcon_out"
        positive_NR = masked_logsumexp(same_RNN / temperature, _positive_mask(pairs)).T if in_denominator else None
        if hard_beta:  # as losses.contrastive.negative_mass, over negatives of three kinds
            number_PR = _num_negatives(pairs, neighbour_RR)[pairs.first_P]
            denominator_PR = number_PR.to(positive_PR.dtype).log() + mass(1.0 + hard_beta) - mass(hard_beta)
            if positive_NR is not None:
                denominator_PR = torch.logaddexp(denominator_PR, positive_NR[pairs.first_P])
        else:
            denominator_PR = mass(1.0, positive_NR)
        above_PR = denominator_PR - positive_PR
        return _mean_of_both(above_PR if in_denominator else F.softplus(above_PR), pairs)


def local_info_nce_chance(pairs: LocalPairs, *, neighbour_RR: Tensor, form: str) -> Tensor:
    """What `local_info_nce` gives on constant embeddings, as a scalar tensor: ln(1 + negatives) per term."""
    positives_N = (
        _positive_mask(pairs).sum(dim=1) if form == "supcon_out" else torch.ones_like(pairs.negative_NN[0]).long()
    )
    size_NR = _num_negatives(pairs, neighbour_RR) + positives_N[:, None]
    return _mean_of_both(size_NR[pairs.first_P].log(), pairs)


def local_pairwise(
    region_NRD: Tensor, pairs: LocalPairs, *, neighbour_RR: Tensor, margin: float, distance: str
) -> Tensor:
    """Pairwise loss over the same pairs: half the positive's D^2 / 2, half the mean hinge of the region's negatives."""
    with torch.autocast(region_NRD.device.type, enabled=False):
        own_NRR, paired_PRR, same_RNN = _cosines(unit(region_NRD), pairs)

        def hinge(cosine: Tensor, mask: Tensor) -> Tensor:
            return (repulsion(cosine, margin=margin, distance=distance) * mask).sum(dim=-1)

        anchor_NR = hinge(own_NRR, neighbour_RR) + hinge(same_RNN, pairs.negative_NN).T
        number_NR = _num_negatives(pairs, neighbour_RR)
        repel_PR = (hinge(paired_PRR, neighbour_RR) + anchor_NR[pairs.first_P]) / number_NR[pairs.first_P]
        attract_PR = attraction(_positive(paired_PRR), distance=distance)
        return _mean_of_both((attract_PR + repel_PR) / 2, pairs)


def local_pairwise_chance(*, margin: float) -> float:
    """What `local_pairwise` gives on constant embeddings: margin^2 / 4."""
    return margin**2 / 4


def _cosines(unit_NRD: Tensor, pairs: LocalPairs) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines of regions within each map, between the two maps of each pair, and of one region over all maps."""
    own_NRR = unit_NRD @ unit_NRD.transpose(1, 2)
    unit_RND = unit_NRD.transpose(0, 1)
    return own_NRR, _paired_cosines(unit_NRD, pairs), unit_RND @ unit_RND.transpose(1, 2)


def _paired_cosines(unit_NRD: Tensor, pairs: LocalPairs) -> Tensor:
    """Cosines of the regions of each pair's first map (rows) and second map (columns), (P, R, R)."""
    once = pairs.both_ways
    first, second = (pairs.first_P, pairs.second_P) if once is None else (once.first_H, once.second_H)
    cosine_HRR = unit_NRD.index_select(0, first) @ unit_NRD.index_select(0, second).transpose(1, 2)
    if once is None:
        return cosine_HRR
    return torch.cat([cosine_HRR, cosine_HRR.transpose(1, 2)]).index_select(0, once.place_P)


def _positive(paired_PRR: Tensor) -> Tensor:
    return paired_PRR.diagonal(dim1=1, dim2=2)


def _positive_mask(pairs: LocalPairs) -> Tensor:
    return torch.zeros_like(pairs.negative_NN).index_put((pairs.first_P, pairs.second_P), torch.ones_like(pairs.near_P))


def _num_negatives(pairs: LocalPairs, neighbour_RR: Tensor) -> Tensor:
    """Negatives of each region of each view (N, R): neighbours in both maps, and the region in marked views."""
    return 2 * neighbour_RR.sum(dim=1)[None] + pairs.negative_NN.sum(dim=1)[:, None]


def _mean_of_both(term_PR: Tensor, pairs: LocalPairs) -> Tensor:
    """Mean of the two kinds' (weighted) means; of the one kind where there is no other; 0 where there is no pair."""
    kind_P2 = torch.stack([~pairs.near_P, pairs.near_P], dim=1).to(term_PR.dtype)
    if pairs.weight_P is not None:
        kind_P2 = kind_P2 * pairs.weight_P.to(term_PR.dtype)[:, None]
    number_2 = kind_P2.sum(dim=0)
    mean_2 = (term_PR.mean(dim=1)[:, None] * kind_P2).sum(dim=0) / number_2.clamp(min=SMALLEST_SUM)
    return mean_2.sum() / (number_2 > 0).sum().clamp(min=1)
