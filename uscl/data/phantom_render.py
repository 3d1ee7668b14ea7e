"""Frames of the phantom with their truth: anatomy and motion seen through the scanner."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uscl.data import phantom_anatomy as anatomy
from uscl.data import phantom_physics as physics
from uscl.spec.phantom import PhantomSpec

CELL_SCATTERERS = 48.0
"""Candidates per resolution cell; a tissue keeps its share of them."""
TISSUE_SHARE = (1.0, 0.5, 1.0, 1.0, 1.0, 0.15, 1.0, 0.15)
"""Share of the candidates that scatter, by Tissue: few strong scatterers in wall, sinus fat and fascia (m < 1)."""
CHUNK = 6144
"""Scatterers summed at once: arrays of this size stay in the processor's cache."""
NOISE_DB = -27.0
"""Electronic noise, relative to unit echo power."""
WHITE_DB = 22.0
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


def geometry_of(patient: anatomy.Patient, size: int) -> physics.Geometry:
    """The beams of the patient's probe on a display of `size` px."""
    return physics.make_geometry(patient.geometry, size, half_angle=patient.half_angle)


class Renderer:
    """One acquisition ready to be seen at any of `times_s` (rising, s)."""

    def __init__(self, acquisition: anatomy.Acquisition, size: int, *, times_s: NDArray[np.floating]) -> None:
        self.acquisition, self.size = acquisition, size
        self.geometry = geometry_of(acquisition.patient, size)
        self.display = physics.display_of(self.geometry)
        slab = seen_slab(acquisition, self.geometry, times_s)
        self._scatterers = make_scatterers(acquisition, self.geometry, slab=slab)
        self._gain = 10 ** (_gain_db(acquisition, self.display) / np.float32(20))
        self._noise = np.random.default_rng([*acquisition.seed, 17])

    def field(self, time_s: float) -> physics.Complex:
        """Complex echo field (P,) of the display pixels inside the fan, before shadow, gain and noise."""
        scale = np.float32(self.size)

        def move(x: physics.Float, z: physics.Float) -> tuple[physics.Float, physics.Float]:
            shift_x, shift_z = anatomy.displacement(self.acquisition, x / scale, z / scale, time_s)
            return x + shift_x * scale, z + shift_z * scale

        plane_y = self.acquisition.drift[2] * time_s * self.size
        return echo_field(self._scatterers, self.geometry, plane_y=plane_y, move=move)

    def image(self, field: physics.Complex) -> NDArray[np.uint8]:
        """B-mode (S, S) of a field: shadow and time-gain, electronic noise, envelope, log compression."""
        draw = self._noise.standard_normal((2, len(field)), np.float32) * np.float32(
            10 ** (NOISE_DB / 20) / math.sqrt(2)
        )
        received = np.abs(field * self._gain + draw[0] + 1j * draw[1])
        image = np.zeros((self.size, self.size), np.uint8)
        dynamic_range_db = self.acquisition.patient.dynamic_range_db
        grey = physics.compress(received, dynamic_range_db=dynamic_range_db, reference_db=WHITE_DB)
        image[self.display.inside] = grey
        return image

    def masks(self, time_s: float) -> NDArray[np.bool_]:
        """Truth (K, S, S) in the order of CLASSES, cut to the fan."""
        z, x = (np.mgrid[0 : self.size, 0 : self.size].astype(np.float32) + np.float32(0.5)) / np.float32(self.size)
        rest = anatomy.resting_position(self.acquisition, x, z, time_s)
        return anatomy.class_masks(self.acquisition, *rest) & self.display.inside

    def frame(self, time_s: float) -> Frame:
        """Image, envelope and truth at one time."""
        field = self.field(time_s)
        envelope = np.zeros((self.size, self.size), np.float32)
        envelope[self.display.inside] = np.abs(field)
        return Frame(self.image(field), envelope, self.masks(time_s), self.display.inside, time_s)


def _gain_db(acquisition: anatomy.Acquisition, table: physics.Display) -> physics.Float:
    """Time-gain error and shadows at the display pixels inside the fan."""
    patient = acquisition.patient
    gain = np.interp(table.depth, np.linspace(0, 1, len(patient.tgc_db)), patient.tgc_db)
    for place, width, depth_db in acquisition.shadows:
        beside = np.abs(table.line - place) / width
        gain -= depth_db / (1 + beside**6) * np.clip((table.depth - 0.12) / 0.1, 0, 1)
    return (gain + patient.gain_db).astype(np.float32)


@dataclass(frozen=True)
class TissueTruth:
    """What is known of a class's speckle in one labelled frame."""

    case: str
    class_name: str
    pixels: int
    nakagami_m: float
    """Of the envelope before noise and compression."""
    omega: float
    """Mean squared envelope: the linear scale, before shadow and time-gain."""
    dynamic_range_db: float
    white_db: float
    """20 log10 envelope drawn white; grey = 255 (1 + (dB - white_db) / dynamic_range_db)."""


def tissue_truth(acquisition: anatomy.Acquisition, frame: Frame) -> tuple[TissueTruth, ...]:
    """Nakagami m and scale of each leaf class that the frame shows, from the scatterers' density and strength.

    m = 1 / (1 + 1 / n) with n scatterers per resolution cell, averaged over the class's depths.
    """
    patient = acquisition.patient
    geometry = geometry_of(patient, frame.image.shape[0])
    z, x = np.mgrid[0 : geometry.size, 0 : geometry.size].astype(np.float32) + np.float32(0.5)
    widening = physics.cell_widening(geometry, x, z)
    found = []
    for class_name, mask in zip(anatomy.CLASSES, frame.masks, strict=True):
        if class_name in anatomy.CONTAINS or not mask.any():
            continue
        tissue = anatomy.Tissue[class_name.upper()]
        rarity = float((1.0 / widening[mask]).mean()) / (CELL_SCATTERERS * TISSUE_SHARE[tissue])
        omega = 10 ** (patient.echo_db[tissue] / 10)
        scale = (patient.dynamic_range_db, WHITE_DB)
        found.append(TissueTruth(acquisition.name, class_name, int(mask.sum()), 1 / (1 + rarity), omega, *scale))
    return tuple(found)


@dataclass(frozen=True)
class PatientFrames:
    """All frames of a patient. T frames, S = image side, K classes."""

    patient: str
    inside: NDArray[np.bool_]
    """(S, S) the fan."""
    clips: dict[str, NDArray[np.uint8]]
    """Clip -> (T, S, S)."""
    times_ms: NDArray[np.float64]
    cases: dict[str, Frame]
    truth: tuple[TissueTruth, ...]


def render_patient(spec: PhantomSpec, number: int) -> PatientFrames:
    """Render every clip and labelled frame of patient `number`; depends on no other patient."""
    patient = anatomy.make_patient(spec, number)
    times_ms = anatomy.clip_times_ms(spec)
    clips, cases, truth = {}, {}, []
    for clip in range(spec.clips_per_patient):
        acquisition = anatomy.make_acquisition(spec, patient, stream=0, number=clip)
        scene = Renderer(acquisition, spec.size, times_s=times_ms / 1000)
        clips[acquisition.name] = np.stack([scene.image(scene.field(float(time))) for time in times_ms / 1000])
    for label in range(spec.labels_per_patient):
        acquisition = anatomy.make_acquisition(spec, patient, stream=1, number=label)
        moment = np.random.default_rng([spec.seed, number, 19, label]).uniform(0, times_ms[-1] / 1000)
        frame = Renderer(acquisition, spec.size, times_s=np.array([moment])).frame(moment)
        cases[acquisition.name] = frame
        truth += tissue_truth(acquisition, frame)
    inside = physics.display_of(geometry_of(patient, spec.size)).inside
    return PatientFrames(anatomy.patient_name(number), inside, clips, times_ms, cases, tuple(truth))
