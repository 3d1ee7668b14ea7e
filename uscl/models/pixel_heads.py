"""Projection heads of single pixels; thrown away before fine-tuning."""
# N views, C cells of a map, M pixels, F features, D embedding

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
    """One embedding per pixel: three 1 x 1 convolutions, batch norm and ReLU between. Not normalised.

    Zhao et al. 2021 name the convolutions; without batch norm the embeddings start in a narrow cone, and hardly leave
    it. As linear layers on rows of pixels, so that only the pixels that are drawn are projected.
    """

    def __init__(self, in_channels: int, *, out: int = PIXEL_EMBEDDING_SIZE) -> None:
        super().__init__()
        self.pixels = nn.Sequential(
            nn.Linear(in_channels, out, bias=False),
            nn.BatchNorm1d(out),
            nn.ReLU(inplace=True),
            nn.Linear(out, out, bias=False),
            nn.BatchNorm1d(out),
            nn.ReLU(inplace=True),
            nn.Linear(out, out),
        )
        self.apply(_start)

    def forward(self, features_MF: Tensor) -> Tensor:
        """Embeddings (M, out) of M pixels with `in_channels` features."""
        embedding_MD: Tensor = self.pixels(features_MF)
        return embedding_MD


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
