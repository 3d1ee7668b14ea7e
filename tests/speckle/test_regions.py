"""Bands along boundaries, and frames cut into patches."""

import torch
from scipy.ndimage import binary_dilation, binary_erosion

from uscl.speckle.regions import boundary_band, patches


def test_band_of_a_line_by_hand():
    mask = torch.zeros(1, 1, 1, 9)
    mask[..., 3:7] = 1.0
    assert boundary_band(mask, width_px=1).flatten().tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0]


def test_band_is_what_dilation_adds_and_erosion_takes():
    masks = torch.rand((2, 3, 20, 24), generator=torch.Generator().manual_seed(0)) > 0.03
    masks[..., :12, :12] = True
    masks[1, 2] = False
    square = torch.ones(5, 5).bool().numpy()
    for mask, band in zip(masks.flatten(0, 1), boundary_band(masks.float(), width_px=2).flatten(0, 1), strict=True):
        wide = binary_dilation(mask.numpy(), square)
        narrow = binary_erosion(mask.numpy(), square, border_value=1)
        assert torch.equal(band.bool(), torch.from_numpy(wide & ~narrow))
    assert not boundary_band(masks.float(), width_px=2)[1, 2].any()


def test_the_images_border_is_no_boundary():
    assert not boundary_band(torch.ones(1, 1, 8, 8), width_px=3).any()


def test_a_band_wider_than_the_image():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1.0
    assert boundary_band(mask, width_px=9).all()


def test_patches_by_hand():
    plane = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert patches(plane, size_px=2)[:, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_patches_over_the_edge_are_filled_with_zeros():
    planes = torch.rand(2, 3, 5, 7)
    tiles = patches(planes, size_px=4)
    assert tiles.shape == (2 * 2 * 2, 3, 16)
    assert torch.allclose(tiles.reshape(2, 4, 3, 16).sum((1, 3)), planes.sum((2, 3)))


def test_no_patches_is_one_row_per_frame():
    planes = torch.rand(2, 3, 4, 5)
    assert torch.equal(patches(planes, size_px=None), planes.flatten(2))
