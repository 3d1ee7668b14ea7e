"""Which part of the split each picture and clip is in: as training makes it, or as the importer gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from uscl.data.raters import choose_cases
from uscl.data.schema import DatasetIndex
from uscl.data.splits import check_given_splits, split_units, unit_names
from uscl.errors import DataError

PRETRAINING = "pretraining"
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Parts:
    """The part of every picture that is used and of every clip, and the units that no split cuts."""

    pictures: Mapping[str, str] = field(default_factory=dict)
    """Picture -> train, validation or test; pictures in no split are left out."""
    clips: Mapping[str, str] = field(default_factory=dict)
    """Clip -> pretraining, or the held-out part of its unit."""
    picture_units: Mapping[str, str] = field(default_factory=dict)
    clip_units: Mapping[str, str] = field(default_factory=dict)
    torn: str = ""
    """Why the given split cuts a unit; empty where it does not."""
    undrawn: str = ""
    """Why no split can be made; empty where one can."""


def find_parts(index: DatasetIndex, *, seed: int, validation_fraction: float, test_fraction: float) -> Parts:
    """The parts by `split_units`; where it makes none, those that the importer named."""
    chosen = choose_cases(index)
    names = unit_names(chosen)
    used = [case for case in chosen.cases if not case.excluded]
    picture_units = {case.picture: names[case.patient, case.group] for case in chosen.cases}
    clip_units = {clip.clip: names[clip.patient, clip.group] for clip in chosen.clips}
    torn = undrawn = ""
    given = {case.picture: case.split for case in used if case.split}
    pictures = given
    try:
        check_given_splits(chosen)
        settings = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
        split = split_units(chosen, seed=seed, **settings)
        home = {unit: part for part in ("train", *HELD_OUT) for unit in getattr(split, part)}
        pictures = {case.picture: home[picture_units[case.picture]] for case in used}
    except DataError as error:
        torn, undrawn = (str(error), "") if _is_torn(chosen) else ("", str(error))
    held_out = {picture_units[picture]: part for picture, part in pictures.items() if part in HELD_OUT}
    clips = {clip: held_out.get(unit, PRETRAINING) for clip, unit in clip_units.items()}
    return Parts(pictures, clips, picture_units, clip_units, torn, undrawn)


def _is_torn(index: DatasetIndex) -> bool:
    try:
        check_given_splits(index)
    except DataError:
        return True
    return False
