"""nnU-Net's list of random changes (Isensee et al. 2021; science.md 5.2), batched, on the device that trains.

As in augment.py, every random number is drawn on the CPU from a passed-in generator. Probabilities are per frame, of
one channel: its blur and low resolution touch a channel with probability 1/2 once a frame was chosen for them.
No elastic deformation: nnU-Net has none.
"""

# B frames, H x W pixels (square), S side

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uscl.data.augment import send

P_ROTATION, P_SCALE, SCALE = 0.2, 0.2, (0.7, 1.4)
"""Above 1 the frame's content gets smaller."""
P_NOISE, NOISE_STD = 0.1, (0.0, 0.1)
"""Called a variance in nnU-Net, used there as the standard deviation."""
P_BLUR, BLUR_SIGMA_PX = 0.2 * 0.5, (0.5, 1.0)
P_BRIGHTNESS, P_CONTRAST, FACTOR = 0.15, 0.15, (0.75, 1.25)
P_LOW_RESOLUTION, RESOLUTION = 0.25 * 0.5, (0.5, 1.0)
P_GAMMA_INVERTED, P_GAMMA, GAMMA = 0.1, 0.3, (0.7, 1.5)
P_MIRROR = 0.5
NO_BLUR_PX = 1e-3
"""So narrow a Gaussian that it is the identity, exactly."""


@dataclass(frozen=True, slots=True)
class SpatialPolicy:
    """How far a frame may be turned and mirrored."""

    rotation_deg: float
    flip_depth: bool
    """Mirror top and bottom too, which no ultrasound frame survives: sound comes from above."""


POLICIES: Mapping[str, SpatialPolicy] = {
    "nnunet": SpatialPolicy(rotation_deg=180.0, flip_depth=True),
    "us_safe": SpatialPolicy(rotation_deg=15.0, flip_depth=False),
}
"""By `nnunet.augment`; +-180 degrees is what nnU-Net chooses for patches of aspect 1.5 or less."""


@dataclass(frozen=True, slots=True)
class NnunetDraw:
    """One draw for a batch; None where no frame of it was chosen, as the host knows."""

    theta_B23: Tensor
    """For `augment.warp`."""
    noise_B1HW: Tensor | None
    blur_px_B11: Tensor | None
    brightness_B111: Tensor
    contrast_B111: Tensor
    cells_B11: Tensor | None
    """Edge of the simulated low resolution, px; the frame's own where it keeps it."""
    inverted_gamma_B111: Tensor | None
    gamma_B111: Tensor | None
    """1 where a frame keeps its grey levels."""

    def to(self, device: torch.device) -> NnunetDraw:
        """The same draw on a device."""
        parts = (
            self.theta_B23, self.noise_B1HW, self.blur_px_B11, self.brightness_B111, self.contrast_B111,
            self.cells_B11, self.inverted_gamma_B111, self.gamma_B111,
        )  # fmt: skip
        return NnunetDraw(*(None if part is None else send(part, device) for part in parts))  # type: ignore[arg-type]


def draw_nnunet(count: int, size: int, policy: SpatialPolicy, rng: np.random.Generator) -> NnunetDraw:
    """Random changes of a batch of `count` frames of side `size`, on the CPU."""
    return NnunetDraw(
        theta_B23=_draw_theta(count, policy, rng),
        noise_B1HW=_draw_noise(count, size, rng),
        blur_px_B11=_if_any(_drawn(count, P_BLUR, BLUR_SIGMA_PX, otherwise=NO_BLUR_PX, rng=rng), NO_BLUR_PX, dims=3),
        brightness_B111=_column(_drawn_around_1(count, P_BRIGHTNESS, FACTOR, rng), dims=4),
        contrast_B111=_column(_drawn_around_1(count, P_CONTRAST, FACTOR, rng), dims=4),
        cells_B11=_if_any(
            np.round(size * _drawn(count, P_LOW_RESOLUTION, RESOLUTION, otherwise=1.0, rng=rng)), size, dims=3
        ),
        inverted_gamma_B111=_if_any(_drawn_around_1(count, P_GAMMA_INVERTED, GAMMA, rng), 1.0, dims=4),
        gamma_B111=_if_any(_drawn_around_1(count, P_GAMMA, GAMMA, rng), 1.0, dims=4),
    )


def change_grey_levels(images_B1HW: Tensor, draw: NnunetDraw) -> Tensor:
    """Noise, blur, brightness, contrast, low resolution and both gammas, in nnU-Net's order; float32, same shape."""
    size = images_B1HW.shape[-1]
    with torch.autocast(images_B1HW.device.type, enabled=False):
        changed = images_B1HW.float()
        if draw.noise_B1HW is not None:
            changed = changed + draw.noise_B1HW
        if draw.blur_px_B11 is not None:
            changed = _along_both_axes(changed, blur_matrix(draw.blur_px_B11, size))
        changed = contrast(changed * draw.brightness_B111, draw.contrast_B111)
        if draw.cells_B11 is not None:
            changed = _along_both_axes(changed, low_resolution_matrix(draw.cells_B11, size))
        if draw.inverted_gamma_B111 is not None:
            changed = -gamma(-changed, draw.inverted_gamma_B111)
        if draw.gamma_B111 is not None:
            changed = gamma(changed, draw.gamma_B111)
        return changed


def contrast(images_B1HW: Tensor, factor_B111: Tensor) -> Tensor:
    """Grey levels stretched about the frame's mean, within the frame's extremes."""
    mean = images_B1HW.mean(dim=(1, 2, 3), keepdim=True)
    low, high = images_B1HW.amin((1, 2, 3), keepdim=True), images_B1HW.amax((1, 2, 3), keepdim=True)
    return ((images_B1HW - mean) * factor_B111 + mean).clamp(low, high)


def gamma(images_B1HW: Tensor, gamma_B111: Tensor) -> Tensor:
    """Gamma between the frame's extremes that keeps its mean and standard deviation; 1 changes nothing."""
    low, high = images_B1HW.amin((1, 2, 3), keepdim=True), images_B1HW.amax((1, 2, 3), keepdim=True)
    bent = ((images_B1HW - low) / (high - low).clamp_min(1e-7)).pow(gamma_B111)
    std, mean = torch.std_mean(images_B1HW, dim=(1, 2, 3), keepdim=True)
    bent_std, bent_mean = torch.std_mean(bent, dim=(1, 2, 3), keepdim=True)
    restored = (bent - bent_mean) * (std / bent_std.clamp_min(1e-7)) + mean
    return torch.where(gamma_B111 == 1, images_B1HW, restored)


def blur_matrix(sigma_px_B11: Tensor, size: int) -> Tensor:
    """(B, S, S) matrices that blur along one axis with Gaussians, renormalised at the border."""
    places = torch.arange(size, device=sigma_px_B11.device, dtype=torch.float32)
    distance = (places[:, None] - places[None]) / sigma_px_B11
    weights = (-0.5 * distance.square()).exp()
    return weights / weights.sum(dim=2, keepdim=True)


def low_resolution_matrix(cells_B11: Tensor, size: int) -> Tensor:
    """(B, S, S) matrices that take every axis down to `cells` by nearest px and back to `size` linearly.

    A whole number of cells, at most `size`; at `size` cells the identity. As linear maps, because frames of one batch
    get different resolutions.
    """
    places = torch.arange(size, device=cells_B11.device, dtype=torch.float32)
    cell = ((places[:, None] + 0.5) * (cells_B11 / size) - 0.5).clamp_min(0)  # of each output px
    lower = cell.floor().minimum(cells_B11 - 1)
    upper = (lower + 1).minimum(cells_B11 - 1)
    weight = (cell - lower).clamp(0, 1)

    # the px that each cell was taken from; a quotient of whole numbers, so that its floor is exact
    below, above = (torch.div((2 * end + 1) * size, 2 * cells_B11, rounding_mode="floor") for end in (lower, upper))
    return (1 - weight) * (below == places).float() + weight * (above == places).float()


def _along_both_axes(images_B1HW: Tensor, matrix_BSS: Tensor) -> Tensor:
    matrix_B1SS = matrix_BSS[:, None]
    return matrix_B1SS @ images_B1HW @ matrix_B1SS.transpose(-1, -2)


def _draw_theta(count: int, policy: SpatialPolicy, rng: np.random.Generator) -> Tensor:
    """Rotation, scale and mirror as (B, 2, 3) matrices from output to input places."""
    turn = math.radians(policy.rotation_deg)
    angle = _drawn(count, P_ROTATION, (-turn, turn), otherwise=0.0, rng=rng)
    scale = _drawn(count, P_SCALE, SCALE, otherwise=1.0, rng=rng)
    across = np.where(rng.random(count) < P_MIRROR, -1.0, 1.0)
    down = np.where(rng.random(count) < P_MIRROR, -1.0, 1.0) if policy.flip_depth else np.ones(count)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = across * scale * np.cos(angle), -down * scale * np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = across * scale * np.sin(angle), down * scale * np.cos(angle)
    return torch.from_numpy(theta)


def _draw_noise(count: int, size: int, rng: np.random.Generator) -> Tensor | None:
    """White noise on the chosen frames only: normal numbers are what a draw costs."""
    level = _drawn(count, P_NOISE, NOISE_STD, otherwise=0.0, rng=rng)
    chosen = np.flatnonzero(level)
    if not len(chosen):
        return None
    noise = np.zeros((count, 1, size, size), np.float32)
    white = rng.standard_normal((len(chosen), 1, size, size), dtype=np.float32)
    noise[chosen] = white * level[chosen, None, None, None].astype(np.float32)
    return torch.from_numpy(noise)


def _drawn(
    count: int, probability: float, bounds: tuple[float, float], *, otherwise: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Uniform draws for the frames that are chosen, `otherwise` for the others."""
    return np.where(rng.random(count) < probability, rng.uniform(*bounds, count), otherwise)


def _drawn_around_1(
    count: int, probability: float, bounds: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Factors for the frames that are chosen, below 1 as often as above, 1 for the others."""
    below, above = rng.uniform(bounds[0], 1.0, count), rng.uniform(1.0, bounds[1], count)
    factor = np.where(rng.random(count) < 0.5, below, above)
    return np.where(rng.random(count) < probability, factor, 1.0)


def _column(values_B: NDArray[np.float64], *, dims: int) -> Tensor:
    return torch.from_numpy(values_B.astype(np.float32)).reshape(-1, *(1,) * (dims - 1))


def _if_any(values_B: NDArray[np.float64], neutral: float, *, dims: int) -> Tensor | None:
    """The column, or None where every value is the one that changes nothing."""
    return None if (values_B == neutral).all() else _column(values_B, dims=dims)
