"""The speckle term as the stages that train on labels add it: fine-tuning and nnU-Net's recipe alike."""

# N frames, K classes, H x W pixels

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uscl.data.labelled import LabelledFrames
from uscl.losses.speckle import speckle_loss
from uscl.spec.trial import SpeckleSpec


def add_speckle_term(
    segmentation: Tensor,
    probability_NKHW: Tensor,
    batch: LabelledFrames,
    *,
    speckle: SpeckleSpec | None,
    classes: Sequence[str],
    step: int,
    steps: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss with the weighted speckle term, and both parts, detached, to be logged; as it was without a term.

    `probability` is float32, class by class as `batch.truth`; `step` of `steps`, from 0, is read for the warm-up.
    """
    if speckle is None:
        return segmentation, {}
    with torch.autocast(probability_NKHW.device.type, enabled=False):
        term = speckle_loss(
            batch.raw_N1HW[:, 0],
            probability_NKHW * batch.known_N1HW,
            batch.truth_NKHW * batch.known_N1HW,
            classes=[classes.index(name) for name in speckle.classes],
            estimator=speckle.estimator,
            form=speckle.form,
            min_pixels=speckle.min_pixels,
        )
    rise = speckle.warmup * steps
    weight = speckle.weight * (min(1.0, step / rise) if rise else 1.0)
    return segmentation + weight * term, {"segmentation_loss": segmentation.detach(), "speckle_loss": term.detach()}
