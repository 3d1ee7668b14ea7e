"""The scanner measures right on uniform tissue, where speckle theory is exact."""

import functools

import numpy as np
import pytest

from uscl.data import phantom_physics as physics
from uscl.data.phantom_render import Scatterers, echo_field, scatter, whole_slab
from uscl.metrics.snr import speckle_snr

KINDS = ("sector", "linear")
FULLY_DEVELOPED = 150.0
"""Scatterers per resolution cell: m = 1 / (1 + 1 / 150) = 0.993."""


@functools.cache
def fields(kind: str, per_cell: float, *, count: int = 40, size: int = 64) -> np.ndarray:
    """Independent complex fields (count, P) of uniform tissue of unit echo power: over 10,000 speckle grains."""
    geometry = physics.make_geometry(kind, size)
    slab = whole_slab(size)
    draws = (scatter(np.random.default_rng([7, i]), geometry, slab=slab, per_cell=per_cell) for i in range(count))
    return np.stack([echo_field(draw, geometry) for draw in draws])


def nakagami_m(envelope: np.ndarray) -> float:
    power = envelope.astype(np.float64) ** 2
    return power.mean() ** 2 / power.var()


@pytest.mark.parametrize("kind", KINDS)
def test_fully_developed_speckle_before_compression(kind):
    envelope = np.abs(fields(kind, FULLY_DEVELOPED))
    assert 10 ** speckle_snr(envelope).snr == pytest.approx(1.913, rel=0.02)
    assert nakagami_m(envelope) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_fully_developed_speckle_after_compression(kind):
    envelope = np.abs(fields(kind, FULLY_DEVELOPED))
    grey = physics.compress(envelope, dynamic_range_db=70.0, reference_db=20.0)
    assert (grey.min() >= 0 and 0 < (grey == 0).mean() < 1e-3) or grey.min() > 0
    assert (grey.astype(float) * 70.0 / 255).std() == pytest.approx(5.57, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_power_is_the_echo_power_at_every_depth(kind):
    power = np.abs(fields(kind, FULLY_DEVELOPED)) ** 2
    depth = physics.display_of(physics.make_geometry(kind, 64)).depth
    bands = [power[:, (depth >= low) & (depth < low + 0.25)].mean() for low in (0.0, 0.25, 0.5, 0.75)]
    assert power.mean() == pytest.approx(1.0, rel=0.03)
    assert bands == pytest.approx([1.0] * 4, rel=0.08)


@pytest.mark.parametrize("per_cell", [2.0, 8.0])
def test_few_scatterers_have_the_m_of_theory(per_cell):
    assert nakagami_m(np.abs(fields("linear", per_cell))) == pytest.approx(1 / (1 + 1 / per_cell), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_phase_is_uniform(kind):
    field = fields(kind, FULLY_DEVELOPED)
    assert abs(np.mean(field / np.abs(field))) < 0.03


def test_speckle_follows_tissue_and_decorrelates_out_of_plane():
    geometry = physics.make_geometry("linear", 64)
    slab = whole_slab(64, travel_px=8.0)
    tissue = scatter(np.random.default_rng(3), geometry, slab=slab, per_cell=40.0)
    still = np.abs(echo_field(tissue, geometry)).reshape(64, 64)

    def likeness(other: np.ndarray) -> float:
        return float(np.corrcoef(still[4:60, 4:60].ravel(), other[4:60, 4:60].ravel())[0, 1])

    across = [np.abs(echo_field(tissue, geometry, plane_y=y)).reshape(64, 64) for y in (0.5, 2.0, 8.0)]
    moved = np.abs(echo_field(tissue, geometry, move=lambda x, z: (x + 3, z + 2))).reshape(64, 64)
    near, further, gone = (likeness(frame) for frame in across)
    assert 0.85 < near < 0.999
    assert near > further + 0.1 > gone + 0.2
    assert abs(gone) < 0.15
    assert likeness(np.roll(moved, (-2, -3), axis=(0, 1))) > 0.97
    assert likeness(moved) < 0.3


def test_one_scatterer_is_the_point_spread_function():
    geometry = physics.make_geometry("linear", 64)
    place = np.array([32.3], np.float32)
    point = Scatterers(place, place, np.zeros(1, np.float32), np.ones(1, np.complex64))
    image = np.abs(echo_field(point, geometry)).reshape(64, 64)
    peak = np.unravel_index(image.argmax(), image.shape)
    assert peak == (31, 31) or peak == (32, 32)
    z, x = np.mgrid[0:64, 0:64]
    weight = image / image.sum()
    widths = [float(np.sqrt((weight * (axis + 0.5 - 32.3) ** 2).sum())) for axis in (x, z)]
    assert widths == pytest.approx([physics.LATERAL_SIGMA_PX, physics.AXIAL_SIGMA_PX], rel=0.15)


def test_a_sector_sees_a_fan_below_an_arc():
    sector = physics.display_of(physics.make_geometry("sector", 64)).inside
    linear = physics.display_of(physics.make_geometry("linear", 64)).inside
    assert linear.all()
    assert not sector[0, 0] and not sector[0, -1] and not sector[-1, 0]
    assert 0.4 < sector.mean() < 0.8
    assert sector[8].sum() < sector[40].sum()


def test_compression_by_hand():
    levels = np.array([10.0, 1.0, 0.1, 0.001, 0.0, 100.0], np.float32)
    grey = physics.compress(levels, dynamic_range_db=40.0, reference_db=20.0)
    assert grey.tolist() == [255, 128, 0, 0, 0, 255]
