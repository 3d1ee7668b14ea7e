"""nnU-Net's random changes: how often, how far, each by itself against its definition."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from uscl.data.augment import warp
from uscl.data.augment_nnunet import (
    NO_BLUR_PX,
    POLICIES,
    blur_matrix,
    change_grey_levels,
    contrast,
    draw_nnunet,
    gamma,
    low_resolution_matrix,
)

MANY, SIZE = 4000, 8


@pytest.fixture(scope="module")
def draws():
    return {name: draw_nnunet(MANY, SIZE, policy, np.random.default_rng(0)) for name, policy in POLICIES.items()}


def column(*values, dims=4):
    return torch.tensor(values).reshape(-1, *(1,) * (dims - 1))


@pytest.mark.parametrize(
    ("part", "neutral", "probability"),
    [
        ("blur_px_B11", NO_BLUR_PX, 0.1),
        ("brightness_B111", 1.0, 0.15),
        ("contrast_B111", 1.0, 0.15),
        ("cells_B11", SIZE, 0.125 * 7 / 8),  # scales from 15/16 round to the frame's own 8 px
        ("inverted_gamma_B111", 1.0, 0.1),
        ("gamma_B111", 1.0, 0.3),
    ],
)
def test_how_often_a_change_is_drawn(draws, part, neutral, probability):
    drawn = (getattr(draws["us_safe"], part) != neutral).float().mean()
    assert float(drawn) == pytest.approx(probability, abs=4 * (probability / MANY) ** 0.5)


def test_how_far_grey_levels_change(draws):
    draw = draws["nnunet"]
    for part, low, high in (("brightness_B111", 0.75, 1.25), ("contrast_B111", 0.75, 1.25), ("gamma_B111", 0.7, 1.5)):
        factor = getattr(draw, part)
        assert low <= float(factor.min()) < low + 0.02 and high - 0.02 < float(factor.max()) <= high
        assert float((factor[factor != 1] < 1).float().mean()) == pytest.approx(0.5, abs=0.06)
    noisy = draw.noise_B1HW.flatten(1).std(dim=1)
    assert float((noisy > 0).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert 0.08 < float(noisy.max()) < 0.15  # of 64 px
    assert set(draw.cells_B11.unique().tolist()) == {4.0, 5.0, 6.0, 7.0, 8.0}


@pytest.mark.parametrize(("name", "turn_deg", "flips_depth"), [("us_safe", 15.0, False), ("nnunet", 180.0, True)])
def test_how_frames_are_turned_and_mirrored(draws, name, turn_deg, flips_depth):
    theta = draws[name].theta_B23[:, :, :2].double()
    scale = theta.det().abs().sqrt()
    mirrored = theta.det() < 0
    assert 0.7 <= float(scale.min()) < 0.71 and 1.39 < float(scale.max()) <= 1.4001
    assert float(((scale - 1).abs() > 1e-6).double().mean()) == pytest.approx(0.2, abs=0.03)
    assert float(mirrored.double().mean()) == pytest.approx(0.5, abs=0.03)
    down = theta[:, 1, 1] / scale  # the cosine of the turn, negative where depth is mirrored
    turned = (theta[:, 0, 1] / scale).abs() > 1e-6
    assert float(turned.double().mean()) == pytest.approx(0.2, abs=0.03)
    assert bool((down < 0).any()) is flips_depth
    furthest = torch.rad2deg(torch.acos(down[turned].clamp(-1, 1))).max()
    assert turn_deg - 1 < float(furthest) <= turn_deg + 0.01


def test_what_is_not_chosen_is_not_touched():
    draw = draw_nnunet(64, 16, POLICIES["us_safe"], np.random.default_rng(1))
    images = torch.randn(64, 1, 16, 16)
    changed = change_grey_levels(images, draw)
    neutral = torch.ones(64, dtype=torch.bool)
    for part, value in (
        (draw.blur_px_B11, NO_BLUR_PX), (draw.cells_B11, 16), (draw.noise_B1HW, 0),
        (draw.inverted_gamma_B111, 1), (draw.gamma_B111, 1), (draw.brightness_B111, 1), (draw.contrast_B111, 1),
    ):  # fmt: skip
        neutral &= True if part is None else (part == value).flatten(1).all(dim=1)
    assert 5 < int(neutral.sum()) < 40
    assert torch.allclose(changed[neutral], images[neutral], atol=1e-6)
    assert all(not torch.allclose(changed[n], images[n], atol=1e-4) for n in torch.where(~neutral)[0])


def test_one_seed_one_draw():
    one, two = (draw_nnunet(5, 8, POLICIES["nnunet"], np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one.theta_B23, two.theta_B23) and torch.equal(one.gamma_B111, two.gamma_B111)


def test_contrast_stays_within_the_frames_extremes():
    images = torch.tensor([0.0, 1.0, 2.0, 5.0]).reshape(1, 1, 2, 2)
    assert contrast(images, column(0.5)).flatten().tolist() == pytest.approx([1.0, 1.5, 2.0, 3.5])
    assert contrast(images, column(1.25)).flatten().tolist() == pytest.approx([0.0, 0.75, 2.0, 5.0])


def test_gamma_keeps_mean_and_spread_and_bends_between():
    images = torch.randn(2, 1, 32, 32) * 3 + 1
    bent = gamma(images, column(1.5, 1.0))
    assert torch.equal(bent[1], images[1])
    assert float(bent[0].mean()) == pytest.approx(float(images[0].mean()), abs=1e-4)
    assert float(bent[0].std()) == pytest.approx(float(images[0].std()), rel=1e-4)
    order = images[0].flatten().argsort()
    assert (bent[0].flatten()[order].diff() >= -1e-6).all(), "grey levels keep their order"
    assert not torch.allclose(bent[0], images[0], atol=0.05)


@pytest.mark.parametrize("cells", [8, 10, 12, 16])
def test_low_resolution_is_nearest_down_and_linear_up(cells):
    image = torch.randn(1, 1, 16, 16)
    matrix = low_resolution_matrix(column(float(cells), dims=3), 16)[:, None]
    small = F.interpolate(image, size=(cells, cells), mode="nearest-exact")
    expected = F.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.allclose(matrix @ image @ matrix.transpose(-1, -2), expected, atol=1e-5)


def test_blur_is_a_gaussian():
    dot = torch.zeros(1, 1, 1, 17)
    dot[..., 8] = 1
    blurred = dot @ blur_matrix(column(1.0, dims=3), 17).transpose(-1, -2)
    assert float(blurred[..., 8]) == pytest.approx(0.39894, abs=1e-4)
    assert float(blurred[..., 9] / blurred[..., 8]) == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert torch.equal(blur_matrix(column(NO_BLUR_PX, dims=3), 17)[0], torch.eye(17))


def test_scale_above_one_makes_things_smaller():
    draw = draw_nnunet(256, 32, POLICIES["us_safe"], np.random.default_rng(0))
    square = torch.zeros(256, 1, 32, 32)
    square[..., 12:20, 12:20] = 1
    area = warp(square, draw.theta_B23).sum((1, 2, 3))
    scale = draw.theta_B23[:, :, :2].double().det().abs()
    assert torch.allclose(area, (64 / scale).float(), rtol=0.1)
