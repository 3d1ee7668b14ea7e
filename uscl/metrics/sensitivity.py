"""How much DSC a boundary a few pixels off costs: masks eroded and dilated, scored against themselves."""

# K classes, H x W pixels

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from uscl.metrics.overlap import dice

ITERATIONS = (1, 10)
"""Pixels, as in Singla et al. 2022 and kidneyUS sensitivity_analysis.py (3 x 3 kernel, 1 and 10 iterations)."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SensitivityRow:
    """One change of one class over the cases that show it."""

    class_name: str
    change: str
    """`erosion` or `dilation`."""
    pixels: int
    cases: int
    """Cases where the class is present."""
    median_px: float
    """Median area of the class in these, native pixels."""
    dsc_mean: float
    """DSC of the changed mask against the original, over these cases; a mask that vanishes has 0."""
    dsc_sd: float
    """Standard deviation over these cases (divisor n - 1); NaN for a single one."""
    vanished: int
    """Masks of which erosion leaves nothing."""


def moved_boundary(mask_HW: Mask, pixels: int) -> Mask:
    """The mask after `pixels` dilations with a 3 x 3 kernel, or as many erosions where `pixels` is negative.

    That is one dilation with a square of 2 |pixels| + 1. The image's border does not erode (as in OpenCV).
    """
    if pixels == 0:
        return mask_HW
    grey, side = mask_HW.astype(np.uint8), 2 * abs(pixels) + 1
    for axis in (0, 1):
        if pixels > 0:
            grey = maximum_filter1d(grey, side, axis=axis, mode="constant", cval=0)
        else:
            grey = minimum_filter1d(grey, side, axis=axis, mode="constant", cval=1)
    return grey.astype(bool)


def boundary_dice(masks_KHW: Mask, *, iterations: Sequence[int] = ITERATIONS, known_HW: Mask | None = None) -> NDArray:
    """DSC of eroded and dilated masks against themselves, (2, iterations, K): erosion first; NaN for an absent class.

    Masks are bool at native size. Pixels that are not `known` count as outside of all masks, as in `score_masks`.
    """
    known = np.ones(masks_KHW.shape[1:], bool) if known_HW is None else known_HW
    found = np.full((2, len(iterations), len(masks_KHW)), math.nan)
    for number, mask in enumerate(masks_KHW):
        if not (mask & known).any():
            continue
        for place, pixels in enumerate(iterations):
            for row, signed in enumerate((-pixels, pixels)):
                found[row, place, number] = dice(moved_boundary(mask, signed) & known, mask & known)
    return found


def boundary_sensitivity(
    cases: Iterable[tuple[Mask, Mask | None]], classes: Sequence[str], *, iterations: Sequence[int] = ITERATIONS
) -> list[SensitivityRow]:
    """The check over a dataset's cases, each (masks (K, H, W), known (H, W) or None): rows by class, change, pixels.

    A class that no case shows has rows with 0 cases and NaN. Singla et al. 2022, discussion: 1-2 % at 1 px, 20-30 %
    at 10 px.
    """
    scores: list[NDArray] = []
    areas: list[NDArray] = []
    for masks_KHW, known_HW in cases:
        scores.append(boundary_dice(masks_KHW, iterations=iterations, known_HW=known_HW))
        areas.append((masks_KHW if known_HW is None else masks_KHW & known_HW).sum((1, 2)))
    dsc = np.stack(scores) if scores else np.zeros((0, 2, len(iterations), len(classes)))
    area = np.stack(areas) if areas else np.zeros((0, len(classes)))
    return [
        _row(name, change, pixels, dsc=dsc[:, row, place, number], area=area[:, number])
        for number, name in enumerate(classes)
        for row, change in enumerate(("erosion", "dilation"))
        for place, pixels in enumerate(iterations)
    ]


def _row(name: str, change: str, pixels: int, *, dsc: NDArray, area: NDArray) -> SensitivityRow:
    present = ~np.isnan(dsc)
    values, count = dsc[present], int(present.sum())
    return SensitivityRow(
        class_name=name,
        change=change,
        pixels=pixels,
        cases=count,
        median_px=float(np.median(area[present])) if count else math.nan,
        dsc_mean=float(values.mean()) if count else math.nan,
        dsc_sd=float(values.std(ddof=1)) if count > 1 else math.nan,
        vanished=int((values == 0).sum()),
    )


def sensitivity_text(rows: Sequence[SensitivityRow]) -> str:
    """The rows as an aligned table: a line per class, a column per change, `mean ± sd` of DSC and what vanished."""
    changes = list(dict.fromkeys((row.change, row.pixels) for row in rows))
    lines = [["class", "cases", "median px", *(f"{change} {pixels} px" for change, pixels in changes)]]
    by_class: Mapping[str, list[SensitivityRow]] = {
        name: [row for row in rows if row.class_name == name] for name in dict.fromkeys(row.class_name for row in rows)
    }
    for name, of_class in by_class.items():
        first = of_class[0]
        area = f"{first.median_px:.0f}" if first.cases else "-"
        lines.append([name, str(first.cases), area, *(_cell(row) for row in of_class)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _cell(row: SensitivityRow) -> str:
    if not row.cases:
        return "-"
    spread = "" if math.isnan(row.dsc_sd) else f" ± {row.dsc_sd:.3f}"
    gone = f" ({row.vanished} gone)" if row.vanished else ""
    return f"{row.dsc_mean:.3f}{spread}{gone}"
