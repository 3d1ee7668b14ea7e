"""From rows (one class of one case) to one number per measurement: over a patient's cases, patients, then classes.

Pure, so that conventions can be recomputed from the stored rows. NaN marks a row that a rule leaves out; what has
no row left is NaN, never 0. science.md 7.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from uscl.records import CaseRow

MEANS = (
    "dsc",
    "dsc_nan_drop",
    "dsc_gt_present",
    "dsc_floor",
    "hd95",
    "hd95_nan_drop",
    "miss_rate",
    "delta_snr",
    "delta_snr_present",
    "delta_snr_present_db",
    "delta_snr_signed",
)
"""Measurements that are averaged: over a patient's cases, then patients, then classes."""
COUNTS = ("detected", "missed", "false_alarm", "snr_degenerate")
"""Measurements that are summed over all rows."""
LEAF_ONLY_PREFIX = "delta_snr"
"""delta SNR is averaged over leaf classes alone: those that contain no other (science.md 7.4)."""


def aggregate(rows: Sequence[CaseRow], *, leaf_classes: Collection[str] | None = None) -> dict[str, float]:
    """Every measurement of the rows as `name` and `name/<class>`, the number of rows behind it as `name_n[/<class>]`.

    `dsc_floor` is the DSC (both_empty_one) of predicting nothing. `leaf_classes` (all, where None) are those whose
    mean is the `delta_snr...`; per class it is given for every class that has values. `n_cases` and `n_patients`
    count what was scored. The order of rows does not matter beyond rounding.
    """
    classes = list(dict.fromkeys(row.class_name for row in rows))
    leaves = classes if leaf_classes is None else [name for name in classes if name in leaf_classes]
    result: dict[str, float] = {
        "n_cases": float(len({row.case for row in rows})),
        "n_patients": float(len({row.patient for row in rows})),
    }
    for name in dict.fromkeys(name for row in rows for name in row.values):
        if name in MEANS:
            result |= _averaged(rows, name, classes, leaves if name.startswith(LEAF_ONLY_PREFIX) else classes)
        elif name in COUNTS:
            result |= _counted(rows, name, classes)
    return result


def patient_means(rows: Iterable[CaseRow], name: str) -> dict[str, float]:
    """Mean over each patient's rows that have a value, by patient; patients without one are left out."""
    values: Mapping[str, list[float]] = defaultdict(list)
    for row in rows:
        value = row.values.get(name, math.nan)
        if not math.isnan(value):
            values[row.patient].append(value)
    return {patient: mean(of_patient) for patient, of_patient in values.items()}


def mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    present = [value for value in values if not math.isnan(value)]
    return math.fsum(present) / len(present) if present else math.nan


def _averaged(rows: Sequence[CaseRow], name: str, classes: Sequence[str], in_mean: Sequence[str]) -> dict[str, float]:
    result: dict[str, float] = {}
    for class_name in classes:
        of_class = [row for row in rows if row.class_name == class_name]
        result[f"{name}/{class_name}"] = mean(patient_means(of_class, name).values())
        result[f"{name}_n/{class_name}"] = float(_num_values(of_class, name))
    overall = mean(result[f"{name}/{class_name}"] for class_name in in_mean)
    number = math.fsum(result[f"{name}_n/{class_name}"] for class_name in in_mean)
    return {name: overall, f"{name}_n": number} | result


def _counted(rows: Sequence[CaseRow], name: str, classes: Sequence[str]) -> dict[str, float]:
    def total(selected: Iterable[CaseRow]) -> float:
        return math.fsum(row.values.get(name, 0.0) for row in selected)

    by_class = {f"{name}/{c}": total(row for row in rows if row.class_name == c) for c in classes}
    return {name: total(rows)} | by_class


def _num_values(rows: Iterable[CaseRow], name: str) -> int:
    return sum(not math.isnan(row.values.get(name, math.nan)) for row in rows)
