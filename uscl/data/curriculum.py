"""How far the far frames are that serve as negatives: ranges of distance that close in on the anchor while training.

US_UCL (Basu et al. 2022; science.md 3.3) starts with frames 20-40 % of the clip away and ends with frames 3-7 % away.
A range is a pure function of step / steps, so a resumed run goes on with the range it would have had.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STAGES: tuple[tuple[float, tuple[float, float]], ...] = ((0.4, (0.2, 0.4)), (0.8, (0.1, 0.15)), (1.0, (0.03, 0.07)))
"""(end, range): the range as fractions of the clip's length, up to this part of the steps: epochs 20, 40, 50 of 50."""


def negative_range(curriculum: str, progress: float) -> tuple[float, float]:
    """Least and greatest distance of far negatives at `progress` in [0, 1], as fractions of the clip's length.

    `steps`: the three ranges of US_UCL, one after the other; `cosine`: a half cosine from the first to the last.
    """
    if curriculum == "steps":
        return next((span for end, span in STAGES if progress < end), STAGES[-1][1])
    assert curriculum == "cosine"
    (first_low, first_high), (last_low, last_high) = STAGES[0][1], STAGES[-1][1]
    share = (1.0 + math.cos(math.pi * min(progress, 1.0))) / 2.0
    return last_low + share * (first_low - last_low), last_high + share * (first_high - last_high)


def clip_length(position_F: NDArray[np.float64]) -> float:
    """Length of a clip in the unit of its frames' positions: F frames at a mean spacing; 0 for one frame."""
    frames = len(position_F)
    return float(np.ptp(position_F)) * frames / (frames - 1) if frames > 1 else 0.0


def reachable_range(far_gaps: NDArray[np.float64], low: float, high: float, *, tolerance: float) -> tuple[float, float]:
    """The range, moved as little as needed to hold one of the distances at which the clip has far frames.

    Where the window already covers the range, the nearest far distance takes its place. `far_gaps` is not empty.
    """
    if ((far_gaps >= low - tolerance) & (far_gaps <= high + tolerance)).any():
        return low, high
    beyond = far_gaps[far_gaps >= low - tolerance]
    return (low, float(beyond.min())) if len(beyond) else (float(far_gaps.max()), high)
