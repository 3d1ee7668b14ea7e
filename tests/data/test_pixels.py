"""Which labelled pixels are contrasted: class of a pixel, draw per class, whom a view is compared with."""

import pytest
import torch

from uscl.data.pixels import EMPTY, at_cells, class_ranks, compared_views, draw_per_class, innermost_class

# 4 x 1 px of classes (inner, outer, middle): nothing; outer; outer and middle; all three
TRUTH = torch.tensor([[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1]]).float()[None, :, None]
DEPTHS = (2, 0, 1)


@pytest.mark.parametrize(("background", "nothing"), [(True, 3), (False, EMPTY)])
def test_a_pixel_belongs_to_its_innermost_class(background, nothing):
    known = torch.ones(1, 1, 1, 4)
    found = innermost_class(TRUTH, known, rank_K=class_ranks(DEPTHS), background=background)
    assert found.tolist() == [[[nothing, 1, 2, 0]]]


def test_an_unknown_pixel_is_of_no_class():
    known = torch.tensor([[[[0.0, 1, 0, 1]]]])
    assert innermost_class(TRUTH, known, rank_K=class_ranks(DEPTHS), background=True).tolist() == [[[-1, 1, -1, 0]]]


def test_a_cell_has_the_label_of_its_centre():
    label = torch.arange(64).reshape(1, 8, 8)
    assert at_cells(label, 8).tolist() == [list(range(64))]
    assert at_cells(label, 2).tolist() == [[18, 22, 50, 54]]


def test_each_class_gives_its_share_and_no_more():
    label = torch.tensor([[0] * 10 + [1] * 3 + [2] + [EMPTY] * 2])
    score = torch.rand(1, 16, generator=torch.Generator().manual_seed(0))
    cell, drawn = draw_per_class(label, score, num_classes=3, per_class=4)
    assert cell.shape == drawn.shape == (1, 12)
    assert drawn[0].tolist() == [0] * 4 + [1] * 3 + [EMPTY] * 5  # class 2 has one pixel: skipped
    filled = drawn[0] >= 0
    assert torch.equal(label[0][cell[0][filled]], drawn[0][filled])
    assert len(set(cell[0][filled].tolist())) == 7  # none twice
    best = score[0, :10].argsort(descending=True)[:4]
    assert set(cell[0, :4].tolist()) == set(best.tolist())


def test_a_share_beyond_the_map_is_the_map():
    cell, drawn = draw_per_class(torch.zeros(2, 9).long(), torch.rand(2, 9), num_classes=2, per_class=512)
    assert cell.shape == (2, 18) and (drawn[:, :9] == 0).all() and (drawn[:, 9:] == EMPTY).all()


def test_a_view_is_compared_with_other_views_only():
    assert compared_views(3, "within").tolist() == [[3], [4], [5], [0], [1], [2]]
    assert compared_views(3, "cross").tolist() == [[3, 4], [4, 5], [5, 3], [0, 1], [1, 2], [2, 0]]
    every = compared_views(3, "batch")
    assert [sorted(row) for row in every.tolist()] == [[3, 4, 5]] * 3 + [[0, 1, 2]] * 3
