"""Distances of speckle parameters, by hand and against torch.distributions."""

import math

import pytest
import torch

from uscl.losses.speckle_distance import gamma_law, speckle_distance
from uscl.speckle.gamma import GammaParameters
from uscl.speckle.histogram import HistogramParameters
from uscl.speckle.nakagami import NakagamiParameters
from uscl.speckle.rayleigh import RayleighParameters


def nakagami(m, omega):
    return NakagamiParameters(torch.tensor([m]), torch.tensor([omega]))


FOUND, WANTED = nakagami(2.0, 1.0), nakagami(1.0, 1.5)
"""science.md 11, oracle 7."""


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("euclidean", math.sqrt(1.25)),
        ("log", math.log(2) ** 2 + math.log(1.5) ** 2),
        ("literal", math.sqrt(0.5)),
    ],
)
def test_distances_by_hand(form, expected):
    assert speckle_distance(FOUND, WANTED, form=form).item() == pytest.approx(expected, abs=2e-4)
    assert speckle_distance(WANTED, FOUND, form=form).item() == pytest.approx(expected, abs=2e-4)


def test_the_printed_form_has_no_root_the_other_way():
    """Why `literal` takes an absolute value: d m + d Omega = -0.5."""
    total = (WANTED.m - FOUND.m) + (WANTED.omega - FOUND.omega)
    assert total.sqrt().isnan()
    assert speckle_distance(WANTED, FOUND, form="literal").isfinite()


def test_literal_is_blind_where_differences_cancel():
    one, other = nakagami(2.0, 1.0), nakagami(1.5, 1.5)
    assert speckle_distance(one, other, form="literal").item() == pytest.approx(0.0, abs=1e-6)
    assert speckle_distance(one, other).item() == pytest.approx(math.sqrt(0.5), abs=2e-4)


def test_kl_is_of_the_prediction_from_the_annotation():
    one, two = nakagami(1.0, 1.0), nakagami(2.0, 1.0)
    assert speckle_distance(two, one, form="kl").item() == pytest.approx(0.1909, abs=1e-4)
    assert speckle_distance(one, two, form="kl").item() == pytest.approx(0.1159, abs=1e-4)
    assert speckle_distance(one, two, form="jeffreys").item() == pytest.approx(0.3068, abs=1e-4)
    assert speckle_distance(two, one, form="jeffreys").item() == pytest.approx(0.3068, abs=1e-4)


def random_parameters(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    return kind(*(0.1 + 4 * torch.rand(20, generator=generator).double() for _ in kind._fields))


@pytest.mark.parametrize("kind", [NakagamiParameters, RayleighParameters, GammaParameters])
def test_kl_and_jeffreys_are_those_of_torch_distributions(kind):
    found, wanted = random_parameters(kind, 0), random_parameters(kind, 1)
    laws = [gamma_law(each) for each in (wanted, found)]
    one, other = (torch.distributions.Gamma(law.shape.expand(20), 1 / law.scale) for law in laws)
    forth, back = torch.distributions.kl_divergence(one, other), torch.distributions.kl_divergence(other, one)
    assert torch.allclose(speckle_distance(found, wanted, form="kl"), forth)
    assert torch.allclose(speckle_distance(found, wanted, form="jeffreys"), forth + back)


def test_rayleigh_is_nakagami_with_m_1():
    """2 sigma^2 = Omega."""
    pairs = [(RayleighParameters(torch.tensor([s])), nakagami(1.0, 2 * s)) for s in (0.3, 0.7)]
    (one, one_as), (other, other_as) = pairs
    for form in ("kl", "jeffreys", "log"):
        assert speckle_distance(one, other, form=form).item() == pytest.approx(
            speckle_distance(one_as, other_as, form=form).item(), rel=1e-5
        )


@pytest.mark.parametrize("kind", [NakagamiParameters, RayleighParameters, GammaParameters])
@pytest.mark.parametrize("form", ["euclidean", "log", "kl", "jeffreys"])
def test_zero_only_where_parameters_agree(kind, form):
    one, other = random_parameters(kind, 0), random_parameters(kind, 1)
    assert torch.allclose(speckle_distance(one, one, form=form), torch.zeros(20).double())
    assert (speckle_distance(one, other, form=form) > 1e-6).all()


def test_a_histogram_has_one_distance_and_no_law():
    one, other = (HistogramParameters(torch.tensor([[[0.5, 1.0, 1.0]]]) * scale) for scale in (1.0, 0.5))
    assert speckle_distance(one, other).item() == speckle_distance(one, other, form="log").item() > 0
    with pytest.raises(TypeError, match="no Gamma law"):
        gamma_law(one)
