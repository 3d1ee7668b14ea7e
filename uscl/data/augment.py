"""Random views of frames, as batched tensor operations on the device that trains.

Every random number is drawn on the CPU from a passed-in numpy generator, so the draws are the same on every
device; only small tensors of parameters travel. Depth is never flipped: sound comes from above.
"""

# B frames, C channels, K classes, H x W pixels

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class SpatialRange:
    """How far a view may be moved: the bounds of uniform draws."""

    rotation_deg: float
    zoom: tuple[float, float]
    """Above 1 enlarges (shows less of the frame)."""
    shift_fraction: float
    """Of the half side of the frame."""
    flip: bool
    """Left-right, with probability 1/2."""


@dataclass(frozen=True, slots=True)
class IntensityRange:
    """How far grey levels may be changed, on normalised frames."""

    brightness: float
    contrast: tuple[float, float]
    gamma: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0
    """Standard deviation of additive white noise, at most."""


PRETRAIN_SPATIAL = SpatialRange(rotation_deg=15.0, zoom=(1.0, 1.6), shift_fraction=0.25, flip=True)
"""Milder than Chaitanya's 100 of 192 px crop (zoom 1.92): a sector loses its shape under it (project choice)."""
PRETRAIN_INTENSITY = IntensityRange(brightness=0.3, contrast=(0.7, 1.3))
"""Chaitanya 2020: brightness +-0.3, contrast 0.7 to 1.3."""
CHAITANYA_GREY = (0.0, 1.5)
"""Chaitanya 2020: grey levels after brightness and contrast are cut to this range."""
CHAITANYA_GRID, CHAITANYA_CROP, CHAITANYA_CORNER = 192, 100, (10, 70)
"""Chaitanya 2020: a crop of 100 of 192 px whose upper left corner lies in [10, 70), resized to the whole."""
FINETUNE_SPATIAL = SpatialRange(rotation_deg=15.0, zoom=(0.9, 1.15), shift_fraction=0.08, flip=True)
"""Chaitanya 2020: +-15 degrees, scale 0.95 to 1.05, h-flip; a little wider here."""
FINETUNE_INTENSITY = IntensityRange(brightness=0.1, contrast=(0.8, 1.25), gamma=(0.8, 1.25), noise=0.03)
PIXEL_INTENSITY = IntensityRange(brightness=0.4, contrast=(0.4, 1.6), gamma=(0.5, 2.0), noise=0.05)
"""Label-based pixel contrast asks for strong colour jitter (Zhao et al. 2021); of grey images, that is this."""
FLIP_ONLY = SpatialRange(rotation_deg=0.0, zoom=(1.0, 1.0), shift_fraction=0.0, flip=True)


def draw_affine(count: int, bounds: SpatialRange, rng: np.random.Generator) -> Tensor:
    """Random transforms as (count, 2, 3) matrices for `warp`, float32 on the CPU."""
    angle = np.deg2rad(rng.uniform(-bounds.rotation_deg, bounds.rotation_deg, count))
    zoom = np.exp(rng.uniform(math.log(bounds.zoom[0]), math.log(bounds.zoom[1]), count))
    shift = rng.uniform(-bounds.shift_fraction, bounds.shift_fraction, (count, 2))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if bounds.flip else np.ones(count)
    theta = np.empty((count, 2, 3), np.float32)
    theta[:, 0, 0] = mirror * np.cos(angle) / zoom
    theta[:, 0, 1] = -np.sin(angle) / zoom
    theta[:, 1, 0] = mirror * np.sin(angle) / zoom
    theta[:, 1, 1] = np.cos(angle) / zoom
    theta[:, :, 2] = shift
    return torch.from_numpy(theta)


def draw_crop(count: int, rng: np.random.Generator) -> Tensor:
    """Random crops of Chaitanya et al. 2020 as (count, 2, 3) matrices for `warp`, float32 on the CPU.

    In fractions of the side: the corner lies on their grid of 192, so a crop is theirs at any size.
    """
    corner = rng.integers(*CHAITANYA_CORNER, (count, 2))
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = CHAITANYA_CROP / CHAITANYA_GRID
    theta[:, :, 2] = (2 * corner + CHAITANYA_CROP) / CHAITANYA_GRID - 1
    return torch.from_numpy(theta)


def warp(images_BCHW: Tensor, theta_B23: Tensor) -> Tensor:
    """The images under affine transforms, bilinear, float32 whatever the autocast; same shape.

    Zero outside: black under `image.norm: none`, the frame's darkest percent under minmax, its mean under zscore.
    """
    with torch.autocast(images_BCHW.device.type, enabled=False):  # a grid in bf16 is off by most of a pixel
        grid = functional.affine_grid(theta_B23.float(), list(images_BCHW.shape), align_corners=False)
        return functional.grid_sample(
            images_BCHW.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )


def cell_places(theta_B23: Tensor, map_size: int) -> Tensor:
    """Where in the original frame the cells of each view's feature map lie: centres (x, y), (B, cells, 2), row by row.

    The frame spans [-1, 1] in both; what `warp` did, a flip included, is in `theta`. `map_size`: cells a side.
    """
    centre = (2 * torch.arange(map_size, device=theta_B23.device, dtype=theta_B23.dtype) + 1) / map_size - 1
    rows, columns = torch.meshgrid(centre, centre, indexing="ij")
    homogeneous_C3 = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).flatten(0, 1)
    return (theta_B23[:, None] * homogeneous_C3[None, :, None]).sum(dim=-1)  # a matmul may be in TF32


def cell_diagonals(theta_B23: Tensor, map_size: int) -> Tensor:
    """Diagonal of a feature cell of each view in the original frame, (B,), in the units of `cell_places`."""
    return theta_B23[:, :, :2].square().sum(dim=(1, 2)).sqrt() * (2 / map_size)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device; through pinned memory and without waiting where that is a GPU."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True, slots=True)
class IntensityDraw:
    """One draw of grey-level changes for a batch; (B, 1, 1, 1) tensors."""

    contrast: Tensor
    brightness: Tensor
    gamma: Tensor | None
    noise: Tensor | None
    """(B, 1, H, W) white noise, already scaled."""

    def to(self, device: torch.device) -> IntensityDraw:
        """The same draw on a device."""
        parts = (self.contrast, self.brightness, self.gamma, self.noise)
        return IntensityDraw(*(None if part is None else send(part, device) for part in parts))  # type: ignore[arg-type]


def draw_intensity(shape_BHW: tuple[int, int, int], bounds: IntensityRange, rng: np.random.Generator) -> IntensityDraw:
    """Random grey-level changes for a batch of that shape, on the CPU."""
    count = shape_BHW[0]

    def column(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))

    gamma = None if bounds.gamma == (1.0, 1.0) else column(*bounds.gamma)
    noise = None
    if bounds.noise:
        level = rng.uniform(0.0, bounds.noise, (count, 1, 1, 1))
        white = rng.standard_normal((count, 1, *shape_BHW[1:]), dtype=np.float32)
        noise = torch.from_numpy((level * white).astype(np.float32))
    return IntensityDraw(
        contrast=column(*bounds.contrast),
        brightness=column(-bounds.brightness, bounds.brightness),
        gamma=gamma,
        noise=noise,
    )


def change_intensity(images_B1HW: Tensor, draw: IntensityDraw) -> Tensor:
    """Contrast about the frame's mean, brightness, gamma between the frame's extremes, noise."""
    mean = images_B1HW.mean(dim=(1, 2, 3), keepdim=True)
    changed = (images_B1HW - mean).mul_(draw.contrast).add_(mean).add_(draw.brightness)  # fresh memory costs a CPU more
    if draw.gamma is not None:
        changed = _gamma(changed, draw.gamma)
    if draw.noise is not None:
        changed = changed + draw.noise
    return changed


def _gamma(images_B1HW: Tensor, gamma_B111: Tensor) -> Tensor:
    """Gamma on grey levels scaled to [0, 1] per frame and back, so that it means the same under every norm."""
    low, high = images_B1HW.amin((1, 2, 3), keepdim=True), images_B1HW.amax((1, 2, 3), keepdim=True)
    spread = (high - low).clamp_min(1e-6)
    return ((images_B1HW - low) / spread).clamp_min(1e-6).pow(gamma_B111) * spread + low
