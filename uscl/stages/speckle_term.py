"""The speckle term as a training step adds it: its weight, its balance against the segmentation loss, its control."""

# N frames, K classes, H x W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from uscl.data.augment import send
from uscl.data.labelled import LabelledFrames
from uscl.losses.balance import balanced, moved_mean
from uscl.losses.speckle import draw_donors, speckle_term
from uscl.spec.trial import SpeckleSpec


class Balance:
    """Weighs the speckle term against the segmentation loss; holds the running means of `balance: ema`.

    `steps` is the length of the training, for `warmup`.
    """

    def __init__(self, speckle: SpeckleSpec, *, steps: int, device: torch.device) -> None:
        self._speckle, self._steps, self._device = speckle, steps, device
        self._means = {name: torch.zeros((), device=device) for name in ("segmentation", "speckle")}

    def weight(self, step: int) -> float:
        """`speckle.weight`, rising linearly from 0 over the warm-up; `step` counts from 0."""
        rise = self._speckle.warmup * self._steps
        return self._speckle.weight * (min(1.0, step / rise) if rise else 1.0)

    def sum(self, segmentation: Tensor, term: Tensor, *, step: int, least: float = 0.0) -> Tensor:
        """The loss to descend: segmentation + weight * term; call it once per step.

        Under `ema` the term is first brought to the segmentation loss's running mean, above the `least` that this can
        be. The segmentation loss itself is left alone, so that the step size of a plain optimiser (SGD) stays what it
        is without the term.
        """
        if self._speckle.balance == "ema":
            for name, value in (("segmentation", segmentation - least), ("speckle", term)):
                self._means[name] = moved_mean(self._means[name], value)
            term = balanced(term, self._means["speckle"], self._means["segmentation"])
        return segmentation + self.weight(step) * term

    def state(self) -> dict[str, Tensor]:
        """What changes while training: the running means, where they are read."""
        return dict(self._means) if self._speckle.balance == "ema" else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self._means |= {name: mean.to(self._device) for name, mean in state.items()}


class SpeckleTerm:
    """Adds the weighted speckle term to a segmentation loss.

    `speckle` as in a stage's inputs, its classes filled in; `classes` are the dataset's, in the order of the planes.
    """

    def __init__(self, speckle: SpeckleSpec, *, classes: Sequence[str], steps: int, device: torch.device) -> None:
        self._speckle, self._device = speckle, device
        self._classes = [classes.index(name) for name in speckle.classes]
        self.balance = Balance(speckle, steps=steps, device=device)

    def add(
        self,
        segmentation: Tensor,
        probability_NKHW: Tensor,
        batch: LabelledFrames,
        *,
        step: int,
        rng: np.random.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to descend and, detached, both terms as measured.

        `probability` is float32, class by class as `batch.truth` (contiguous is fastest); `step` counts from 0 and
        `rng` is that of the step.
        """
        donor_BB = send(draw_donors(batch.cases, rng), self._device) if self._speckle.permuted else None
        with torch.autocast(self._device.type, enabled=False):
            term = speckle_term(
                batch.raw_N1HW[:, 0],
                probability_NKHW,
                batch.truth_NKHW,
                batch.known_N1HW[:, 0],
                speckle=self._speckle,
                classes=self._classes,
                donor_BB=donor_BB,
            )
            loss = self.balance.sum(segmentation, term, step=step)
        return loss, {"segmentation_loss": segmentation.detach(), "speckle_loss": term.detach()}
