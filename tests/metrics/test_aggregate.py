"""Rows to numbers: the order of averaging, NaN, counts, the all-background floor of the real set."""

import math

import numpy as np
import pytest

from uscl.metrics.aggregate import aggregate
from uscl.metrics.overlap import score_masks
from uscl.metrics.snr import score_snr
from uscl.records import CaseRow


def row(patient, case, class_name="a", **values):
    return CaseRow(case, patient, "test", class_name, 10, 10, values)


def test_mean_over_cases_then_patients_then_classes():
    rows = [
        row("p", "1", dsc=0.2), row("p", "2", dsc=0.4), row("q", "3", dsc=0.9),
        row("p", "1", "b", dsc=0.0), row("p", "2", "b", dsc=0.0), row("q", "3", "b", dsc=1.0),
    ]  # fmt: skip
    result = aggregate(rows)
    assert result["dsc/a"] == pytest.approx((0.3 + 0.9) / 2)
    assert result["dsc/b"] == pytest.approx(0.5)
    assert result["dsc"] == pytest.approx((0.6 + 0.5) / 2)
    assert (result["n_cases"], result["n_patients"], result["dsc_n"], result["dsc_n/a"]) == (3, 2, 6, 3)


def test_nan_rows_are_left_out_and_counted():
    rows = [row("p", "1", dsc_nan_drop=math.nan), row("q", "2", dsc_nan_drop=0.5)]
    result = aggregate(rows)
    assert (result["dsc_nan_drop/a"], result["dsc_nan_drop_n/a"]) == (0.5, 1)


def test_a_class_without_values_is_nan_and_not_in_the_mean():
    rows = [row("p", "1", hd95=math.nan), row("p", "1", "b", hd95=3.0)]
    result = aggregate(rows)
    assert math.isnan(result["hd95/a"])
    assert result["hd95"] == 3.0
    assert math.isnan(aggregate(rows[:1])["hd95"])


def test_counts_are_summed():
    rows = [row("p", "1", missed=1.0), row("p", "2", missed=1.0), row("q", "3", "b", missed=0.0)]
    result = aggregate(rows)
    assert (result["missed"], result["missed/a"], result["missed/b"]) == (2, 2, 0)


def test_delta_snr_is_the_mean_over_leaf_classes():
    rows = [row("p", "1", "capsule", delta_snr=1.0, dsc=1.0), row("p", "1", "cortex", delta_snr=0.2, dsc=0.0)]
    result = aggregate(rows, leaf_classes=("cortex",))
    assert (result["delta_snr"], result["delta_snr/capsule"], result["dsc"]) == (0.2, 1.0, 0.5)


def test_both_aggregates_are_given_by_name():
    rows = [row("p", "1", "capsule", delta_snr=1.0, dsc=1.0, dsc_floor=0.0)]
    rows += [row("p", "1", name, delta_snr=0.2, dsc=0.25, dsc_floor=1.0) for name in ("cortex", "medulla")]
    result = aggregate(rows, leaf_classes=("cortex", "medulla"))
    assert (result["dsc"], result["dsc_leaf"], result["dsc_leaf_floor"]) == (0.5, 0.25, 1.0)
    assert (result["delta_snr"], result["delta_snr_all"]) == pytest.approx((0.2, 1.4 / 3))
    assert (result["dsc_leaf_n"], result["delta_snr_all_n"], result["delta_snr_n"]) == (2, 3, 2)
    assert "dsc_leaf/cortex" not in result
    assert aggregate(rows)["dsc_leaf"] == 0.5  # nothing is known to contain another


def test_all_background_on_the_real_sets_presence_rates():
    """Oracle 10: cortex and medulla absent in 198 of 534, CEC in 11.8 %, capsule in 8.8 %: mean DSC 0.237."""
    absent = {"capsule": 47, "cec": 63, "medulla": 198, "cortex": 198}
    rows = [
        row(str(index), str(index), name, dsc=float(index < number), dsc_floor=float(index < number))
        for name, number in absent.items()
        for index in range(534)
    ]
    result = aggregate(rows)
    assert result["dsc"] == pytest.approx(0.237, abs=5e-4)
    assert result["dsc_floor"] == result["dsc"]


def test_no_rows_give_no_measurements():
    assert aggregate([]) == {"n_cases": 0, "n_patients": 0}


def test_everything_that_is_measured_is_aggregated_but_areas_and_plain_snr():
    mask, image = np.ones((1, 3, 3), dtype=bool), np.arange(9).reshape(3, 3)
    values = score_masks(mask, mask, ("a",))["a"] | score_snr(image, mask, mask, ("a",))["a"]
    left_out = set(values) - set(aggregate([row("p", "1", **values)]))
    assert left_out == {"truth_px", "predicted_px", "snr_truth", "snr_predicted"}
