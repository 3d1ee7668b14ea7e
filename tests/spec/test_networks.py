"""Geometry facts that sweep files are checked against."""

import subprocess
import sys

import pytest

from uscl.errors import SpecError
from uscl.spec.networks import geometry, level_map_size, min_map_size, region_grid


def test_level_three_of_chaitanya_is_a_quarter_resolution_map_of_64_channels():
    sizes = geometry("chaitanya", 192)
    assert (sizes.stride, sizes.bottleneck_size, sizes.num_blocks) == (32, 6, 5)
    assert (level_map_size("chaitanya", 192, 3), sizes.level_channels(3)) == (48, 64)


def test_tiny_has_maps_for_the_grid_at_64_px():
    assert [level_map_size("tiny", 64, level) for level in (1, 2, 3)] == [8, 16, 32]
    assert min_map_size(3) <= 8


@pytest.mark.parametrize(("size", "levels"), [(64, 5), (192, 6), (256, 7), (512, 8)])
def test_nnunet_adds_levels_until_the_edge_is_under_eight(size, levels):
    sizes = geometry("nnunet2d", size)
    assert len(sizes.widths) == levels
    assert 4 <= sizes.bottleneck_size < 8


@pytest.mark.parametrize(
    ("preset", "size", "level", "message"),
    [
        (
            "tiny",
            64,
            4,
            "decoder.level: 4 is beyond tiny, which has 3 decoder blocks at image.size 64; choose 1 to 3",
        ),
        ("chaitanya", 80, 1, "image.size: 80 is not a multiple of 32, the stride of chaitanya; try 96"),
        ("chaitanya", 32, 1, "image.size: 32 leaves chaitanya a bottleneck of 1 x 1; choose at least 64"),
        ("unett", 64, 1, "network.preset: 'unett' is unknown; choose one of tiny, chaitanya, nnunet2d"),
    ],
)
def test_impossible_networks_are_named(preset, size, level, message):
    with pytest.raises(SpecError) as error:
        level_map_size(preset, size, level)
    assert str(error.value) == message


def test_region_grid_follows_chaitanyas_last_index():
    corners = region_grid(48, 3)
    assert corners[:9] == tuple((row, col) for row in (0, 22, 44) for col in (0, 22, 44))
    assert corners[9:] == ((11, 11), (11, 33), (33, 11), (33, 33))
    assert region_grid(48, 1)[8] == (47, 47)


@pytest.mark.parametrize("patch", [1, 3])
def test_region_grid_has_thirteen_places_inside_every_map_it_accepts(patch):
    for size in range(min_map_size(patch), 40):
        corners = region_grid(size, patch)
        assert len(set(corners)) == 13
        assert all(0 <= index <= size - patch for corner in corners for index in corner)


def test_a_map_too_small_for_the_grid_is_refused():
    with pytest.raises(SpecError, match="needs a feature map of at least 8 x 8, this level has 4 x 4"):
        region_grid(4, 3)


def test_geometry_needs_no_torch():
    code = "import sys, uscl.spec.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
