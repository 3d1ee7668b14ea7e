"""The fine-tuning augmentation of Chaitanya et al. 2020, and what their code makes of it (science.md 2.4, 2.5).

Per frame one of: rotation to 15 degrees, scale 0.95 to 1.05, left-right mirror, a multiple of 45 degrees, nothing; then
an elastic deformation, and grey levels as in pretraining. Multiples of 45 degrees break the depth axis of ultrasound.
"""

# B frames, C channels, H x W pixels (square)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uscl.data.augment import PRETRAIN_INTENSITY, IntensityDraw, draw_intensity, send

ROTATION_DEG, SCALE, STEP_DEG = 15.0, (0.95, 1.05), 45.0
ELASTIC_STD_PX, ELASTIC_SIZE_PX = 5.0, 192
"""Standard deviation of the displacement at each of 3 x 3 points, on their 192 px; it grows with the frame."""
NUM_CHOICES = 5


@dataclass(frozen=True, slots=True)
class ChaitanyaDraw:
    """One draw for a batch."""

    theta_B23: Tensor
    bend_B233: Tensor
    """Displacement (x, y) at 3 x 3 points, in half sides of the frame; 0 where a frame is not deformed."""
    intensity: IntensityDraw | None

    def to(self, device: torch.device) -> ChaitanyaDraw:
        """The same draw on a device."""
        intensity = None if self.intensity is None else self.intensity.to(device)
        return ChaitanyaDraw(send(self.theta_B23, device), send(self.bend_B233, device), intensity)


def draw_chaitanya(count: int, size: int, *, faithful_bugs: bool, rng: np.random.Generator) -> ChaitanyaDraw:
    """Random changes of a batch of `count` frames of side `size`, on the CPU.

    `faithful_bugs`: as the authors' code does it, where a branch order makes grey-level changes unreachable and only a
    random last part of the batch, 1 to count - 1 frames, is deformed (science.md 2.5, defect 3); needs 2 frames.
    """
    theta = _draw_theta(count, rng)
    bend = rng.normal(0.0, 2 * ELASTIC_STD_PX / ELASTIC_SIZE_PX, (count, 2, 3, 3)).astype(np.float32)
    if faithful_bugs:
        bend[: count - rng.integers(1, count)] = 0.0
    intensity = None if faithful_bugs else draw_intensity((count, size, size), PRETRAIN_INTENSITY, rng)
    return ChaitanyaDraw(theta, torch.from_numpy(bend), intensity)


def warp_elastic(images_BCHW: Tensor, theta_B23: Tensor, bend_B233: Tensor) -> Tensor:
    """The images under an affine transform and a smooth deformation in one bilinear step, float32; zero outside.

    The displacements at 3 x 3 points, corners on the frame's corners, are interpolated bicubically.
    """
    with torch.autocast(images_BCHW.device.type, enabled=False):
        grid = functional.affine_grid(theta_B23.float(), list(images_BCHW.shape), align_corners=False)
        bend = functional.interpolate(
            bend_B233.float(), size=images_BCHW.shape[-2:], mode="bicubic", align_corners=True
        )
        return functional.grid_sample(
            images_BCHW.float(), grid + bend.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros",
            align_corners=False,
        )  # fmt: skip


def _draw_theta(count: int, rng: np.random.Generator) -> Tensor:
    """One of the five changes per frame, uniformly, as (B, 2, 3) matrices from output to input places."""
    choice = rng.integers(NUM_CHOICES, size=count)
    small = rng.uniform(-ROTATION_DEG, ROTATION_DEG, count)
    large = STEP_DEG * rng.integers(1, 8, count)
    angle = np.deg2rad(np.select([choice == 0, choice == 3], [small, large], 0.0))
    zoom = np.where(choice == 1, rng.uniform(*SCALE, count), 1.0)
    mirror = np.where(choice == 2, -1.0, 1.0)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * np.cos(angle) / zoom, -np.sin(angle) / zoom
    theta[:, 1, 0], theta[:, 1, 1] = mirror * np.sin(angle) / zoom, np.cos(angle) / zoom
    return torch.from_numpy(theta)
