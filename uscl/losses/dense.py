"""Losses of single pixels: PixPro's consistency of two crops, and contrast of pixels by their labels.

Both take embeddings that need not be normalised and work in float32 (or float64 where given) whatever the autocast;
nothing here waits for the device. What would grow with the square of the pixels is made in parts, and made again
for the gradient.
"""
# N views (maps), C cells of a map, P ordered pairs of maps, D embedding
# M cells drawn from a map (label -1: an empty place), K classes, S maps whose cells an anchor is compared with

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from uscl.data.pairs import LocalPairs
from uscl.losses.contrastive import masked_logsumexp, unit

PART_ENTRIES = 2**26
"""Entries of the largest similarity matrix held at once: 256 MB in float32."""


def propagate(embedding_NCD: Tensor, value_NCD: Tensor, *, power: float) -> Tensor:
    """Each cell's sum of all cells' values in its map, weighted by max(cosine of embeddings, 0)^power; (N, C, D).

    The pixel propagation module of Xie et al. 2021 (eq. 2 and 3), `value` being the transformed embedding.
    """
    with torch.autocast(embedding_NCD.device.type, enabled=False):
        unit_NCD = unit(embedding_NCD)
        value_NCD = value_NCD.to(unit_NCD.dtype)
        size = _part(unit_NCD.shape[1] ** 2)
        parts = zip(torch.split(unit_NCD, size), torch.split(value_NCD, size), strict=True)
        return torch.cat([_again(_propagate, unit_part, value, power) for unit_part, value in parts])


def _propagate(unit_NCD: Tensor, value_NCD: Tensor, power: float) -> Tensor:
    return (unit_NCD @ unit_NCD.transpose(1, 2)).clamp(min=0).pow(power) @ value_NCD


def positive_cells(first_PC2: Tensor, second_PC2: Tensor, *, reach_P: Tensor) -> Tensor:
    """bool (P, C, C): cells of two views whose centres are closer than `reach` in the original frame.

    Places as from data.augment.cell_places. Cells outside the frame, [-1, 1] in both directions, have no positive.
    """
    across_PCC, down_PCC = (first_PC2[:, :, None, axis] - second_PC2[:, None, :, axis] for axis in (0, 1))
    near_PCC = across_PCC.square() + down_PCC.square() < reach_P.square()[:, None, None]
    inside_PC, inside_too_PC = ((places.abs() <= 1).all(dim=-1) for places in (first_PC2, second_PC2))
    return near_PCC & inside_PC[:, :, None] & inside_too_PC[:, None]


def pixel_consistency(
    query_NCD: Tensor, key_NCD: Tensor, place_NC2: Tensor, *, diagonal_N: Tensor, distance: float, pairs: LocalPairs
) -> Tensor:
    """-2 x mean cosine of a query cell and the key cells that lie within `distance` cell diagonals of it; -2 at best.

    Per ordered pair of maps (first's queries, second's keys) the mean over its positive cell pairs; then over the
    pairs of maps that have any, and over the two kinds of pair (two views of a frame, two near frames) as the
    decoder stage does. The larger diagonal of the two views counts. 0, with no gradient, where nothing overlaps.
    There are no negatives: constant embeddings are the optimum, and only the momentum branch and the propagation
    keep an encoder from them. Xie et al. 2021, eq. 4 (their code gives twice the value).
    """
    with torch.autocast(query_NCD.device.type, enabled=False):
        query_NCD, key_NCD = unit(query_NCD), unit(key_NCD)
        cosine, has_positive = [], []
        size = _part(query_NCD.shape[1] ** 2)
        for first, second in zip(torch.split(pairs.first_P, size), torch.split(pairs.second_P, size), strict=True):
            reach_P = distance * torch.maximum(diagonal_N[first], diagonal_N[second])
            positive_PCC = positive_cells(place_NC2[first], place_NC2[second], reach_P=reach_P)
            target_PCD = positive_PCC.to(key_NCD.dtype) @ key_NCD[second]
            number_P = positive_PCC.sum(dim=(1, 2))
            cosine.append((query_NCD[first] * target_PCD).sum(dim=(1, 2)) / number_P.clamp(min=1))
            has_positive.append(number_P > 0)
        return -2 * _mean_of_kinds(torch.cat(cosine), pairs.near_P, torch.cat(has_positive))


def _mean_of_kinds(value_P: Tensor, near_P: Tensor, counts_P: Tensor) -> Tensor:
    """Mean of the means of view pairs and near pairs that count; of the one kind where there is no other."""
    kind_P2 = (torch.stack([~near_P, near_P], dim=1) & counts_P[:, None]).to(value_P.dtype)
    number_2 = kind_P2.sum(dim=0)
    mean_2 = (value_P[:, None] * kind_P2).sum(dim=0) / number_2.clamp(min=1)
    return mean_2.sum() / (number_2 > 0).sum().clamp(min=1)


def pixel_supcon(
    embedding_NMD: Tensor, label_NM: Tensor, contrast_NS: Tensor, *, num_classes: int, temperature: float
) -> Tensor:
    """Supervised contrast of drawn pixels, mean over anchors; `supcon_out` of science.md 4.

    An anchor's positives are the pixels of its class in the maps `contrast_NS` of its row, its denominator all
    their pixels; the mean over positives stands outside the logarithm. `label` is 0 .. num_classes - 1, or -1 for an
    empty place, which is no anchor and in no denominator. Anchors without a positive or without a negative are
    left out; 0 with a gradient of 0 where none is left. Zhao et al. 2021; Khosla et al. 2020.
    """
    with torch.autocast(embedding_NMD.device.type, enabled=False):
        unit_NMD = unit(embedding_NMD)
        member_NMK = _membership(label_NM, num_classes).to(unit_NMD.dtype)
        sum_NKD = _over_contrast(member_NMK.transpose(1, 2) @ unit_NMD, contrast_NS)
        number_NK = _over_contrast(member_NMK.sum(dim=1), contrast_NS)
        mean_NMD = member_NMK @ (sum_NKD / number_NK.clamp(min=1)[..., None])
        similarity_NM = (unit_NMD * mean_NMD).sum(dim=-1) / temperature
        term_NM = _partition(unit_NMD, label_NM, contrast_NS, temperature) - similarity_NM
        return (term_NM * _anchor_weights(member_NMK, number_NK)).sum()


def pixel_supcon_chance(label_NM: Tensor, contrast_NS: Tensor, *, num_classes: int) -> Tensor:
    """What `pixel_supcon` gives on constant embeddings, as a scalar tensor: ln of the denominator's size."""
    member_NMK = _membership(label_NM, num_classes).float()
    number_NK = _over_contrast(member_NMK.sum(dim=1), contrast_NS)
    size_N = number_NK.sum(dim=1).clamp(min=1)
    return (size_N.log()[:, None] * _anchor_weights(member_NMK, number_NK)).sum()


def _membership(label_NM: Tensor, num_classes: int) -> Tensor:
    return label_NM[..., None] == torch.arange(num_classes, device=label_NM.device)


def _over_contrast(value: Tensor, contrast_NS: Tensor) -> Tensor:
    """Sum of each row's maps: (N, ...) to (N, ...)."""
    chosen = value.index_select(0, contrast_NS.flatten())
    return chosen.reshape(*contrast_NS.shape, *value.shape[1:]).sum(dim=1)


def _anchor_weights(member_NMK: Tensor, number_NK: Tensor) -> Tensor:
    """Equal weights, summing to 1, of the anchors that have a positive and a negative."""
    positives_NM = (member_NMK * number_NK[:, None]).sum(dim=-1)
    others_NM = number_NK.sum(dim=1)[:, None] - positives_NM
    counts_NM = (positives_NM > 0) & (others_NM > 0)
    return counts_NM / counts_NM.sum().clamp(min=1)


def _partition(unit_NMD: Tensor, label_NM: Tensor, contrast_NS: Tensor, temperature: float) -> Tensor:
    """log of each anchor's denominator (N, M), map by map."""
    rows = []
    for unit_MD, contrast_S in zip(unit_NMD, contrast_NS, strict=True):
        other_TD = unit_NMD.index_select(0, contrast_S).flatten(0, 1)
        filled_T = label_NM.index_select(0, contrast_S).flatten() >= 0
        size = _part(len(filled_T))
        parts = [_again(_log_sum, part, other_TD, filled_T, temperature) for part in torch.split(unit_MD, size)]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def _log_sum(unit_MD: Tensor, other_TD: Tensor, filled_T: Tensor, temperature: float) -> Tensor:
    return masked_logsumexp(unit_MD @ other_TD.T / temperature, filled_T[None])


def _part(entries: int) -> int:
    """How many rows of so many entries are made at once."""
    return max(1, PART_ENTRIES // entries)


def _again(function: Callable[..., Tensor], *arguments: Tensor | float) -> Tensor:
    """The function's value; what it needs for the gradient is computed again instead of kept."""
    value: Tensor = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return value
