"""Projection heads: Chaitanya's parameter count, which cells a region reads."""

import pytest
import torch

from uscl.models.heads import GlobalHead, LocalHead
from uscl.models.unet import UNet
from uscl.spec.networks import region_grid


def test_flattened_head_has_chaitanyas_parameters():
    head = GlobalHead("flatten", 128, map_size=6)
    assert sum(parameter.numel() for parameter in head.parameters()) == 4_849_664


def test_the_flattened_head_of_recipe_paper_fits_its_network():
    """Oracle 13: 192 px leave the preset 6 x 6 x 128 at the bottleneck; the features and the head agree on it."""
    network = UNet("chaitanya", num_classes=1, image_size=192, norm="batch", activation="relu").eval()
    head = GlobalHead("flatten", network.bottleneck_channels, map_size=network.geometry.bottleneck_size)
    assert sum(parameter.numel() for parameter in head.parameters()) == 4_849_664
    with torch.no_grad():
        assert head(network.encode(torch.rand(1, 1, 192, 192))[-1]).shape == (1, 128)


def test_pooled_head_takes_any_map_size():
    head = GlobalHead("gap", 48, map_size=4)
    assert head(torch.rand(3, 48, 4, 4)).shape == head(torch.rand(3, 48, 9, 9)).shape == (3, 128)


@pytest.mark.parametrize("patch", [1, 3])
def test_a_region_reads_its_own_patch_and_nothing_else(patch):
    torch.manual_seed(0)
    head = LocalHead(8, map_size=16, patch=patch).double().eval()
    feature_map = torch.rand(1, 8, 16, 16, dtype=torch.float64, requires_grad=True)
    embedding = head(feature_map)
    assert embedding.shape == (1, 13, 128)
    for region, (row, col) in enumerate(region_grid(16, patch)):
        (gradient,) = torch.autograd.grad(embedding[0, region].sum(), feature_map, retain_graph=True)
        outside = gradient.clone()
        outside[..., row : row + patch, col : col + patch] = 0
        assert not outside.any()
        assert gradient.any()


def test_equal_patches_give_equal_embeddings():
    head = LocalHead(8, map_size=16, patch=3).eval()
    constant = torch.ones(1, 8, 16, 16)
    embedding = head(constant)
    torch.testing.assert_close(embedding, embedding[:, :1].expand_as(embedding))
