"""Segmentation losses on exclusive classes: one softmax over background and the parts that no other class claims."""
# B frames, L outputs (background first), H x W pixels

from __future__ import annotations

import torch
from torch import Tensor

from uscl.losses.segmentation import DICE_SMOOTH

CHAITANYA_EPSILON = 1e-10
"""In the denominator only (Chaitanya et al. 2020): a class absent from a frame costs 1 there."""


def exclusive_dice_ce(
    logits_BLHW: Tensor, truth_BLHW: Tensor, known_B1HW: Tensor | None = None, *, kind: str
) -> Tensor:
    """Softmax losses as a scalar; `kind`: dice, ce, dice_ce or dice_background.

    `truth` is one-hot over L; `known` marks pixels that count (all of them where None). `dice` leaves background out
    and is over the whole batch (nnU-Net); `dice_background` takes background in, frame by frame, with nothing in the
    numerator that would forgive an absent class (Chaitanya et al. 2020; science.md 2.4). float32 whatever the autocast.
    """
    with torch.autocast(logits_BLHW.device.type, enabled=False):
        logits = logits_BLHW if logits_BLHW.dtype == torch.float64 else logits_BLHW.float()
        truth = truth_BLHW.to(logits.dtype)
        known = torch.ones_like(truth[:, :1]) if known_B1HW is None else known_B1HW.to(logits.dtype)
        probability, wanted = logits.softmax(dim=1) * known, truth * known
        if kind == "dice_background":
            return _dice_by_frame(probability, wanted)
        loss = logits.new_zeros(())
        if kind in ("dice", "dice_ce"):
            loss = loss + _dice_of_foreground(probability[:, 1:], wanted[:, 1:])
        if kind in ("ce", "dice_ce"):
            loss = loss - (logits.log_softmax(dim=1) * wanted).sum() / known.sum().clamp(min=1)
        return loss


def _dice_by_frame(probability_BLHW: Tensor, truth_BLHW: Tensor) -> Tensor:
    overlap_BL = (probability_BLHW * truth_BLHW).sum(dim=(2, 3))
    size_BL = probability_BLHW.sum(dim=(2, 3)) + truth_BLHW.sum(dim=(2, 3))
    return 1 - (2 * overlap_BL / (size_BL + CHAITANYA_EPSILON)).mean()


def _dice_of_foreground(probability_BKHW: Tensor, truth_BKHW: Tensor) -> Tensor:
    overlap_K = (probability_BKHW * truth_BKHW).sum(dim=(0, 2, 3))
    size_K = probability_BKHW.sum(dim=(0, 2, 3)) + truth_BKHW.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap_K + DICE_SMOOTH) / (size_K + DICE_SMOOTH)).mean()
