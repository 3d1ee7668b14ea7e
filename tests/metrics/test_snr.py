import math

import numpy as np
import pytest

from uscl.metrics.snr import delta_snr, score_snr, speckle_snr

IMAGE = np.array([[1, 3, 7], [0, 0, 5], [5, 5, 9]], np.uint8)
"""The first two pixels have mean 2 and standard deviation 1."""


def mask(*pixels: tuple[int, int]) -> np.ndarray:
    chosen = np.zeros(IMAGE.shape, bool)
    for row, column in pixels:
        chosen[row, column] = True
    return chosen


TWO = mask((0, 0), (0, 1))
EMPTY = mask()


def test_snr_is_log10_of_mean_over_std():
    assert speckle_snr(IMAGE[TWO]) == (pytest.approx(math.log10(2)), False)


def test_rayleigh_envelope_has_snr_1_913():
    envelope = np.random.default_rng(0).rayleigh(3.0, 200_000)
    assert 10 ** speckle_snr(envelope).snr == pytest.approx(1.913, rel=0.02)


@pytest.mark.parametrize(
    ("pixels", "why"),
    [([7], "one pixel"), ([5, 5, 5], "no spread"), ([0, 0], "no mean"), ([0.1] * 7, "spread is rounding noise")],
)
def test_degenerate_regions_have_snr_zero_and_are_counted(pixels, why):
    assert speckle_snr(np.array(pixels)) == (0.0, True), why


def test_an_empty_region_is_zero_and_not_degenerate():
    assert speckle_snr(IMAGE[EMPTY]) == (0.0, False)


def test_a_missed_class_costs_its_whole_snr():
    row = delta_snr(IMAGE, EMPTY, TWO)
    assert row["delta_snr"] == pytest.approx(0.301, abs=1e-3)
    assert math.isnan(row["delta_snr_present"]) and math.isnan(row["delta_snr_signed"])
    assert row["snr_degenerate"] == 0


def test_a_false_alarm_costs_as_much():
    assert delta_snr(IMAGE, TWO, EMPTY)["delta_snr"] == pytest.approx(0.301, abs=1e-3)


def test_both_empty_costs_nothing_and_is_no_present_row():
    row = delta_snr(IMAGE, EMPTY, EMPTY)
    assert row["delta_snr"] == 0
    assert math.isnan(row["delta_snr_present"])


def test_both_present():
    four = mask((0, 0), (0, 1), (1, 0), (1, 1))  # 1, 3, 0, 0: mean 1, std sqrt(1.5)
    row = delta_snr(IMAGE, four, TWO)
    difference = math.log10(1 / math.sqrt(1.5)) - math.log10(2)
    assert row["delta_snr"] == row["delta_snr_present"] == pytest.approx(-difference)
    assert row["delta_snr_signed"] == pytest.approx(difference)
    assert row["delta_snr_present_db"] == pytest.approx(-20 * difference)


def test_degenerate_regions_of_both_masks_are_counted():
    row = delta_snr(IMAGE, mask((0, 2)), mask((1, 0), (1, 1)))
    assert (row["delta_snr"], row["delta_snr_present"], row["snr_degenerate"]) == (0, 0, 2)


def test_rows_of_every_class():
    predicted, truth = np.stack([TWO, EMPTY]), np.stack([TWO, TWO])
    rows = score_snr(IMAGE, predicted, truth, ("cortex", "medulla"))
    assert list(rows) == ["cortex", "medulla"]
    assert rows["cortex"]["delta_snr"] == 0
    assert rows["medulla"]["delta_snr"] == pytest.approx(math.log10(2))


def test_gain_on_linear_pixels_changes_nothing():
    pixels = np.random.default_rng(1).random(100)
    assert speckle_snr(pixels * 37).snr == pytest.approx(speckle_snr(pixels).snr)
