"""The patients of the phantom: kidneys, their surroundings, what each acquisition shows and how it moves.

Lengths are fractions of the image side, angles radians, echo levels decibels. Nothing here renders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uscl.spec.phantom import PhantomSpec

CLASSES = ("capsule", "cortex", "medulla", "cec")
CONTAINS = {"capsule": ("cortex", "medulla", "cec")}
EVERYTHING = frozenset(CLASSES)
LACKING = (
    EVERYTHING - {"cortex"},
    EVERYTHING - {"medulla"},
    EVERYTHING - {"cec"},
    frozenset[str](),  # the probe looks past the kidney
)
"""What a frame that lacks some class may show; taken in turn, so that no test split misses a class."""


class Tissue(IntEnum):
    """What a scatterer belongs to."""

    FAT = 0
    WALL = 1
    LIVER = 2
    CORTEX = 3
    MEDULLA = 4
    CEC = 5
    FLUID = 6
    FASCIA = 7


@dataclass(frozen=True)
class Patient:
    """One person and the machine settings of the examination; fixed over the patient's clips."""

    number: int
    geometry: Literal["sector", "linear"]
    half_angle: float
    echo_db: tuple[float, ...]
    """Mean echo power by Tissue, relative to unit power."""
    length: float
    """Half length of the kidney (longitudinal view)."""
    thickness: float
    """Half thickness in depth."""
    tilt: float
    waviness: tuple[float, ...]
    """Amplitudes and phases of the outline's second and third harmonic."""
    sinus: float
    """Radius of the central complex relative to the capsule."""
    pyramid: float
    """Radius of the medulla's outer boundary relative to the capsule."""
    wall_depth: float
    liver_tilt: float
    gain_db: float
    tgc_db: tuple[float, ...]
    """Error of the time-gain at five depths."""
    dynamic_range_db: float


@dataclass(frozen=True)
class Acquisition:
    """One placement of the probe: a clip, or the moment a labelled frame was taken from."""

    patient: Patient
    name: str
    seed: tuple[int, ...]
    """Of the scatterers and the noise."""
    present: frozenset[str]
    view: Literal["longitudinal", "transverse"]
    centre: tuple[float, float]
    axes: tuple[float, float]
    tilt: float
    hilum: tuple[float, float]
    """Shift of the inner boundaries against the capsule, as fractions of the axes."""
    fluid: tuple[tuple[float, float, float], ...]
    """Vessels and cysts outside the kidney: x, z, radius."""
    shadows: tuple[tuple[float, float, float], ...]
    """Of ribs and gas: position across the fan (0 to 1), half width, depth in dB."""
    breath: tuple[float, float, float, float]
    """Amplitude across, amplitude in depth, cycles per second, phase (turns)."""
    drift: tuple[float, float, float]
    """Speed of the probe per second: across, in depth, out of plane."""
    rotation: tuple[float, float]
    """Amplitude (rad) and cycles per second of the probe's rocking."""


def patient_name(number: int) -> str:
    """`p007`."""
    return f"p{number:03d}"


def acquisition_name(patient: int, *, stream: int, number: int) -> str:
    """Id of a clip (stream 0) or a labelled frame (stream 1)."""
    return f"{patient_name(patient)}-{'frame' if stream else 'clip'}{number:02d}"


def clip_times_ms(spec: PhantomSpec) -> NDArray[np.float64]:
    """Times of a clip's frames (T,), ms."""
    return np.arange(spec.frames_per_clip) * (1000.0 / spec.frame_rate_hz)


def planned_presence(spec: PhantomSpec, patient: int, *, count: int, stream: int) -> tuple[frozenset[str], ...]:
    """Which classes each of a patient's `count` labelled frames (stream 1) or clips (stream 0) shows.

    A third lack something, rounded so that it is a third over all patients; what they lack is taken in turn.
    """
    before, after = (patient * count + 1) // 3, ((patient + 1) * count + 1) // 3
    shown = [LACKING[number % len(LACKING)] for number in range(before, after)]
    shown += [EVERYTHING] * (count - len(shown))
    order = np.random.default_rng([spec.seed, patient, 7, stream]).permutation(count)
    return tuple(shown[i] for i in order)


def make_patient(spec: PhantomSpec, number: int) -> Patient:
    """Draw patient `number`; depends on nothing but the phantom's seed and the number."""
    rng = np.random.default_rng(np.random.SeedSequence([spec.seed, number]))
    near, far = sorted(rng.uniform(-1.0, 1.0, 2))
    return Patient(
        number=number,
        geometry="linear" if rng.random() < 0.25 else "sector",
        half_angle=float(rng.uniform(0.52, 0.66)),
        echo_db=_echo_levels(rng, spec.difficulty),
        length=float(rng.uniform(0.31, 0.365)),
        thickness=float(rng.uniform(0.225, 0.265)),
        tilt=float(rng.uniform(-0.4, 0.4)),
        waviness=(float(rng.uniform(0, 0.05)), float(rng.uniform(0, 6.28)), float(rng.uniform(0, 0.035)), float(near)),
        sinus=float(rng.uniform(0.46, 0.52)),
        pyramid=float(rng.uniform(0.72, 0.79)),
        wall_depth=float(rng.uniform(0.08, 0.15)),
        liver_tilt=float(rng.uniform(-0.4, 0.4) + 0.1 * far),
        gain_db=float(rng.uniform(-9.0, 9.0)),
        tgc_db=tuple(float(v) for v in rng.normal(0.0, 2.5, 5)),
        dynamic_range_db=float(rng.uniform(48.0, 70.0)),
    )


def _echo_levels(rng: np.random.Generator, difficulty: float) -> tuple[float, ...]:
    """Echo power by Tissue, dB. The surroundings may be darker than the kidney, as bright as it, or brighter."""
    cortex = rng.uniform(-1.5, 1.5)
    levels = {
        Tissue.FAT: cortex + rng.uniform(-2.0, 6.0),
        Tissue.WALL: cortex + rng.uniform(5.0, 8.0),
        Tissue.LIVER: cortex + rng.uniform(-3.0, 5.0),
        Tissue.CORTEX: cortex,
        Tissue.MEDULLA: cortex - rng.uniform(5.5, 7.5) / difficulty,
        Tissue.CEC: cortex + rng.uniform(7.0, 10.0) / difficulty,
        Tissue.FLUID: cortex - 22.0,
        Tissue.FASCIA: cortex + rng.uniform(8.0, 11.0) / difficulty,
    }
    return tuple(float(levels[tissue]) for tissue in Tissue)


def make_acquisition(spec: PhantomSpec, patient: Patient, *, stream: int, number: int) -> Acquisition:
    """Draw clip `number` (stream 0) or the placement behind labelled frame `number` (stream 1) of a patient."""
    count = spec.labels_per_patient if stream else spec.clips_per_patient
    present = planned_presence(spec, patient.number, count=count, stream=stream)[number]
    rng = np.random.default_rng([spec.seed, patient.number, 11, stream, number])
    view: Literal["longitudinal", "transverse"] = "transverse" if rng.random() < 0.35 else "longitudinal"
    transverse = view == "transverse"
    across = patient.thickness * rng.uniform(1.06, 1.16) if transverse else patient.length
    return Acquisition(
        patient=patient,
        name=acquisition_name(patient.number, stream=stream, number=number),
        seed=(spec.seed, patient.number, 13, stream, number),
        present=present,
        view=view,
        centre=(float(0.5 + rng.uniform(-0.09, 0.09)), float(0.54 + rng.uniform(-0.05, 0.06))),
        axes=(float(across * rng.uniform(0.97, 1.03)), float(patient.thickness * rng.uniform(0.97, 1.03))),
        tilt=float((0.25 if transverse else 1.0) * patient.tilt + rng.uniform(-0.12, 0.12)),
        hilum=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(0.0, 0.07))),
        fluid=_fluid(rng),
        shadows=_shadows(rng, spec.difficulty),
        breath=(
            float(rng.normal(0, 0.05)),
            float(rng.uniform(0.015, 0.04)),
            float(rng.uniform(0.25, 0.6)),
            rng.random(),
        ),
        drift=(float(rng.normal(0, 0.012)), float(rng.normal(0, 0.008)), float(rng.normal(0, 0.04))),
        rotation=(float(rng.uniform(0.01, 0.05)), float(rng.uniform(0.2, 0.6))),
    )


def _fluid(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Up to two dark vessels or cysts, near the sides or above the kidney."""
    spots = []
    for _ in range(int(rng.integers(0, 3))):
        angle = rng.uniform(0, 2 * math.pi)
        spots.append((0.5 + 0.45 * math.cos(angle), 0.54 + 0.38 * math.sin(angle), float(rng.uniform(0.02, 0.05))))
    return tuple(spots)


def _shadows(rng: np.random.Generator, difficulty: float) -> tuple[tuple[float, float, float], ...]:
    """None, one or two; deep ones at the flank, faint ones anywhere."""
    found = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
        flank = rng.random() < 0.6
        place = rng.choice([0.0, 1.0]) + rng.uniform(-0.1, 0.1) if flank else rng.uniform(0.2, 0.8)
        found.append((float(place), float(rng.uniform(0.03, 0.09)), float(difficulty * (16.0 if flank else 5.0))))
    return tuple(found)


Plane = NDArray[np.float32]


def _harmonics(angle: Plane, patient: Patient) -> Plane:
    """Outline of the kidney relative to its ellipse."""
    second, phase, third, phase3 = patient.waviness
    return (1 + second * np.cos(2 * angle + phase) + third * np.cos(3 * angle + 3 * phase3)).astype(np.float32)


def radii(acquisition: Acquisition, x: Plane, z: Plane) -> tuple[Plane, Plane, Plane]:
    """Relative radius of points for the capsule, the medulla's outer boundary and the central complex.

    A point lies inside a structure where its radius is below 1; the three are nested for every acquisition.
    """
    patient, (a, b) = acquisition.patient, acquisition.axes
    cos, sin = math.cos(acquisition.tilt), math.sin(acquisition.tilt)
    dx, dz = x - np.float32(acquisition.centre[0]), z - np.float32(acquisition.centre[1])
    u, v = (cos * dx + sin * dz) / a, (cos * dz - sin * dx) / b
    capsule = np.hypot(u, v) / _harmonics(np.arctan2(v, u), patient)
    iu, iv = u - np.float32(acquisition.hilum[0]), v - np.float32(acquisition.hilum[1])
    angle = np.arctan2(iv, iu)
    inner = np.hypot(iu, iv) / _harmonics(angle, patient)
    scallop = 1 + np.float32(0.04) * np.cos(7 * angle)
    return capsule, inner / (np.float32(patient.pyramid) * scallop), inner / np.float32(patient.sinus)


def class_masks(acquisition: Acquisition, x: Plane, z: Plane) -> NDArray[np.bool_]:
    """Truth at tissue positions, one plane per class in the order of CLASSES; absent classes are empty."""
    capsule, medulla, cec = (r < 1 for r in radii(acquisition, x, z))
    present = acquisition.present
    planes = np.zeros((len(CLASSES), *np.shape(x)), bool)
    if not present:
        return planes
    cec = cec & ("cec" in present)
    if "medulla" not in present:
        medulla = cec
    elif "cortex" not in present:
        medulla = capsule
    planes[0], planes[1], planes[2], planes[3] = capsule, capsule & ~medulla, capsule & medulla & ~cec, cec
    return planes


def tissue_at(acquisition: Acquisition, x: Plane, z: Plane) -> NDArray[np.int8]:
    """Tissue code of tissue positions; agrees with `class_masks` where the kidney is."""
    patient = acquisition.patient
    code = np.full(np.shape(x), Tissue.FAT, np.int8)
    border = 0.54 + patient.liver_tilt * (x - 0.5)
    code[z < border] = Tissue.LIVER
    code[z < patient.wall_depth] = Tissue.WALL
    for fx, fz, radius in acquisition.fluid:
        code[np.hypot(x - fx, z - fz) < radius] = Tissue.FLUID
    if not acquisition.present:
        return code
    rim = radii(acquisition, x, z)[0]
    code[(rim >= 1) & (rim < 1.07)] = Tissue.FASCIA
    masks = class_masks(acquisition, x, z)
    code[masks[0]] = Tissue.CORTEX
    for plane, tissue in zip(masks[1:], (Tissue.CORTEX, Tissue.MEDULLA, Tissue.CEC), strict=True):
        code[plane] = tissue
    return code


def displacement(acquisition: Acquisition, x: Plane, z: Plane, time_s: float) -> tuple[Plane, Plane]:
    """How far tissue that rests at (x, z) has moved by `time_s`, relative to the probe (not out of plane).

    Breathing slides deep tissue under a wall that stays; the probe's drift and rocking move everything.
    """
    across, down, rate, phase = acquisition.breath
    breath = math.sin(2 * math.pi * (rate * time_s + phase))
    depth = np.clip((z - np.float32(0.1)) / np.float32(0.3), 0, 1)
    slide = depth * depth * (3 - 2 * depth) * np.float32(breath)
    amplitude, rocking = acquisition.rotation
    turn = amplitude * math.sin(2 * math.pi * rocking * time_s)
    dx = x - np.float32(0.5)
    shift_x = across * slide + acquisition.drift[0] * time_s + turn * (z + np.float32(0.2))
    shift_z = down * slide + acquisition.drift[1] * time_s - turn * dx
    return shift_x.astype(np.float32), shift_z.astype(np.float32)


def resting_position(acquisition: Acquisition, x: Plane, z: Plane, time_s: float) -> tuple[Plane, Plane]:
    """Where the tissue now at display position (x, z) rests: the inverse of `displacement`, by iteration."""
    rest_x, rest_z = x, z
    for _ in range(6):
        shift_x, shift_z = displacement(acquisition, rest_x, rest_z, time_s)
        rest_x, rest_z = x - shift_x, z - shift_z
    return rest_x, rest_z
