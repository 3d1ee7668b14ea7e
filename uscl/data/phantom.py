"""A simulated kidney examination with known truth: rendering, its index, and building it as a dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uscl.data import phantom_anatomy as anatomy
from uscl.data import phantom_physics as physics
from uscl.spec.phantom import PhantomSpec

PHANTOM_VERSION = 1
"""Part of the dataset's fingerprint: raised whenever a frame or mask would come out different."""

CELL_SCATTERERS = 48.0
"""Candidates per resolution cell; a tissue keeps its share of them."""
TISSUE_SHARE = (1.0, 0.5, 1.0, 1.0, 1.0, 0.15, 1.0, 0.15)
"""Share of the candidates that scatter, by Tissue: few strong scatterers in wall, sinus fat and fascia (m < 1)."""
CHUNK = 6144
"""Scatterers summed at once: arrays of this size stay in the processor's cache."""
NOISE_DB = -27.0
"""Electronic noise, relative to unit echo power."""
WHITE_DB = 20.0
"""Echo level drawn white at zero gain."""


@dataclass(frozen=True)
class Scatterers:
    """Scatterers of one acquisition at rest (px), sorted by their distance across the scan plane."""

    x: physics.Float
    z: physics.Float
    y: physics.Float
    amplitude: physics.Complex


@dataclass(frozen=True)
class Frame:
    """One rendered frame with its truth. S = image side."""

    image: NDArray[np.uint8]
    """(S, S), log-compressed."""
    envelope: physics.Float
    """(S, S) linear envelope before noise, shadow, time-gain and compression; 0 outside the fan."""
    masks: NDArray[np.bool_]
    """(K, S, S) in the order of CLASSES."""
    inside: NDArray[np.bool_]
    """(S, S) the pixels that see a beam."""
    time_s: float


@dataclass(frozen=True)
class Slab:
    """Where scatterers are needed: square cells at rest that some frame sees, and the planes' travel across."""

    cells: NDArray[np.int64]
    """(M, 2) column and row of the cells."""
    cell_px: float
    corner_px: float
    """Position of the first cell's corner, both axes."""
    travel_px: float


def whole_slab(size: int, *, travel_px: float = 0.0) -> Slab:
    """One cell that covers the display and its border, for tissue that stays."""
    return Slab(np.zeros((1, 2), np.int64), size + 16.0, -8.0, travel_px)


def seen_slab(acquisition: anatomy.Acquisition, geometry: physics.Geometry, times_s: NDArray[np.floating]) -> Slab:
    """The resting tissue that any of the frames sees, to one cell's accuracy."""
    size = geometry.size
    corner, cell = -0.3 * size, size / 32
    count = math.ceil(1.6 * size / cell)
    z, x = np.mgrid[0:count, 0:count].astype(np.float32) * np.float32(cell) + np.float32(corner + cell / 2)
    seen = np.zeros((count, count), bool)
    border = physics.PAD_CELLS + math.ceil(cell / physics.GRID_PX)
    for time in times_s:
        dx, dz = anatomy.displacement(acquisition, x / np.float32(size), z / np.float32(size), float(time))
        line, sample, _ = geometry.to_beam(x + dx * np.float32(size), z + dz * np.float32(size))
        seen |= (np.abs(line - geometry.num_lines / 2) < geometry.num_lines / 2 + border) & (
            np.abs(sample - geometry.num_samples / 2) < geometry.num_samples / 2 + border
        )
    travel = acquisition.drift[2] * float(times_s[-1]) * size
    return Slab(np.argwhere(seen)[:, ::-1], cell, corner, travel)


def scatter(rng: np.random.Generator, geometry: physics.Geometry, *, slab: Slab, per_cell: float) -> Scatterers:
    """Uniform scatterers of random phase, `per_cell` in a resolution cell, giving unit mean echo power."""
    half = physics.SLAB_SIGMAS * physics.ELEVATION_SIGMA_PX
    density = per_cell / physics.cell_scatterers(geometry, 1.0)
    low, high = min(0.0, slab.travel_px) - half, max(0.0, slab.travel_px) + half
    count = round(density * len(slab.cells) * slab.cell_px**2 * (high - low))
    cell = slab.cells[rng.integers(0, len(slab.cells), count)].astype(np.float32)
    place = (cell + rng.random((count, 2), np.float32)) * np.float32(slab.cell_px) + np.float32(slab.corner_px)
    y = np.sort(rng.random(count, np.float32)) * np.float32(high - low) + np.float32(low)
    phase = rng.random(count, np.float32) * np.float32(2 * math.pi)
    amplitude = (np.cos(phase) + 1j * np.sin(phase)) / np.float32(math.sqrt(density))
    x, z = np.ascontiguousarray(place.T)
    return Scatterers(x, z, y, amplitude.astype(np.complex64))


def make_scatterers(acquisition: anatomy.Acquisition, geometry: physics.Geometry, *, slab: Slab) -> Scatterers:
    """Scatterers of an acquisition: uniform candidates, thinned and weighted by the tissue they rest in."""
    rng, size = np.random.default_rng(list(acquisition.seed)), np.float32(geometry.size)
    every = scatter(rng, geometry, slab=slab, per_cell=CELL_SCATTERERS)
    tissue = anatomy.tissue_at(acquisition, every.x / size, every.z / size)
    share = np.array(TISSUE_SHARE, np.float32)
    strength = (10 ** (np.array(acquisition.patient.echo_db) / 20) / np.sqrt(share)).astype(np.float32)
    keep = rng.random(len(tissue), np.float32) < share[tissue]
    amplitude = every.amplitude[keep] * strength[tissue[keep]]
    return Scatterers(every.x[keep], every.z[keep], every.y[keep], amplitude)


Move = Callable[[physics.Float, physics.Float], tuple[physics.Float, physics.Float]]
"""Positions at rest -> positions now, px."""


def echo_field(
    scatterers: Scatterers, geometry: physics.Geometry, *, plane_y: float = 0.0, move: Move | None = None
) -> physics.Complex:
    """Complex display field (P,) of scatterers with the scan plane at `plane_y`, tissue moved by `move`."""
    reach = physics.SLAB_SIGMAS * physics.ELEVATION_SIGMA_PX
    first, last = np.searchsorted(scatterers.y, [plane_y - reach, plane_y + reach])
    grid = physics.empty_grid(geometry)
    for start in range(first, last, CHUNK):
        part = slice(start, min(start + CHUNK, last))
        x, z = scatterers.x[part], scatterers.z[part]
        across = (scatterers.y[part] - np.float32(plane_y)) / np.float32(physics.ELEVATION_SIGMA_PX)
        x, z = move(x, z) if move else (x, z)
        weighted = scatterers.amplitude[part] * np.exp(-0.5 * across * across)
        physics.add_echoes(grid, geometry, x=x, z=z, amplitude=weighted)
    return physics.to_display(physics.focus(grid, geometry), geometry)


def _geometry(patient: anatomy.Patient, size: int) -> physics.Geometry:
    return physics.make_geometry(patient.geometry, size, half_angle=patient.half_angle)


def _gain_db(acquisition: anatomy.Acquisition, table: physics.Display) -> physics.Float:
    """Time-gain error and shadows at the display pixels inside the fan."""
    patient = acquisition.patient
    gain = np.interp(table.depth, np.linspace(0, 1, len(patient.tgc_db)), patient.tgc_db)
    for place, width, depth_db in acquisition.shadows:
        beside = np.abs(table.line - place) / width
        gain -= depth_db / (1 + beside**6) * np.clip((table.depth - 0.12) / 0.1, 0, 1)
    return (gain + patient.gain_db).astype(np.float32)


def render(acquisition: anatomy.Acquisition, size: int, times_s: NDArray[np.floating]) -> Iterator[Frame]:
    """Frames of an acquisition at increasing times (s), with their masks."""
    geometry = _geometry(acquisition.patient, size)
    table = physics.display_of(geometry)
    scatterers = make_scatterers(acquisition, geometry, slab=seen_slab(acquisition, geometry, times_s))
    noise = np.random.default_rng([*acquisition.seed, 17])
    gain_db = _gain_db(acquisition, table)
    for time in times_s:
        yield _frame(acquisition, geometry, scatterers, gain_db=gain_db, noise=noise, time_s=float(time))


def _frame(acquisition, geometry, scatterers, *, gain_db, noise, time_s: float) -> Frame:
    size = geometry.size
    table = physics.display_of(geometry)
    scale = np.float32(size)

    def move(x, z):
        shift_x, shift_z = anatomy.displacement(acquisition, x / scale, z / scale, time_s)
        return x + shift_x * scale, z + shift_z * scale

    field = echo_field(scatterers, geometry, plane_y=acquisition.drift[2] * time_s * size, move=move)
    draw = noise.standard_normal((2, len(field)), np.float32) * np.float32(10 ** (NOISE_DB / 20) / math.sqrt(2))
    received = np.abs(field * 10 ** (gain_db / 20) + draw[0] + 1j * draw[1])
    image, envelope = np.zeros((size, size), np.uint8), np.zeros((size, size), np.float32)
    image[table.inside] = physics.compress(
        received, dynamic_range_db=acquisition.patient.dynamic_range_db, reference_db=WHITE_DB
    )
    envelope[table.inside] = np.abs(field)
    z, x = (np.mgrid[0:size, 0:size].astype(np.float32) + np.float32(0.5)) / scale
    masks = anatomy.class_masks(acquisition, *anatomy.resting_position(acquisition, x, z, time_s))
    return Frame(image, envelope, masks & table.inside, table.inside, time_s)


@dataclass(frozen=True)
class PatientFrames:
    """All frames of a patient. T frames, S = image side, K classes."""

    patient: str
    clips: dict[str, NDArray[np.uint8]]
    """Clip -> (T, S, S)."""
    times_ms: NDArray[np.float64]
    cases: dict[str, Frame]


def render_patient(spec: PhantomSpec, number: int) -> PatientFrames:
    """Render every clip and labelled frame of patient `number`; depends on no other patient."""
    patient = anatomy.make_patient(spec, number)
    times = np.arange(spec.frames_per_clip) / spec.frame_rate_hz
    clips, cases = {}, {}
    for clip in range(spec.clips_per_patient):
        acquisition = anatomy.make_acquisition(spec, patient, stream=0, number=clip)
        clips[acquisition.name] = np.stack([frame.image for frame in render(acquisition, spec.size, times)])
    for label in range(spec.labels_per_patient):
        acquisition = anatomy.make_acquisition(spec, patient, stream=1, number=label)
        moment = np.random.default_rng([spec.seed, number, 19, label]).uniform(0, times[-1])
        (cases[acquisition.name],) = render(acquisition, spec.size, np.array([moment]))
    return PatientFrames(f"p{number:03d}", clips, times * 1000.0, cases)
