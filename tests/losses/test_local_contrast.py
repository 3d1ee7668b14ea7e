"""The decoder stage's loss: chance levels, an unrolled reference, which regions count, gradients."""

import dataclasses
import math

import pytest
import torch

from uscl.data.pairs import LocalPairs, local_pairs, nearest_regions
from uscl.losses.local import local_info_nce, local_info_nce_chance, local_pairwise, local_pairwise_chance
from uscl.spec.networks import region_grid

NEIGHBOURS = nearest_regions(region_grid(16, 3), 5)


def batch(polarity="none", **options):
    """Two clips; the first has three near frames and a far one; two views of each: 10 view pairs, 24 near pairs."""
    clip = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    frame = torch.tensor([3, 3, 4, 4, 5, 5, 9, 9, 3, 3])
    return local_pairs(clip, frame.double(), frame_N=frame, polarity=polarity, window=2, **options)


def test_two_views_of_constant_features_give_ln_eleven():
    """Oracle 5: 13 regions, 10 negatives."""
    pairs = batch()
    loss = local_info_nce(
        torch.ones(10, 13, 4), pairs, neighbour_RR=NEIGHBOURS, form="per_pair_neg_only", temperature=0.1
    )
    assert loss == pytest.approx(math.log(11), rel=1e-5)
    chance = local_info_nce_chance(pairs, neighbour_RR=NEIGHBOURS, form="per_pair_neg_only")
    assert chance == pytest.approx(math.log(11), rel=1e-6)


def test_four_neighbours_in_both_maps_give_ln_nine():
    pairs = batch()
    neighbours = nearest_regions(region_grid(16, 3), 4)
    loss = local_info_nce(
        torch.ones(10, 13, 4), pairs, neighbour_RR=neighbours, form="per_pair_neg_only", temperature=0.1
    )
    assert loss == pytest.approx(math.log(9), rel=1e-5)


@pytest.mark.parametrize("form", ["per_pair_neg_only", "supcon_out", "simclr"])
@pytest.mark.parametrize("polarity", ["none", "positive", "negative", "positive_negative"])
@pytest.mark.parametrize("cross_clip", [False, True])
def test_constant_features_are_at_chance_in_every_form(form, polarity, cross_clip):
    pairs = batch(polarity, cross_clip_negative=cross_clip)
    loss = local_info_nce(torch.ones(10, 13, 4), pairs, neighbour_RR=NEIGHBOURS, form=form, temperature=0.1)
    assert loss == pytest.approx(local_info_nce_chance(pairs, neighbour_RR=NEIGHBOURS, form=form).item(), rel=1e-5)


def unrolled(z, pairs, *, temperature, hinge=None):
    """The loss as nested loops over pairs and regions; `hinge`: margin of the pairwise loss, else InfoNCE."""
    z = torch.nn.functional.normalize(z, dim=-1)
    terms = {True: [], False: []}
    for a, b, near in zip(pairs.first_P.tolist(), pairs.second_P.tolist(), pairs.near_P.tolist(), strict=True):
        for r in range(13):
            others = [q for q in range(13) if NEIGHBOURS[r, q]]
            negatives = [z[m, q] for m in (a, b) for q in others]
            negatives += [z[f, r] for f in range(len(z)) if pairs.negative_NN[a, f]]
            if hinge is None:
                positive = ((z[a, r] @ z[b, r]) / temperature).exp()
                total = sum(((z[a, r] @ n) / temperature).exp() for n in negatives)
                terms[near].append(-(positive / (positive + total)).log())
            else:
                pull = (z[a, r] - z[b, r]).square().sum() / 2
                push = [(hinge - (z[a, r] - n).norm()).clamp(min=0).square() / 2 for n in negatives]
                terms[near].append((pull + sum(push) / len(push)) / 2)
    means = [torch.stack(kind).mean() for kind in terms.values() if kind]
    return sum(means) / len(means)


@pytest.mark.parametrize("polarity", ["none", "positive", "negative", "positive_negative"])
@pytest.mark.parametrize("cross_clip", [False, True])
def test_both_losses_equal_the_unrolled_loops(polarity, cross_clip):
    torch.manual_seed(3)
    pairs = batch(polarity, cross_clip_negative=cross_clip)
    region = torch.randn(10, 13, 6, dtype=torch.float64)
    fast = local_info_nce(region, pairs, neighbour_RR=NEIGHBOURS, form="per_pair_neg_only", temperature=0.3)
    assert fast == pytest.approx(unrolled(region, pairs, temperature=0.3).item(), rel=1e-9)
    fast = local_pairwise(region, pairs, neighbour_RR=NEIGHBOURS, margin=1.2, distance="euclidean")
    assert fast == pytest.approx(unrolled(region, pairs, temperature=None, hinge=1.2).item(), rel=1e-6)


def test_near_and_view_terms_weigh_the_same_however_many_pairs_there_are():
    pairs = batch("positive")
    assert (int(pairs.near_P.sum()), int((~pairs.near_P).sum())) == (24, 10)
    torch.manual_seed(5)
    region = torch.randn(10, 13, 6)
    options = {"neighbour_RR": NEIGHBOURS, "form": "per_pair_neg_only", "temperature": 0.3}
    view, near = (
        local_info_nce(
            region,
            LocalPairs(*(f[kind] for f in (pairs.first_P, pairs.second_P, pairs.near_P)), pairs.negative_NN),
            **options,
        )
        for kind in (~pairs.near_P, pairs.near_P)
    )
    assert local_info_nce(region, pairs, **options).item() == pytest.approx((view.item() + near.item()) / 2, rel=1e-5)


def test_an_embedding_of_position_alone_solves_the_loss_unless_other_clips_are_negatives():
    """Science.md 2.3: why position_retrieval is logged and cross_clip_negative exists."""
    coordinates = torch.eye(13).repeat(10, 1, 1)
    options = {"neighbour_RR": NEIGHBOURS, "form": "per_pair_neg_only"}
    plain, control = batch(), batch(cross_clip_negative=True)
    assert local_info_nce(coordinates, plain, temperature=0.1, **options) < 0.01
    assert local_info_nce(coordinates, control, temperature=0.1, **options) > 0.4


def test_local_pairwise_chance_is_a_quarter_of_the_squared_margin():
    loss = local_pairwise(
        torch.ones(10, 13, 4), batch("positive_negative"), neighbour_RR=NEIGHBOURS, margin=1.5, distance="cosine"
    )
    assert loss == pytest.approx(local_pairwise_chance(margin=1.5), rel=1e-4)


@pytest.mark.parametrize("form", ["per_pair_neg_only", "supcon_out"])
def test_local_info_nce_gradient(form):
    torch.manual_seed(0)
    pairs = batch("positive_negative")
    region = torch.randn(10, 13, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z: local_info_nce(z, pairs, neighbour_RR=NEIGHBOURS, form=form, temperature=0.5), region
    )


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_local_pairwise_gradient(distance):
    torch.manual_seed(0)
    pairs = batch("positive_negative")
    region = torch.randn(10, 13, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z: local_pairwise(z, pairs, neighbour_RR=NEIGHBOURS, margin=1.0, distance=distance), region
    )


def test_a_batch_without_pairs_costs_nothing():
    clip = torch.arange(3)
    pairs = local_pairs(clip, clip.double(), frame_N=clip, polarity="none")
    region = torch.randn(3, 13, 4, requires_grad=True)
    loss = local_info_nce(region, pairs, neighbour_RR=NEIGHBOURS, form="simclr", temperature=0.1)
    loss.backward()
    assert loss == 0
    assert region.grad.isfinite().all()


@pytest.mark.parametrize("polarity", ["none", "positive_negative"])
def test_pairs_compared_once_give_the_loss_and_gradient_of_pairs_compared_one_by_one(polarity):
    pairs = batch(polarity)
    one_by_one = dataclasses.replace(pairs, both_ways=None)
    assert len(pairs.both_ways.first_H) == len(pairs.first_P) / 2
    torch.manual_seed(6)
    region = torch.randn(10, 13, 6, dtype=torch.float64, requires_grad=True)
    for loss, options in (
        (local_info_nce, {"form": "per_pair_neg_only", "temperature": 0.3}),
        (local_pairwise, {"margin": 1.2, "distance": "euclidean"}),
    ):
        once, slowly = (loss(region, given, neighbour_RR=NEIGHBOURS, **options) for given in (pairs, one_by_one))
        assert once.item() == pytest.approx(slowly.item(), rel=1e-12)
        gradients = [torch.autograd.grad(value, region)[0] for value in (once, slowly)]
        assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)
