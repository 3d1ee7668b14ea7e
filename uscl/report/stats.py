"""What a difference between two rows is worth: its interval over pretraining seeds and patients, and Holm's p.

Pure functions of scores (science.md 10). A sweep's noise has two sources, the training run and the patient, so the
interval takes both as random; one over patients alone leaves out zero far too often when seeds vary most.
"""
# S pretraining seeds, P patients (or the unit that stands for them)

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from uscl.errors import DataError

CONFIDENCE = 0.95
LEAST_SEEDS = 3
"""Training runs from which an interval is trusted enough to be set bold."""
ROUNDING = 1e-9
"""Differences whose spread is below this share of their size are equal: what is left is float64 subtraction."""

_Key = tuple[int, Hashable, str]


@dataclass(frozen=True, slots=True)
class Score:
    """One measurement of one patient by one trained network."""

    seed: int
    """Pretraining seed: the training run that n counts."""
    draw: Hashable
    """What is averaged over within a run: the label draw, or (label draw, fine-tuning seed)."""
    patient: str
    value: float
    """Mean over the patient's cases; NaN where a rule leaves the patient out."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Row minus reference row: mean, interval, two-sided p, and the n behind them."""

    mean: float
    """Over the seeds and patients counted below; NaN where there are none."""
    low: float
    """Ends of the interval; NaN where there is none, and `note` says why."""
    high: float
    p: float
    """Of no difference, not corrected for the number of rows (`holm` does that)."""
    num_seeds: int
    num_patients: int
    note: str = ""
    """What limits the interval and what was left out, in words; empty where nothing does."""
    unit: str = "patient"
    """What `num_patients` counts: where patient ids are missing the group, then the case."""

    @property
    def bold(self) -> bool:
        """Whether the interval leaves out zero and can be believed: three training runs or more, several patients.

        At two training runs it covers as little as 87 % (`paired_interval`).
        """
        return self.num_seeds >= LEAST_SEEDS and self.num_patients > 1 and (self.low > 0 or self.high < 0)


def compare(
    row: Iterable[Score], reference: Iterable[Score], *, confidence: float = CONFIDENCE, unit: str = "patient"
) -> PairedDifference:
    """Paired difference of a row against the reference row; see `paired_differences` and `paired_interval`."""
    return paired_interval(paired_differences(row, reference), confidence=confidence, unit=unit)


def paired_differences(row: Iterable[Score], reference: Iterable[Score]) -> NDArray[np.float64]:
    """Row minus reference by (seed, patient), shape (S, P), averaged over label draws.

    Seeds and patients are those of either row, in sorted order. An entry is NaN unless both rows have a value for
    every draw that either has under that seed: a mean over fewer draws would pass for one over all.
    DataError where a row scores the same seed, draw and patient twice.
    """
    ours, theirs = _by_key(row), _by_key(reference)
    seeds = sorted({key[0] for key in ours} | {key[0] for key in theirs})
    patients = sorted({key[2] for key in ours} | {key[2] for key in theirs})
    draws = {seed: list(dict.fromkeys(key[1] for key in (*ours, *theirs) if key[0] == seed)) for seed in seeds}

    def difference(seed: int, patient: str) -> float:
        keys = [(seed, draw, patient) for draw in draws[seed]]
        return math.fsum(ours.get(key, math.nan) - theirs.get(key, math.nan) for key in keys) / len(keys)

    entries = [[difference(seed, patient) for patient in patients] for seed in seeds]
    return np.array(entries, dtype=np.float64).reshape(len(seeds), len(patients))


def paired_interval(
    differences_SP: ArrayLike, *, confidence: float = CONFIDENCE, unit: str = "patient"
) -> PairedDifference:
    """Two-way random-effects t interval of the mean of paired differences, shape (S, P).

    Variance (MS_seed + MS_patient - MS_residual) / (S P), a negative variance component counting as zero, with
    Satterthwaite's degrees of freedom. One seed, or one patient: Student's t over the other, and `note` says so.
    The design must be complete: seeds without any value are left out, then patients without a value under every
    seed that is left; `note` counts them. Equal differences have no interval, unless all are zero: then it is 0 to 0.
    Coverage of a nominal 95 %, simulated with 30 patients: 94-96 % at 5 and 10 seeds; 92.6-95.5 % at 3, least where
    seeds add 5 to 20 times the patients' variance to the mean; down to 87 % at 2, where `note` warns; 98-99 % where
    only the residual varies. DataError where a difference is infinite.
    """
    differences, notes = _complete(np.asarray(differences_SP, dtype=np.float64), unit)
    if differences.shape[0] > 1 and differences.size and not np.ptp(differences, axis=0).any() and differences.any():
        differences = differences[:1]
        notes.append("training runs equal in every value: counted as one")
    seeds, patients = differences.shape
    mean = float(differences.mean()) if differences.size else math.nan
    if differences.size and not differences.any():
        low, high, p = 0.0, 0.0, 1.0
        notes.append("all differences are zero")
    elif differences.size < 2 or np.ptp(differences) <= ROUNDING * np.abs(differences).max():
        low = high = p = math.nan
        notes.append("no interval: differences do not vary" if differences.size > 1 else "no interval")
    else:
        low, high, p = _student(mean, *_variance(differences), confidence=confidence)
    notes = [*_design_notes(seeds, patients, unit), *notes]
    return PairedDifference(mean, low, high, p, seeds, patients, "; ".join(notes), unit)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjusted p, in the order given, over all declared rows.

    A NaN (a row without an interval) stays NaN and still counts as declared, as if its p were 1. Holm 1979.
    """
    order = sorted((at for at, p in enumerate(p_values) if not math.isnan(p)), key=lambda at: p_values[at])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return tuple(adjusted)


def _by_key(scores: Iterable[Score]) -> dict[_Key, float]:
    values: dict[_Key, float] = {}
    for score in scores:
        key = (score.seed, score.draw, score.patient)
        if key in values:
            raise DataError(
                f"seed {score.seed}, draw {score.draw}, patient {score.patient}: two scores in one row; "
                "average a patient's cases first, and give each row one network per seed and draw"
            )
        values[key] = score.value
    return values


def _complete(differences: NDArray[np.float64], unit: str) -> tuple[NDArray[np.float64], list[str]]:
    """The seeds and patients that form a complete table, and what was left out in words."""
    assert differences.ndim == 2, differences.shape
    if np.isinf(differences).any():
        seed, patient = np.argwhere(np.isinf(differences))[0]
        raise DataError(f"difference of training run {seed}, {unit} {patient} is infinite; leave it out as NaN")
    runs = ~np.isnan(differences).all(axis=1)
    patients = ~np.isnan(differences[runs]).any(axis=0)
    notes = []
    if not runs.all():
        notes.append(f"{(~runs).sum()} of {runs.size} training runs left out: no value in both rows")
    if runs.any() and not patients.all():
        notes.append(f"{(~patients).sum()} of {patients.size} {unit}s left out: no value in some training run")
    return differences[np.ix_(runs, patients & runs.any())], notes


def _design_notes(seeds: int, patients: int, unit: str) -> list[str]:
    """What the numbers of seeds and patients do to an interval, in words."""
    if seeds == 0 or patients == 0:
        return ["nothing to compare"]
    if seeds == 1 and patients == 1:
        return [f"one training run, one {unit}"]
    if seeds == 1:
        return [f"one training run: {unit}s only"]
    if patients == 1:
        return [f"one {unit}: training runs only"]
    return ["two training runs: the interval can be too narrow"] if seeds == 2 else []


def _variance(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the mean and its degrees of freedom; one-way where there is one seed or one patient."""
    seeds, patients = differences.shape
    if min(seeds, patients) == 1:
        return float(differences.var(ddof=1)) / differences.size, differences.size - 1
    mean = differences.mean()
    by_seed, by_patient = differences.mean(axis=1) - mean, differences.mean(axis=0) - mean
    residual = differences - mean - by_seed[:, None] - by_patient
    ms_seed = patients * float((by_seed**2).sum()) / (seeds - 1)
    ms_patient = seeds * float((by_patient**2).sum()) / (patients - 1)
    ms_residual = float((residual**2).sum()) / ((seeds - 1) * (patients - 1))
    # A component estimated below zero is zero: its mean square expects at least the residual's.
    total = max(ms_seed, ms_residual) + max(ms_patient, ms_residual) - ms_residual
    spread = ms_seed**2 / (seeds - 1) + ms_patient**2 / (patients - 1)
    spread += ms_residual**2 / ((seeds - 1) * (patients - 1))
    return total / differences.size, total**2 / spread


def _student(mean: float, variance: float, freedom: float, *, confidence: float) -> tuple[float, float, float]:
    """Low, high and two-sided p of a mean under Student's t."""
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * error
    return mean - half, mean + half, 2 * float(stdtr(freedom, -abs(mean) / error))
