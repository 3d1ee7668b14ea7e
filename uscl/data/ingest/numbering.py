"""Numbered image files: which of a folder belong together, and where their numbers jump."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d{1,15})(?P<after>\D*)")
"""The last number of a name counts: `scan2_frame10.png` is frame 10."""
_MASK_WORD = re.compile(r"(?:^|[^a-z])(?:gt|labels?|masks?|seg|segmentation)(?:$|[^a-z])")


def names_a_mask(path: Path) -> bool:
    """Whether the name says that the file holds labels: `a_001_mask.png`, `patient1_2CH_gt.nii.gz`."""
    return _MASK_WORD.search(path.name.lower()) is not None


@dataclass(frozen=True)
class NumberedFile:
    """One image file."""

    number: int
    path: Path


@dataclass(frozen=True)
class Series:
    """Files of one folder whose names differ in their last number only, by that number."""

    files: tuple[NumberedFile, ...]

    @property
    def step(self) -> int:
        """By how much the numbers of neighbours differ most often; of equals the smaller."""
        counts = Counter(later.number - earlier.number for earlier, later in pairwise(self.files))
        return min(counts, key=lambda step: (-counts[step], step)) if counts else 1

    def runs(self) -> Iterator[tuple[NumberedFile, ...]]:
        """The stretches within which every number follows the one before by `step`."""
        step, begin = self.step, 0
        for place in range(1, len(self.files) + 1):
            ended = place == len(self.files)
            if ended or self.files[place].number - self.files[place - 1].number != step:
                yield self.files[begin:place]
                begin = place


def find_series(files: Iterable[Path]) -> tuple[list[Series], int]:
    """Series of two files or more of one folder, in the order of their names, and how many files are in none.

    Files that are masks by their names are passed over. Numbers are compared as numbers, so un-padded names sort
    rightly. ValueError where a series has a number twice (`a1.png` and `a01.png`, or `a1.png` and `a1.jpg`).
    """
    found: dict[tuple[str, str], list[NumberedFile]] = {}
    others = 0
    for path in sorted(file for file in files if not names_a_mask(file)):
        match = _NUMBERED.fullmatch(path.stem)
        if match is None:
            others += 1
        else:
            numbered = NumberedFile(int(match["number"]), path)
            found.setdefault((match["before"].lower(), match["after"].lower()), []).append(numbered)
    others += sum(len(members) for members in found.values() if len(members) == 1)
    series = [_sorted(members) for _, members in sorted(found.items()) if len(members) > 1]
    return series, others


def _sorted(members: Sequence[NumberedFile]) -> Series:
    ordered = sorted(members, key=lambda member: member.number)
    for earlier, later in pairwise(ordered):
        if earlier.number == later.number:
            raise ValueError(
                f"{earlier.path.name} and {later.path.name} have the same frame number; keep one of them per number"
            )
    return Series(tuple(ordered))
