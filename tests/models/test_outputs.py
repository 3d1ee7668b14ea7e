"""What outputs say of classes: unions, argmax, targets, and masks that are not nested as declared."""

import numpy as np
import pytest
import torch

from uscl.models.outputs import make_heads, num_outputs, partial_overlap

CLASSES, INSIDE = ("outer", "inner"), (("outer", ("inner",)),)
CPU = torch.device("cpu")


@pytest.fixture
def softmax():
    return make_heads("softmax", CLASSES, INSIDE, device=CPU)


def test_a_class_is_the_union_of_its_parts(softmax):
    probability = torch.tensor([0.3, 0.25, 0.45]).reshape(1, 3, 1, 1)  # background, rim, inner
    found = softmax.class_probability(probability.log())
    assert found.flatten().tolist() == pytest.approx([0.7, 0.45])
    assert num_outputs("softmax", 2) == 3 and num_outputs("sigmoid", 2) == 2


def test_unions_are_summed_in_float32_under_autocast(softmax):
    """The speckle term is fitted on them."""
    logits = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = softmax.class_probability(logits.bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, softmax.class_probability(logits.bfloat16()))


def test_the_likeliest_output_wins_also_below_a_half(softmax):
    probability = torch.tensor([[0.3, 0.4], [0.25, 0.35], [0.45, 0.25]]).reshape(1, 3, 1, 2)
    assert softmax.found(probability.log()).flatten(2).tolist() == [[[1, 0], [1, 0]]]
    assert softmax.masks(probability[0].numpy()).reshape(2, 2).tolist() == [[True, False], [True, False]]


def test_the_innermost_class_holds_a_pixel(softmax):
    """Pixels: nothing, rim, inside, inner beyond its outer class."""
    truth = torch.tensor([[0.0, 1, 1, 0], [0, 0, 1, 1]]).reshape(1, 2, 1, 4)
    assert softmax.target(truth).argmax(1).flatten().tolist() == [0, 1, 2, 2]
    assert (softmax.target(truth).sum(1) == 1).all()


def test_nested_masks_survive_the_way_there_and_back(softmax):
    outer = torch.rand(3, 1, 8, 8) > 0.4
    truth = torch.cat([outer, outer & (torch.rand(3, 1, 8, 8) > 0.5)], dim=1).float()
    certain = softmax.target(truth) * 20
    assert torch.equal(softmax.found(certain), truth)
    assert np.array_equal(softmax.masks(softmax.output_probability(certain)[0].numpy()), truth[0].numpy() > 0)


def test_sigmoid_heads_take_masks_as_they_are():
    heads, logits = make_heads("sigmoid", CLASSES, (), device=CPU), torch.randn(2, 2, 4, 4)
    assert heads.target(logits) is logits
    assert torch.equal(heads.found(logits), (logits > 0).float())
    assert torch.equal(heads.class_probability(logits), logits.sigmoid())
    assert np.array_equal(heads.masks(logits[0].sigmoid().numpy()), logits[0].numpy() > 0)


def masks(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(1, len(rows), 1, -1)


@pytest.mark.parametrize(
    ("truth", "inside", "expected"),
    [
        (masks([1, 1, 1, 1, 0], [0, 1, 1, 0, 0]), INSIDE, None),
        (masks([1, 1, 1, 1, 0], [0, 0, 0, 1, 1]), INSIDE, ("outer", "inner", 0.5)),
        (masks([1, 1, 0, 0, 0], [0, 0, 1, 1, 1]), (), None),
        (masks([1, 1, 0, 0, 0], [0, 1, 1, 1, 1]), (), ("outer", "inner", 0.5)),
        (masks([0, 0, 0, 0, 0], [0, 1, 1, 1, 1]), (), None),
    ],
)
def test_masks_are_nested_or_separate_as_declared(truth, inside, expected):
    assert partial_overlap(truth, CLASSES, inside, tolerance=0.05) == expected
    assert partial_overlap(truth, CLASSES, inside, tolerance=0.6) is None
