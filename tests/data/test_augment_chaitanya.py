"""Chaitanya's fine-tuning augmentation: five exclusive changes, a smooth deformation, and the defect of the code."""

import numpy as np
import pytest
import torch

from uscl.data.augment import warp
from uscl.data.augment_chaitanya import draw_chaitanya, warp_elastic

COUNT = 4000


def draw(count=COUNT, *, faithful_bugs=False, seed=0):
    return draw_chaitanya(count, 8, faithful_bugs=faithful_bugs, rng=np.random.default_rng(seed))


def test_each_frame_gets_one_of_five_changes_equally_often():
    theta = draw().theta_B23[:, :, :2].double()
    scale, mirrored = theta.det().abs().sqrt(), theta.det() < 0
    angle = torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 1, 1]))
    resized = (scale - 1).abs() > 1e-6
    by_45 = (angle.abs() > 15.1) & ~mirrored
    small = (angle.abs() > 1e-4) & (angle.abs() <= 15) & ~mirrored
    same = (theta - torch.eye(2)).abs().amax((1, 2)) < 1e-6
    kinds = torch.stack([small, resized, mirrored, by_45, same])
    assert (kinds.sum(0) == 1).all(), "one change at a time"
    assert kinds.double().mean(1).tolist() == pytest.approx([0.2] * 5, abs=0.03)
    assert float(scale.min()) >= 0.95 - 1e-5 and float(1 / scale.min()) <= 1.0527
    assert torch.allclose(angle[by_45] / 45, (angle[by_45] / 45).round(), atol=1e-4)


def test_the_deformation_has_5_px_on_192():
    assert float(draw().bend_B233.std()) * 192 / 2 == pytest.approx(5.0, rel=0.02)


def test_a_deformation_moves_the_frame_by_its_displacement():
    """A constant displacement of a quarter of the frame is a shift of 4 of 16 px."""
    images, straight = torch.rand(1, 2, 16, 16), torch.eye(2, 3)[None]
    bend = torch.zeros(1, 2, 3, 3)
    assert torch.allclose(warp_elastic(images, straight, bend), images, atol=1e-5)
    bend[:, 0] = 0.5
    moved = warp_elastic(images, straight, bend)
    assert torch.allclose(moved[..., :12], images[..., 4:], atol=1e-5)
    assert float(moved[..., 12:].abs().max()) < 1e-4


def test_without_a_deformation_it_is_the_affine_transform():
    images, changes = torch.rand(6, 1, 16, 16), draw(6)
    bent = warp_elastic(images, changes.theta_B23, torch.zeros_like(changes.bend_B233))
    assert torch.allclose(bent, warp(images, changes.theta_B23), atol=1e-6)
    assert not torch.allclose(warp_elastic(images, changes.theta_B23, changes.bend_B233), bent, atol=1e-2)


def test_the_defect_deforms_a_random_last_part_and_no_grey_level():
    """science.md 2.5, defect 3: 1 to 19 of 20 frames."""
    lengths = []
    for seed in range(300):
        changes = draw(20, faithful_bugs=True, seed=seed)
        bent = changes.bend_B233.flatten(1).any(dim=1)
        lengths.append(int(bent.sum()))
        assert bent[20 - lengths[-1] :].all(), "the last part"
        assert changes.intensity is None
    assert set(lengths) == set(range(1, 20))
    assert draw(20).bend_B233.flatten(1).any(dim=1).all() and draw(20).intensity is not None
