"""The models of speckle behind one interface: `fit_soft` gives a region's parameters, each model's as its own type.

Whether a region may be fitted at all is the same question for every model: `weights.has_speckle`.
"""

# R rows (frames, or patches of frames), K classes, N pixels

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from uscl.speckle.amplitude import B_MODE_GUARD, Guard
from uscl.speckle.gamma import GammaParameters, gamma
from uscl.speckle.histogram import HistogramParameters, histogram
from uscl.speckle.nakagami import NakagamiParameters, nakagami_log_moments, nakagami_moments
from uscl.speckle.rayleigh import RayleighParameters, rayleigh

ModelName: TypeAlias = Literal["nakagami", "rayleigh", "gamma", "histogram"]
Estimator: TypeAlias = Literal["moment", "log_moment"]
Parameters: TypeAlias = NakagamiParameters | RayleighParameters | GammaParameters | HistogramParameters


class Fit(Protocol):
    """Fits a model to K soft regions of each row; guarded, float32, differentiable in the weights."""

    def __call__(
        self, intensity_RN: Tensor, weight_RKN: Tensor, *, known_RN: Tensor | None = ..., guard: Guard = ...
    ) -> Parameters:
        """Parameters of shape (R, K) or, for a distribution on knots, (R, K, T)."""


FITS: Mapping[tuple[ModelName, Estimator], Fit] = {
    ("nakagami", "moment"): nakagami_moments,
    ("nakagami", "log_moment"): nakagami_log_moments,
    ("rayleigh", "moment"): rayleigh,
    ("gamma", "moment"): gamma,
    ("histogram", "moment"): histogram,
}
"""Nakagami alone has two estimators; the others are fitted in one way, whatever `estimator` says."""


def fit_soft(
    intensity_RN: Tensor,
    weight_RKN: Tensor,
    *,
    model: ModelName,
    estimator: Estimator = "moment",
    known_RN: Tensor | None = None,
    guard: Guard = B_MODE_GUARD,
) -> Parameters:
    """A model's parameters over K soft regions of each row.

    `intensity` is amplitude >= 0 before any intensity augmentation, on the scale that `guard` belongs to; `weight` in
    [0, 1] is the region, `known` in [0, 1] which pixels count at all. Parameters of an empty or constant region are
    finite and mean nothing.
    """
    fit = FITS[(model, estimator if model == "nakagami" else "moment")]
    return fit(intensity_RN, weight_RKN, known_RN=known_RN, guard=guard)
