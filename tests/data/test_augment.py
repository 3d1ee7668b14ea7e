"""Random views: what moves, what must not, and that one draw is one transform for every plane."""

import numpy as np
import pytest
import torch

from uscl.data.augment import (
    FINETUNE_INTENSITY,
    FLIP_ONLY,
    PRETRAIN_INTENSITY,
    PRETRAIN_SPATIAL,
    IntensityRange,
    SpatialRange,
    cell_diagonals,
    cell_places,
    change_intensity,
    draw_affine,
    draw_intensity,
    warp,
)

STILL = SpatialRange(rotation_deg=0.0, zoom=(1.0, 1.0), shift_fraction=0.0, flip=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_no_range_is_no_change(rng):
    images = torch.rand(3, 2, 16, 16)
    assert torch.allclose(warp(images, draw_affine(3, STILL, rng)), images, atol=1e-5)


def test_a_flip_mirrors_left_and_right_and_never_depth(rng):
    images = torch.rand(64, 1, 8, 8)
    moved = warp(images, draw_affine(64, FLIP_ONLY, rng))
    mirrored = [torch.allclose(after, before.flip(-1), atol=1e-5) for after, before in zip(moved, images, strict=True)]
    same = [torch.allclose(after, before, atol=1e-5) for after, before in zip(moved, images, strict=True)]
    assert all(one or other for one, other in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


def test_zoom_above_one_enlarges(rng):
    disc = torch.zeros(1, 1, 33, 33)
    disc[..., 12:21, 12:21] = 1
    larger = warp(disc, draw_affine(1, SpatialRange(0.0, (2.0, 2.0), 0.0, False), rng))
    assert float(larger.sum()) == pytest.approx(4 * float(disc.sum()), rel=0.1)


def test_up_stays_up(rng):
    """Rotation is limited to its range: the upper half's mass stays in the upper half."""
    top = torch.zeros(32, 1, 32, 32)
    top[:, :, 4:8] = 1
    moved = warp(top, draw_affine(32, SpatialRange(15.0, (1.0, 1.0), 0.0, True), rng))
    assert (moved[:, :, :16].sum((1, 2, 3)) > 3 * moved[:, :, 16:].sum((1, 2, 3))).all()


def test_all_planes_of_a_case_move_alike(rng):
    plane = torch.rand(4, 1, 24, 24)
    moved = warp(torch.cat([plane, plane], dim=1), draw_affine(4, PRETRAIN_SPATIAL, rng))
    assert torch.equal(moved[:, 0], moved[:, 1])


def test_outside_the_frame_is_black(rng):
    moved = warp(torch.ones(1, 1, 16, 16), draw_affine(1, SpatialRange(0.0, (0.5, 0.5), 0.0, False), rng))
    assert moved[0, 0, 0, 0] == 0 and moved[0, 0, 8, 8] == 1


def test_contrast_turns_about_the_mean(rng):
    images = torch.rand(5, 1, 12, 12)
    only_contrast = IntensityRange(brightness=0.0, contrast=(0.5, 0.5))
    changed = change_intensity(images, draw_intensity((5, 12, 12), only_contrast, rng))
    assert torch.allclose(changed.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-6)
    assert torch.allclose(changed.std((1, 2, 3)), images.std((1, 2, 3)) / 2, atol=1e-6)


def test_draws_depend_on_the_generator_alone():
    twice = [
        draw_intensity((2, 8, 8), FINETUNE_INTENSITY, np.random.default_rng(4)).noise for _ in range(2)
    ]  # fmt: skip
    assert torch.equal(*twice)
    assert draw_intensity((2, 8, 8), PRETRAIN_INTENSITY, np.random.default_rng(4)).noise is None


def test_intensity_changes_are_finite_on_black_and_overshooting_frames(rng):
    """min-max normalisation is not clipped: values below 0 and above 1 occur."""
    images = torch.stack([torch.zeros(1, 8, 8), torch.full((1, 8, 8), -0.4), torch.full((1, 8, 8), 1.7)])
    assert change_intensity(images, draw_intensity((3, 8, 8), FINETUNE_INTENSITY, rng)).isfinite().all()


def test_under_autocast_a_view_is_as_exact_as_without(rng):
    """affine_grid multiplies matrices: in bf16 the grid is off by most of a pixel."""
    images, theta = torch.rand(2, 1, 64, 64), draw_affine(2, PRETRAIN_SPATIAL, rng)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = warp(images, theta)
    assert inside.dtype == torch.float32 and torch.equal(inside, warp(images, theta))


def test_gamma_keeps_a_frames_extremes_under_any_norm(rng):
    images = torch.randn(4, 1, 16, 16)  # as under zscore: half of it below 0
    only_gamma = IntensityRange(brightness=0.0, contrast=(1.0, 1.0), gamma=(0.7, 1.4))
    changed = change_intensity(images, draw_intensity((4, 16, 16), only_gamma, rng))
    assert torch.allclose(changed.amax((1, 2, 3)), images.amax((1, 2, 3)), atol=1e-4)
    assert torch.allclose(changed.amin((1, 2, 3)), images.amin((1, 2, 3)), atol=1e-2)
    order = images.flatten(1).argsort(dim=1)
    assert (changed.flatten(1).gather(1, order).diff(dim=1) >= 0).all()


def test_a_cells_place_is_what_the_warped_image_shows_there(rng):
    """An image whose pixels hold their own coordinates, warped and pooled to cells: flips, turns, zooms carried."""
    side = (2 * torch.arange(64) + 1) / 64 - 1
    down, across = torch.meshgrid(side, side, indexing="ij")
    theta = draw_affine(32, PRETRAIN_SPATIAL, rng)
    assert (torch.linalg.det(theta[:, :, :2]) < 0).any() and (torch.linalg.det(theta[:, :, :2]) > 0).any()
    moved = warp(torch.stack([across, down, torch.ones(64, 64)]).repeat(32, 1, 1, 1), theta)
    cells = torch.nn.functional.avg_pool2d(moved, 8).flatten(2).transpose(1, 2)
    inside = cells[..., 2] > 0.9999
    assert inside.float().mean() > 0.5
    error = (cells[..., :2] - cell_places(theta, 8)).abs().amax(dim=-1)
    assert error[inside].max() < 0.01 * float(cell_diagonals(theta, 8).min())


def test_a_cells_diagonal_shrinks_with_zoom_and_not_with_turning(rng):
    turned = draw_affine(8, SpatialRange(15.0, (2.0, 2.0), 0.2, True), rng)
    assert cell_diagonals(turned, 4).tolist() == pytest.approx([0.5 * 2 / 4 * 2**0.5] * 8, rel=1e-5)
