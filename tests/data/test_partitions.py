"""Batches by time bin and their pairs: oracles 4 and 5 of science.md 11, worked by hand and against nested loops."""

import math

import numpy as np
import pytest
import torch
from test_batches import dataset_of

from uscl.data.pairs import local_pairs, nearest_regions
from uscl.data.partitions import (
    RULES,
    FrameSampler,
    PartitionSampler,
    blank_images,
    cross_clip_pairs,
    partition_masks,
    simclr_masks,
)
from uscl.errors import DataError
from uscl.losses.contrastive import info_nce, info_nce_chance
from uscl.losses.local import local_info_nce
from uscl.spec.networks import region_grid


def binned(dataset, **options):
    settings = {"num_clips": 3, "parts": 4, "seed": 0} | options
    return PartitionSampler(dataset, list(dataset.clip_table), **settings)


def bins_of(batch, length, parts=4):
    return (batch.position * parts // length).astype(int)


# ---- which frames


def test_a_batch_is_clip_by_clip_one_frame_of_each_bin():
    batches = binned(dataset_of(40, 40, 40, 40, 40))
    seen = set()
    for step in range(200):
        batch = batches.batch(step)
        assert bins_of(batch, 40).tolist() == [0, 1, 2, 3] * 3
        assert (batch.rows // 40 == batch.clip).all() and (batch.patient == batch.clip).all()
        assert (batch.clip.reshape(3, 4) == batch.clip[::4, None]).all() and len(set(batch.clip)) == 3
        seen |= set(batch.rows.tolist())
    assert len(seen) == 200  # every frame of every clip has its turn


def test_bins_of_a_clip_differ_by_a_frame_at_most_and_miss_none():
    batches = binned(dataset_of(10), num_clips=1)
    seen = [set() for _ in range(4)]
    for step in range(100):
        for place, row in enumerate(batches.batch(step).rows):
            seen[place].add(int(row))
    assert seen == [{0, 1, 2}, {3, 4}, {5, 6, 7}, {8, 9}]


def test_the_second_draw_is_another_frame_of_the_same_bins():
    batches = binned(dataset_of(40, 30, 25), num_clips=2, draws=2)
    for step in range(50):
        batch = batches.batch(step)
        first, second = batch.rows.reshape(2, 8)
        assert (batch.clip.reshape(2, 8)[0] == batch.clip.reshape(2, 8)[1]).all()
        assert (first != second).all()
        length = np.array([40, 30, 25])[batch.clip]
        assert (bins_of(batch, length) == np.tile([0, 1, 2, 3], 4)).all()


def test_a_bin_of_one_frame_gives_it_twice():
    first, second = binned(dataset_of(4, 4), num_clips=2, draws=2).batch(0).rows.reshape(2, 8)
    assert (first == second).all()


def test_the_original_draws_its_positives_from_other_clips():
    batches = binned(dataset_of(*[40] * 9), draws=2, other_clips=True)
    clips = np.stack([batches.batch(step).clip.reshape(2, 12) for step in range(60)])
    assert (clips[:, 0] != clips[:, 1]).mean() > 0.7  # 8 of 9 are others
    assert all(len(set(draw)) == 3 for step in clips for draw in step)


def test_frames_from_anywhere_are_different_and_equally_likely():
    dataset = dataset_of(20, 60)
    frames = FrameSampler(dataset, list(dataset.clip_table), num_frames=8, seed=3)
    drawn = [frames.batch(step) for step in range(400)]
    assert all(len(set(batch.rows)) == 8 for batch in drawn)
    assert all((batch.clip == (batch.rows >= 20)).all() for batch in drawn)
    counts = np.bincount(np.concatenate([batch.rows for batch in drawn]), minlength=80)
    assert counts.sum() == 3200 and counts.min() > 15 and counts.max() < 70


def test_frozen_frames_are_never_drawn_and_clips_with_too_few_others_neither():
    dataset = dataset_of(12, 6, 12, duplicate=(1, 2, 3))  # 9, 3 and 9 frames are left
    for batches, kept in (
        (binned(dataset, num_clips=2), {0, *range(4, 12), 18, *range(22, 30)}),
        (FrameSampler(dataset, ["c0", "c1"], num_frames=6, seed=0), {0, *range(4, 12), 12, 16, 17}),
    ):
        assert {int(row) for step in range(200) for row in batches.batch(step).rows} == kept
    with pytest.raises(DataError, match="no clip has 11 frames that differ from the one before; set fewer parts"):
        binned(dataset, parts=11)


def test_a_batch_is_a_function_of_seed_and_step():
    dataset = dataset_of(40, 30, 25)
    for draws in (1, 2):
        one, two = binned(dataset, draws=draws).batch(7), binned(dataset, draws=draws).batch(7)
        assert (one.rows == two.rows).all()
        assert (one.rows != binned(dataset, draws=draws, seed=1).batch(7).rows).any()


# ---- which pairs

ORACLE_4 = [("GDminus", 36, 27), ("GD", 48, 36)]


@pytest.mark.parametrize(("variant", "images", "negatives"), ORACLE_4)
def test_oracle_4(variant, images, negatives):
    """S = 4, bt = 12: 27 negatives and ln 28 per term, 36 and ln 37; the totals are twice that."""
    masks = partition_masks(variant, clips=3, parts=4)
    assert masks.positive_NN.shape == (images, images)
    assert (masks.negative_NN.sum(dim=1) == negatives).all()
    terms_per_frame = int(masks.positive_NN.sum()) / 12
    assert terms_per_frame == {"GDminus": 6, "GD": 8}[variant]
    options = {"form": "per_pair_neg_only"}
    mean = info_nce(torch.ones(images, 8), masks.positive_NN, masks.negative_NN, temperature=0.1, **options)
    assert mean == pytest.approx(math.log(1 + negatives), rel=1e-5)
    assert info_nce_chance(masks.positive_NN, masks.negative_NN, **options) == pytest.approx(math.log(1 + negatives))
    total = float(mean) * int(masks.positive_NN.sum()) / images  # images = their divisor, 3 bt or 4 bt
    assert total == pytest.approx(2 * math.log(1 + negatives), rel=1e-5)


@pytest.mark.parametrize(("batch", "percent"), [(8, 50), (12, 33), (16, 25), (20, 20)])
def test_oracle_4_the_official_batch_has_blank_images(batch, percent):
    """bt = 12: 16 of 48; science.md 2.5 lists the others."""
    blank = blank_images("GD", clips=batch // 4, parts=4)
    assert len(blank) == 4 * batch and int(blank.sum()) == 16
    assert round(100 * float(blank.float().mean())) == percent


def slots_linked(variant, a, b, places):
    slots = {a // places, b // places}
    return a % places == b % places and any(set(link) == slots for link in RULES[variant].links)


@pytest.mark.parametrize("variant", ["GDminus", "GD"])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_masks_equal_nested_loops(variant, parts):
    clips, places = 2, 2 * parts
    masks = partition_masks(variant, clips=clips, parts=parts)
    for a in range(len(masks.positive_NN)):
        for b in range(len(masks.positive_NN)):
            assert bool(masks.positive_NN[a, b]) == slots_linked(variant, a, b, places)
            assert bool(masks.negative_NN[a, b]) == (a % places % parts != b % places % parts)
    for mask in (masks.positive_NN, masks.negative_NN):
        assert mask.equal(mask.T) and not mask.diagonal().any()


def test_gd_links_each_image_to_two_of_its_bin():
    """Blocks x_i, x_j, x~_i, x~_j: the pairs (i, i~) (i, j) (j, j~) (i~, j~), and neither (i, j~) nor (j, i~)."""
    linked = partition_masks("GD", clips=2, parts=2).positive_NN.reshape(4, 4, 4, 4).diagonal(dim1=1, dim2=3)[..., 0]
    assert linked.int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize(("variant", "num_terms"), [("GDminus", 6), ("GD", 8)])
def test_the_loss_equals_chaitanyas_loops(variant, num_terms):
    """Their total as nested loops of gathers: every pair in both directions, same partitions left out."""
    torch.manual_seed(2)
    clips, parts, places = 2, 3, 6
    z = torch.nn.functional.normalize(torch.randn(RULES[variant].slots * places, 5, dtype=torch.float64), dim=1)
    total, terms = 0.0, 0
    for place in range(places):
        for link in RULES[variant].links:
            a, p = (slot * places + place for slot in link)
            others = [n for n in range(len(z)) if n % places % parts != place % parts]
            for anchor, positive in ((a, p), (p, a)):
                pull = math.exp(float(z[anchor] @ z[positive]) / 0.1)
                push = sum(math.exp(float(z[anchor] @ z[n]) / 0.1) for n in others)
                total, terms = total - math.log(pull / (pull + push)), terms + 1
    assert terms == num_terms * places
    masks = partition_masks(variant, clips=clips, parts=parts)
    loss = info_nce(z, masks.positive_NN, masks.negative_NN, form="per_pair_neg_only", temperature=0.1)
    assert 2 * float(loss) == pytest.approx(total / len(z), rel=1e-9)


def test_faithful_bugs_skip_by_four_whatever_the_partitions():
    right, wrong = (partition_masks("GDminus", clips=2, parts=6, faithful_bugs=bugs) for bugs in (False, True))
    assert not right.negative_NN[0, 6] and right.negative_NN[0, 4]  # bin 0 of clip 2; bin 4 of clip 1
    assert wrong.negative_NN[0, 6] and not wrong.negative_NN[0, 4]
    assert wrong.positive_NN.equal(right.positive_NN)
    with_four = (partition_masks("GDminus", clips=3, parts=4, faithful_bugs=bugs).negative_NN for bugs in (False, True))
    assert next(with_four).equal(next(with_four))


@pytest.mark.parametrize("form", ["simclr", "supcon_out", "per_pair_neg_only"])
def test_gr_has_all_others_in_the_denominator_in_every_form(form):
    """Oracle 1: ln(2 B - 1); and all forms are one loss, so a key holds one of them."""
    torch.manual_seed(4)
    masks = simclr_masks(6)
    assert (masks.positive_NN.sum(dim=1) == 1).all() and (masks.negative_NN.sum(dim=1) == 10).all()
    constant = info_nce(torch.ones(12, 4), masks.positive_NN, masks.negative_NN, form=form, temperature=0.1)
    assert constant == pytest.approx(math.log(11), rel=1e-5)
    z = torch.randn(12, 4, dtype=torch.float64)
    logits = torch.nn.functional.normalize(z, dim=1) @ torch.nn.functional.normalize(z, dim=1).T / 0.1
    logits = logits.masked_fill(torch.eye(12, dtype=torch.bool), -torch.inf)
    reference = torch.nn.functional.cross_entropy(logits, torch.arange(12).roll(6))
    loss = info_nce(z, masks.positive_NN, masks.negative_NN, form=form, temperature=0.1)
    assert float(loss) == pytest.approx(float(reference), rel=1e-9)


def test_ld_pairs_by_hand():
    """3 clips x 2 bins: image i with its view, and with its bin of both other clips, in one direction."""
    pairs = cross_clip_pairs(clips=3, parts=2)
    assert pairs.first_P.tolist() == [0, 1, 2, 3, 4, 5] * 3
    assert pairs.second_P.tolist() == [6, 7, 8, 9, 10, 11, 2, 3, 4, 5, 0, 1, 4, 5, 0, 1, 2, 3]
    assert not pairs.near_P.any() and not pairs.negative_NN.any()


@pytest.mark.parametrize("num_negatives", [4, 5])
def test_oracle_5_ld(num_negatives):
    """3 terms of ln 9 each with 4 neighbours in both maps; the logged loss is their mean."""
    pairs, neighbours = cross_clip_pairs(clips=3, parts=4), nearest_regions(region_grid(16, 3), num_negatives)
    options = {"neighbour_RR": neighbours, "form": "per_pair_neg_only", "temperature": 0.1}
    loss = local_info_nce(torch.ones(24, 13, 4), pairs, **options)
    assert loss == pytest.approx(math.log(1 + 2 * num_negatives), rel=1e-5)


def test_the_ld_loss_is_the_mean_of_its_three_kinds_and_its_gradient_is_right():
    torch.manual_seed(1)
    pairs, neighbours = cross_clip_pairs(clips=3, parts=2), nearest_regions(region_grid(16, 3), 4)
    options = {"neighbour_RR": neighbours, "form": "per_pair_neg_only", "temperature": 0.5}
    region = torch.randn(12, 13, 2, dtype=torch.float64, requires_grad=True)
    unit, terms = torch.nn.functional.normalize(region.detach(), dim=-1), []
    for a, b in zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True):
        for r in range(13):
            others = torch.cat([unit[a, neighbours[r]], unit[b, neighbours[r]]])
            logits = torch.cat([unit[b, r][None], others]) @ unit[a, r] / 0.5
            terms.append(float(logits.logsumexp(0) - logits[0]))
    assert float(local_info_nce(region.detach(), pairs, **options)) == pytest.approx(np.mean(terms), rel=1e-9)
    assert torch.autograd.gradcheck(lambda z: local_info_nce(z, pairs, **options), region)


@pytest.mark.parametrize("variant", ["GDminus", "GD"])
def test_the_gradient_of_a_global_variant(variant):
    torch.manual_seed(0)
    masks = partition_masks(variant, clips=2, parts=2)
    z = torch.randn(len(masks.positive_NN), 3, dtype=torch.float64, requires_grad=True)
    options = {"form": "per_pair_neg_only", "temperature": 0.5}
    assert torch.autograd.gradcheck(lambda z: info_nce(z, masks.positive_NN, masks.negative_NN, **options), z)


def test_what_gd_claims_that_bins_which_look_alike_across_clips_cost_nothing():
    """Embeddings that name the bin alone are perfect for G^D with cross-clip positives, and solve G^D- too; under G^R,
    where frames of a bin repel each other, they do not. Embeddings that name the clip alone fail all three."""
    place = torch.arange(12)
    by_bin, by_clip = torch.eye(4)[place % 4], torch.eye(3)[place // 4]
    costs = {}
    for variant, masks in {
        "GDminus": partition_masks("GDminus", clips=3, parts=4),
        "GD": partition_masks("GD", clips=3, parts=4),
        "GR": simclr_masks(12),
    }.items():
        slots = len(masks.positive_NN) // 12
        for name, z in (("bin", by_bin), ("clip", by_clip)):
            options = {"form": "per_pair_neg_only", "temperature": 0.1}
            costs[variant, name] = float(info_nce(z.repeat(slots, 1), masks.positive_NN, masks.negative_NN, **options))
    assert costs["GD", "bin"] < 0.01 and costs["GDminus", "bin"] < 0.01 and costs["GR", "bin"] > 1
    assert min(costs[variant, "clip"] for variant in ("GD", "GDminus", "GR")) > 1


def test_lr_keeps_the_two_views_of_a_frame_as_its_only_pair():
    """Frames from anywhere, several of one clip: pairs are views, in both directions; negatives are regions alone."""
    frame = torch.arange(5).repeat(2)
    pairs = local_pairs(torch.tensor([0, 0, 1, 1, 1]).repeat(2), frame.double(), frame_N=frame, polarity="none")
    assert sorted(zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True)) == [
        (number, (number + 5) % 10) for number in range(10)
    ]
    assert not pairs.negative_NN.any()
