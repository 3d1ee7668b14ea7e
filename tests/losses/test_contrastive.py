"""InfoNCE and pairwise loss: hand-computed values, chance levels, gradients, half precision."""

import math

import pytest
import torch

from uscl.losses.contrastive import info_nce, info_nce_chance, pairwise, pairwise_chance

FORMS = ("per_pair_neg_only", "supcon_out", "simclr")


def two_views(num_frames):
    """Masks of `num_frames` frames, two views each, every other frame a negative."""
    frame = torch.arange(num_frames).repeat_interleave(2)
    same = frame[:, None] == frame[None]
    return same & ~torch.eye(len(frame), dtype=torch.bool), ~same


@pytest.mark.parametrize("form", FORMS)
def test_constant_embeddings_are_at_chance(form):
    positive, negative = two_views(25)
    loss = info_nce(torch.ones(50, 8), positive, negative, form=form, temperature=0.1)
    assert loss == pytest.approx(math.log(49), rel=1e-5)
    assert info_nce_chance(positive, negative, form=form) == pytest.approx(math.log(49), rel=1e-6)


def test_chance_counts_positives_only_where_they_are_in_the_denominator():
    clip = torch.arange(3).repeat_interleave(4)
    same = clip[:, None] == clip[None]
    positive, negative = same & ~torch.eye(12, dtype=torch.bool), ~same
    expected = {"per_pair_neg_only": math.log(1 + 8), "supcon_out": math.log(11)}
    for form, value in expected.items():
        assert info_nce_chance(positive, negative, form=form) == pytest.approx(value)
        loss = info_nce(torch.ones(12, 4), positive, negative, form=form, temperature=0.1)
        assert loss == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("images", "partitions", "views"), [(36, 4, 3), (48, 4, 4)])
def test_chaitanyas_per_term_value_with_same_partition_left_out(images, partitions, views):
    """Oracle 4: 27 negatives, ln 28, and 36 negatives, ln 37."""
    part = torch.arange(images // views).repeat_interleave(views) % partitions
    image = torch.arange(images) // views
    positive = (image[:, None] == image[None]) & ~torch.eye(images, dtype=torch.bool)
    negative = part[:, None] != part[None]
    loss = info_nce(torch.ones(images, 4), positive, negative, form="per_pair_neg_only", temperature=0.1)
    assert loss == pytest.approx(math.log(1 + images * 3 // 4), rel=1e-5)


def hand_case():
    """Three unit vectors at 0, 60 and 90 degrees; 0-1 positive, 0-2 and 1-2 negative."""
    angle = torch.tensor([0.0, 60.0, 90.0], dtype=torch.float64).deg2rad()
    positive = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    negative = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]], dtype=torch.bool)
    return 3.0 * torch.stack([angle.cos(), angle.sin()], dim=1), positive, negative


@pytest.mark.parametrize("form", FORMS)
def test_info_nce_by_hand(form):
    embedding, positive, negative = hand_case()
    a = -math.log(math.exp(0.5 / 0.5) / (math.exp(0.5 / 0.5) + math.exp(0.0)))
    b = -math.log(math.exp(0.5 / 0.5) / (math.exp(0.5 / 0.5) + math.exp(math.cos(math.pi / 6) / 0.5)))
    loss = info_nce(embedding, positive, negative, form=form, temperature=0.5)
    assert loss == pytest.approx((a + b) / 2, rel=1e-9)


def test_supcon_averages_over_anchors_and_per_pair_over_terms():
    positive = torch.zeros(4, 4, dtype=torch.bool)
    positive[0, 1] = positive[0, 2] = positive[1, 0] = True
    negative = torch.zeros(4, 4, dtype=torch.bool)
    negative[:3, 3] = True
    sizes = {"supcon_out": (math.log(3) + math.log(2)) / 2, "per_pair_neg_only": math.log(2)}
    for form, expected in sizes.items():
        assert info_nce_chance(positive, negative, form=form) == pytest.approx(expected)


@pytest.mark.parametrize("form", FORMS)
def test_closer_positives_and_farther_negatives_cost_less(form):
    positive, negative = two_views(4)
    good = torch.eye(4).repeat_interleave(2, dim=0)
    bad = torch.eye(4).repeat(2, 1)
    values = [info_nce(z, positive, negative, form=form, temperature=0.1) for z in (good, bad)]
    assert values[0] < 0.01 < info_nce_chance(positive, negative, form=form) < values[1]


@pytest.mark.parametrize("form", FORMS)
def test_terms_without_a_negative_are_left_out(form):
    embedding = torch.randn(6, 4, requires_grad=True)
    positive, negative = two_views(3)
    negative[:4] = False
    negative[:, :4] = False
    assert not negative.any()
    loss = info_nce(embedding, positive, negative, form=form, temperature=0.1)
    loss.backward()
    assert loss == 0
    assert info_nce_chance(positive, negative, form=form) == 0
    assert not embedding.grad.any()


@pytest.mark.parametrize("form", FORMS)
def test_info_nce_gradient(form):
    torch.manual_seed(0)
    positive, negative = two_views(3)
    positive[0, 2] = positive[2, 0] = form != "simclr"
    negative = negative & ~positive
    embedding = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: info_nce(z, positive, negative, form=form, temperature=0.5), embedding)


def test_half_precision_input_is_summed_in_float32():
    torch.manual_seed(0)
    positive, negative = two_views(8)
    embedding = torch.randn(16, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = info_nce(embedding.bfloat16(), positive, negative, form="simclr", temperature=0.05)
    whole = info_nce(embedding.bfloat16().float(), positive, negative, form="simclr", temperature=0.05)
    assert half.dtype == torch.float32
    assert torch.equal(half, whole)


def pair(first, second, *, is_negative, margin=1.0, distance="euclidean"):
    embedding = torch.tensor([first, second], dtype=torch.float64, requires_grad=True)
    one = torch.tensor([[0, 1], [1, 0]], dtype=torch.bool)
    none = torch.zeros_like(one)
    masks = (none, one) if is_negative else (one, none)
    loss = pairwise(embedding, *masks, margin=margin, distance=distance)
    loss.backward()
    return loss.item(), embedding.grad


def test_equal_positives_cost_nothing():
    loss, gradient = pair([1.0, 2.0], [1.0, 2.0], is_negative=False)
    assert loss == pytest.approx(0, abs=1e-12)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_equal_negatives_cost_half_the_squared_margin(distance):
    loss, gradient = pair([1.0, 2.0], [1.0, 2.0], is_negative=True, margin=1.5, distance=distance)
    assert loss == pytest.approx(1.5**2 / 2, rel=1e-4)
    assert gradient.isfinite().all()


def test_negatives_beyond_the_margin_cost_nothing_and_pull_nothing():
    loss, gradient = pair([1.0, 0.0], [0.0, 1.0], is_negative=True, margin=1.0)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    ("distance", "positive", "negative"),
    [("euclidean", 1.0 / 2, (1.5 - 1.0) ** 2 / 2), ("cosine", 0.25 / 2, (1.5 - 0.5) ** 2 / 2)],
)
def test_pairwise_by_hand_at_sixty_degrees(distance, positive, negative):
    vectors = ([2.0, 0.0], [0.5, math.sqrt(0.75)])
    assert pair(*vectors, is_negative=False, distance=distance)[0] == pytest.approx(positive, rel=1e-6)
    assert pair(*vectors, is_negative=True, distance=distance, margin=1.5)[0] == pytest.approx(negative, rel=1e-6)


def test_pairwise_is_balanced_whatever_the_numbers():
    positive, negative = two_views(10)
    loss = pairwise(torch.ones(20, 4), positive, negative, margin=2.0, distance="euclidean")
    assert loss == pytest.approx(2.0**2 / 4, rel=1e-3)
    assert pairwise_chance(positive, negative, margin=2.0) == 1.0


def test_pairwise_chance_without_positives_is_the_negatives_alone():
    _, negative = two_views(2)
    assert pairwise_chance(torch.zeros_like(negative), negative, margin=2.0) == 2.0


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_pairwise_gradient(distance):
    torch.manual_seed(1)
    positive, negative = two_views(3)
    embedding = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: pairwise(z, positive, negative, margin=1.9, distance=distance), embedding)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_gradients_are_finite_on_zero_and_on_equal_embeddings(distance):
    positive, negative = two_views(2)
    for start in (torch.zeros(4, 3), torch.ones(4, 3)):
        embedding = start.requires_grad_()
        pairwise(embedding, positive, negative, margin=1.0, distance=distance).backward()
        assert embedding.grad.isfinite().all()


def test_a_collapsed_batch_of_25_frames_is_where_users_of_pcl_are_stuck():
    """positional_cl's issue 5: 5.5597 = ln(2 x 25 - 1) times its factor 0.1 / 0.07, which ours leaves out."""
    frame = torch.arange(25).repeat(2)
    same = (frame[:, None] == frame[None]) & ~torch.eye(50, dtype=torch.bool)
    chance = info_nce_chance(same, frame[:, None] != frame[None], form="supcon_out").item()
    assert chance == pytest.approx(math.log(49))
    assert chance * 0.1 / 0.07 == pytest.approx(5.5597, abs=1e-4)
