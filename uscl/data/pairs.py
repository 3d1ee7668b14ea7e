"""Which views of a batch form pairs: temporal pairs of whole frames (encoder) and of regions (decoder).

science.md 3.1 has the table that `pair_masks` follows, 2.3 the decoder stage. Everything here is a pure function
of small tensors; built on the CPU beside the batch, it costs a GPU no synchronisation.
"""
# N views in the batch (two per frame), P ordered pairs of views, R regions

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POSITION_TOLERANCE = 1e-6
"""Positions are sums of floats (0.2 - 0.15 > 0.05); a gap this little over the window is still near."""


@dataclass(frozen=True, slots=True)
class PairMasks:
    """Pairs of a batch, for the global loss. What is in neither mask is ignored; the diagonal is in neither."""

    positive_NN: Tensor
    negative_NN: Tensor
    """Both bool and symmetric."""
    weight_NN: Tensor | None = None
    """float32: what a positive pair counts, 1 for two views of a frame; None: every positive counts 1."""

    def to(self, device: torch.device | str) -> PairMasks:
        """The same masks on a device, without waiting for the copy."""
        positive_NN, negative_NN = (mask.to(device, non_blocking=True) for mask in (self.positive_NN, self.negative_NN))
        return PairMasks(positive_NN, negative_NN, _weight_on(self.weight_NN, device))


@dataclass(frozen=True, slots=True)
class BothWays:
    """P pairs that all occur in both directions, as H = P / 2 pairs: what is symmetric needs computing for H only."""

    first_H: Tensor
    second_H: Tensor
    """Indices of the two views, first < second."""
    place_P: Tensor
    """Where a pair is in the H pairs as they are, followed by the H reversed ones."""

    def to(self, device: torch.device | str) -> BothWays:
        """The same pairs on a device, without waiting for the copy."""
        fields = (self.first_H, self.second_H, self.place_P)
        first_H, second_H, place_P = (field.to(device, non_blocking=True) for field in fields)
        return BothWays(first_H, second_H, place_P)


@dataclass(frozen=True, slots=True)
class LocalPairs:
    """Pairs of a batch, for the local loss: each is a pair of maps whose same regions are positives."""

    first_P: Tensor
    second_P: Tensor
    """Indices of the two views."""
    near_P: Tensor
    """bool: the views show two near frames; else they are two views of one frame."""
    negative_NN: Tensor
    """bool: views whose same region is a negative (far frames; other clips under cross_clip_negative)."""
    weight_P: Tensor | None = None
    """float32: what a pair counts among those of its kind; None: every pair counts 1."""
    both_ways: BothWays | None = None
    """Where every pair occurs in both directions: each once; None: compare them one by one."""

    def to(self, device: torch.device | str) -> LocalPairs:
        """The same pairs on a device, without waiting for the copy."""
        fields = (self.first_P, self.second_P, self.near_P, self.negative_NN)
        first_P, second_P, near_P, negative_NN = (field.to(device, non_blocking=True) for field in fields)
        both_ways = None if self.both_ways is None else self.both_ways.to(device)
        return LocalPairs(first_P, second_P, near_P, negative_NN, _weight_on(self.weight_P, device), both_ways)


def near_far(gap: Tensor, *, window: float, guard: float = 0.0) -> tuple[Tensor, Tensor]:
    """Near and far by distance in time: near where gap <= window, far where gap >= max(window + guard, next frame).

    `gap`, `window` and `guard` are in one unit (frames, ms, fraction of the clip); float64 for ms and fractions.
    A frame between the two is in the guard band: neither. science.md 3.1.
    """
    near = gap <= window + POSITION_TOLERANCE
    far = ~near & (gap >= window + guard - POSITION_TOLERANCE)
    return near, far


def within(gap: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """bool: where low <= gap <= high, up to rounding of positions."""
    return (gap >= low - POSITION_TOLERANCE) & (gap <= high + POSITION_TOLERANCE)


def pair_masks(
    clip_N: Tensor,
    position_N: Tensor,
    *,
    frame_N: Tensor,
    polarity: str,
    window: float | None = None,
    guard: float = 0.0,
    negatives: str = "all",
    soft: bool = False,
    far_range_N2: Tensor | None = None,
) -> PairMasks:
    """Positive and negative pairs of N views under a polarity (science.md 3.1).

    `clip_N` names the clip, `frame_N` the frame (equal: two views of one frame, always positive), `position_N` its
    place in time in the window's unit. `window` is not read under polarity `none`. `negatives` counts only under
    `negative` and `positive_negative`; otherwise frames of other clips are the negatives. `soft` weights positives
    by exp(-gap / window): 1 for two views of a frame. `far_range_N2`: of the far frames only those at a distance
    within this range count, in the window's unit; one range per clip.
    """
    relation = _relations(
        clip_N, position_N, frame_N, window=window if polarity != "none" else None, guard=guard, far_range=far_range_N2
    )
    positive, negative = relation.view, torch.zeros_like(relation.view)
    if polarity in ("positive", "positive_negative"):
        positive = positive | relation.near
    if _far_are_negative(polarity, negatives):
        negative = negative | relation.far
    if polarity in ("none", "positive") or negatives in ("cross", "all"):
        negative = negative | relation.other_clip
    return PairMasks(positive, negative, soft_weights(position_N, window) if soft and window else None)


def local_pairs(
    clip_N: Tensor,
    position_N: Tensor,
    *,
    frame_N: Tensor,
    polarity: str,
    window: float | None = None,
    guard: float = 0.0,
    negatives: str = "all",
    soft: bool = False,
    far_range_N2: Tensor | None = None,
    cross_clip_negative: bool = False,
) -> LocalPairs:
    """Pairs of maps for the decoder stage: two views of a frame, and near frames where near positives are on.

    Arguments as in `pair_masks`. Other clips give negatives only by `cross_clip_negative`, far frames only where
    the polarity makes them negative and `negatives` is not `cross`. science.md 2.3.
    """
    relation = _relations(
        clip_N, position_N, frame_N, window=window if polarity != "none" else None, guard=guard, far_range=far_range_N2
    )
    near = relation.near if polarity in ("positive", "positive_negative") else torch.zeros_like(relation.near)
    negative = relation.far if _far_are_negative(polarity, negatives) else torch.zeros_like(relation.far)
    if cross_clip_negative:
        negative = negative | relation.other_clip
    pair_NN = relation.view | near
    first, second = torch.nonzero(pair_NN, as_tuple=True)
    weight = soft_weights(position_N, window)[first, second] if soft and window else None
    return LocalPairs(first, second, near[first, second], negative, weight, _both_ways(pair_NN))


def _both_ways(pair_NN: Tensor) -> BothWays:
    """The pairs of a symmetric mask; P in the order of `torch.nonzero`."""
    first_H, second_H = torch.nonzero(pair_NN.triu(), as_tuple=True)
    number_H = torch.arange(len(first_H))
    place_NN = torch.zeros(pair_NN.shape, dtype=torch.int64)
    place_NN[first_H, second_H], place_NN[second_H, first_H] = number_H, number_H + len(number_H)
    return BothWays(first_H, second_H, place_NN[pair_NN])


def soft_weights(position_N: Tensor, window: float) -> Tensor:
    """exp(-gap / window) of every two views, float32 (N, N): from 1 for one frame to 1/e at the window's end."""
    gap_NN = (position_N[:, None] - position_N[None]).abs()
    return (-gap_NN / window).exp().float()


def nearest_regions(corners: Sequence[tuple[int, int]], number: int) -> Tensor:
    """bool (R, R): row r marks the `number` regions nearest to region r, ties by index; never r itself.

    `corners` as from spec.networks.region_grid.
    """
    point_R2 = torch.tensor(corners)
    squared_RR = (point_R2[:, None] - point_R2[None]).square().sum(dim=-1)
    squared_RR.fill_diagonal_(torch.iinfo(squared_RR.dtype).max)
    nearest = squared_RR.argsort(dim=1, stable=True)[:, :number]
    return torch.zeros(squared_RR.shape, dtype=torch.bool).scatter(1, nearest, True)


@dataclass(frozen=True, slots=True)
class _Relations:
    """What two views are to each other; each field bool (N, N), disjoint, the diagonal in none."""

    view: Tensor
    near: Tensor
    far: Tensor
    other_clip: Tensor


def _relations(
    clip_N: Tensor,
    position_N: Tensor,
    frame_N: Tensor,
    *,
    window: float | None,
    guard: float,
    far_range: Tensor | None,
) -> _Relations:
    same_clip = clip_N[:, None] == clip_N[None]
    same_frame = same_clip & (frame_N[:, None] == frame_N[None])
    view = same_frame & ~torch.eye(len(clip_N), dtype=torch.bool, device=clip_N.device)
    if window is None:
        nothing = torch.zeros_like(view)
        return _Relations(view, nothing, nothing, ~same_clip)
    gap = (position_N[:, None] - position_N[None]).abs()
    near, far = near_far(gap, window=window, guard=guard)
    if far_range is not None:
        far = far & within(gap, far_range[:, :1], far_range[:, 1:])
    inside = same_clip & ~same_frame
    return _Relations(view, inside & near, inside & far, ~same_clip)


def _far_are_negative(polarity: str, negatives: str) -> bool:
    return polarity in ("negative", "positive_negative") and negatives in ("intra", "all")


def _weight_on(weight: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if weight is None else weight.to(device, non_blocking=True)
