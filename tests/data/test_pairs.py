"""Temporal pairs: the oracle of science.md 11.2, the table of 3.1, and properties over random batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uscl.data.pairs import local_pairs, near_far, nearest_regions, pair_masks
from uscl.spec.networks import region_grid

POLARITIES = ("none", "positive", "negative", "positive_negative")


def one_clip(num_frames, **options):
    frame = torch.arange(num_frames)
    return pair_masks(torch.zeros_like(frame), frame.double(), frame_N=frame, **options)


def places(row):
    return set(torch.nonzero(row).flatten().tolist())


@pytest.mark.parametrize(
    ("guard", "far"), [(2, {0, 1, 9, 10, 11}), (1, {0, 1, 2, 8, 9, 10, 11}), (0, {0, 1, 2, 8, 9, 10, 11})]
)
def test_anchor_five_of_twelve_frames(guard, far):
    masks = one_clip(12, window=2, guard=guard, polarity="positive_negative")
    assert places(masks.positive_NN[5]) == {3, 4, 6, 7}
    assert places(masks.negative_NN[5]) == far


def test_the_papers_window_gives_ten_frames_mid_clip_and_five_at_either_end():
    number = one_clip(200, window=5, polarity="positive").positive_NN.sum(dim=1)
    assert (number[0], number[100], number[-1]) == (5, 10, 5)


def test_a_half_window_between_frames_leaves_no_gap():
    near, far = near_far(torch.arange(6.0), window=2.5)
    assert (near | far).all()
    assert places(far) == {3, 4, 5}


def test_rounding_does_not_move_a_frame_out_of_its_window():
    position = torch.arange(20, dtype=torch.float64) / 20  # 0.2 - 0.15 is over 0.05 in floating point
    masks = pair_masks(torch.zeros(20), position, frame_N=torch.arange(20), window=0.05, polarity="positive_negative")
    assert (masks.positive_NN[1:-1].sum(dim=1) == 2).all()
    assert torch.equal(masks.negative_NN, one_clip(20, window=1, polarity="positive_negative").negative_NN)


TABLE = {
    # polarity, negatives: (near, far, other clip); + positive, - negative, 0 ignored (science.md 3.1)
    ("none", "all"): "00-",
    ("none", "intra"): "00-",
    ("none", "cross"): "00-",
    ("positive", "all"): "+0-",
    ("positive", "intra"): "+0-",
    ("positive", "cross"): "+0-",
    ("negative", "all"): "0--",
    ("negative", "intra"): "0-0",
    ("negative", "cross"): "00-",
    ("positive_negative", "all"): "+--",
    ("positive_negative", "intra"): "+-0",
    ("positive_negative", "cross"): "+0-",
}


@pytest.mark.parametrize(("polarity", "negatives"), TABLE)
def test_polarity_table(polarity, negatives):
    clip = torch.tensor([0, 0, 0, 0, 1])
    frame = torch.tensor([10, 10, 11, 19, 10])  # anchor, its second view, near, far, other clip
    masks = pair_masks(clip, frame.double(), frame_N=frame, polarity=polarity, negatives=negatives, window=2)
    sign = ["+" if p else "-" if n else "0" for p, n in zip(masks.positive_NN[0], masks.negative_NN[0], strict=True)]
    assert "".join(sign) == "0+" + TABLE[polarity, negatives]


def test_none_reads_no_window():
    assert torch.equal(one_clip(6, polarity="none").positive_NN, one_clip(6, polarity="none", window=3).positive_NN)


def test_shuffled_positions_move_pairs_but_keep_views_together():
    frame = torch.tensor([0, 0, 1, 1, 2, 2])
    place = torch.tensor([7.0, 7.0, 0.0, 0.0, 8.0, 8.0])
    masks = pair_masks(torch.zeros(6), place, frame_N=frame, polarity="positive", window=1)
    assert places(masks.positive_NN[0]) == {1, 4, 5}


def test_soft_positives_weigh_by_distance_over_the_window():
    masks = one_clip(12, window=4, polarity="positive", soft=True)
    assert masks.weight_NN[5, [5, 6, 7, 9]].tolist() == pytest.approx([1, 0.7788, 0.6065, 0.3679], abs=1e-4)
    assert torch.equal(masks.weight_NN, masks.weight_NN.T)
    assert torch.equal(masks.positive_NN, one_clip(12, window=4, polarity="positive").positive_NN)
    assert one_clip(12, window=4, polarity="positive").weight_NN is None


def test_soft_weights_follow_shuffled_time_and_views_of_a_frame_count_whole():
    frame = torch.tensor([0, 0, 1, 1, 2, 2])
    place = torch.tensor([7.0, 7.0, 0.0, 0.0, 8.0, 8.0])
    masks = pair_masks(torch.zeros(6), place, frame_N=frame, polarity="positive", window=1, soft=True)
    assert masks.weight_NN[0, [1, 4]].tolist() == pytest.approx([1, 0.3679], abs=1e-4)


def test_polarity_none_has_no_weights():
    assert one_clip(6, polarity="none", window=None, soft=True).weight_NN is None


def test_far_frames_out_of_range_are_ignored():
    ranges = torch.tensor([[4.0, 6.0]]).repeat(12, 1).double()
    masks = one_clip(12, window=2, polarity="positive_negative", far_range_N2=ranges)
    assert places(masks.negative_NN[5]) == {0, 1, 9, 10, 11}
    assert places(masks.negative_NN[0]) == {4, 5, 6}
    assert places(masks.positive_NN[5]) == {3, 4, 6, 7}
    assert torch.equal(masks.negative_NN, masks.negative_NN.T)


def test_each_clip_has_its_own_range():
    clip, frame = torch.arange(2).repeat_interleave(8), torch.arange(8).repeat(2)
    ranges = torch.tensor([[2.0, 3.0], [6.0, 7.0]]).repeat_interleave(8, dim=0)
    options = {"frame_N": frame, "polarity": "negative", "negatives": "intra", "window": 1, "far_range_N2": ranges}
    masks = pair_masks(clip, frame.double(), **options)
    assert (places(masks.negative_NN[0]), places(masks.negative_NN[8])) == ({2, 3}, {14, 15})
    pairs = local_pairs(clip, frame.double(), **options)
    assert torch.equal(pairs.negative_NN, masks.negative_NN)


views = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15)), min_size=2, max_size=12)


@given(
    views, st.sampled_from(POLARITIES), st.sampled_from(["intra", "cross", "all"]), st.integers(1, 6), st.integers(0, 4)
)
@settings(max_examples=60, deadline=None)
def test_masks_are_symmetric_disjoint_and_empty_on_the_diagonal(frames, polarity, negatives, window, guard):
    clip, frame = (torch.tensor(column) for column in zip(*frames, strict=True))
    masks = pair_masks(
        clip, frame.double(), frame_N=frame, polarity=polarity, negatives=negatives, window=window, guard=guard
    )
    positive, negative = masks.positive_NN, masks.negative_NN
    assert torch.equal(positive, positive.T)
    assert torch.equal(negative, negative.T)
    assert not (positive & negative).any()
    assert not (positive | negative).diagonal().any()
    assert not (positive & (clip[:, None] != clip[None])).any()


def batch():
    clip = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    frame = torch.tensor([3, 3, 4, 4, 9, 9, 3, 3])
    return clip, frame


def test_local_pairs_are_views_and_near_frames_in_both_directions():
    clip, frame = batch()
    pairs = local_pairs(clip, frame.double(), frame_N=frame, polarity="positive_negative", window=2)
    kinds = {
        (a, b): near
        for a, b, near in zip(*(f.tolist() for f in (pairs.first_P, pairs.second_P, pairs.near_P)), strict=True)
    }
    assert {pair for pair, near in kinds.items() if not near} == {
        (0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4), (6, 7), (7, 6)
    }  # fmt: skip
    assert {pair for pair, near in kinds.items() if near} == {
        (a, b) for x in ((0, 1), (2, 3)) for a in x for b in ((2, 3) if x == (0, 1) else (0, 1))
    }
    assert places(pairs.negative_NN[0]) == {4, 5}


@pytest.mark.parametrize(
    ("polarity", "negatives", "cross_clip", "expected"),
    [
        ("none", "all", False, set()),
        ("positive", "all", False, set()),
        ("negative", "all", False, {4, 5}),
        ("positive_negative", "cross", False, set()),
        ("positive", "all", True, {6, 7}),
        ("positive_negative", "intra", True, {4, 5, 6, 7}),
    ],
)
def test_local_negatives_are_far_frames_where_on_and_other_clips_by_switch(polarity, negatives, cross_clip, expected):
    clip, frame = batch()
    pairs = local_pairs(
        clip,
        frame.double(),
        frame_N=frame,
        polarity=polarity,
        negatives=negatives,
        window=2,
        cross_clip_negative=cross_clip,
    )
    assert places(pairs.negative_NN[0]) == expected
    assert pairs.near_P.any() == (polarity in ("positive", "positive_negative"))


def test_local_pairs_carry_the_weight_of_their_distance():
    clip, frame = batch()
    options = {"frame_N": frame, "polarity": "positive", "window": 2}
    pairs = local_pairs(clip, frame.double(), soft=True, **options)
    expected = torch.where(pairs.near_P, torch.tensor(0.6065), torch.tensor(1.0))  # near pairs are one frame apart
    assert torch.allclose(pairs.weight_P, expected, atol=1e-4)
    assert local_pairs(clip, frame.double(), **options).weight_P is None


def test_nearest_regions_by_distance_then_index():
    nearest = nearest_regions(((0, 0), (0, 3), (3, 0), (9, 9)), 2)
    assert [places(row) for row in nearest] == [{1, 2}, {0, 2}, {0, 1}, {1, 2}]


def test_a_tie_goes_to_the_lower_index():
    assert places(nearest_regions(((0, 0), (0, 3), (3, 0)), 1)[0]) == {1}


def test_the_corner_of_the_grid_has_its_quarter_point_among_its_five():
    nearest = nearest_regions(region_grid(16, 3), 5)
    assert (nearest.sum(dim=1) == 5).all()
    assert not nearest.diagonal().any()
    assert nearest[0, 9]
