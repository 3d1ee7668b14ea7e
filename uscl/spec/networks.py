"""Geometry of the network presets and of the region grid, without torch: what a sweep file can be checked against.

A network is a U-Net of L levels: level 1 lies at `image.size / stem_stride`, each further level halves it, the
last is the bottleneck. Decoder block b (from 1, counted from the bottleneck) leads back to level L - b, so a
network has L - 1 blocks. science.md 2.1 and 5.2; parameter counts are tested in tests/models.
"""

from __future__ import annotations

from dataclasses import dataclass

from uscl.errors import SpecError

PRESETS = ("tiny", "chaitanya", "nnunet2d")

NNUNET_BASE_WIDTH, NNUNET_MAX_WIDTH, NNUNET_MIN_EDGE = 32, 512, 4
"""nnU-Net's planner: widths double from 32 to at most 512, and levels are added until the edge is under 2 x 4."""

REGION_NAMES = ("grid13",)
_MIN_BOTTLENECK = 2
"""Edge of the smallest bottleneck, cells: a 1 x 1 map has no statistics to normalise by."""


@dataclass(frozen=True, slots=True)
class NetworkGeometry:
    """Sizes of a network at one image size."""

    preset: str
    image_size: int
    """Side of the square input, px."""
    widths: tuple[int, ...]
    """Channels of the encoder levels, the finest first, the bottleneck last."""
    stem_stride: int
    """Input px per cell of the finest level; logits are upsampled by it."""

    @property
    def num_blocks(self) -> int:
        """Decoder blocks; `decoder.level` is at most this."""
        return len(self.widths) - 1

    @property
    def stride(self) -> int:
        """Input px per cell of the bottleneck; divides `image_size`."""
        return self.stem_stride << self.num_blocks

    @property
    def bottleneck_size(self) -> int:
        """Side of the bottleneck map, cells."""
        return self.image_size // self.stride

    def level_channels(self, level: int) -> int:
        """Channels of the map that decoder block `level` gives (1 .. num_blocks)."""
        return self.widths[self.num_blocks - level]

    def level_size(self, level: int) -> int:
        """Side of the map that decoder block `level` gives, cells."""
        return self.bottleneck_size << level


def geometry(preset: str, image_size: int, *, base_width: int = NNUNET_BASE_WIDTH) -> NetworkGeometry:
    """Geometry of a preset at an image size; `base_width` is read by nnunet2d only.

    SpecError for an unknown preset or a size it cannot take."""
    if preset not in PRESETS:
        raise SpecError(f"network.preset: {preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    widths, stem_stride = _widths(preset, image_size, base_width)
    sizes = NetworkGeometry(preset, image_size, widths, stem_stride)
    if image_size % sizes.stride:
        near = _next_size(preset, image_size)
        raise SpecError(
            f"image.size: {image_size} is not a multiple of {sizes.stride}, the stride of {preset}; try {near}"
        )
    if sizes.bottleneck_size < _MIN_BOTTLENECK:
        smallest = _MIN_BOTTLENECK * sizes.stride
        raise SpecError(f"image.size: {image_size} leaves {preset} a bottleneck of 1 x 1; choose at least {smallest}")
    return sizes


def level_map_size(preset: str, image_size: int, level: int) -> int:
    """Side of the feature map of `decoder.level`, cells. SpecError where the network lacks that block."""
    sizes = geometry(preset, image_size)
    if not 1 <= level <= sizes.num_blocks:
        raise SpecError(
            f"decoder.level: {level} is beyond {preset}, which has {sizes.num_blocks} decoder blocks"
            f" at image.size {image_size}; choose 1 to {sizes.num_blocks}"
        )
    return sizes.level_size(level)


def region_grid(map_size: int, patch: int) -> tuple[tuple[int, int], ...]:
    """Upper left corners (row, column) of the 13 regions on a square map: 3 x 3 points, then 4 quarter points.

    The last index is `map_size - 4` for patches of 3 x 3 cells and `map_size - 1` for single cells (Chaitanya et
    al. 2020, as in their code). SpecError where the map is too small for 13 different positions.
    """
    smallest = min_map_size(patch)
    if map_size < smallest:
        raise SpecError(
            f"decoder.regions: grid13 with decoder.patch {patch} needs a feature map of at least"
            f" {smallest} x {smallest}, this level has {map_size} x {map_size}; raise decoder.level or image.size"
        )
    last = _last_index(map_size, patch)
    coarse, quarters = (0, last // 2, last), (last // 4, 3 * last // 4)
    return (*((row, col) for row in coarse for col in coarse), *((row, col) for row in quarters for col in quarters))


def min_map_size(patch: int) -> int:
    """Side of the smallest map on which the 13 positions of `region_grid` differ, cells."""
    return 5 if patch == 1 else 5 + patch


def _last_index(map_size: int, patch: int) -> int:
    return map_size - 1 if patch == 1 else map_size - 1 - patch


def _widths(preset: str, image_size: int, base_width: int) -> tuple[tuple[int, ...], int]:
    if preset == "tiny":
        return (16, 24, 32, 48), 2
    if preset == "chaitanya":
        return (16, 32, 64, 128, 128, 128), 1
    return nnunet_widths(image_size, base_width), 1


def nnunet_widths(edge: int, base_width: int) -> tuple[int, ...]:
    """Channels of nnU-Net's levels for patches whose shorter edge is `edge` px, the finest first."""
    levels = 1
    while edge >= 2 * NNUNET_MIN_EDGE:
        levels, edge = levels + 1, edge // 2
    return tuple(min(base_width * 2**level, NNUNET_MAX_WIDTH) for level in range(levels))


def _next_size(preset: str, image_size: int) -> int:
    size = image_size + 1
    while True:
        widths, stem_stride = _widths(preset, size, NNUNET_BASE_WIDTH)
        if size % (stem_stride * 2 ** (len(widths) - 1)) == 0 and size % 16 == 0:
            return size
        size += 1
