"""How far apart the speckle of two regions is, by the parameters of their model (science.md 6.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from uscl.speckle.gamma import GammaLaw, GammaParameters, gamma_divergence
from uscl.speckle.histogram import HistogramParameters, wasserstein1
from uscl.speckle.models import Parameters
from uscl.speckle.nakagami import NakagamiParameters

Form: TypeAlias = Literal["euclidean", "log", "kl", "jeffreys", "literal"]

EPSILON = 1e-8
"""Under roots and logarithms: a finite gradient where prediction and truth agree, or where a region is empty."""
MIN_SHAPE = 1e-2
"""Least Gamma shape in a divergence: the digamma function of less is beyond -100. Nakagami's m is 0.5 or more."""


def speckle_distance(found: Parameters, wanted: Parameters, *, form: Form = "euclidean") -> Tensor:
    """Distance of the predicted parameters from the annotated ones, elementwise; 0 where they agree.

    `euclidean`: root of the summed squared differences, as the paper's text has it; depends on the grey scale (m is 1
    to 8 on [0, 1] B-mode, Omega 0.1 to 0.2). `log`: sum of squared differences of logarithms, which a gain change of
    both regions leaves alone. `kl`: KL(annotated || predicted) of the Gamma laws behind the models; `jeffreys`: both
    directions added. `literal`: sqrt(|dm + dOmega|), eq. 5 as printed but for the absolute value, without which about
    half of all pairs have no root; a curiosity: differences of opposite sign cancel. Two histograms have one distance,
    Wasserstein-1, whatever the form. All but `kl` are symmetric. Both arguments are of one model.
    """
    if isinstance(found, HistogramParameters):
        assert isinstance(wanted, HistogramParameters)
        return wasserstein1(found, wanted)
    pairs = list(zip(found, wanted, strict=True))
    if form == "euclidean":
        return _root(_total((one - other).square() for one, other in pairs))
    if form == "literal":
        return _root(_total(one - other for one, other in pairs).abs())
    if form == "log":
        return _total((one.clamp_min(EPSILON) / other.clamp_min(EPSILON)).log().square() for one, other in pairs)
    forward = gamma_divergence(gamma_law(wanted), gamma_law(found))
    return forward if form == "kl" else forward + gamma_divergence(gamma_law(found), gamma_law(wanted))


def gamma_law(parameters: Parameters) -> GammaLaw:
    """The Gamma law behind a model: of the squared amplitude for Nakagami and Rayleigh, of the amplitude for Gamma.

    TypeError for a histogram, which has none.
    """
    if isinstance(parameters, NakagamiParameters):
        return _law(parameters.m, parameters.omega)
    if isinstance(parameters, GammaParameters):
        return _law(parameters.shape, parameters.mean)
    if isinstance(parameters, HistogramParameters):
        raise TypeError("a histogram has no Gamma law")
    mean = 2 * parameters.sigma2
    return _law(mean.new_ones(()), mean)


def _law(shape: Tensor, mean: Tensor) -> GammaLaw:
    shape = shape.clamp_min(MIN_SHAPE)
    return GammaLaw(shape, mean.clamp_min(EPSILON) / shape)


def _total(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _root(value: Tensor) -> Tensor:
    return (value + EPSILON).sqrt() - math.sqrt(EPSILON)
