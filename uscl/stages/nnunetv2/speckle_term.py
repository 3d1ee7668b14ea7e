"""The speckle term beside nnU-Net's loss, on raw grey levels: nnU-Net itself only sees them z-scored and augmented."""

# B batch, K classes in the order of nnU-Net's labels, H x W pixels

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from uscl.losses.speckle import speckle_term
from uscl.spec.trial import SpeckleSpec
from uscl.stages.nnunetv2.labels import LabelScheme
from uscl.stages.nnunetv2.raw import image_path
from uscl.stages.speckle_term import Balance

INSIDE = 0.999
"""A pixel counts where interpolation drew on the frame alone, not on the padding around it."""
LEAST_LOSS = -1.0
"""Of nnU-Net's loss: its Dice part is minus the Dice, where ours is 1 minus it."""


class RawCases:
    """nnU-Net's preprocessed training cases with two more channels: raw grey / 255, and 1 (padding will be 0).

    The raw file is cropped as preprocessing cropped it. Nothing is resampled: all PNGs have one spacing.
    """

    def __init__(self, cases: Any, root: Path) -> None:
        self._cases, self._root = cases, root
        self.identifiers = cases.identifiers

    def load_case(self, name: str) -> tuple[np.ndarray, Any, Any, Any]:
        """(3, 1, H, W) float32, and the rest as nnU-Net has it."""
        frame, labels, previous, properties = self._cases.load_case(name)
        rows, columns = (slice(*bounds) for bounds in properties["bbox_used_for_cropping"][1:])
        raw = cv2.imread(str(image_path(self._root, name)), cv2.IMREAD_GRAYSCALE)
        assert raw is not None
        planes = np.asarray(raw, np.float32)[None, None, rows, columns] / np.float32(255.0)
        stacked = np.concatenate([frame[:], planes, np.ones_like(planes)]).astype(np.float32)
        return stacked, labels, previous, properties


class SpeckleTerm(nn.Module):
    """nnU-Net's loss, plus the weighted speckle term of the finest output in the steps that bring raw frames."""

    def __init__(
        self,
        segmentation: nn.Module,
        speckle: SpeckleSpec,
        scheme: LabelScheme,
        *,
        ignore_label: int | None,
        steps: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self._segmentation, self._speckle, self._scheme = segmentation, speckle, scheme
        self._ignore_label = ignore_label
        self._raw_B2HW: Tensor | None = None
        self._step = 0
        self.balance = Balance(speckle, steps=steps, device=device)
        self.last: dict[str, np.ndarray] = {}
        """The two terms of the last training step."""

    @contextmanager
    def reading(self, raw_B2HW: Tensor, *, step: int) -> Iterator[None]:
        """One training step (0-based) with its raw frames; outside of it the loss is nnU-Net's alone."""
        self._step, self._raw_B2HW = step, raw_B2HW
        try:
            yield
        finally:
            self._raw_B2HW = None

    def forward(self, outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
        """Scalar loss of all deep-supervision outputs, the finest first."""
        segmentation: Tensor = self._segmentation(outputs, targets)
        if self._raw_B2HW is None:
            return segmentation
        with torch.autocast(outputs[0].device.type, enabled=False):
            speckle = self._term(outputs[0].float(), targets[0], self._raw_B2HW)
            loss = self.balance.sum(segmentation, speckle, step=self._step, least=LEAST_LOSS)
        terms = {"segmentation_loss": segmentation, "speckle_loss": speckle}
        self.last = {name: term.detach().cpu().numpy() for name, term in terms.items()}
        return loss

    def _term(self, logits: Tensor, target: Tensor, raw_B2HW: Tensor) -> Tensor:
        probability_BKHW, truth_BKHW, known_B1HW = read_outputs(
            logits, target, scheme=self._scheme, ignore_label=self._ignore_label
        )
        known_B1HW = known_B1HW * (raw_B2HW[:, 1:] > INSIDE)
        return speckle_term(
            raw_B2HW[:, 0],
            probability_BKHW,
            truth_BKHW,
            known_B1HW[:, 0],
            speckle=self._speckle,
            classes=[self._scheme.order.index(name) for name in self._speckle.classes],
        )


def read_outputs(
    logits: Tensor, target: Tensor, *, scheme: LabelScheme, ignore_label: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and truth (B, K, H, W) in the order of nnU-Net's labels, and known pixels (B, 1, H, W), float32.

    Under regions the target holds a plane per class, the ignored pixels last; else one plane of labels.
    """
    if scheme.nested:
        count = len(scheme.order)
        known = torch.ones_like(logits[:, :1]) if ignore_label is None else 1.0 - target[:, count:].float()
        return logits.sigmoid(), target[:, :count].float(), known
    truth = torch.cat([target == label for label in range(1, len(scheme.order) + 1)], dim=1).float()
    known = torch.ones_like(logits[:, :1]) if ignore_label is None else (target != ignore_label).float()
    return logits.softmax(1)[:, 1:], truth, known
