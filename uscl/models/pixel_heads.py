"""Projection heads of single pixels; thrown away before fine-tuning."""
# N views, C cells of a map, D embedding

from __future__ import annotations

from torch import Tensor, nn

from uscl.models.heads import EMBEDDING_SIZE

PIXEL_EMBEDDING_SIZE = 256
"""Of label-based pixel contrast, hidden and out (Zhao et al. 2021)."""


class PixproHead(nn.Module):
    """One embedding per cell of a map: 1 x 1 convolution, batch norm, ReLU, 1 x 1 convolution. Not normalised.

    Xie et al. 2021 have 4096 hidden channels on a map of 2048 and 256 out; here hidden is as many times the map's
    channels, 2, and out as in the other heads, 128.
    """

    def __init__(self, in_channels: int, *, out: int = EMBEDDING_SIZE) -> None:
        super().__init__()
        hidden = 2 * in_channels
        self.pixels = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out, 1),
        )
        self.apply(_start)

    def forward(self, map_NHW: Tensor) -> Tensor:
        """Embeddings (N, C, D), cells row by row."""
        pixels: Tensor = self.pixels(map_NHW)
        return pixels.flatten(2).transpose(1, 2)


class PixelHead(nn.Module):
    """One embedding per pixel: three 1 x 1 convolutions with ReLU between (Zhao et al. 2021). Not normalised.

    As linear layers over the last dimension, so that only the pixels that are drawn are projected.
    """

    def __init__(self, in_channels: int, *, out: int = PIXEL_EMBEDDING_SIZE) -> None:
        super().__init__()
        self.pixels = nn.Sequential(
            nn.Linear(in_channels, out), nn.ReLU(inplace=True), nn.Linear(out, out), nn.ReLU(inplace=True),
            nn.Linear(out, out),
        )  # fmt: skip
        self.apply(_start)

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (..., out) of features (..., in_channels)."""
        embedding: Tensor = self.pixels(features)
        return embedding


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
