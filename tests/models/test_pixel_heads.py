"""Heads of single pixels: one embedding per cell in order, from that cell alone."""

import torch

from uscl.models.pixel_heads import PixelHead, PixproHead


def test_a_cell_is_projected_from_itself_alone():
    head = PixproHead(8).double().eval()
    feature_map = torch.rand(1, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    embedding = head(feature_map)
    assert embedding.shape == (1, 16, 128)
    (gradient,) = torch.autograd.grad(embedding[0, 6].sum(), feature_map)  # row 1, column 2
    assert gradient[0, :, 1, 2].any()
    gradient[..., 1, 2] = 0
    assert not gradient.any()


def test_pixels_are_projected_to_256():
    head = PixelHead(16)
    assert head(torch.rand(12, 16)).shape == (12, 256)
    assert sum(isinstance(layer, torch.nn.Linear) for layer in head.modules()) == 3
