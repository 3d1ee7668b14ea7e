import pytest
import torch

from uscl.losses.balance import DECAY, balanced, moved_mean

NONE, ONE = torch.zeros(()), torch.ones(())


def test_the_first_value_is_the_mean_and_then_it_moves():
    mean = moved_mean(NONE, torch.tensor(4.0))
    assert mean.item() == 4.0
    assert moved_mean(mean, torch.tensor(2.0)).item() == pytest.approx(DECAY * 4.0 + (1 - DECAY) * 2.0)


def test_a_term_with_nothing_to_measure_leaves_the_mean_alone():
    assert moved_mean(torch.tensor(4.0), NONE).item() == 4.0
    assert moved_mean(NONE, NONE).item() == 0.0
    assert balanced(NONE, NONE, ONE).item() == 0.0


def test_terms_of_any_size_come_to_the_other_terms_size():
    for size in (1e-3, 1.0, 500.0):
        mean, value = NONE, torch.tensor(0.0)
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        for _ in range(200):
            value = size * (0.5 + torch.rand((), generator=generator))
            mean = moved_mean(mean, value)
            total += balanced(value, mean, 3 * ONE).item() / 200
        assert total == pytest.approx(3.0, abs=0.3)


def test_the_mean_has_no_gradient():
    value = torch.tensor(3.0, requires_grad=True)
    balanced(value, moved_mean(torch.tensor(2.0), value), ONE).backward()
    assert value.grad.item() == pytest.approx(1 / (DECAY * 2.0 + (1 - DECAY) * 3.0))
