"""Speckle SNR of a region, and how far the SNR of predicted regions is off (delta SNR). Lower delta is better.

Meant for pixels as displayed (8-bit B-mode), compared within one image only: gain, dynamic range and vendor move
it by more than any method does (science.md 7.3).
"""

# K classes, H x W pixels

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_REGION_PX = 2
"""A standard deviation needs two pixels."""


class SpeckleSnr(NamedTuple):
    """SNR of a region and whether the region could not give one."""

    snr: float
    """log10(mean / std); 0 for an empty or degenerate region."""
    degenerate: bool
    """The region is not empty, but has one pixel, or no mean or no spread."""


def speckle_snr(pixels: NDArray[np.generic]) -> SpeckleSnr:
    """log10(mean / std) of a region's pixels (any shape, grey levels >= 0); std with divisor n.

    An empty region has SNR 0, as in the authors' code; one of a single pixel, of mean 0 or of std 0 has SNR 0 too
    (their code gives inf there) and counts as degenerate. Fully developed speckle before compression: 0.282.
    """
    values = np.asarray(pixels, np.float64).ravel()
    if not values.size:
        return SpeckleSnr(0.0, degenerate=False)
    mean, spread = float(values.mean()), float(values.std())
    # A constant region's std is rounding noise, not 0, when its mean is no binary fraction.
    if values.size < MIN_REGION_PX or mean <= 0 or spread <= 1e-9 * mean:
        return SpeckleSnr(0.0, degenerate=True)
    return SpeckleSnr(math.log10(mean / spread), degenerate=False)


def delta_snr(
    image_HW: NDArray[np.generic], predicted_HW: NDArray[np.bool_], truth_HW: NDArray[np.bool_]
) -> dict[str, float]:
    """SNR of one class in one image, and how far the prediction's is off; every value in log10 units.

    `delta_snr`: |SNR(truth) - SNR(prediction)| with 0 for an empty mask, as the authors' code defines it (kidneyUS,
    distribution_utils.py): a miss costs the whole SNR, both empty cost nothing. `delta_snr_present`: the same where
    both masks are non-empty, else NaN. `delta_snr_signed`: SNR(prediction) - SNR(truth), where both are non-empty.
    `delta_snr_present_db`: `delta_snr_present` as 20 log10. `snr_degenerate`: how many of the two regions had no SNR.
    """
    truth, predicted = speckle_snr(image_HW[truth_HW]), speckle_snr(image_HW[predicted_HW])
    difference = predicted.snr - truth.snr
    both = bool(truth_HW.any()) and bool(predicted_HW.any())
    return {
        "snr_truth": truth.snr,
        "snr_predicted": predicted.snr,
        "delta_snr": abs(difference),
        "delta_snr_present": abs(difference) if both else math.nan,
        "delta_snr_present_db": 20 * abs(difference) if both else math.nan,
        "delta_snr_signed": difference if both else math.nan,
        "snr_degenerate": float(truth.degenerate + predicted.degenerate),
    }


def score_snr(
    image_HW: NDArray[np.generic],
    predicted_KHW: NDArray[np.bool_],
    truth_KHW: NDArray[np.bool_],
    classes: Sequence[str],
) -> dict[str, dict[str, float]]:
    """`delta_snr` of every class of one case, by class name.

    Which classes enter a mean is decided later: those that contain no other class (science.md 7.4).
    """
    masks = zip(classes, predicted_KHW, truth_KHW, strict=True)
    return {name: delta_snr(image_HW, predicted, truth) for name, predicted, truth in masks}
