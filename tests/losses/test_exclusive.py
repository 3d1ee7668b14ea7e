"""Softmax losses on exclusive classes: by hand, absent classes, unknown pixels, gradients."""

import math

import pytest
import torch
from torch.nn import functional as F

from uscl.losses.exclusive import exclusive_dice_ce
from uscl.losses.segmentation import deep_dice_ce

KINDS = ["dice", "ce", "dice_ce", "dice_background"]


def one_hot(labels, outputs=3):
    return F.one_hot(torch.as_tensor(labels), outputs).movedim(-1, 1)


def test_by_hand():
    """One frame of two pixels, background and one class, probabilities 0.9/0.1 and 0.4/0.6."""
    logits = torch.tensor([[[[0.9, 0.4]], [[0.1, 0.6]]]], dtype=torch.float64).log()
    truth = one_hot([[[0, 1]]], 2)
    background, class_1 = 2 * 0.9 / (1.3 + 1), 2 * 0.6 / (0.7 + 1)
    cross_entropy = -(math.log(0.9) + math.log(0.6)) / 2
    assert exclusive_dice_ce(logits, truth, kind="dice_background") == pytest.approx(1 - (background + class_1) / 2)
    assert exclusive_dice_ce(logits, truth, kind="dice") == pytest.approx(1 - class_1, abs=1e-5)
    assert exclusive_dice_ce(logits, truth, kind="ce") == pytest.approx(cross_entropy)
    assert exclusive_dice_ce(logits, truth, kind="dice_ce") == pytest.approx(1 - class_1 + cross_entropy, abs=1e-5)


def test_an_absent_class_costs_1_with_background_and_nothing_without():
    """science.md 2.4: a perfect answer, two frames of three outputs, one of them absent from the second."""
    truth = one_hot([[[0, 1, 2]], [[0, 1, 1]]])
    logits = 80.0 * truth
    assert exclusive_dice_ce(logits, truth, kind="dice_background") == pytest.approx(1 / 6)
    assert exclusive_dice_ce(logits, truth, kind="dice") == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_pixels_do_not_count(kind):
    torch.manual_seed(0)
    logits, known = torch.randn(2, 3, 4, 4), torch.rand(2, 1, 4, 4) > 0.3
    truth = one_hot(torch.randint(3, (2, 4, 4)))
    other = torch.where(known, logits, torch.randn(2, 3, 4, 4))
    shifted = torch.where(known, truth, truth.roll(1, dims=1))
    loss = exclusive_dice_ce(logits, truth, known, kind=kind)
    assert loss == exclusive_dice_ce(other, shifted, known, kind=kind)
    assert loss != exclusive_dice_ce(logits, truth, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient(kind):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    truth = one_hot(torch.randint(3, (2, 3, 3)))
    assert torch.autograd.gradcheck(lambda z: exclusive_dice_ce(z, truth, kind=kind), logits)


def test_cross_entropy_is_torchs():
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    expected = F.cross_entropy(logits, labels)
    assert exclusive_dice_ce(logits, one_hot(labels), kind="ce") == pytest.approx(expected.item(), rel=1e-6)


def test_deep_supervision_takes_any_loss():
    truth = one_hot(torch.randint(3, (2, 8, 8))).float()
    logits = [torch.randn(2, 3, size, size) for size in (8, 4, 2)]
    parts = [exclusive_dice_ce(logits[n], truth[..., :: 2**n, :: 2**n], kind="dice_background") for n in (0, 1)]
    deep = deep_dice_ce(logits, truth, kind="dice_background", loss=exclusive_dice_ce)
    assert deep == pytest.approx((2 / 3 * parts[0] + 1 / 3 * parts[1]).item(), rel=1e-6)
