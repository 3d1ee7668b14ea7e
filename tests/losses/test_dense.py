"""Pixel losses: values worked by hand, which pixels count, what PixPro and supervised contrast claim, gradients."""

import itertools
import math

import numpy as np
import pytest
import torch

from uscl.data.augment import PRETRAIN_SPATIAL, cell_diagonals, cell_places, draw_affine
from uscl.data.pairs import LocalPairs
from uscl.data.pixels import compared_views
from uscl.losses import dense
from uscl.losses.dense import pixel_consistency, pixel_supcon, pixel_supcon_chance, positive_cells, propagate

SAME = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
MIRRORED = torch.tensor([[-1.0, 0, 0], [0, 1, 0]])


def both_ways(number=1, near=None):
    """View pairs (n, number + n) in both directions."""
    first = torch.arange(2 * number)
    second = first.roll(number)
    near = torch.zeros(2 * number, dtype=torch.bool) if near is None else near
    return LocalPairs(first, second, near, torch.zeros(2 * number, 2 * number, dtype=torch.bool))


def consistency(query, key, theta, *, distance=0.7, pairs=None):
    size = math.isqrt(query.shape[1])
    return pixel_consistency(
        query, key, cell_places(theta, size), diagonal_N=cell_diagonals(theta, size), distance=distance,
        pairs=pairs or both_ways(len(query) // 2),
    )  # fmt: skip


# ---- propagation


def test_propagation_by_hand():
    """cos = 0.6 between the two cells, 0 and -1 to the others: weights 1, 0.36, 0, 0 at power 2."""
    embedding = torch.tensor([[[2.0, 0, 0], [0.6, 0.8, 0], [0, 0, 3], [-1, 0, 0]]])
    value = torch.tensor([[[1.0], [10.0], [100.0], [1000.0]]])
    assert propagate(embedding, value, power=2.0)[0, :, 0].tolist() == pytest.approx([4.6, 10.36, 100.0, 1000.0])
    assert propagate(embedding, value, power=1.0)[0, 0, 0] == pytest.approx(7.0)


def test_maps_do_not_mix_in_propagation():
    embedding, value = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    alone = torch.cat([propagate(embedding[n : n + 1], value[n : n + 1], power=2.0) for n in range(3)])
    torch.testing.assert_close(propagate(embedding, value, power=2.0), alone)


# ---- positives


def test_identical_crops_give_the_diagonal():
    """0.7 is in cell diagonals: a neighbour lies 1 / sqrt(2) = 0.707 of one away, just outside (the trap of 8)."""
    place, reach = cell_places(SAME[None], 4), cell_diagonals(SAME[None], 4)
    assert torch.equal(positive_cells(place, place, reach_P=0.7 * reach)[0], torch.eye(16, dtype=torch.bool))
    assert positive_cells(place, place, reach_P=0.72 * reach)[0].sum() == 16 + 2 * 24  # and the 24 sides


def test_a_mirrored_crop_meets_the_mirrored_cell():
    theta = torch.stack([SAME, MIRRORED])
    place, reach = cell_places(theta, 4), cell_diagonals(theta, 4)
    positive = positive_cells(place[:1], place[1:], reach_P=0.7 * reach[:1])[0]
    assert torch.equal(positive.reshape(4, 4, 4, 4).flip(-1).reshape(16, 16), torch.eye(16, dtype=torch.bool))


def test_a_crop_enlarged_twice_has_half_the_diagonal_and_the_larger_one_counts():
    theta = torch.stack([SAME, SAME / 2])
    assert cell_diagonals(theta, 4).tolist() == pytest.approx([math.sqrt(0.5), math.sqrt(0.125)])
    query = torch.randn(2, 16, 3)
    place, reach = cell_places(theta, 4), cell_diagonals(theta, 4)
    positive = positive_cells(place[:1], place[1:], reach_P=0.7 * reach[:1])[0]
    assert positive.sum(dim=1).max() == 8  # small cells around a large one; by the smaller diagonal they were 4
    unit = torch.nn.functional.normalize(query, dim=-1)
    expected = -2 * (unit[0] @ unit[1].T)[positive].mean()
    assert consistency(query, query, theta) == pytest.approx(float(expected), rel=1e-5)


def test_cells_outside_the_frame_have_no_positive():
    right = torch.tensor([[1.0, 0, 1.0], [0, 1, 0]])  # moved by half a frame: two of four columns show nothing
    place = cell_places(right[None], 4)
    positive = positive_cells(place, place, reach_P=torch.tensor([0.1]))[0]
    assert positive.sum() == 8 and positive.diagonal().reshape(4, 4).all(dim=0).tolist() == [True, True, False, False]


# ---- consistency


def test_features_that_are_a_function_of_the_place_are_at_the_optimum():
    """Flips included: what one view sees is found again in the other, exactly where its coordinates say."""
    theta = torch.cat([SAME[None].repeat(4, 1, 1), torch.stack([SAME, MIRRORED, MIRRORED, SAME])])
    place = cell_places(theta, 8)
    features = torch.stack([(k * place[..., axis]).sin() for k in (1, 3, 9) for axis in (0, 1)], dim=-1)
    assert consistency(features, features, theta) == pytest.approx(-2.0, abs=1e-5)
    forgotten = torch.stack([features[n] for n in (0, 1, 2, 3)] * 2)  # as if no view had been flipped
    assert consistency(forgotten, forgotten, theta) > -1.9


def test_constant_embeddings_are_the_optimum():
    theta = draw_affine(6, PRETRAIN_SPATIAL, np.random.default_rng(0))
    assert consistency(torch.ones(6, 16, 3), torch.ones(6, 16, 3), theta) == pytest.approx(-2.0)


def test_a_pair_beyond_the_distance_contributes_nothing():
    theta = torch.stack([SAME, SAME])
    query = torch.randn(2, 16, 3, requires_grad=True)
    key = torch.randn(2, 16, 3, requires_grad=True)
    loss = consistency(query[:, :], key, theta)
    (gradient,) = torch.autograd.grad(loss, key, retain_graph=True)
    assert gradient.abs().sum(dim=-1).gt(0).all()  # every key has its own query
    only = torch.zeros(2, 16, 1)
    only[0, 5] = 1  # one query alone counts: only the key at its place is moved
    term = (torch.nn.functional.normalize(query, dim=-1) * only).sum()
    (moved,) = torch.autograd.grad(consistency(query * only, key, theta), key)
    assert term.requires_grad and moved[1].abs().sum(dim=-1).nonzero().tolist() == [[5]] and not moved[0].any()


def test_pairs_that_do_not_overlap_count_for_nothing():
    left, right = torch.tensor([[0.4, 0, -0.6], [0, 1, 0]]), torch.tensor([[0.4, 0, 0.6], [0, 1, 0]])
    query = torch.randn(4, 16, 3, requires_grad=True)
    apart = consistency(query[:2], query[:2], torch.stack([left, right]))
    assert apart == 0 and not torch.autograd.grad(apart, query)[0].any()
    theta = torch.stack([left, SAME, right, SAME])  # first of two frames apart, second together
    expected = consistency(query[[1, 3]], query[[1, 3]], torch.stack([SAME, SAME]))
    assert consistency(query, query, theta).item() == pytest.approx(expected.item(), rel=1e-6)


def test_view_pairs_and_near_pairs_weigh_alike():
    query, theta = torch.randn(6, 4, 3), SAME[None].repeat(6, 1, 1)
    alone = [
        float(consistency(query[[n, n + 3]], query[[n, n + 3]], theta[:2])) for n in range(3)
    ]  # fmt: skip
    near = torch.tensor([False, False, True] * 2)
    mixed = consistency(query, query, theta, pairs=both_ways(3, near))
    assert mixed == pytest.approx(((alone[0] + alone[1]) / 2 + alone[2]) / 2, rel=1e-5)


def test_in_parts_as_at_once(monkeypatch):
    theta = draw_affine(6, PRETRAIN_SPATIAL, np.random.default_rng(0))
    query, label = torch.randn(6, 16, 3), torch.randint(-1, 3, (6, 16))
    compared = compared_views(3, "batch")

    def values():
        supcon = pixel_supcon(query, label, compared, num_classes=3, temperature=0.1)
        return propagate(query, query, power=2.0), consistency(query, query, theta), supcon

    whole = values()
    monkeypatch.setattr(dense, "PART_ENTRIES", 300)
    for part, expected in zip(values(), whole, strict=True):
        torch.testing.assert_close(part, expected)


# ---- supervised contrast


def unrolled(embedding, label, compared, *, temperature):
    """The loss as loops over anchors and pixels."""
    unit = torch.nn.functional.normalize(embedding, dim=-1)
    terms = []
    for view, anchor in itertools.product(range(len(unit)), range(unit.shape[1])):
        if label[view, anchor] < 0:
            continue
        others = [(m, p) for m in compared[view].tolist() for p in range(unit.shape[1]) if label[m, p] >= 0]
        similarity = {(m, p): unit[view, anchor] @ unit[m, p] / temperature for m, p in others}
        positive = [pixel for pixel in others if label[pixel] == label[view, anchor]]
        if not positive or len(positive) == len(others):
            continue
        denominator = torch.stack(list(similarity.values())).logsumexp(dim=0)
        terms.append(torch.stack([denominator - similarity[pixel] for pixel in positive]).mean())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("scope", ["within", "cross", "batch"])
def test_supervised_contrast_is_its_loops(scope):
    torch.manual_seed(0)
    embedding, label = torch.randn(6, 7, 4), torch.randint(-1, 3, (6, 7))
    compared = compared_views(3, scope)
    expected = unrolled(embedding, label, compared, temperature=0.5)
    assert pixel_supcon(embedding, label, compared, num_classes=3, temperature=0.5) == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_supervised_contrast_by_hand():
    """One anchor of class 0 against one pixel of each class at cosines 1 and 0, temperature 1: ln(e + 1) - 1."""
    embedding = torch.tensor([[[1.0, 0], [0, 1]], [[1.0, 0], [0, 1]]])
    label = torch.tensor([[0, 1], [0, 1]])
    loss = pixel_supcon(embedding, label, compared_views(1, "within"), num_classes=2, temperature=1.0)
    assert loss == pytest.approx(math.log(math.e + 1) - 1)


@pytest.mark.parametrize(("scope", "size"), [("within", 6), ("cross", 12), ("batch", 24)])
def test_constant_embeddings_are_at_chance(scope, size):
    label = torch.tensor([0, 0, 1, 1, 2, 2]).repeat(8, 1)
    compared = compared_views(4, scope)
    loss = pixel_supcon(torch.ones(8, 6, 3), label, compared, num_classes=3, temperature=0.07)
    assert loss == pytest.approx(math.log(size), rel=1e-5)
    assert pixel_supcon_chance(label, compared, num_classes=3) == pytest.approx(math.log(size), rel=1e-6)


def test_chance_is_the_loss_of_constant_embeddings_with_empty_places_too():
    label = torch.randint(-1, 3, (6, 9), generator=torch.Generator().manual_seed(1))
    compared = compared_views(3, "cross")
    loss = pixel_supcon(torch.ones(6, 9, 3), label, compared, num_classes=3, temperature=0.07)
    assert loss == pytest.approx(float(pixel_supcon_chance(label, compared, num_classes=3)), rel=1e-5)


def test_pixels_of_a_class_are_pulled_together_and_others_apart():
    torch.manual_seed(0)
    embedding, label = torch.randn(4, 6, 8, requires_grad=True), torch.tensor([0, 0, 0, 1, 1, 1]).repeat(4, 1)
    optimizer = torch.optim.Adam([embedding], lr=0.3)

    def cosines():
        flat = torch.nn.functional.normalize(embedding.detach().flatten(0, 1), dim=-1)
        same = label.flatten()[:, None] == label.flatten()[None]
        return float((flat @ flat.T)[same].mean()), float((flat @ flat.T)[~same].mean())

    before = cosines()
    for _ in range(60):
        optimizer.zero_grad()
        pixel_supcon(embedding, label, compared_views(2, "batch"), num_classes=2, temperature=0.2).backward()
        optimizer.step()
    after = cosines()
    assert before[0] < 0.3 and after[0] > 0.7 and after[1] < before[1] - 0.5


def test_an_empty_place_counts_nowhere():
    embedding = torch.randn(2, 5, 3, requires_grad=True)
    label = torch.tensor([[0, 0, 1, 1, -1]] * 2)
    compared = compared_views(1, "within")
    loss = pixel_supcon(embedding, label, compared, num_classes=2, temperature=0.1)
    without = pixel_supcon(embedding[:, :4], label[:, :4], compared, num_classes=2, temperature=0.1)
    assert loss.item() == pytest.approx(without.item(), rel=1e-6)
    assert not torch.autograd.grad(loss, embedding)[0][:, 4].any()


@pytest.mark.parametrize("label", [[[0, 0], [0, 0]], [[0, 0], [1, 1]], [[-1, -1], [-1, -1]]])
def test_no_anchor_gives_zero_with_zero_gradient(label):
    """One class only; no pixel of the own class in the other view; nothing labelled."""
    embedding = torch.randn(2, 2, 3, requires_grad=True)
    compared = compared_views(1, "within")
    loss = pixel_supcon(embedding, torch.tensor(label), compared, num_classes=2, temperature=0.07)
    assert loss == 0 and not torch.autograd.grad(loss, embedding)[0].any()
    assert pixel_supcon_chance(torch.tensor(label), compared, num_classes=2) == 0


# ---- gradients


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)

    theta = draw_affine(2, PRETRAIN_SPATIAL, np.random.default_rng(2))
    label = torch.tensor([0, 1, -1]).repeat(4, 1)
    compared = compared_views(2, "cross")
    assert torch.autograd.gradcheck(lambda x, g: propagate(x, g, power=2.0), (leaf(1, 4, 2), leaf(1, 4, 2)))
    assert torch.autograd.gradcheck(lambda y, k: consistency(y, k, theta), (leaf(2, 4, 2), leaf(2, 4, 2)))
    assert torch.autograd.gradcheck(
        lambda z: pixel_supcon(z, label, compared, num_classes=2, temperature=0.5), (leaf(4, 3, 2),)
    )


def test_zero_embeddings_have_finite_gradients():
    zero = torch.zeros(2, 4, 3, requires_grad=True)
    theta, label = torch.stack([SAME, SAME]), torch.tensor([[0, 0, 1, 1]] * 2)
    total = consistency(propagate(zero, zero, power=2.0), zero, theta)
    total = total + pixel_supcon(zero, label, compared_views(1, "within"), num_classes=2, temperature=0.07)
    assert torch.autograd.grad(total, zero)[0].isfinite().all()


def test_float32_whatever_the_autocast():
    embedding, theta = torch.randn(2, 4, 3), torch.stack([SAME, SAME])
    label, compared = torch.tensor([[0, 0, 1, 1]] * 2), compared_views(1, "within")

    def values():
        supcon = pixel_supcon(embedding, label, compared, num_classes=2, temperature=0.07)
        return propagate(embedding, embedding, power=2.0), consistency(embedding, embedding, theta), supcon

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = values()
    for under, plain in zip(inside, values(), strict=True):
        assert under.dtype == torch.float32 and torch.equal(under, plain)
