"""How well two raters agree on the images that both labelled: the human ceiling of every score on a dataset."""

# K classes, H x W pixels

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uscl.data.dataset import Case, Dataset, read_document
from uscl.data.raters import raters_of
from uscl.data.schema import CONSENSUS, DATASET_FILE, CaseEntry
from uscl.errors import DataError
from uscl.metrics.aggregate import MEANS, aggregate
from uscl.metrics.overlap import score_masks
from uscl.metrics.snr import score_snr
from uscl.records import CaseRow
from uscl.store.files import Files

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

NUM_IMAGES = "n_images"
"""Key of the number of images that both raters labelled, beside the scores."""

SHOWN = {
    "dsc": "DSC, both empty = 1",
    "dsc_nan_drop": "DSC, both empty left out",
    "dsc_gt_present": "DSC, where the truth has it",
    "hd95": "HD95 px, one empty = diagonal",
    "hd95_nan_drop": "HD95 px, where both have it",
    "delta_snr": "delta SNR, empty = 0",
    "delta_snr_present": "delta SNR, where both have it",
}
"""Measurements that the table prints, in words that name their empty rule."""

_ONE_WAY = ("dsc_floor", "dsc_leaf_floor", "delta_snr_signed")
"""Not told: a score of predicting nothing is no agreement, and a sign has no meaning between equals."""


@dataclass(frozen=True)
class Agreement:
    """Scores between two raters."""

    raters: tuple[str, str]
    num_images: int
    """That both labelled."""
    num_single: int
    """That only one of the two labelled: left out."""
    scores: Mapping[str, float]
    """Means over images by measurement (`dsc`, `dsc/cortex`, `delta_snr`); those without a value are left out."""
    counts: Mapping[str, int]
    """Images behind each score of a class, where both ways have the same number: `dsc_nan_drop/cortex`."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        images = {NUM_IMAGES: self.num_images, "n_single": self.num_single}
        return {"raters": list(self.raters), **images, "scores": dict(self.scores), "images": dict(self.counts)}


def rater_agreement(
    dataset: Dataset,
    raters: Sequence[str] = (),
    *,
    progress: Progress = lambda what, done, total: None,
) -> Agreement:
    """Scores of the two raters (the dataset's only two where not given) over the images that both labelled.

    Each image counts once, and each class as the mean over its images; then classes, as in a report. DataError where
    there are no two raters, one is unknown, or no image has both.
    """
    pair = _choose_raters(dataset, raters)
    by_picture = _cases_of(dataset, pair)
    shared = [cases for cases in by_picture.values() if len(cases) == 2]
    if not shared:
        raise DataError(f"dataset {dataset.name}: no image is labelled by both {pair[0]} and {pair[1]}")
    forth: list[CaseRow] = []
    back: list[CaseRow] = []
    for number, cases in enumerate(shared):
        progress("images of two raters", number, len(shared))
        one, other = (dataset.case(cases[rater].case) for rater in pair)
        _check_sizes(dataset, one, other)
        known = one.known & other.known
        if known.any():
            picture = cases[pair[0]].picture
            forth += compare_masks(one.image, other.masks & known, one.masks & known, dataset.classes, image=picture)
            back += compare_masks(one.image, one.masks & known, other.masks & known, dataset.classes, image=picture)
    progress("images of two raters", len(shared), len(shared))
    scores, counts = both_ways(forth, back, leaf_classes=dataset.index.leaf_classes)
    compared = len({row.case for row in forth})
    return Agreement(pair, compared, len(by_picture) - len(shared), scores, counts)


def compare_masks(
    image_HW: NDArray[np.uint8],
    drawn_KHW: NDArray[np.bool_],
    truth_KHW: NDArray[np.bool_],
    classes: Sequence[str],
    *,
    image: str,
) -> list[CaseRow]:
    """A row per class with all measurements of one rater's masks, the other's being the truth."""
    overlap, snr = score_masks(drawn_KHW, truth_KHW, classes), score_snr(image_HW, drawn_KHW, truth_KHW, classes)
    height, width = image_HW.shape
    return [CaseRow(image, image, "", name, height, width, overlap[name] | snr[name]) for name in classes]


def both_ways(
    forth: Sequence[CaseRow], back: Sequence[CaseRow], *, leaf_classes: Sequence[str]
) -> tuple[dict[str, float], dict[str, int]]:
    """Means over images, and images behind each; with either rater as the truth, the mean of the two ways.

    Only `dsc_gt_present` and `miss_rate` depend on who is the truth.
    """
    ways = [aggregate(rows, leaf_classes=leaf_classes) for rows in (forth, back)]
    scores: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, first in ways[0].items():
        measurement, slash, class_name = name.partition("/")
        means = (*MEANS, "dsc_leaf", "delta_snr_all")
        values = (first, ways[1][name])
        if measurement in means and measurement not in _ONE_WAY and all(map(math.isfinite, values)):
            scores[name] = math.fsum(values) / 2
            numbers = {int(way.get(f"{measurement}_n/{class_name}", 0)) for way in ways}
            counts |= {name: numbers.pop()} if slash and len(numbers) == 1 else {}
    return scores, counts


def save_agreement(dataset: Dataset, agreement: Agreement) -> None:
    """Write the scores into dataset.json, where reports of the dataset find them; its fingerprint stays as it is.

    In one step: whoever reads meanwhile reads the old or the new file, never half of one.
    """
    document = read_document(dataset.path)
    document["agreement"] = {**agreement.scores, NUM_IMAGES: float(agreement.num_images)}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    Files(dataset.path).write(DATASET_FILE, (text + "\n").encode())


def to_text(agreement: Agreement, classes: Sequence[str]) -> str:
    """A table: a line per measurement and empty rule, a column per class, and the mean over classes."""
    single = f"; {agreement.num_single} more have one of the two only" if agreement.num_single else ""
    lines = [f"{' and '.join(agreement.raters)}: {agreement.num_images} images that both labelled{single}"]
    width = max(map(len, SHOWN.values()))
    columns = [*classes, "mean"]
    lines.append(" " * width + "".join(f"  {column:>{max(8, len(column))}}" for column in columns))
    for name, words in SHOWN.items():
        keys = [*(f"{name}/{class_name}" for class_name in classes), name]
        cells = (_cell(agreement.scores.get(key), column) for key, column in zip(keys, columns, strict=True))
        lines.append(f"{words:{width}}" + "".join(cells))
    return "\n".join(lines)


def _cell(value: float | None, column: str) -> str:
    shown = "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"
    return f"  {shown:>{max(8, len(column))}}"


def _choose_raters(dataset: Dataset, raters: Sequence[str]) -> tuple[str, str]:
    there = raters_of(dataset.index)
    people = [name for name in there if name != CONSENSUS]
    has = f"it has {', '.join(there)}" if there else "its masks name nobody"
    unknown = [name for name in raters if name not in there]
    if unknown:
        raise DataError(f"dataset {dataset.name}: '{unknown[0]}' is no rater; {has}")
    chosen = list(raters) or people
    if len(chosen) != 2 or chosen[0] == chosen[1]:
        raise DataError(f"dataset {dataset.name}: agreement is between two raters, and {has}; --raters A,B chooses two")
    return chosen[0], chosen[1]


def _cases_of(dataset: Dataset, pair: tuple[str, str]) -> dict[str, dict[str, CaseEntry]]:
    """Picture -> rater -> case, of cases that are not copies, for the pictures of either rater."""
    pictures: dict[str, dict[str, CaseEntry]] = {}
    for case in dataset.index.cases:
        if case.rater in pair and not case.excluded:
            pictures.setdefault(case.picture, {})[case.rater] = case
    return pictures


def _check_sizes(dataset: Dataset, one: Case, other: Case) -> None:
    if one.image.shape != other.image.shape:
        raise DataError(f"dataset {dataset.name}: cases {one.case} and {other.case} of one image differ in size")
