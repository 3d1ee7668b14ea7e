"""Several raters of one picture: which of its cases count, and what their masks agree on."""

# K classes, R raters, H x W pixels

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from uscl.data.schema import CONSENSUS, CaseEntry, DatasetIndex
from uscl.errors import SpecError


def raters_of(index: DatasetIndex) -> tuple[str, ...]:
    """The names of the raters, sorted, the consensus last; empty where the dataset names nobody."""
    return _in_order(case.rater for case in index.cases)


def choose_cases(index: DatasetIndex, *, rater: str = "", quality: Collection[str] = ()) -> DatasetIndex:
    """The index with every case that is not chosen marked as excluded: at most one case per picture is left.

    Excluded rather than taken out, so that a picture nobody chose still ties its patient and group together and no
    split comes between them. `rater` empty: cases without a rater, and those of the first rater by name; `quality`
    empty: all. SpecError, worded as `setting: message`, where the dataset has no such rater or quality.
    """
    _check_known(index, rater=rater, quality=quality)
    if not (rater or quality or raters_of(index)):
        return index
    wanted = {rater} if rater else {"", *raters_of(index)[:1]}
    nameless = {case.picture for case in index.cases if not case.rater and not rater}

    def is_chosen(case: CaseEntry) -> bool:
        by_rater = case.rater in wanted and (not case.rater or case.picture not in nameless)
        return by_rater and (not quality or case.quality in quality)

    chosen = (case if is_chosen(case) else replace(case, excluded=True) for case in index.cases)
    return replace(index, cases=tuple(chosen))


def count_ratings(cases: Iterable[CaseEntry]) -> tuple[dict[str, int], dict[str, int]]:
    """Cases per rater and per quality, of those that name one; raters by name, qualities by how many."""
    given = list(cases)
    raters = Counter(case.rater for case in given if case.rater)
    qualities = Counter(case.quality for case in given if case.quality)
    return {name: raters[name] for name in _in_order(raters)}, dict(qualities.most_common())


def majority(masks_RKHW: Sequence[np.ndarray]) -> np.ndarray:
    """(K, H, W) bool: pixels that more than half of the raters gave to a class. Of two raters: both of them.

    Class by class, so nested classes stay nested: a majority for the inner one is one for the outer one too.
    """
    votes = np.sum(np.stack(masks_RKHW).astype(np.uint8), axis=0, dtype=np.int64)
    return np.asarray(2 * votes > len(masks_RKHW))


def _in_order(raters: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in raters if name}, key=lambda name: (name == CONSENSUS, name)))


def _check_known(index: DatasetIndex, *, rater: str, quality: Collection[str]) -> None:
    raters, qualities = count_ratings(index.cases)
    if rater and rater not in raters:
        raise SpecError(f"labels.rater: {_unknown(index, rater, 'rater', raters)}")
    for name in quality:
        if name not in qualities:
            raise SpecError(f"labels.quality: {_unknown(index, name, 'quality', qualities)}")


def _unknown(index: DatasetIndex, name: str, kind: str, there: Collection[str]) -> str:
    has = f"it has {', '.join(there)}" if there else f"it names no {kind}"
    return f"'{name}' is no {kind} of dataset '{index.name}'; {has}"
