"""Soft positives and hard negatives, global and local: unrolled references, chance, gradients, what they favour."""

import math

import pytest
import torch

from uscl.data.pairs import LocalPairs, local_pairs, nearest_regions, pair_masks
from uscl.losses.contrastive import info_nce, info_nce_chance, negative_mass, pairwise, pairwise_chance
from uscl.losses.local import local_info_nce, local_info_nce_chance, local_pairwise, local_pairwise_chance
from uscl.spec.networks import region_grid

FORMS = ("per_pair_neg_only", "supcon_out")
NEIGHBOURS = nearest_regions(region_grid(16, 3), 5)
CLIP = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
FRAME = torch.tensor([3, 3, 4, 5, 5, 9, 3, 3])
BATCH = {"frame_N": FRAME, "polarity": "positive_negative", "window": 2, "soft": True}
MASKS = pair_masks(CLIP, FRAME.double(), **BATCH)
PAIRS = local_pairs(CLIP, FRAME.double(), **BATCH)
BOTH = (MASKS.positive_NN, MASKS.negative_NN)


def unit_vectors(*shape):
    z = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return torch.nn.functional.normalize(z, dim=-1)


def hard_sum(similarities, beta):
    """n x sum of w exp(s), w proportional to exp(beta s)."""
    weights = [math.exp(beta * s) for s in similarities]
    return len(weights) * sum(w * math.exp(s) for w, s in zip(weights, similarities, strict=True)) / sum(weights)


def unrolled(z, form, beta, temperature=0.4):
    """Terms and their weights, anchor by anchor."""
    total, weight = 0.0, 0.0
    for a in range(len(z)):
        positives = [p for p in range(len(z)) if BOTH[0][a, p]]
        negatives = [(z[a] @ z[n]).item() / temperature for n in range(len(z)) if BOTH[1][a, n]]
        mass = hard_sum(negatives, beta)
        scores = {p: (z[a] @ z[p]).item() / temperature for p in positives}
        shares = {p: math.exp(-abs(int(FRAME[a]) - int(FRAME[p])) / 2) for p in positives}
        of_anchor = 0.0
        for p in positives:
            others = [p] if form == "per_pair_neg_only" else positives
            of_anchor += shares[p] * (math.log(mass + sum(math.exp(scores[q]) for q in others)) - scores[p])
        whole = sum(shares.values())
        total, weight = (
            (total + of_anchor, weight + whole)
            if form == "per_pair_neg_only"
            else (total + (of_anchor / whole if whole else 0.0), weight + (whole > 0))
        )
    return total / weight


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_weighted_info_nce_equals_the_unrolled_loops(form, beta):
    z = unit_vectors(8, 3)
    loss = info_nce(z, *BOTH, form=form, temperature=0.4, weight_NN=MASKS.weight_NN, hard_beta=beta)
    assert loss.item() == pytest.approx(unrolled(z, form, beta), rel=1e-6)


def test_hard_negatives_by_hand():
    """Two negatives at similarity ln 1 and ln 3, beta 1: weights 1/4 and 3/4, mean 10/4, times two."""
    similarity = torch.tensor([0.0, math.log(3.0), 7.0])
    mask = torch.tensor([True, True, False])
    assert negative_mass(similarity, mask, hard_beta=1.0).exp() == pytest.approx(5.0, rel=1e-6)
    assert negative_mass(similarity, mask).exp() == pytest.approx(4.0, rel=1e-6)
    assert negative_mass(similarity, mask, hard_beta=1e-6) == pytest.approx(math.log(4.0), rel=1e-5)


def test_no_negatives_have_no_mass_whatever_the_weighting():
    for beta in (0.0, 1.0):
        mass = negative_mass(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), hard_beta=beta)
        assert (torch.logaddexp(mass, torch.ones(2)) == 1).all()


def test_the_hardest_negative_takes_more_of_the_push_the_larger_beta_is():
    shares = []
    for beta in (0.0, 0.5, 2.0):
        similarity = torch.tensor([2.0, 1.0, 0.0], requires_grad=True)
        negative_mass(similarity, torch.ones(3, dtype=torch.bool), hard_beta=beta).backward()
        shares.append((similarity.grad[0] / similarity.grad.sum()).item())
    assert shares[0] == pytest.approx(math.exp(2) / (math.exp(2) + math.e + 1), rel=1e-5)
    assert shares == sorted(shares) and shares[2] > shares[0] + 0.2


@pytest.mark.parametrize("form", [*FORMS, "simclr"])
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("weight", [None, MASKS.weight_NN], ids=["all", "soft"])
def test_constant_embeddings_are_at_chance(form, beta, weight):
    loss = info_nce(torch.ones(8, 5), *BOTH, form=form, temperature=0.1, weight_NN=weight, hard_beta=beta)
    assert loss == pytest.approx(info_nce_chance(*BOTH, form=form, weight_NN=weight).item(), rel=1e-5)
    pairs = PAIRS if weight is not None else LocalPairs(PAIRS.first_P, PAIRS.second_P, PAIRS.near_P, PAIRS.negative_NN)
    options = {"neighbour_RR": NEIGHBOURS, "form": form}
    loss = local_info_nce(torch.ones(8, 13, 5), pairs, temperature=0.1, hard_beta=beta, **options)
    assert loss == pytest.approx(local_info_nce_chance(pairs, **options).item(), rel=1e-5)


def test_soft_pairwise_losses_are_at_chance_on_constant_embeddings():
    loss = pairwise(torch.ones(8, 5), *BOTH, margin=1.5, distance="cosine", weight_NN=MASKS.weight_NN)
    assert loss == pytest.approx(pairwise_chance(*BOTH, margin=1.5).item(), rel=1e-5)
    loss = local_pairwise(torch.ones(8, 13, 5), PAIRS, neighbour_RR=NEIGHBOURS, margin=1.5, distance="cosine")
    assert loss == pytest.approx(local_pairwise_chance(margin=1.5), rel=1e-5)


def test_soft_pairwise_by_hand():
    """Positives at 60 degrees (weight 1) and 90 degrees (weight 1/4): the mean of D^2 / 2 is (1/2 + 1/4) / (5/4)."""
    angle = torch.tensor([0.0, 60.0, 90.0], dtype=torch.float64).deg2rad()
    z = torch.stack([angle.cos(), angle.sin()], dim=1)
    positive = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=torch.bool)
    weight = torch.tensor([[0, 1, 0.25], [1, 0, 0], [0.25, 0, 0]])
    loss = pairwise(z, positive, torch.zeros_like(positive), margin=1.0, distance="euclidean", weight_NN=weight)
    assert loss.item() == pytest.approx(0.75 / 1.25, rel=1e-6)


@pytest.mark.parametrize("loss", ["info_nce", "pairwise"])
def test_a_positive_at_the_edge_of_the_window_pulls_less(loss):
    """Anchor 0 (frame 3) and its positives of frames 4 and 5, equally far in the embedding."""
    pulls = {}
    for weight in (None, MASKS.weight_NN):
        z = torch.eye(8, dtype=torch.float64).requires_grad_()
        if loss == "pairwise":
            value = pairwise(z, *BOTH, margin=1.0, distance="cosine", weight_NN=weight)
        else:
            value = info_nce(z, *BOTH, form="supcon_out", temperature=1.0, weight_NN=weight)
        value.backward()
        pulls[weight is None] = (z.grad[0, 2] / z.grad[0, 3]).item()  # towards frame 4 over towards frame 5
    assert pulls[True] == pytest.approx(1.0, abs=0.2)
    assert pulls[False] > pulls[True] + 0.1


def local_unrolled(z, beta, temperature=0.4):
    """The local InfoNCE as loops, near pairs weighted."""
    sums, weights = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    columns = (PAIRS.first_P.tolist(), PAIRS.second_P.tolist(), PAIRS.near_P.tolist())
    for a, b, near in zip(*columns, strict=True):
        share = math.exp(-abs(int(FRAME[a]) - int(FRAME[b])) / 2)
        for r in range(13):
            negatives = [(z[a, r] @ z[m, q]).item() for m in (a, b) for q in range(13) if NEIGHBOURS[r, q]]
            negatives += [(z[a, r] @ z[f, r]).item() for f in range(8) if PAIRS.negative_NN[a, f]]
            score = (z[a, r] @ z[b, r]).item() / temperature
            mass = hard_sum([value / temperature for value in negatives], beta)
            sums[near] += share * (math.log(mass + math.exp(score)) - score)
            weights[near] += share
    return sum(sums[near] / weights[near] for near in sums) / 2


@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_local_info_nce_equals_the_unrolled_loops(beta):
    z = unit_vectors(8, 13, 3)
    loss = local_info_nce(z, PAIRS, neighbour_RR=NEIGHBOURS, form="per_pair_neg_only", temperature=0.4, hard_beta=beta)
    assert loss.item() == pytest.approx(local_unrolled(z, beta), rel=1e-6)


def test_local_weights_change_the_near_term_alone():
    z = unit_vectors(8, 13, 3)
    halves = LocalPairs(
        PAIRS.first_P, PAIRS.second_P, PAIRS.near_P, PAIRS.negative_NN, torch.full_like(PAIRS.weight_P, 0.5)
    )
    plain = LocalPairs(PAIRS.first_P, PAIRS.second_P, PAIRS.near_P, PAIRS.negative_NN)
    options = {"neighbour_RR": NEIGHBOURS, "margin": 1.0, "distance": "euclidean"}
    value = local_pairwise(z, plain, **options).item()
    assert local_pairwise(z, halves, **options).item() == pytest.approx(value, rel=1e-9)  # equal weights: no change
    assert local_pairwise(z, PAIRS, **options).item() != pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_soft_positives_and_hard_negatives(form):
    z = unit_vectors(8, 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: info_nce(z, *BOTH, form=form, temperature=0.5, weight_NN=MASKS.weight_NN, hard_beta=1.0), z
    )
    region = unit_vectors(8, 13, 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: local_info_nce(z, PAIRS, neighbour_RR=NEIGHBOURS, form=form, temperature=0.5, hard_beta=1.0), region
    )


def test_gradient_of_the_soft_pairwise_loss():
    z = unit_vectors(8, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: pairwise(z, *BOTH, margin=1.9, distance="euclidean", weight_NN=MASKS.weight_NN), z
    )
