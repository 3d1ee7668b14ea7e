"""One configurable 2-D U-Net: encode() -> features, decode(features, upto=level), logits at input resolution.

Presets: `tiny` (the demo's: stride-2 stem, logits upsampled), `chaitanya` (Chaitanya et al. 2020, science.md 2.1:
2.10 M parameters), `nnunet2d` (nnU-Net's PlainConvUNet, science.md 5.2: 33-46 M). Parameter names start with
`encoder.`, `decoder.blocks.<i>.` (i from 0, so `decoder.level: l` trains blocks 0 .. l-1) or `tail.`.
"""
# B frames, C channels, K classes, H x W pixels

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uscl.spec.networks import NNUNET_BASE_WIDTH, NetworkGeometry, geometry

OUTPUT_BIAS = -2.0
"""Start of the tiny preset's logits: sigmoid(-2) = 0.12, near a class's area; 250 steps are too few to get there."""


@dataclass(frozen=True, slots=True)
class _Style:
    """What distinguishes the presets beyond their geometry."""

    down: str
    """`pool`: 2 x 2 maximum before a level; `strided`: the level's first convolution has stride 2."""
    up: str
    """`conv2`: nearest, then a 2 x 2 convolution unit; `transposed`: 2 x 2 transposed convolution; `pointwise`."""
    num_convs: tuple[int, int, int]
    """3 x 3 convolutions per encoder level, decoder block and last decoder block."""
    conv_bias: bool
    norm_eps: float
    norm_momentum: float
    """Of batch norm's running statistics, in torch's sense (1 - decay)."""


_STYLES = {
    "tiny": _Style("strided", "pointwise", (2, 1, 1), False, 1e-5, 0.1),
    "chaitanya": _Style("pool", "conv2", (2, 2, 1), True, 1e-3, 0.01),
    "nnunet2d": _Style("strided", "transposed", (2, 2, 2), True, 1e-5, 0.1),
}

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
}


@dataclass(frozen=True, slots=True)
class _Units:
    """Builds convolution units (convolution, norm, activation) of one network."""

    style: _Style
    norm: str
    activation: str

    def norm_layer(self, channels: int) -> nn.Module:
        eps = self.style.norm_eps
        if self.norm == "batch":
            return nn.BatchNorm2d(channels, eps=eps, momentum=self.style.norm_momentum)
        if self.norm == "instance":
            return nn.InstanceNorm2d(channels, eps=eps, affine=True)
        return nn.GroupNorm(8, channels, eps=eps)  # every width of the presets is a multiple of 8

    def conv(self, in_channels: int, out_channels: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
        padding = [] if kernel % 2 else [nn.ZeroPad2d((0, kernel - 1, 0, kernel - 1))]  # TensorFlow's "same"
        bias = self.style.conv_bias
        layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2 * (kernel % 2), bias=bias)
        return nn.Sequential(*padding, layer, self.norm_layer(out_channels), _ACTIVATIONS[self.activation]())

    def convs(self, in_channels: int, out_channels: int, number: int, *, stride: int = 1) -> nn.Sequential:
        first = self.conv(in_channels, out_channels, stride=stride)
        return nn.Sequential(first, *(self.conv(out_channels, out_channels) for _ in range(number - 1)))


class _Encoder(nn.Module):
    def __init__(self, units: _Units, sizes: NetworkGeometry, in_channels: int) -> None:
        super().__init__()
        strided = units.style.down == "strided"
        number = units.style.num_convs[0]
        levels, channels = [], in_channels
        for depth, width in enumerate(sizes.widths):
            stride = sizes.stem_stride if depth == 0 else 2 if strided else 1
            levels.append(units.convs(channels, width, number, stride=stride))
            channels = width
        self.levels = nn.ModuleList(levels)
        self.pool: nn.Module = nn.Identity() if strided else nn.MaxPool2d(2)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        features = [self.levels[0](image_BCHW)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return features


class _DecoderBlock(nn.Module):
    def __init__(self, units: _Units, in_channels: int, width: int, number: int) -> None:
        super().__init__()
        self.up = _upsampling(units, in_channels, width)
        self.convs = units.convs(2 * width, width, number)

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        features: Tensor = self.convs(torch.cat([self.up(deeper), skip], dim=1))
        return features


def _upsampling(units: _Units, in_channels: int, width: int) -> nn.Module:
    if units.style.up == "transposed":
        return nn.ConvTranspose2d(in_channels, width, 2, 2)
    if units.style.up == "conv2":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), units.conv(in_channels, width, kernel=2))
    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.Upsample(scale_factor=2, mode="nearest"))


class _Decoder(nn.Module):
    def __init__(self, units: _Units, sizes: NetworkGeometry) -> None:
        super().__init__()
        widths = sizes.widths[::-1]
        _, usual, last = units.style.num_convs
        numbers = [usual] * (sizes.num_blocks - 1) + [last]
        self.blocks = nn.ModuleList(
            _DecoderBlock(units, deeper, width, number)
            for deeper, width, number in zip(widths[:-1], widths[1:], numbers, strict=True)
        )

    def forward(self, features: Sequence[Tensor], upto: int) -> list[Tensor]:
        maps = [features[-1]]
        for block, skip in zip(self.blocks[:upto], features[-2::-1], strict=False):
            maps.append(block(maps[-1], skip))
        return maps[1:]


class UNet(nn.Module):
    """A U-Net of one of the presets (see the module). Sigmoid regions: K logits, each against background.

    SpecError where the preset cannot take `image_size`. `norm`: batch, instance or group; `activation`: relu,
    leaky_relu, elu or silu. Weights start as N(0, 2 / fan-in), biases at 0, from torch's global generator.
    """

    def __init__(
        self,
        preset: str,
        *,
        num_classes: int,
        image_size: int,
        norm: str = "batch",
        activation: str = "relu",
        in_channels: int = 1,
        base_width: int = NNUNET_BASE_WIDTH,
    ) -> None:
        super().__init__()
        self.geometry = geometry(preset, image_size, base_width=base_width)
        units = _Units(_STYLES[preset], norm, activation)
        self.encoder = _Encoder(units, self.geometry, in_channels)
        self.decoder = _Decoder(units, self.geometry)
        self.tail = _tail(units, self.geometry, num_classes)
        self.apply(_start)
        if preset == "tiny":
            self.tail.start_at(OUTPUT_BIAS)

    @property
    def num_blocks(self) -> int:
        """Decoder blocks, counted from the bottleneck."""
        return self.geometry.num_blocks

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the encoder levels, bottleneck last."""
        return self.geometry.widths

    @property
    def stride(self) -> int:
        """Input px per cell of the bottleneck."""
        return self.geometry.stride

    @property
    def bottleneck_channels(self) -> int:
        """Channels of the deepest feature map."""
        return self.geometry.widths[-1]

    def decoder_channels(self, level: int) -> int:
        """Channels of the map of decoder block `level` (1 .. num_blocks)."""
        return self.geometry.level_channels(level)

    def encode(self, image_BCHW: Tensor) -> list[Tensor]:
        """Feature maps of every encoder level, the finest first, the bottleneck last."""
        features: list[Tensor] = self.encoder(image_BCHW)
        return features

    def decode(self, features: Sequence[Tensor], *, upto: int | None = None) -> Tensor:
        """Feature map of decoder block `upto` (1 .. num_blocks), or of the last one; later blocks do not run."""
        maps: list[Tensor] = self.decoder(features, self.num_blocks if upto is None else upto)
        return maps[-1]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W) at input resolution."""
        return self.tail.logits(self.decode(self.encode(image_BCHW)), image_BCHW.shape[-1])

    def deep_logits(self, image_BCHW: Tensor) -> list[Tensor]:
        """Logits for deep supervision, the finest (that of `forward`) first, each block's at its own resolution.

        Presets without deep supervision give one entry. Weights: losses.segmentation.deep_supervision_weights.
        """
        maps: list[Tensor] = self.decoder(self.encode(image_BCHW), self.num_blocks)
        finest = self.tail.logits(maps[-1], image_BCHW.shape[-1])
        return [finest, *(head(coarse) for head, coarse in zip(self.tail.heads[-2::-1], maps[-2::-1], strict=False))]


class _Tail(nn.Module):
    """Segmentation heads, the finest last; never pretrained."""

    def __init__(self, heads: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def start_at(self, logit: float) -> None:
        bias = list(self.heads[-1].parameters())[-1]
        nn.init.constant_(bias, logit)

    def logits(self, finest_BCHW: Tensor, image_size: int) -> Tensor:
        logits: Tensor = self.heads[-1](finest_BCHW)
        if logits.shape[-1] == image_size:
            return logits
        return F.interpolate(logits, size=(image_size, image_size), mode="bilinear", align_corners=False)


def _tail(units: _Units, sizes: NetworkGeometry, num_classes: int) -> _Tail:
    width = sizes.widths[0]
    if sizes.preset == "nnunet2d":
        channels = sizes.widths[-2::-1]  # one head per decoder block: deep supervision
        return _Tail([nn.Sequential(nn.Conv2d(count, num_classes, 1)) for count in channels])
    if sizes.preset == "chaitanya":
        logits = nn.Conv2d(width, num_classes, 3, padding=1, bias=False)
        return _Tail([nn.Sequential(units.convs(width, width, 2), logits)])
    return _Tail([nn.Sequential(units.convs(width, width, 1), nn.Conv2d(width, num_classes, 1))])


def _start(module: nn.Module) -> None:
    """N(0, 2 / fan-in) weights and zero biases (He et al. 2015; Chaitanya's code and nnU-Net alike)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
