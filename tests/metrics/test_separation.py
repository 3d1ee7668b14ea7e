"""Compactness, separability and effective rank on embeddings worked by hand."""

import math

import pytest
import torch

from uscl.metrics.separation import compactness, effective_rank, same_class_elsewhere, separability

TWO = torch.tensor([0, 0, 1, 1])
CROSS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -3.0]])
"""Four directions at right angles: two of each class."""


def test_compactness_is_the_mean_cosine_of_different_pixels():
    """At 0, 60 and 90 degrees: cos 60, cos 90 and cos 30."""
    angle = torch.tensor([0.0, 60.0, 90.0]).deg2rad()
    fan = torch.stack([angle.cos(), angle.sin()], dim=1) * torch.tensor([[1.0], [5.0], [0.1]])
    found = compactness(fan, torch.zeros(3, dtype=torch.long), num_classes=1)
    assert found.item() == pytest.approx((0.5 + 0.0 + math.sqrt(0.75)) / 3, rel=1e-6)
    assert compactness(CROSS, TWO, num_classes=2) == pytest.approx([0.0, 0.0], abs=1e-12)
    assert compactness(torch.ones(4, 2), TWO, num_classes=2) == pytest.approx([1.0, 1.0])


def test_compactness_does_not_depend_on_how_many_pixels_there_are():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 3, generator=generator) + torch.tensor([2.0, 0.0, 0.0])
    few = compactness(noise[:400], torch.zeros(400, dtype=torch.long), num_classes=1)
    many = compactness(noise, torch.zeros(4000, dtype=torch.long), num_classes=1)
    assert few.item() == pytest.approx(many.item(), abs=0.02)


def test_separability_by_hand():
    """Means (1/2, 1/2) and (-1/2, -1/2), variance 1/2 each: 2 / (2 + 2)."""
    assert separability(CROSS, TWO, num_classes=2) == pytest.approx([0.5, 0.5])


def test_points_apart_are_separable_and_equal_classes_are_not():
    apart = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2)
    assert separability(apart, TWO, num_classes=2) == pytest.approx([1.0, 1.0])
    assert separability(CROSS[[0, 2, 0, 2]], TWO, num_classes=2) == pytest.approx([0.0, 0.0], abs=1e-12)
    assert separability(torch.full((4, 7), 0.3), TWO, num_classes=2) == pytest.approx([0.0, 0.0], abs=1e-12)


def test_the_nearest_class_counts():
    """Class 2 lies where class 0 does: both are inseparable, class 1 keeps its distance."""
    points = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2 + [[1.0, 0.0]] * 2)
    assert separability(points, torch.tensor([0, 0, 1, 1, 2, 2]), num_classes=3) == pytest.approx([0, 1, 0], abs=1e-12)


def test_separability_of_gaussians_is_the_share_of_variance_between_them():
    """Against the sums of squares of an analysis of variance over two equal groups."""
    generator = torch.Generator().manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(60, 5, generator=generator, dtype=torch.float64), dim=1)
    unit[30:] = torch.nn.functional.normalize(unit[30:] + torch.tensor([1.0, 0, 0, 0, 0]), dim=1)
    groups = unit[:30], unit[30:]
    grand = unit.mean(dim=0)
    between = sum(30 * (group.mean(dim=0) - grand).square().sum() for group in groups)
    total = (unit - grand).square().sum()
    label = torch.arange(60) // 30
    assert separability(unit, label, num_classes=2)[0].item() == pytest.approx((between / total).item(), rel=1e-9)


def test_a_class_without_two_pixels_has_no_figure():
    label = torch.tensor([0, 0, 0, 2])
    for figure in (compactness, separability):
        values = figure(CROSS, label, num_classes=4)
        assert values[1:].isnan().all()
    assert compactness(CROSS, label, num_classes=4)[0].isfinite()
    assert separability(CROSS, label, num_classes=4)[0].isnan()  # nothing to be apart from


def test_effective_rank_counts_directions():
    """Four directions at right angles in a plane: singular values equal, rank 2; on a line: 1; a point: 0."""
    assert effective_rank(CROSS).item() == pytest.approx(2.0)
    assert effective_rank(CROSS[[0, 2]]).item() == pytest.approx(1.0)
    assert effective_rank(torch.full((5, 3), 0.7)).item() == 0
    isotropic = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    assert effective_rank(isotropic).item() == pytest.approx(8.0, abs=0.05)


def test_effective_rank_by_hand():
    """Centred, the six points have singular values in the ratio 2 : 1; entropy of (2/3, 1/3)."""
    points = torch.tensor([[0.0, 1.0, 0], [0, -1, 0]] * 4 + [[0.0, 0, 1], [0, 0, -1]])
    entropy = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    assert effective_rank(points).item() == pytest.approx(math.exp(entropy), rel=1e-6)


def test_positives_are_pixels_of_one_class_in_different_patients():
    positive = same_class_elsewhere(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]))
    assert positive.nonzero().tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
