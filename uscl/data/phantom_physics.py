"""The scanner of the phantom: scatterers to complex field to B-mode.

Each scatterer is a point with a complex amplitude in three dimensions. A frame sums them, with the phase of
their echo's travel, onto a grid of beam lines x range samples; a Gaussian point-spread function, interpolation
of the *complex* field to the display and the modulus give the envelope. So speckle is Rayleigh where many
scatterers share a resolution cell (Burckhardt 1978), moves and decorrelates with the tissue, and has a known
Nakagami m where they are few: m = 1 / (1 + kurtosis / scatterers per resolution cell).
Lengths are display pixels: x to the right, z down in depth, y across the scan plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]

AXIAL_SIGMA_PX = 0.8
LATERAL_SIGMA_PX = 1.15
"""Standard deviations of the amplitude point-spread function; lateral: at the sector's middle depth."""
ELEVATION_SIGMA_PX = 2.0
CARRIER_PX = 1.2
"""Axial distance over which the phase of an echo turns once: half a wavelength; the pulse has about two cycles."""
GRID_PX = 0.7
"""Spacing of beam lines (at middle depth) and range samples."""
SLAB_SIGMAS = 2.4
"""Scatterers further than this from the scan plane are left out (amplitude below 6 %)."""
PAD_CELLS = 5
"""Grid cells around the beams whose scatterers still reach them through the point-spread function."""
_SPLAT_VARIANCE = 1.0 / 6.0
"""Variance of the triangle that bilinear splatting adds, in grid cells squared."""


@dataclass(frozen=True)
class Geometry:
    """A probe's beams and how they fall on the square display."""

    kind: Literal["sector", "linear"]
    size: int
    apex_z_px: float
    """Depth of the sector's apex (negative: above the image); unused by linear probes."""
    first_range_px: float
    first_line: float
    """Angle (rad) of the first line, or its x (px)."""
    line_step: float
    """Angle (rad) or distance (px) between lines."""
    num_lines: int
    num_samples: int

    @property
    def middle_range_px(self) -> float:
        """Range at which a line step is GRID_PX wide."""
        return GRID_PX / self.line_step if self.kind == "sector" else 1.0

    def to_beam(self, x: Float, z: Float) -> tuple[Float, Float, Float]:
        """Line and sample position (grid cells) and range (px) of points of the display."""
        if self.kind == "linear":
            return (x - np.float32(self.first_line)) / np.float32(self.line_step), z / np.float32(GRID_PX), z
        dx, dz = x - np.float32(self.size / 2), z - np.float32(self.apex_z_px)
        reach = np.sqrt(dx * dx + dz * dz)
        angle = np.arctan2(dx, dz)
        line = (angle - np.float32(self.first_line)) / np.float32(self.line_step)
        return line, (reach - np.float32(self.first_range_px)) / np.float32(GRID_PX), reach


def make_geometry(kind: Literal["sector", "linear"], size: int, *, half_angle: float = 0.6) -> Geometry:
    """The geometry of a `size` px display; a sector opens by +-`half_angle` rad from an arc at the top edge."""
    if kind == "linear":
        lines = math.ceil(size / GRID_PX) + 1
        return Geometry(kind, size, 0.0, 0.0, 0.0, GRID_PX, lines, lines)
    reach = 0.97 * size / (1.0 - 0.25 * math.cos(half_angle))  # the arc at the top starts at a quarter of the range
    first = 0.25 * reach
    apex = 0.97 * size - reach
    lines = math.ceil(2 * half_angle * 0.62 * reach / GRID_PX) + 1
    step = 2 * half_angle / (lines - 1)
    return Geometry(kind, size, apex, first, -half_angle, step, lines, math.ceil((reach - first) / GRID_PX) + 1)


@dataclass(frozen=True)
class Display:
    """Fixed tables of a geometry: where each display pixel reads the beam grid, and which pixels see beams."""

    inside: NDArray[np.bool_]
    index: NDArray[np.int64]
    """(4, P) flat grid index of the corners, for the P pixels inside."""
    weight: Float
    """(4, P) bilinear weights, divided by the root of the power that interpolation costs."""
    line: Float
    """(P,) line position of each pixel as a fraction of the fan, 0 to 1."""
    depth: Float
    """(P,) range as a fraction of the scan depth, 0 to 1."""


def psf_sigma_grid(geometry: Geometry) -> tuple[float, float]:
    """Standard deviation of the point-spread function in (line, sample) grid cells, before splatting."""
    return LATERAL_SIGMA_PX / GRID_PX, AXIAL_SIGMA_PX / GRID_PX


@lru_cache(maxsize=64)
def display_of(geometry: Geometry) -> Display:
    """Build (once per geometry) the tables of the scan conversion."""
    z, x = np.mgrid[0 : geometry.size, 0 : geometry.size].astype(np.float32) + np.float32(0.5)
    line, sample, _ = geometry.to_beam(x.ravel(), z.ravel())
    last_line, last_sample = geometry.num_lines - 1, geometry.num_samples - 1
    inside = (line >= 0) & (line <= last_line) & (sample >= 0) & (sample <= last_sample)
    line, sample = line[inside], sample[inside]
    i = np.minimum(line.astype(np.int64), last_line - 1)
    j = np.minimum(sample.astype(np.int64), last_sample - 1)
    fi, fj = line - i, sample - j
    weight = np.stack([(1 - fi) * (1 - fj), (1 - fi) * fj, fi * (1 - fj), fi * fj])
    index = np.stack([i * geometry.num_samples + j + o for o in (0, 1, geometry.num_samples, geometry.num_samples + 1)])
    weight = (weight / np.sqrt(_interpolated_power(weight, geometry))).astype(np.float32)
    shape = (geometry.size, geometry.size)
    return Display(inside.reshape(shape), index, weight, line / last_line, sample / last_sample)


def _interpolated_power(weight: NDArray[np.floating], geometry: Geometry) -> NDArray[np.floating]:
    """Power that bilinear interpolation leaves of a field with the point-spread function's correlation."""
    variances = [s * s + _SPLAT_VARIANCE for s in psf_sigma_grid(geometry)]
    lateral, axial = (math.exp(-1.0 / (4.0 * v)) for v in variances)
    steps = [(0, 0), (0, 1), (1, 0), (1, 1)]
    correlation = np.array([[lateral ** abs(a[0] - b[0]) * axial ** abs(a[1] - b[1]) for b in steps] for a in steps])
    return np.einsum("ip,ij,jp->p", weight, correlation, weight)


def cell_scatterers(geometry: Geometry, density_px3: float) -> float:
    """Scatterers per resolution cell of a density (per cubic pixel) at middle depth: N_eff of the Nakagami m.

    N_eff = n (int |h|^2)^2 / int |h|^4, which is n (2 pi)^1.5 times the three standard deviations of a Gaussian h.
    """
    grid = [math.sqrt(s * s + _SPLAT_VARIANCE) * GRID_PX for s in psf_sigma_grid(geometry)]
    return density_px3 * (2 * math.pi) ** 1.5 * grid[0] * grid[1] * ELEVATION_SIGMA_PX


def cell_widening(geometry: Geometry, x: Float, z: Float) -> Float:
    """Size of the resolution cell at points of the display relative to middle depth: a sector's grows with range."""
    if geometry.kind == "linear":
        return np.ones_like(x)
    return geometry.to_beam(x, z)[2] / np.float32(geometry.middle_range_px)


@lru_cache(maxsize=64)
def _transfer(geometry: Geometry) -> tuple[tuple[int, int], Float]:
    """Padded grid shape and the point-spread function's spectrum, scaled to unit energy with the elevation."""
    sigmas = psf_sigma_grid(geometry)
    shape = tuple(scipy.fft.next_fast_len(n + 2 * PAD_CELLS) for n in (geometry.num_lines, geometry.num_samples))
    line, sample = (np.fft.fftfreq(n) for n in shape)
    spectrum = np.exp(-2 * np.pi**2 * (sigmas[0] ** 2 * line[:, None] ** 2 + sigmas[1] ** 2 * sample**2))
    # Energy of splat * psf per unit amplitude: Gaussian of variance s^2 + 1/6 with integral 1, times its elevation.
    energy = 1.0 / math.prod(2 * math.sqrt(math.pi * (s * s + _SPLAT_VARIANCE)) for s in sigmas)
    energy *= math.sqrt(math.pi) * ELEVATION_SIGMA_PX * GRID_PX**2
    return (shape[0], shape[1]), (spectrum / math.sqrt(energy)).astype(np.float32)


def empty_grid(geometry: Geometry) -> NDArray[np.complex128]:
    """The padded grid of beam lines x range samples that echoes are added to."""
    return np.zeros(_transfer(geometry)[0], np.complex128)


def add_echoes(grid: NDArray[np.complex128], geometry: Geometry, *, x: Float, z: Float, amplitude: Complex) -> None:
    """Add the echoes of scatterers at x, z (px) to `grid`; amplitudes hold phase and elevation weight.

    A sector's lines spread with depth, so amplitudes are evened out to give the same power at every depth.
    """
    line, sample, reach = geometry.to_beam(x, z)
    line, sample = line + np.float32(PAD_CELLS), sample + np.float32(PAD_CELLS)
    keep = (line >= 0) & (line < grid.shape[0] - 1) & (sample >= 0) & (sample < grid.shape[1] - 1)
    line, sample, reach, amplitude = line[keep], sample[keep], reach[keep], amplitude[keep]
    turn = np.float32(2 * math.pi / CARRIER_PX) * reach
    echo = np.empty(len(turn), np.complex64)
    echo.real, echo.imag = np.cos(turn), np.sin(turn)
    echo *= amplitude
    if geometry.kind == "sector":
        echo *= np.sqrt(np.float32(geometry.middle_range_px) / reach)
    _splat(grid, line, sample, echo)


def _splat(grid: NDArray[np.complex128], line: Float, sample: Float, echo: Complex) -> None:
    """Share each echo between its four nearest cells."""
    row, column = np.floor(line), np.floor(sample)
    below, right = line - row, sample - column
    corner = row.astype(np.int64) * grid.shape[1] + column.astype(np.int64)
    flat = grid.reshape(-1)
    far = echo * below
    for offset, share in ((0, echo - far), (grid.shape[1], far)):
        later = share * right
        for step, value in ((offset, share - later), (offset + 1, later)):
            size = len(flat) - step
            flat.real[step:] += np.bincount(corner, weights=value.real, minlength=size)[:size]
            flat.imag[step:] += np.bincount(corner, weights=value.imag, minlength=size)[:size]


def focus(grid: NDArray[np.complex128], geometry: Geometry) -> Complex:
    """Complex field (lines, samples): the grid seen through the point-spread function.

    Scaled so that unit amplitudes at a density of one per cubic pixel give unit mean power at every depth.
    """
    spectrum = _transfer(geometry)[1]
    field = scipy.fft.ifft2(scipy.fft.fft2(grid.astype(np.complex64)) * spectrum)
    return field[PAD_CELLS : PAD_CELLS + geometry.num_lines, PAD_CELLS : PAD_CELLS + geometry.num_samples]


def to_display(field: Complex, geometry: Geometry) -> Complex:
    """Scan conversion: complex values (P,) of the display pixels inside the fan. Interpolating before the
    modulus keeps a Rayleigh envelope Rayleigh; interpolating the envelope would not."""
    table = display_of(geometry)
    return np.einsum("kp,kp->p", field.ravel()[table.index], table.weight)


def compress(envelope: Float, *, dynamic_range_db: float, reference_db: float) -> NDArray[np.uint8]:
    """Log compression: `reference_db` (of 20 log10 envelope) is white, `dynamic_range_db` below it is black."""
    level_db = 20.0 * np.log10(np.maximum(envelope, 1e-9))
    grey = 255.0 * (1.0 + (level_db - reference_db) / dynamic_range_db)
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)
