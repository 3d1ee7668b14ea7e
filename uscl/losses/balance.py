"""Terms of a loss on one scale: a term brought to the running mean of another (science.md 6.4, `ema`)."""

from __future__ import annotations

import torch
from torch import Tensor

DECAY = 0.99
"""Of the running mean, per step: it looks back some 100 steps (project choice; the paper only says `normalized`)."""
LEAST_MEAN = 1e-8
"""Under the fraction: a term that has been zero so far stays zero."""


def moved_mean(mean: Tensor, value: Tensor) -> Tensor:
    """The running mean of a term after one more value, detached; scalars on one device, nothing waits for it.

    A mean of 0 stands for none yet and becomes the first value. A value of 0 leaves it alone: it means that the term
    had nothing to measure (no valid region in the batch), not that it was small.
    """
    value = value.detach()
    moved = torch.where(mean == 0, value, DECAY * mean + (1 - DECAY) * value)
    return torch.where(value == 0, mean, moved)


def balanced(value: Tensor, mean: Tensor, like: Tensor) -> Tensor:
    """The term in units of its running mean, times the running mean of the term that it stands beside (`like`)."""
    return value * (like / mean.clamp_min(LEAST_MEAN))
