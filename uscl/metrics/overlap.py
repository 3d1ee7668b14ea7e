"""How well a mask matches the truth, per case and class: DSC under three empty rules, HD95 with misses counted.

numpy and scipy only; masks are bool at the resolution of the report (the native one). science.md 7.1 and 7.2.
"""
# K classes, H x W pixels

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

EMPTY_RULES = ("both_empty_one", "nan_drop", "gt_present_only")

Mask = NDArray[np.bool_]


def dice(predicted_HW: Mask, truth_HW: Mask, *, empty_rule: str = "both_empty_one") -> float:
    """Dice similarity coefficient in [0, 1]; NaN where the rule gives no value.

    both empty / truth empty / prediction empty: `both_empty_one` 1 / 0 / 0 (the authors' code), `nan_drop`
    NaN / 0 / 0 (nnU-Net), `gt_present_only` NaN / NaN / 0 (MONAI's ignore_empty). ValueError for another rule.
    """
    if empty_rule not in EMPTY_RULES:
        raise ValueError(f"empty_rule: {empty_rule!r} is unknown; choose one of {', '.join(EMPTY_RULES)}")
    predicted_px, truth_px = int(predicted_HW.sum()), int(truth_HW.sum())
    if truth_px == 0 and empty_rule == "gt_present_only":
        return math.nan
    if truth_px + predicted_px == 0:
        return 1.0 if empty_rule == "both_empty_one" else math.nan
    return 2.0 * int((predicted_HW & truth_HW).sum()) / (predicted_px + truth_px)


def hausdorff95_px(predicted_HW: Mask, truth_HW: Mask, *, miss: str = "diagonal") -> float:
    """95th percentile of surface distances, the larger of both directions, in px; both empty: NaN.

    Where one of the two is empty: the image's diagonal (`miss="diagonal"`), so that finding less never helps, or
    NaN (`miss="nan"`). A pixel is on the surface where one of its 4 neighbours is outside the mask or the image.
    """
    if predicted_HW.any() and truth_HW.any():
        return _surface_distance95(predicted_HW, truth_HW)
    if miss == "nan" or not (predicted_HW.any() or truth_HW.any()):
        return math.nan
    return math.hypot(*truth_HW.shape)


def score_masks(
    predicted_KHW: Mask, truth_KHW: Mask, classes: Sequence[str], *, known_HW: Mask | None = None
) -> dict[str, dict[str, float]]:
    """Overlap measurements of one case by class: dsc, dsc_nan_drop, dsc_gt_present, hd95, hd95_nan_drop,
    miss_rate and counts.

    `detected`, `missed`, `false_alarm` say whether the class was there and was found (1 or 0); `truth_px` and
    `predicted_px` are areas. Pixels that are not `known` count as outside both masks.
    """
    if known_HW is not None:
        predicted_KHW, truth_KHW = predicted_KHW & known_HW, truth_KHW & known_HW
    masks = zip(classes, predicted_KHW, truth_KHW, strict=True)
    return {name: _score_class(predicted, truth) for name, predicted, truth in masks}


def _score_class(predicted_HW: Mask, truth_HW: Mask) -> dict[str, float]:
    found, present = bool(predicted_HW.any()), bool(truth_HW.any())
    hd95 = hausdorff95_px(predicted_HW, truth_HW)
    return {
        "dsc": dice(predicted_HW, truth_HW, empty_rule="both_empty_one"),
        "dsc_nan_drop": dice(predicted_HW, truth_HW, empty_rule="nan_drop"),
        "dsc_gt_present": dice(predicted_HW, truth_HW, empty_rule="gt_present_only"),
        "dsc_floor": float(not present),
        "hd95": hd95,
        "hd95_nan_drop": hd95 if found and present else math.nan,
        "miss_rate": float(not found) if present else math.nan,
        "detected": float(found and present),
        "missed": float(present and not found),
        "false_alarm": float(found and not present),
        "truth_px": float(truth_HW.sum()),
        "predicted_px": float(predicted_HW.sum()),
    }


def _surface_distance95(predicted_HW: Mask, truth_HW: Mask) -> float:
    """Both masks non-empty. Cropped to where they are, which changes no distance and saves most of the work."""
    box = _bounding_box(predicted_HW | truth_HW)
    surfaces = [_surface(mask[box]) for mask in (predicted_HW, truth_HW)]
    to_predicted, to_truth = (distance_transform_edt(~surface) for surface in surfaces)
    forth, back = to_truth[surfaces[0]], to_predicted[surfaces[1]]
    return float(max(np.percentile(forth, 95), np.percentile(back, 95)))


def _surface(mask_HW: Mask) -> Mask:
    inner: Mask = binary_erosion(mask_HW)
    return mask_HW & ~inner


def _bounding_box(mask_HW: Mask) -> tuple[slice, slice]:
    rows, cols = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
