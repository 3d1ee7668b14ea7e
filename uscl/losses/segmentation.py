"""Segmentation losses on sigmoid regions: every class is its own foreground, so nested classes do not compete."""
# B frames, K classes, H x W pixels

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

DICE_SMOOTH = 1e-5
"""In numerator and denominator, as in nnU-Net: a class absent from batch and prediction costs 0."""


def dice_ce(logits_BKHW: Tensor, truth_BKHW: Tensor, known_B1HW: Tensor | None = None, *, kind: str) -> Tensor:
    """Soft Dice loss, binary cross-entropy, or their sum (`kind`: dice, ce, dice_ce), as a scalar.

    `truth` is 0 or 1 (bool or float), `known` marks pixels that count (all of them where None). Dice per class is
    over the whole batch (nnU-Net's batch Dice), then averaged over classes. float32 whatever the autocast.
    """
    with torch.autocast(logits_BKHW.device.type, enabled=False):
        logits = logits_BKHW if logits_BKHW.dtype == torch.float64 else logits_BKHW.float()
        truth = truth_BKHW.to(logits.dtype)
        known = torch.ones_like(truth[:, :1]) if known_B1HW is None else known_B1HW.to(logits.dtype)
        loss = logits.new_zeros(())
        if kind in ("dice", "dice_ce"):
            loss = loss + _dice_loss(logits.sigmoid() * known, truth * known)
        if kind in ("ce", "dice_ce"):
            loss = loss + _cross_entropy(logits, truth, known)
        return loss


def deep_supervision_weights(num_outputs: int) -> tuple[float, ...]:
    """Weights of the outputs, the finest first: 1, 1/2, 1/4 ..., the coarsest 0, summing to 1 (nnU-Net)."""
    if num_outputs == 1:
        return (1.0,)
    weights = [0.5**index for index in range(num_outputs - 1)]
    return (*(weight / sum(weights) for weight in weights), 0.0)


class SegmentationLoss(Protocol):
    """`dice_ce` on sigmoid regions, or `exclusive_dice_ce` on exclusive classes."""

    def __call__(self, logits: Tensor, truth: Tensor, known: Tensor | None = None, /, *, kind: str) -> Tensor:
        """A scalar."""


def deep_dice_ce(
    logits: Sequence[Tensor],
    truth_BKHW: Tensor,
    known_B1HW: Tensor | None = None,
    *,
    kind: str,
    loss: SegmentationLoss = dice_ce,
) -> Tensor:
    """Weighted sum of a loss over outputs of falling resolution, the finest first (UNet.deep_logits).

    Truth and known pixels are taken at each output's resolution by nearest neighbour, as in nnU-Net.
    """
    total = logits[0].new_zeros((), dtype=torch.float32)
    for output, weight in zip(logits, deep_supervision_weights(len(logits)), strict=True):
        if weight:
            truth, known = _resized(truth_BKHW, output), None if known_B1HW is None else _resized(known_B1HW, output)
            total = total + weight * loss(output, truth, known, kind=kind)
    return total


def _dice_loss(probability_BKHW: Tensor, truth_BKHW: Tensor) -> Tensor:
    overlap_K = (probability_BKHW * truth_BKHW).sum(dim=(0, 2, 3))
    size_K = probability_BKHW.sum(dim=(0, 2, 3)) + truth_BKHW.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap_K + DICE_SMOOTH) / (size_K + DICE_SMOOTH)).mean()


def _cross_entropy(logits_BKHW: Tensor, truth_BKHW: Tensor, known_B1HW: Tensor) -> Tensor:
    pixel_loss = F.binary_cross_entropy_with_logits(logits_BKHW, truth_BKHW, reduction="none") * known_B1HW
    return pixel_loss.sum() / (known_B1HW.sum() * logits_BKHW.shape[1]).clamp(min=1)


def _resized(mask: Tensor, output: Tensor) -> Tensor:
    if mask.shape[-2:] == output.shape[-2:]:
        return mask
    return F.interpolate(mask.float(), size=output.shape[-2:], mode="nearest")
