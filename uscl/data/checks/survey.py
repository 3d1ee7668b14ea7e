"""One pass over the labelled pictures and one over the clips: what the checks need of each, small enough to keep."""

# K classes, H x W pixels, T frames

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from uscl.data.checks.shortlist import coarse
from uscl.data.dataset import Dataset
from uscl.data.ingest.clip_copies import ClipPrint, clip_print
from uscl.data.ingest.copies import Thumbnail, make_thumbnail
from uscl.data.letterbox import Letterbox
from uscl.data.schema import CaseEntry

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

VIEW_PX = 64
"""Side of the square in which stills are compared with frames of clips."""
MAX_VIEWS = 96
"""Frames of a clip that are compared with stills at first; neighbours of a hit are looked at one by one."""


@dataclass(frozen=True)
class CaseSurvey:
    """What was measured on one labelled case."""

    entry: CaseEntry
    row: dict[str, Any]
    area_px: tuple[int, ...]
    """(K,) pixels of each class."""
    known_fraction: float
    sector_fraction: float
    outside_px: int
    """Labelled pixels outside the sector."""


@dataclass(frozen=True)
class PictureSurvey:
    """What is kept of one picture to know it again; its raters share it."""

    picture: str
    case: str
    """The case it was read from."""
    thumbnail: Thumbnail
    view: np.ndarray
    """(64, 64) uint8, letterboxed as a clip's frames are."""


@dataclass(frozen=True)
class CasesSurvey:
    """All labelled cases: `broken` names those whose stored bytes do not fit their size."""

    cases: tuple[CaseSurvey, ...]
    pictures: tuple[PictureSurvey, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True)
class ClipSurvey:
    """What is kept of one clip."""

    clip: str
    prints: ClipPrint
    coarse: np.ndarray
    """(N, 16, 16) float32 of N <= 96 frames, evenly spread."""
    numbers: np.ndarray
    """(N,) their numbers within the clip."""


def survey_cases(dataset: Dataset, progress: Progress) -> CasesSurvey:
    """Read every labelled case once. Cases that are marked copies are measured, but are no pictures of their own."""
    cases: list[CaseSurvey] = []
    pictures: dict[str, PictureSurvey] = {}
    broken: list[str] = []
    rows = list(zip(dataset.index.cases, dataset.case_rows, strict=True))
    for number, (entry, row) in enumerate(rows):
        progress("labelled images", number, len(rows))
        if not dataset.case_fits(entry.case):
            broken.append(entry.case)
            continue
        case = dataset.case(entry.case)
        labelled = case.masks.any(axis=0)
        areas = tuple(int(area) for area in case.masks.sum(axis=(1, 2)))
        fractions = (float(case.known.mean()), float(case.sector.mean()))
        cases.append(CaseSurvey(entry, row, areas, *fractions, outside_px=int((labelled & ~case.sector).sum())))
        if not entry.excluded and entry.picture not in pictures:
            pictures[entry.picture] = _survey_picture(entry, case.image, case.masks)
    progress("labelled images", len(rows), len(rows))
    return CasesSurvey(tuple(cases), tuple(pictures.values()), tuple(broken))


def survey_clips(dataset: Dataset, progress: Progress) -> tuple[ClipSurvey, ...]:
    """Read every frame of every clip once, a clip at a time."""
    surveys = []
    for number, (clip, where) in enumerate(dataset.clip_table.items()):
        progress("clips", number, len(dataset.clip_table))
        frames = dataset.frames(np.arange(where.first_row, where.first_row + where.num_frames))
        numbers = np.unique(np.linspace(0, len(frames) - 1, MAX_VIEWS).round().astype(int))
        surveys.append(ClipSurvey(clip, clip_print(frames), coarse(frames[numbers]), numbers))
    progress("clips", len(dataset.clip_table), len(dataset.clip_table))
    return tuple(surveys)


def square_view(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> (64, 64) uint8, letterboxed."""
    return Letterbox.of(image, VIEW_PX).to_square(image)


def _survey_picture(entry: CaseEntry, image: np.ndarray, masks: np.ndarray) -> PictureSurvey:
    exact = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
    some = masks if len(masks) else np.zeros((1, *image.shape), bool)
    thumbnail = make_thumbnail(np.ascontiguousarray(image), some, exact=exact, channels=1)
    return PictureSurvey(entry.picture, entry.case, thumbnail, square_view(np.ascontiguousarray(image)))
