import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uscl.speckle.nakagami import (
    MAX_M,
    has_speckle,
    nakagami_log_moments,
    nakagami_moments,
)

ONE_TWO_THREE = torch.tensor([[[1.0, 2.0, 3.0]]])
EVERYWHERE = torch.ones_like(ONE_TWO_THREE)
ESTIMATORS = (nakagami_moments, nakagami_log_moments)


def test_moments_of_one_two_three():
    m, omega = nakagami_moments(ONE_TWO_THREE, EVERYWHERE)
    assert m.item() == pytest.approx(2.0, rel=1e-5)
    assert omega.item() == pytest.approx(14 / 3, rel=1e-5)
    assert m.shape == omega.shape == (1,)


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
    sample = stats.nakagami(nu=true_m, scale=math.sqrt(0.2)).rvs((1, 200, 200), random_state=3)
    image = torch.from_numpy(sample).float()
    m, omega = estimate(image, torch.ones_like(image))
    assert m.item() == pytest.approx(true_m, rel=0.03)
    assert omega.item() == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_weights_pick_the_region(estimate):
    image = torch.tensor([[[1.0, 2.0, 3.0, 9.0]]])
    weight = torch.tensor([[[1.0, 1.0, 1.0, 0.0]]])
    assert estimate(image, weight).m.item() == pytest.approx(estimate(ONE_TWO_THREE, EVERYWHERE).m.item(), rel=1e-5)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_a_weight_counts_as_so_many_pixels(estimate):
    image, weight = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.25, 0.5]]])
    doubled = torch.tensor([[[1.0, 2.0, 2.0]]])
    expected = estimate(doubled, torch.ones_like(doubled))
    assert estimate(image, weight).m.item() == pytest.approx(expected.m.item(), rel=1e-5)


@pytest.mark.parametrize("estimate", ESTIMATORS)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_and_empty_regions_give_finite_values_and_gradients(estimate, level):
    image = torch.full((2, 8, 8), level)
    weight = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)]).requires_grad_()
    m, omega = estimate(image, weight)
    (m.sum() + omega.sum()).backward()
    assert torch.isfinite(m).all() and torch.isfinite(omega).all() and (m <= MAX_M).all()
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_gradient_against_finite_differences(estimate):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 6, 6), generator=generator) + 0.2
    weight = torch.rand((1, 6, 6), generator=generator) + 0.2
    weight.requires_grad_()
    estimate(image, weight).m.sum().backward()
    step, up, down = 1e-2, weight.detach().clone(), weight.detach().clone()
    up[0, 2, 3] += step
    down[0, 2, 3] -= step
    slope = (estimate(image, up).m - estimate(image, down).m).item() / (2 * step)
    assert weight.grad[0, 2, 3].item() == pytest.approx(slope, rel=0.05, abs=1e-4)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_stays_in_float32_under_autocast(estimate):
    image = torch.rand(1, 16, 16).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        m, omega = estimate(image, torch.ones(1, 16, 16, dtype=torch.bfloat16))
    assert m.dtype == omega.dtype == torch.float32


def test_a_region_counts_by_size_and_spread():
    image = torch.rand((3, 8, 8), generator=torch.Generator().manual_seed(1))
    image[1] = 0.5
    region = torch.ones(3, 8, 8)
    region[2] = 0.0
    region[2, 0] = 1.0
    assert has_speckle(image, region, min_pixels=64).tolist() == [True, False, False]
    assert has_speckle(image, region, min_pixels=8).tolist() == [True, False, True]


def test_small_regions_are_biased_up():
    """The reason for `min_pixels`: science.md 6.1, 1.37 at 16 pixels and 1.02 at 256."""
    rng = np.random.default_rng(5)
    rayleigh = torch.from_numpy(rng.rayleigh(1.0, (4000, 1, 256))).float()
    small, large = rayleigh[:, :, :16], rayleigh
    assert nakagami_moments(small, torch.ones_like(small)).m.mean().item() == pytest.approx(1.37, abs=0.05)
    assert nakagami_moments(large, torch.ones_like(large)).m.mean().item() == pytest.approx(1.02, abs=0.02)
