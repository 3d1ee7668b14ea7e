"""Erosion and dilation of masks against themselves, by hand and against OpenCV."""

import math

import cv2
import numpy as np
import pytest

from uscl.metrics.sensitivity import boundary_dice, boundary_sensitivity, moved_boundary, sensitivity_text


def square(side, *, size=32):
    mask = np.zeros((size, size), bool)
    start = (size - side) // 2
    mask[start : start + side, start : start + side] = True
    return mask


@pytest.mark.parametrize("pixels", [1, 3, 10])
def test_as_opencv_iterates_a_3_by_3_kernel(pixels):
    rng, kernel = np.random.default_rng(0), np.ones((3, 3), np.uint8)
    mask = cv2.GaussianBlur(rng.random((60, 50)), (0, 0), 4) > 0.5
    grey = mask.astype(np.uint8)
    assert np.array_equal(moved_boundary(mask, pixels), cv2.dilate(grey, kernel, iterations=pixels) > 0)
    assert np.array_equal(moved_boundary(mask, -pixels), cv2.erode(grey, kernel, iterations=pixels) > 0)
    assert mask[0].any() and mask[:, 0].any()  # it touches the border, which does not erode


def test_dice_of_a_square_by_hand():
    """A side of 10 becomes 8 or 12."""
    found = boundary_dice(square(10)[None], iterations=(1,))
    assert found[:, 0, 0].tolist() == pytest.approx([2 * 64 / (64 + 100), 2 * 100 / (100 + 144)])


def test_an_absent_class_has_no_score_and_a_vanished_one_has_none_left():
    found = boundary_dice(np.stack([square(0), square(4)]), iterations=(10,))
    assert np.isnan(found[:, 0, 0]).all()
    assert found[0, 0, 1] == 0.0 and 0 < found[1, 0, 1] < 0.2


def test_unknown_pixels_do_not_count():
    known = np.zeros((32, 32), bool)
    known[:16] = True
    found = boundary_dice(square(10)[None], iterations=(1,), known_HW=known)
    assert found[1, 0, 0] == pytest.approx(2 * 50 / (50 + 12 * 6))


def rows_of(cases, **options):
    return {(r.class_name, r.change, r.pixels): r for r in boundary_sensitivity(cases, ("a", "b"), **options)}


def test_mean_and_spread_over_the_cases_that_show_the_class():
    cases = [(np.stack([square(10), square(0)]), None), (np.stack([square(20), square(0)]), None)]
    rows = rows_of(cases)
    assert list(rows)[:4] == [("a", "erosion", 1), ("a", "erosion", 10), ("a", "dilation", 1), ("a", "dilation", 10)]
    small, large = 128 / 164, 2 * 324 / (324 + 400)
    row = rows["a", "erosion", 1]
    assert (row.cases, row.median_px, row.vanished) == (2, 250.0, 0)
    assert row.dsc_mean == pytest.approx((small + large) / 2)
    assert row.dsc_sd == pytest.approx(abs(small - large) / math.sqrt(2))
    assert rows["a", "erosion", 10].vanished == 2
    assert rows["b", "erosion", 1].cases == 0 and math.isnan(rows["b", "erosion", 1].dsc_mean)


def test_small_structures_lose_more_to_one_pixel():
    """What the paper's check is about."""
    rows = rows_of([(np.stack([square(6), square(24)]), None)])
    assert rows["a", "erosion", 1].dsc_mean < rows["b", "erosion", 1].dsc_mean - 0.2


def test_the_table_is_aligned_and_says_what_is_gone():
    cases = [(np.stack([square(10), square(0)]), None), (np.stack([square(20), square(0)]), None)]
    text = sensitivity_text(boundary_sensitivity(cases, ("a", "b"), iterations=(1, 10)))
    assert text.splitlines() == [
        "class  cases  median px   erosion 1 px           erosion 10 px  dilation 1 px  dilation 10 px",
        "a          2        250  0.838 ± 0.081  0.000 ± 0.000 (2 gone)  0.862 ± 0.060   0.381 ± 0.256",
        "b          0          -              -                       -              -               -",
    ]
