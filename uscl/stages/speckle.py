"""The speckle term as a training step adds it: its weight, its balance against the segmentation loss, its control."""

# B frames, K classes, H x W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from uscl.data.augment import send
from uscl.losses.balance import balanced, moved_mean
from uscl.losses.speckle import draw_donors, planes_of, speckle_term
from uscl.spec.trial import SpeckleSpec


class SpeckleTerm:
    """Adds the weighted speckle term to a segmentation loss; holds the running means of `balance: ema`.

    `speckle` as in a stage's inputs, its classes filled in; `classes` are the dataset's, in the order of the planes;
    `steps` is the length of the training, for `warmup`.
    """

    def __init__(self, speckle: SpeckleSpec, *, classes: Sequence[str], steps: int, device: torch.device) -> None:
        self._speckle, self._steps, self._device = speckle, steps, device
        self._classes = [classes.index(name) for name in speckle.classes]
        self._means = {name: torch.zeros((), device=device) for name in ("segmentation", "speckle")}

    def add(
        self,
        segmentation: Tensor,
        logits_BKHW: Tensor,
        truth_BKHW: Tensor,
        *,
        raw_BHW: Tensor,
        known_BHW: Tensor,
        cases: Sequence[str],
        step: int,
        rng: np.random.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to descend and, detached, both terms as measured. `rng` is that of the step.

        `fixed`: segmentation + weight * speckle. `ema`: each first divided by the running mean of its value, which
        this step's value enters; call it once per step.
        """
        donor_BB = send(draw_donors(cases, rng), self._device) if self._speckle.permuted else None
        with torch.autocast(self._device.type, enabled=False):
            term = speckle_term(
                raw_BHW,
                planes_of(logits_BKHW, self._classes).contiguous().sigmoid(),  # sums are slow in channels_last
                planes_of(truth_BKHW, self._classes),
                known_BHW,
                speckle=self._speckle,
                classes=range(len(self._classes)),
                donor_BB=donor_BB,
            )
            loss = self._balanced("segmentation", segmentation) + self.weight(step) * self._balanced("speckle", term)
        return loss, {"segmentation_loss": segmentation.detach(), "speckle_loss": term.detach()}

    def weight(self, step: int) -> float:
        """`speckle.weight`, rising linearly from 0 over the warm-up; `step` counts from 0."""
        rise = self._speckle.warmup * self._steps
        return self._speckle.weight * (min(1.0, step / rise) if rise else 1.0)

    def state(self) -> dict[str, Tensor]:
        """What changes while training: the running means, where they are read."""
        return dict(self._means) if self._speckle.balance == "ema" else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self._means |= {name: mean.to(self._device) for name, mean in state.items()}

    def _balanced(self, name: str, term: Tensor) -> Tensor:
        if self._speckle.balance == "fixed":
            return term
        self._means[name] = moved_mean(self._means[name], term)
        return balanced(term, self._means[name])
