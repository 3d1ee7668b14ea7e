"""From logits to the classes of a dataset, and from its masks to what a network is trained on: `network.heads`.

`SigmoidHeads`: one output per class against the rest, nested classes stay whole. `SoftmaxHeads`: exclusive outputs,
background and one part per class; a class is the union of its own part and of what it contains.
"""
# B frames, K classes, L outputs of the network, H x W pixels

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uscl.spec.regions import Containment, memberships, outer_first

THRESHOLD = 0.5
"""Probability from which a pixel belongs to a class of its own output."""


class Heads(Protocol):
    """How a network's outputs stand for classes."""

    def output_probability(self, logits_BLHW: Tensor) -> Tensor:
        """Probability of every output (B, L, H, W), float32: what is averaged over views and resampled."""

    def class_probability(self, logits_BLHW: Tensor) -> Tensor:
        """Probability of every class (B, K, H, W), float32, with a gradient."""

    def found(self, logits_BLHW: Tensor) -> Tensor:
        """Predicted masks (B, K, H, W) as 0 and 1."""

    def masks(self, probability_LHW: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Predicted masks (K, H, W) from output probabilities."""

    def target(self, truth_BKHW: Tensor) -> Tensor:
        """Class masks as what the outputs are trained on (B, L, H, W)."""


class SigmoidHeads:
    """Every class is an output of its own."""

    def output_probability(self, logits_BLHW: Tensor) -> Tensor:
        """Sigmoid."""
        return logits_BLHW.float().sigmoid()

    def class_probability(self, logits_BLHW: Tensor) -> Tensor:
        """Sigmoid."""
        return logits_BLHW.float().sigmoid()

    def found(self, logits_BLHW: Tensor) -> Tensor:
        """Above 1/2."""
        return (logits_BLHW > 0).float()

    def masks(self, probability_LHW: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Above 1/2."""
        return np.asarray(probability_LHW > THRESHOLD)

    def target(self, truth_BKHW: Tensor) -> Tensor:
        """The masks themselves."""
        return truth_BKHW


class SoftmaxHeads:
    """Background and one exclusive part per class; the likeliest output wins a pixel."""

    def __init__(self, classes: Sequence[str], containment: Containment, device: torch.device) -> None:
        self._member_KL = np.array(memberships(classes, containment), dtype=bool).reshape(len(classes), -1)
        self._weight_KL = torch.from_numpy(self._member_KL.astype(np.float32)).to(device)
        self._outputs = torch.arange(len(classes) + 1, device=device)[None, :, None, None]
        self._order = outer_first(classes, containment)

    def output_probability(self, logits_BLHW: Tensor) -> Tensor:
        """Softmax."""
        return logits_BLHW.float().softmax(dim=1)

    def class_probability(self, logits_BLHW: Tensor) -> Tensor:
        """Sum over the outputs that a class is the union of."""
        return self._union(self.output_probability(logits_BLHW))

    def found(self, logits_BLHW: Tensor) -> Tensor:
        """The classes that the likeliest output belongs to."""
        return self._union((logits_BLHW.argmax(dim=1, keepdim=True) == self._outputs).float())

    def masks(self, probability_LHW: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The classes that the likeliest output belongs to."""
        return np.asarray(self._member_KL[:, probability_LHW.argmax(axis=0)])

    def target(self, truth_BKHW: Tensor) -> Tensor:
        """One-hot: a pixel belongs to the innermost class that holds it, to the later of two that are not nested."""
        label_B1HW = torch.zeros_like(truth_BKHW[:, :1])
        for number in self._order:
            label_B1HW = label_B1HW.masked_fill(truth_BKHW[:, number : number + 1] > THRESHOLD, number + 1)
        return (label_B1HW == self._outputs).to(truth_BKHW.dtype)

    def _union(self, output_BLHW: Tensor) -> Tensor:
        with torch.autocast(output_BLHW.device.type, enabled=False):  # a product of matrices would be in half precision
            return torch.einsum("kl,blhw->bkhw", self._weight_KL, output_BLHW)


def num_outputs(kind: str, num_classes: int) -> int:
    """L: outputs that a network needs under `network.heads`."""
    return num_classes + 1 if kind == "softmax" else num_classes


def make_heads(kind: str, classes: Sequence[str], containment: Containment, *, device: torch.device) -> Heads:
    """The heads of `network.heads`: sigmoid or softmax."""
    if kind == "softmax":
        return SoftmaxHeads(classes, containment, device)
    return SigmoidHeads()


def partial_overlap(
    truth_NKHW: Tensor, classes: Sequence[str], containment: Containment, *, tolerance: float
) -> tuple[str, str, float] | None:
    """Two classes whose masks overlap otherwise than declared, and by how much; None where all is as declared.

    Of two separate classes, the part of the smaller one that lies in the other; of nested ones, the part of the inner
    one that lies outside. Beyond `tolerance` exclusive classes would not stand for the masks.
    """
    flat_KP = truth_NKHW.transpose(0, 1).flatten(1).double()
    shared, area, within = (flat_KP @ flat_KP.T).cpu().numpy(), flat_KP.sum(dim=1).cpu().numpy(), dict(containment)
    for one, first in enumerate(classes):
        for two, second in enumerate(classes[:one]):
            outer, inner = (one, two) if second in within.get(first, ()) else (two, one)
            is_nested = classes[inner] in within.get(classes[outer], ())
            smaller = area[inner] if is_nested else min(area[one], area[two])
            wrong = smaller - shared[one, two] if is_nested else shared[one, two]
            if wrong > tolerance * max(smaller, 1.0):
                return second, first, float(wrong / smaller)
    return None
