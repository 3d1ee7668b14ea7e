import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uscl.speckle.nakagami import MAX_M, nakagami_log_moments, nakagami_moments
from uscl.speckle.weights import has_speckle

ONE_TWO_THREE = torch.tensor([[1.0, 2.0, 3.0]])
EVERYWHERE = torch.ones(1, 1, 3)
ESTIMATORS = (nakagami_moments, nakagami_log_moments)


def whole(rows):
    """One region that holds every pixel of its row."""
    return torch.ones(len(rows), 1, rows.shape[1])


def test_moments_of_one_two_three():
    m, omega = nakagami_moments(ONE_TWO_THREE, EVERYWHERE)
    assert m.item() == pytest.approx(2.0, rel=1e-5)
    assert omega.item() == pytest.approx(14 / 3, rel=1e-5)
    assert m.shape == omega.shape == (1, 1)


def test_log_moments_of_one_two_three():
    excess = math.log(14 / 3) - 2 * math.log(6) / 3
    assert excess == pytest.approx(0.3459, abs=1e-4)
    m, omega = nakagami_log_moments(ONE_TWO_THREE, EVERYWHERE)
    assert m.item() == pytest.approx(1.583, abs=1e-3)
    assert omega.item() == pytest.approx(14 / 3, rel=1e-5)


@pytest.mark.parametrize("estimate", ESTIMATORS)
@given(scale=st.floats(0.5, 4.0))
@settings(max_examples=20, deadline=None)
def test_gain_keeps_m_and_scales_omega_by_its_square(estimate, scale):
    before, after = estimate(ONE_TWO_THREE, EVERYWHERE), estimate(ONE_TWO_THREE * scale, EVERYWHERE)
    assert after.m.item() == pytest.approx(before.m.item(), rel=1e-4)
    assert after.omega.item() == pytest.approx(before.omega.item() * scale**2, rel=1e-4)


@pytest.mark.parametrize("estimate", ESTIMATORS)
@pytest.mark.parametrize("true_m", [0.5, 1.0, 2.0])
def test_recovers_the_parameters_of_nakagami_samples(estimate, true_m):
    sample = stats.nakagami(nu=true_m, scale=math.sqrt(0.2)).rvs((1, 40_000), random_state=3)
    image = torch.from_numpy(sample).float()
    m, omega = estimate(image, whole(image))
    assert m.item() == pytest.approx(true_m, rel=0.03)
    assert omega.item() == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_weights_pick_the_region(estimate):
    image = torch.tensor([[1.0, 2.0, 3.0, 9.0]])
    weight = torch.tensor([[[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    first, second = estimate(image, weight).m[0]
    assert first.item() == pytest.approx(estimate(ONE_TWO_THREE, EVERYWHERE).m.item(), rel=1e-5)
    assert second.item() == pytest.approx(estimate(image[:, 2:], torch.ones(1, 1, 2)).m.item(), rel=1e-5)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_unknown_pixels_are_in_no_region(estimate):
    image, known = torch.tensor([[1.0, 2.0, 3.0, 9.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    found = estimate(image, torch.ones(1, 1, 4), known_RN=known)
    assert found.m.item() == pytest.approx(estimate(ONE_TWO_THREE, EVERYWHERE).m.item(), rel=1e-5)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_a_weight_counts_as_so_many_pixels(estimate):
    image, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[[0.25, 0.5]]])
    doubled = torch.tensor([[1.0, 2.0, 2.0]])
    assert estimate(image, weight).m.item() == pytest.approx(estimate(doubled, whole(doubled)).m.item(), rel=1e-5)


@pytest.mark.parametrize("estimate", ESTIMATORS)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_and_empty_regions_give_finite_values_and_gradients(estimate, level):
    image = torch.full((1, 64), level)
    weight = torch.stack([torch.ones(64), torch.zeros(64)])[None].requires_grad_()
    m, omega = estimate(image, weight)
    (m.sum() + omega.sum()).backward()
    assert torch.isfinite(m).all() and torch.isfinite(omega).all() and (m <= MAX_M * (1 + 1e-6)).all()
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_gradient(estimate):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, 12), generator=generator, dtype=torch.float64) + 0.2
    weight = (torch.rand((2, 2, 12), generator=generator, dtype=torch.float64) + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda region: tuple(estimate(image, region)), weight)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_stays_in_float32_under_autocast(estimate):
    image = torch.rand(1, 256).to(torch.bfloat16)
    plain = estimate(image, whole(image).to(torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        m, omega = estimate(image, whole(image).to(torch.bfloat16))
    assert m.dtype == omega.dtype == torch.float32
    assert m.equal(plain.m) and omega.equal(plain.omega)


def test_a_region_counts_by_size_and_spread():
    image = torch.rand((2, 64), generator=torch.Generator().manual_seed(1))
    image[1] = 0.5
    small = torch.zeros(64)
    small[:8] = 1.0
    region = torch.stack([torch.ones(64), small]).expand(2, -1, -1)
    assert has_speckle(image, region, min_pixels=64).tolist() == [[True, False], [False, False]]
    assert has_speckle(image, region, min_pixels=8).tolist() == [[True, True], [False, False]]
    known = torch.ones(2, 64)
    known[:, 0] = 0.0
    assert has_speckle(image, region, min_pixels=8, known_RN=known).tolist() == [[True, False], [False, False]]


def rayleigh_rows(number, pixels, seed=5):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.rayleigh(1.0, (number, pixels))).float()


def test_simulated_rayleigh_envelope_has_m_1_and_snr_1_913():
    image = rayleigh_rows(1, 200_000)
    assert nakagami_moments(image, whole(image)).m.item() == pytest.approx(1.0, abs=0.01)
    assert nakagami_log_moments(image, whole(image)).m.item() == pytest.approx(1.0, abs=0.01)
    assert (image.mean() / image.std()).item() == pytest.approx(1.913, abs=0.01)


def test_small_regions_are_biased_up():
    """The reason for `min_pixels`: science.md 6.1, 1.37 at 16 pixels and 1.02 at 256."""
    large = rayleigh_rows(4000, 256)
    small = large[:, :16]
    assert nakagami_moments(small, whole(small)).m.mean().item() == pytest.approx(1.37, abs=0.05)
    assert nakagami_moments(large, whole(large)).m.mean().item() == pytest.approx(1.02, abs=0.02)


@pytest.mark.parametrize(
    ("true_m", "moment_sd", "log_sd"), [(0.5, 0.075, 0.037), (1.0, 0.126, 0.080), (2.0, 0.214, 0.167)]
)
def test_log_moments_spread_less_than_moments(true_m, moment_sd, log_sd):
    """science.md 6.1, at 256 pixels."""
    sample = np.sqrt(np.random.default_rng(7).gamma(true_m, 1 / true_m, (2000, 256)))
    # the lower guard (one grey level) is that of [0, 1] images; here it touches next to nothing
    image = torch.from_numpy(sample).float()
    moment, log_moment = (estimate(image, whole(image)).m.std().item() for estimate in ESTIMATORS)
    assert log_moment < moment
    assert moment == pytest.approx(moment_sd, rel=0.08) and log_moment == pytest.approx(log_sd, rel=0.08)
