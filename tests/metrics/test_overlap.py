"""DSC and HD95 on masks worked by hand, empty masks included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uscl.metrics.overlap import EMPTY_RULES, dice, hausdorff95_px, score_masks

EMPTY = np.zeros((3, 3), dtype=bool)
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
ROW = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=bool)


@pytest.mark.parametrize("rule", EMPTY_RULES)
def test_dice_of_a_row_in_a_cross(rule):
    assert dice(ROW, CROSS, empty_rule=rule) == pytest.approx(2 * 3 / (3 + 5))


@pytest.mark.parametrize(
    ("rule", "both", "truth_empty", "prediction_empty"),
    [
        ("both_empty_one", 1, 0, 0),
        ("nan_drop", math.nan, 0, 0),
        ("gt_present_only", math.nan, math.nan, 0),
    ],
)
def test_empty_rules(rule, both, truth_empty, prediction_empty):
    values = [dice(p, t, empty_rule=rule) for p, t in ((EMPTY, EMPTY), (CROSS, EMPTY), (EMPTY, CROSS))]
    assert values == pytest.approx([both, truth_empty, prediction_empty], nan_ok=True)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'one' is unknown; choose one of both_empty_one, nan_drop, gt_present_only"):
        dice(ROW, ROW, empty_rule="one")


def square(top, left, side=5, shape=(40, 30)):
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_hausdorff_of_a_shifted_square_is_the_shift():
    assert hausdorff95_px(square(10, 10), square(10, 14)) == pytest.approx(4)


def test_hausdorff_of_a_single_pixel_by_hand():
    assert hausdorff95_px(square(0, 0, 1), square(3, 4, 1)) == pytest.approx(5)


def test_hausdorff_of_a_mask_that_fills_the_image_sees_its_edge():
    full = np.ones((9, 9), dtype=bool)
    assert hausdorff95_px(full, full) == 0


def test_misses_cost_the_diagonal_and_both_empty_is_nan():
    empty = np.zeros((40, 30), dtype=bool)
    assert hausdorff95_px(empty, square(0, 0)) == hausdorff95_px(square(0, 0), empty) == 50
    assert math.isnan(hausdorff95_px(empty, square(0, 0), miss="nan"))
    assert math.isnan(hausdorff95_px(empty, empty))


coordinates = st.integers(0, 25)


@given(coordinates, coordinates, coordinates, coordinates)
@settings(max_examples=40, deadline=None)
def test_both_are_symmetric_and_cropping_changes_nothing(top, left, other_top, other_left):
    a, b = square(top, left), square(other_top, other_left)
    assert dice(a, b) == dice(b, a)
    assert hausdorff95_px(a, b) == hausdorff95_px(b, a)
    padded = [np.pad(mask, 20) for mask in (a, b)]
    assert hausdorff95_px(*padded) == hausdorff95_px(a, b)


def test_score_masks_counts_what_was_found():
    truth = np.stack([CROSS, EMPTY, CROSS, EMPTY])
    predicted = np.stack([ROW, ROW, EMPTY, EMPTY])
    scores = score_masks(predicted, truth, ("hit", "alarm", "miss", "none"))
    found = {name: [s["detected"], s["missed"], s["false_alarm"]] for name, s in scores.items()}
    assert found == {"hit": [1, 0, 0], "alarm": [0, 0, 1], "miss": [0, 1, 0], "none": [0, 0, 0]}
    assert [scores[name]["dsc_floor"] for name in scores] == [0, 1, 0, 1]
    assert scores["hit"] == scores["hit"] | {"dsc": 0.75, "dsc_nan_drop": 0.75, "truth_px": 5, "predicted_px": 3}
    assert scores["miss"]["hd95"] == pytest.approx(math.sqrt(18))
    assert math.isnan(scores["miss"]["hd95_nan_drop"])
    rates = [scores[name]["miss_rate"] for name in scores]
    assert rates == pytest.approx([0, math.nan, 1, math.nan], nan_ok=True)


def test_unknown_pixels_are_outside_both_masks():
    known = ~(CROSS & ~ROW)
    scores = score_masks(ROW[None], CROSS[None], ("a",), known_HW=known)
    assert scores["a"]["dsc"] == 1
