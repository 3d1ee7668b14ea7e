"""From a displayed image to the amplitude that a model of speckle is fitted to."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from uscl.speckle.weights import precise


class Guard(NamedTuple):
    """What counts as nothing on an amplitude's scale; models clamp to these before they divide or take logarithms."""

    amplitude: float
    """Least amplitude under a logarithm."""
    power_variance: float
    """Least variance of the squared amplitude under a fraction."""
    variance: float
    """Least variance of the amplitude under a fraction."""


B_MODE_GUARD = Guard(amplitude=1.0 / 255.0, power_variance=1e-6, variance=1e-6)
"""For images in [0, 1]: one grey level of 8 bits; the variances are those of a quarter of a grey level or less."""


def decompressed(b_mode: Tensor, *, dynamic_range_db: float) -> Tensor:
    """The amplitude behind a log-compressed image: 10^((b - 1) * DR / 20), in [10^(-DR/20), 1], any shape.

    `b_mode` is the displayed grey level / 255; a full white has amplitude 1, black the bottom of the range. It undoes
    the logarithm alone: gain curves, edge enhancement and the post-processing of a scanner stay. science.md 6.2.
    """
    return ((precise(b_mode) - 1.0) * (dynamic_range_db / 20.0 * math.log(10.0))).exp()


def decompressed_guard(dynamic_range_db: float) -> Guard:
    """Guards on the scale of `decompressed`: black, and variances below which m of an all-black region is past 20."""
    black = 10.0 ** (-dynamic_range_db / 20.0)
    return Guard(amplitude=black, power_variance=black**4 / 20.0, variance=black**2 / 80.0)
