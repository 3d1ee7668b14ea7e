"""Ranges of negative distance over a stage's steps, and what becomes of them in clips the window already fills."""

import numpy as np
import pytest

from uscl.data.curriculum import clip_length, negative_range, reachable_range


@pytest.mark.parametrize(
    ("step", "expected"), [(0, (0.2, 0.4)), (19, (0.2, 0.4)), (20, (0.1, 0.15)), (39, (0.1, 0.15)), (40, (0.03, 0.07))]
)
def test_the_ranges_of_us_ucl_change_at_its_epochs_of_fifty(step, expected):
    assert negative_range("steps", step / 50) == expected


def test_the_cosine_goes_from_the_first_range_to_the_last():
    assert negative_range("cosine", 0.0) == pytest.approx((0.2, 0.4))
    assert negative_range("cosine", 0.5) == pytest.approx((0.115, 0.235))
    assert negative_range("cosine", 1.0) == pytest.approx((0.03, 0.07))
    lows, highs = zip(*(negative_range("cosine", step / 20) for step in range(21)), strict=True)
    assert list(lows) == sorted(lows, reverse=True) and list(highs) == sorted(highs, reverse=True)


def test_a_clip_is_as_long_as_its_frames_at_their_mean_spacing():
    number = np.arange(10.0)
    assert clip_length(number) == pytest.approx(10)
    assert clip_length(number / 10) == pytest.approx(1)
    assert clip_length(number * 40.0) == pytest.approx(400)
    assert clip_length(np.zeros(1)) == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (6.4, 12.8, (6.4, 12.8)),  # holds far distances: as it is
        (0.9, 2.2, (0.9, 6.0)),  # the window covers it: the nearest far distance
        (7.2, 7.8, (7.2, 8.0)),  # between two distances: the next
        (40.0, 50.0, (30.0, 50.0)),  # beyond the clip: its farthest
        (30.0 + 1e-9, 35.0, (30.0 + 1e-9, 35.0)),  # rounding moves nothing
    ],
)
def test_a_range_without_a_far_frame_moves_to_the_nearest(low, high, expected):
    assert reachable_range(np.arange(6.0, 31.0), low, high, tolerance=1e-6) == expected
