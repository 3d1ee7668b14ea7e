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
OTHER_AGGREGATES: Mapping[str, tuple[str, bool]] = {
    "dsc_leaf": ("dsc", True),
    "dsc_leaf_floor": ("dsc_floor", True),
    "delta_snr_all": ("delta_snr", False),
}
"""The other mean over classes of a measurement, by name: what is averaged, and whether over leaf classes alone.

The paper's tables mix the two (science.md 1.3), so both are measured: `dsc` is over all classes, `delta_snr` over
leaf classes.
"""


def aggregate(rows: Sequence[CaseRow], *, leaf_classes: Collection[str] | None = None) -> dict[str, float]:
    """Every measurement of the rows as `name` and `name/<class>`, the number of rows behind it as `name_n[/<class>]`.

    `dsc_floor` is the DSC (both_empty_one) of predicting nothing. `leaf_classes` (all, where None) are those whose
    mean is the `delta_snr...`; per class it is given for every class that has values. OTHER_AGGREGATES are means over
    classes only. `n_cases` and `n_patients` count what was scored. The order of rows does not matter beyond rounding.
    """
    classes = list(dict.fromkeys(row.class_name for row in rows))
    result: dict[str, float] = {
        "n_cases": float(len({row.case for row in rows})),
        "n_patients": float(len({row.patient for row in rows})),
    }
    for name in dict.fromkeys(name for row in rows for name in row.values):
        if name in MEANS:
            result |= _averaged(rows, name, classes, classes_in_mean(name, classes, leaf_classes))
        elif name in COUNTS:
            result |= _counted(rows, name, classes)
    for name, (measured, _) in OTHER_AGGREGATES.items():
        if measured in result:
            chosen = classes_in_mean(name, classes, leaf_classes)
            result[name] = mean(result[f"{measured}/{class_name}"] for class_name in chosen)
            result[f"{name}_n"] = math.fsum(result[f"{measured}_n/{class_name}"] for class_name in chosen)
    return result


def classes_in_mean(name: str, classes: Sequence[str], leaf_classes: Collection[str] | None) -> list[str]:
    """The classes that a measurement without `/class` is the mean over; `leaf_classes` is all where None."""
    _, leaf_only = OTHER_AGGREGATES.get(name, (name, name.startswith(LEAF_ONLY_PREFIX)))
    return [one for one in classes if not leaf_only or leaf_classes is None or one in leaf_classes]


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
