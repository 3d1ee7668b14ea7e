"""Dice and cross-entropy on sigmoid regions: by hand, unknown pixels, gradients, deep supervision."""

import math

import pytest
import torch

from uscl.losses.segmentation import deep_dice_ce, deep_supervision_weights, dice_ce


def logit(probability):
    return torch.logit(torch.as_tensor(probability, dtype=torch.float64))


def test_by_hand():
    probability = torch.tensor([[[[0.8, 0.4]]]])
    truth = torch.tensor([[[[1.0, 0.0]]]])
    dice = 1 - 2 * 0.8 / (1.2 + 1)
    cross_entropy = -(math.log(0.8) + math.log(0.6)) / 2
    assert dice_ce(logit(probability), truth, kind="dice") == pytest.approx(dice, abs=1e-5)
    assert dice_ce(logit(probability), truth, kind="ce") == pytest.approx(cross_entropy)
    assert dice_ce(logit(probability), truth, kind="dice_ce") == pytest.approx(dice + cross_entropy, abs=1e-5)


def test_dice_is_over_the_batch_then_the_mean_over_classes():
    probability = torch.tensor([[[[0.5]], [[0.5]]], [[[0.5]], [[0.5]]]])  # 2 frames, 2 classes, 1 px
    truth = torch.tensor([[[[1.0]], [[1.0]]], [[[0.0]], [[1.0]]]])
    first, second = 1 - 2 * 0.5 / (1 + 1), 1 - 2 * 1 / (1 + 2)
    assert dice_ce(logit(probability), truth, kind="dice") == pytest.approx((first + second) / 2, abs=1e-5)


def test_a_perfect_answer_costs_nothing_even_where_a_class_is_absent():
    truth = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    truth[:, 0, :2] = True
    loss = dice_ce(torch.where(truth, 40.0, -40.0), truth, kind="dice_ce")
    assert loss == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["dice", "ce", "dice_ce"])
def test_unknown_pixels_do_not_count(kind):
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4) > 0.5
    known = torch.rand(2, 1, 4, 4) > 0.3
    other = torch.where(known, logits, 9.0)
    assert dice_ce(logits, truth, known, kind=kind) == dice_ce(other, truth ^ ~known, known, kind=kind)
    assert dice_ce(logits, truth, known, kind=kind) != dice_ce(logits, truth, kind=kind)


def test_nothing_known_costs_nothing():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = dice_ce(logits, torch.ones(1, 2, 4, 4), torch.zeros(1, 1, 4, 4), kind="dice_ce")
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert not logits.grad.any()


@pytest.mark.parametrize("kind", ["dice", "ce", "dice_ce"])
def test_gradient(kind):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(2, 2, 3, 3) > 0.5
    assert torch.autograd.gradcheck(lambda z: dice_ce(z, truth, kind=kind), logits)


def test_half_precision_logits_are_summed_in_float32():
    logits, truth = torch.full((1, 1, 400, 400), 10.0, dtype=torch.float16), torch.ones(1, 1, 400, 400)
    loss = dice_ce(logits, truth, kind="dice_ce")  # 160,000 px overflow float16
    assert loss.dtype == torch.float32
    assert loss == pytest.approx(0, abs=1e-3)


def test_deep_supervision_weights_of_three_outputs():
    assert deep_supervision_weights(3) == pytest.approx((2 / 3, 1 / 3, 0))
    assert deep_supervision_weights(1) == (1.0,)
    assert sum(deep_supervision_weights(7)) == pytest.approx(1)


def test_deep_loss_weighs_outputs_at_their_own_resolution():
    torch.manual_seed(0)
    truth = (torch.rand(2, 2, 8, 8) > 0.5).float()
    logits = [torch.randn(2, 2, size, size) for size in (8, 4, 2)]
    expected = 2 / 3 * dice_ce(logits[0], truth, kind="ce") + 1 / 3 * dice_ce(
        logits[1], truth[..., ::2, ::2], kind="ce"
    )
    assert deep_dice_ce(logits, truth, kind="ce") == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(deep_dice_ce(logits[:1], truth, kind="dice_ce"), dice_ce(logits[0], truth, kind="dice_ce"))
