"""Rayleigh, Gamma and the histogram, and what every model must hold."""

import numpy as np
import pytest
import torch
from scipy import stats

from uscl.speckle.amplitude import decompressed, decompressed_guard
from uscl.speckle.gamma import MAX_SHAPE, GammaLaw, gamma, gamma_divergence
from uscl.speckle.histogram import NUM_KNOTS, histogram, wasserstein1
from uscl.speckle.models import FITS, fit_soft
from uscl.speckle.nakagami import nakagami_log_moments, nakagami_moments
from uscl.speckle.rayleigh import rayleigh

ONE_TWO_THREE = torch.tensor([[1.0, 2.0, 3.0]])
EVERYWHERE = torch.ones(1, 1, 3)


def samples(law, number=40_000, seed=2):
    return torch.from_numpy(law.rvs((1, number), random_state=seed)).float()


def whole(rows):
    return torch.ones(len(rows), 1, rows.shape[1])


def test_rayleigh_by_hand_and_on_samples():
    assert rayleigh(ONE_TWO_THREE, EVERYWHERE).sigma2.item() == pytest.approx(7 / 3)
    image = samples(stats.rayleigh(scale=0.3))
    assert rayleigh(image, whole(image)).sigma2.item() == pytest.approx(0.09, rel=0.02)


def test_gamma_by_hand_and_on_samples():
    shape, mean = gamma(ONE_TWO_THREE, EVERYWHERE)
    assert (shape.item(), mean.item()) == (pytest.approx(6.0, rel=1e-5), pytest.approx(2.0))
    image = samples(stats.gamma(a=5.0, scale=0.08))
    shape, mean = gamma(image, whole(image))
    assert (shape.item(), mean.item()) == (pytest.approx(5.0, rel=0.03), pytest.approx(0.4, rel=0.01))


def test_gamma_shape_is_the_squared_speckle_snr():
    image = torch.from_numpy(np.random.default_rng(1).rayleigh(0.2, (1, 100_000))).float()
    assert gamma(image, whole(image)).shape.sqrt().item() == pytest.approx(1.913, abs=0.02)


def test_a_flat_region_has_the_largest_shape():
    image = 0.5 + 1e-4 * torch.rand((1, 64), generator=torch.Generator().manual_seed(0))
    assert gamma(image, whole(image)).shape.item() == pytest.approx(MAX_SHAPE)


def test_histogram_by_hand():
    """Half a pixel at 0, all of one at 1/2: the distribution steps to 1/3 and to 1."""
    cumulative = histogram(torch.tensor([[0.0, 0.5]]), torch.tensor([[[0.5, 1.0]]])).cumulative[0, 0]
    middle = (NUM_KNOTS - 1) // 2
    assert torch.allclose(cumulative[:middle], torch.tensor(1 / 3))
    assert torch.allclose(cumulative[middle:], torch.tensor(1.0))


@pytest.mark.parametrize("shift", [0.25, 0.01, 0.1234])
def test_wasserstein_of_moved_grey_levels_is_the_move(shift):
    image = 0.7 * torch.rand((1, 500), generator=torch.Generator().manual_seed(3))
    before, after = histogram(image, whole(image)), histogram(image + shift, whole(image))
    assert wasserstein1(before, after).item() == pytest.approx(shift, rel=1e-4)
    assert wasserstein1(after, before).item() == wasserstein1(before, after).item()
    assert wasserstein1(before, before).item() == 0.0


def test_wasserstein_against_scipy():
    rng = np.random.default_rng(0)
    one, other = rng.beta(2, 5, 400), rng.beta(3, 3, 300)
    fits = [histogram(torch.from_numpy(values)[None].float(), torch.ones(1, 1, len(values))) for values in (one, other)]
    assert wasserstein1(*fits).item() == pytest.approx(stats.wasserstein_distance(one, other), abs=2e-3)


def test_the_histogram_tells_apart_what_nakagami_cannot():
    """Two grey levels, and a spread with the same E[x^2] and E[x^4]."""
    power_one = torch.tensor([[0.1, 0.3, 0.1, 0.3]])
    power_other = torch.tensor([[0.2, 0.2, 0.2 + 0.02**0.5, 0.2 - 0.02**0.5]])
    images = [power.sqrt() for power in (power_one, power_other)]
    same, different = ([fit(image, whole(image)) for image in images] for fit in (nakagami_moments, histogram))
    assert same[0].m.item() == pytest.approx(same[1].m.item(), rel=1e-4)
    assert same[0].omega.item() == pytest.approx(same[1].omega.item(), rel=1e-5)
    assert wasserstein1(*different).item() > 0.03


@pytest.mark.parametrize(("model", "estimator"), FITS)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dynamic_range_db", [None, 60.0, 120.0])
def test_constant_and_empty_regions_give_finite_values_and_gradients(model, estimator, level, dynamic_range_db):
    image, changes = torch.full((1, 64), level), {}
    if dynamic_range_db:
        image = decompressed(image, dynamic_range_db=dynamic_range_db)
        changes = {"guard": decompressed_guard(dynamic_range_db)}
    weight = torch.stack([torch.ones(64), torch.zeros(64), torch.full((64,), 1e-12)])[None].requires_grad_()
    parameters = fit_soft(image, weight, model=model, estimator=estimator, **changes)
    sum(parameter.sum() for parameter in parameters).backward()
    assert all(torch.isfinite(parameter).all() for parameter in parameters)
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("model", ["rayleigh", "gamma", "histogram"])
def test_gradient(model):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, 12), generator=generator, dtype=torch.float64)
    weight = (torch.rand((2, 2, 12), generator=generator, dtype=torch.float64) + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda region: tuple(fit_soft(image, region, model=model)), weight)


@pytest.mark.parametrize("model", ["rayleigh", "gamma", "histogram"])
def test_unknown_pixels_are_in_no_region(model):
    image, known = torch.tensor([[0.1, 0.2, 0.3, 0.9]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    found = fit_soft(image, torch.ones(1, 1, 4), model=model, known_RN=known)
    wanted = fit_soft(image[:, :3], EVERYWHERE, model=model)
    assert all(torch.allclose(one, other) for one, other in zip(found, wanted, strict=True))


def test_divergence_by_hand():
    """science.md 11, oracle 7: Nakagami (1, 1) and (2, 1) as Gamma laws of the squared amplitude."""
    one, two = (GammaLaw(torch.tensor(m), torch.tensor(1.0 / m)) for m in (1.0, 2.0))
    assert gamma_divergence(one, two).item() == pytest.approx(0.1909, abs=1e-4)
    assert gamma_divergence(two, one).item() == pytest.approx(0.1159, abs=1e-4)
    assert gamma_divergence(one, one).item() == 0.0


def test_divergence_is_that_of_torch_distributions():
    generator = torch.Generator().manual_seed(4)
    shape, scale = (0.2 + 5 * torch.rand((2, 50), generator=generator, dtype=torch.float64) for _ in range(2))
    laws = [GammaLaw(*pair) for pair in zip(shape, scale, strict=True)]
    reference = [torch.distributions.Gamma(law.shape, 1 / law.scale) for law in laws]
    assert torch.allclose(gamma_divergence(*laws), torch.distributions.kl_divergence(*reference))


# ---- from displayed grey levels to amplitude


def test_decompression_by_hand():
    amplitude = decompressed(torch.tensor([0.0, 0.5, 1.0]), dynamic_range_db=60.0)
    assert amplitude.tolist() == pytest.approx([1e-3, 10**-1.5, 1.0], rel=1e-5)


@pytest.mark.parametrize("dynamic_range_db", [40.0, 60.0, 80.0])
def test_decompression_finds_the_m_of_tissue_that_b_mode_hides(dynamic_range_db):
    """science.md 6.2: fully developed speckle reads m 7.8 to 40 on a log-compressed image."""
    envelope = np.random.default_rng(6).rayleigh(0.15, (1, 50_000)).clip(max=1.0)
    shown = np.clip(1 + 20 * np.log10(envelope) / dynamic_range_db, 0, 1)
    b_mode = torch.from_numpy(np.round(255 * shown) / 255).float()
    guard, amplitude = decompressed_guard(dynamic_range_db), decompressed(b_mode, dynamic_range_db=dynamic_range_db)
    assert nakagami_moments(b_mode, whole(b_mode)).m.item() > 5
    for estimate in (nakagami_moments, nakagami_log_moments):
        assert estimate(amplitude, whole(amplitude), guard=guard).m.item() == pytest.approx(1.0, abs=0.06)


def test_dark_tissue_keeps_its_m_after_decompression():
    """At 60 dB a grey level of 0.3 has power 1e-4: guards are on that scale, not on that of B-mode."""
    rng = np.random.default_rng(8)
    envelope = rng.rayleigh(5e-3, (1, 50_000))
    b_mode = torch.from_numpy(np.clip(1 + 20 * np.log10(envelope) / 60.0, 0, 1)).float()
    amplitude = decompressed(b_mode, dynamic_range_db=60.0)
    found = nakagami_moments(amplitude, whole(amplitude), guard=decompressed_guard(60.0))
    assert found.m.item() == pytest.approx(1.0, abs=0.05)
