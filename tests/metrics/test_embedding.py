"""Spread, alignment, uniformity and position retrieval on embeddings worked by hand."""

import math

import pytest
import torch

from uscl.metrics.embedding import COLLAPSED_STD, alignment, embedding_std, figures, position_retrieval, uniformity


def test_spread_of_a_uniform_and_of_a_collapsed_embedding():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.randn(2000, 128, generator=generator)
    assert embedding_std(uniform) == pytest.approx(1 / math.sqrt(128), rel=0.02)
    assert embedding_std(torch.ones(8, 128) * torch.arange(1.0, 9.0)[:, None]) < COLLAPSED_STD


def test_alignment_is_the_mean_squared_distance_of_positives():
    embedding = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    positive = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=torch.bool)
    assert alignment(embedding, positive) == pytest.approx((2 + 4) / 2)
    assert alignment(embedding, torch.zeros_like(positive)) == 0


def test_uniformity_by_hand():
    embedding = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert uniformity(embedding) == pytest.approx(expected, rel=1e-5)
    assert uniformity(torch.ones(4, 3)) == pytest.approx(0, abs=1e-5)


def test_an_embedding_of_position_is_always_retrieved_and_noise_at_chance():
    patient = torch.tensor([0, 0, 1, 1, 2, 2])
    assert position_retrieval(torch.eye(13).repeat(6, 1, 1), patient) == 1
    noise = torch.randn(100, 13, 16, generator=torch.Generator().manual_seed(0))
    assert position_retrieval(noise, torch.arange(100)) == pytest.approx(1 / 13, abs=0.03)


def test_regions_of_the_same_patient_do_not_count():
    same_patient = torch.eye(4)[None].repeat(2, 1, 1)
    other = torch.eye(4).roll(1, dims=0)[None]
    region = torch.cat([same_patient, other])
    assert position_retrieval(region, torch.tensor([0, 0, 1])) == 0


def test_one_patient_alone_has_no_retrieval():
    assert math.isnan(position_retrieval(torch.rand(3, 4, 5), torch.zeros(3)))


def test_the_figures_of_a_batch_are_those_of_each_function():
    embedding = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    positive = (torch.arange(12)[:, None] - torch.arange(12)).abs() == 6
    assert figures(embedding, positive) == {
        "embedding_std": embedding_std(embedding),
        "alignment": alignment(embedding, positive),
        "uniformity": uniformity(embedding),
    }
    unit = torch.nn.functional.normalize(embedding, dim=1)
    assert embedding_std(embedding) == pytest.approx(unit.std(dim=0, correction=0).mean().item(), rel=1e-6)
