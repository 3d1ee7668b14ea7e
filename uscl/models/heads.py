"""Projection heads of the two pretraining stages; thrown away before fine-tuning."""
# B frames, C channels, H x W cells, R regions, D embedding

from __future__ import annotations

import torch
from torch import Tensor, nn

from uscl.spec.networks import region_grid

EMBEDDING_SIZE = 128
FLATTEN_HIDDEN = 1024
"""Both from Chaitanya et al. 2020 (their code): 128-d embeddings, 1024 hidden units on the flattened bottleneck."""


class GlobalHead(nn.Module):
    """One embedding per frame from the bottleneck: Linear, ReLU, Linear, without biases. Output is not normalised.

    `kind`: `gap` pools first and takes any map; `flatten` (Chaitanya et al. 2020) is tied to `map_size` cells a side.
    """

    def __init__(
        self, kind: str, in_channels: int, *, map_size: int, hidden: int | None = None, out: int = EMBEDDING_SIZE
    ) -> None:
        super().__init__()
        flatten = kind == "flatten"
        inputs = in_channels * map_size**2 if flatten else in_channels
        hidden = hidden or (FLATTEN_HIDDEN if flatten else max(in_channels, out))
        self.pool: nn.Module = nn.Identity() if flatten else nn.AdaptiveAvgPool2d(1)
        self.project = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, out, bias=False)
        )
        self.apply(_start)

    def forward(self, bottleneck_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D)."""
        embedding_BD: Tensor = self.project(self.pool(bottleneck_BCHW))
        return embedding_BD


class LocalHead(nn.Module):
    """One embedding per region of a decoder map: two 1 x 1 convolutions (norm and ReLU between), then a shared Linear.

    Regions are those of `spec.networks.region_grid(map_size, patch)`; no biases; output is not normalised.
    Chaitanya et al. 2020. SpecError where the map is too small for the grid.
    """

    def __init__(self, in_channels: int, *, map_size: int, patch: int, out: int = EMBEDDING_SIZE) -> None:
        super().__init__()
        self.pixels = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 1, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, in_channels, 1, bias=False),
        )
        self.project = nn.Linear(in_channels * patch**2, out, bias=False)
        cells = [
            (row + down) * map_size + col + right
            for row, col in region_grid(map_size, patch)
            for down in range(patch)
            for right in range(patch)
        ]
        self.cells_per_region = patch**2
        self.register_buffer("cells", torch.tensor(cells), persistent=False)
        self.apply(_start)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Embeddings (B, R, D), regions in the order of `region_grid`."""
        pixels_BPC = self.pixels(map_BCHW).flatten(2).transpose(1, 2)
        regions = pixels_BPC.index_select(1, self.cells)
        patches = regions.reshape(len(regions), -1, self.cells_per_region * regions.shape[-1])
        embedding_BRD: Tensor = self.project(patches)
        return embedding_BRD


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
