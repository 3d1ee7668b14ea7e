"""Pictures with what was drawn on them -> the cases of a dataset, whatever format the drawings come from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from uscl.data.ingest.copies import Likeness, Thumbnail, copies_to_exclude, find_likenesses, make_thumbnail
from uscl.data.ingest.drawn import Drawing, DrawnFrame, DrawnPicture
from uscl.data.ingest.frames import find_sector
from uscl.data.ingest.grouping import join_groups
from uscl.data.ingest.mask_layout import Picture, listed_problems
from uscl.data.ingest.problems import BadFile, bad_file
from uscl.data.ingest.progress import Progress
from uscl.data.ingest.table import FileRow, licence_text, source_list
from uscl.data.schema import UNKNOWN_PATIENT, CaseEntry, DatasetIndex
from uscl.data.splits import check_given_splits
from uscl.data.wording import counted
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError

MAX_BLACK_STILL = 2
"""Grey level up to which a pixel of a still counts as black."""

ReadPicture = Callable[[Picture], DrawnPicture]
"""Reads a picture with its masks in the order of the classes; DataError, naming the file, where that is impossible."""


class Named(Protocol):
    """The classes of a class map of whatever kind, and which of them contain others."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Each class once."""

    @property
    def contains(self) -> Mapping[str, Sequence[str]]:
        """Class -> classes within it."""


@dataclass(frozen=True)
class Survey:
    """What the first reading of a picture found."""

    thumbnail: Thumbnail | None
    """Of its first frame with a mask; None where every mask is skipped."""
    num_frames: int
    """Frames with a mask."""
    raters: tuple[str, ...]
    """Whoever drew on it."""
    empty: int
    between: int
    resized: int


@dataclass(frozen=True)
class WrittenPictures:
    """What was written, and what the user should know of it."""

    cases: int
    remarks: tuple[str, ...]
    present: frozenset[str]
    """Classes that occur."""


def survey_pictures(pictures: Sequence[Picture], read: ReadPicture, progress: Progress) -> list[Survey]:
    """Read every picture once. DataError with the first problems of all."""
    _, surveys, problems = survey_readable(pictures, read, progress)
    if problems:
        raise DataError(listed_problems(problems))
    return surveys


def survey_readable(
    pictures: Sequence[Picture], read: ReadPicture, progress: Progress
) -> tuple[list[Picture], list[Survey], list[str]]:
    """Read every picture once: those that can be read, what was found of each, and what is wrong with the others."""
    readable: list[Picture] = []
    surveys: list[Survey] = []
    problems: list[str] = []
    for number, picture in enumerate(pictures):
        progress("checking", number, len(pictures))
        try:
            surveys.append(survey_of(read(picture)))
            readable.append(picture)
        except DataError as error:
            problems.append(str(error))
    progress("checking", len(pictures), len(pictures))
    return readable, surveys, problems


def bad_picture(problem: str, pictures: Sequence[Picture], folder: Path) -> BadFile:
    """Of what `survey_readable` says is wrong, which file: named by the mask where the problem is the mask's."""
    paths = (
        path
        for picture in pictures
        for path in (picture.image, *(file.path for files in picture.masks.values() for file in files))
    )
    named = next((path for path in paths if problem.startswith((f"{path}:", f"{path} "))), folder)
    entry = bad_file(named, folder, problem)
    return BadFile(entry.name, entry.reason.replace(f"{folder}/", ""))


def survey_of(read: DrawnPicture) -> Survey:
    """What one reading found."""
    thumbnail = None
    if read.frames:
        exact = hashlib.sha256(repr((len(read.frames), read.frames[0].grey.shape)).encode())
        for frame in read.frames:
            exact.update(frame.grey.tobytes())
        first = read.frames[0]
        thumbnail = make_thumbnail(first.grey, first.drawings[0].masks, exact=exact.hexdigest(), channels=read.channels)
    raters = tuple(sorted({drawing.rater for frame in read.frames for drawing in frame.drawings}))
    return Survey(thumbnail, len(read.frames), raters, read.empty, read.between, read.resized)


def write_pictures(
    out: Path,
    pictures: Sequence[Picture],
    surveys: Sequence[Survey],
    rows: Sequence[FileRow],
    read: ReadPicture,
    named: Named,
    *,
    size: int,
    name: str = "",
    licence: str = "",
    progress: Progress = lambda what, done, total: None,
) -> WrittenPictures:
    """Read every picture again and write it: one case per image (or frame) and rater, all in one order.

    `surveys`: of each picture, with a thumbnail. Copies are marked and used in no split, near views share a group.
    DataError where a patient or group is given to two parts.
    """
    plan = _plan(name or out.name, pictures, surveys, rows, read)
    sources = source_list(rows)
    document: dict[str, Any] = {"licence": licence or licence_text(sources), "sources": sources}
    document |= {"classes": named.classes, "contains": named.contains}
    with DatasetWriter(out, name=name or out.name, size=size, **document) as writer:
        num_cases, present = _write(writer, plan, named, read, progress)
    return WrittenPictures(num_cases, tuple(_remarks(plan)), frozenset(present))


@dataclass(frozen=True)
class _Plan:
    """What is known of every picture before anything is written; all in one order."""

    pictures: Sequence[Picture]
    surveys: Sequence[Survey]
    rows: Sequence[FileRow]
    groups: Sequence[str]
    parts: Sequence[str]
    copies: Mapping[int, int]
    """A copy's place -> the place of the picture that stays."""
    likenesses: Sequence[Likeness]

    @property
    def raters(self) -> tuple[str, ...]:
        """Whoever drew on any picture, the consensus too."""
        return tuple(sorted({rater for survey in self.surveys for rater in survey.raters}))


def _plan(
    name: str, pictures: Sequence[Picture], surveys: Sequence[Survey], rows: Sequence[FileRow], read: ReadPicture
) -> _Plan:
    """Copies, groups and parts of all pictures. DataError where a patient or group is given to two parts."""
    thumbnails = [survey.thumbnail for survey in surveys if survey.thumbnail is not None]
    found = find_likenesses(thumbnails, lambda place: read(pictures[place]).frames[0].grey)
    likenesses = [_of_whole(likeness, surveys) for likeness in found]
    copies = copies_to_exclude(thumbnails, likenesses)
    alike = [(found.first, found.second) for found in likenesses]
    groups = join_groups([picture.case for picture in pictures], [row.group for row in rows], alike)
    parts = _given_parts(name, pictures, rows, groups=groups, copies=copies)
    return _Plan(pictures, surveys, rows, groups, parts, copies, likenesses)


def _of_whole(found: Likeness, surveys: Sequence[Survey]) -> Likeness:
    """Volumes are compared by one frame: only where all their pixels are equal is one a copy of the other."""
    pair = surveys[found.first], surveys[found.second]
    several = any(survey.num_frames > 1 for survey in pair)
    one, other = (survey.thumbnail.exact if survey.thumbnail else "" for survey in pair)
    return replace(found, copy=False) if several and one != other else found


def _write(
    writer: DatasetWriter, plan: _Plan, named: Named, read: ReadPicture, progress: Progress
) -> tuple[int, set[str]]:
    """Read everything again and store it. Returns the number of cases, and the classes that occur."""
    num_cases, present = 0, set[str]()
    for place, picture in enumerate(plan.pictures):
        progress("writing", place, len(plan.pictures))
        drawn = read(picture)
        for frame in drawn.frames:
            for drawing in frame.drawings:
                _add(writer, plan, place, drawn, frame, drawing)
                num_cases += 1
                present |= {name for name, mask in zip(named.classes, drawing.masks, strict=True) if mask.any()}
    progress("writing", len(plan.pictures), len(plan.pictures))
    return num_cases, present


def _add(
    writer: DatasetWriter, plan: _Plan, place: int, read: DrawnPicture, frame: DrawnFrame, drawing: Drawing
) -> None:
    picture, row = plan.pictures[place], plan.rows[place]
    image = _image_id(picture, frame.frame)
    kept = plan.pictures[plan.copies[place]] if place in plan.copies else None
    raters = plan.surveys[plan.copies[place]].raters if kept else ()
    rater = drawing.rater if drawing.rater in raters else next(iter(raters), "")
    copy_of = _case_name(_image_id(kept, frame.frame), rater, plan) if kept else ""
    writer.add_case(
        frame.grey,
        drawing.masks,
        case=_case_name(image, drawing.rater, plan),
        patient=_patient(row, picture),
        group=plan.groups[place],
        known=drawing.known,
        sector=find_sector(frame.grey, max_black=MAX_BLACK_STILL) | drawing.masks.any(axis=0),
        spacing_mm=read.spacing_mm,
        excluded=bool(copy_of),
        copy_of=copy_of,
        split=plan.parts[place],
        clip=picture.case if frame.frame >= 0 else "",
        frame=frame.frame,
        rater=drawing.rater,
        image_id=image,
        quality=drawing.quality or row.quality,
        view=drawing.view or row.view,
    )


def _image_id(picture: Picture, frame: int) -> str:
    return picture.case if frame < 0 else f"{picture.case}-f{frame:04}"


def _case_name(image: str, rater: str, plan: _Plan) -> str:
    return f"{image}@{rater}" if len(plan.raters) > 1 else image


def _patient(row: FileRow, picture: Picture) -> str:
    return row.patient or f"{UNKNOWN_PATIENT}{picture.case}"


def _given_parts(
    name: str, pictures: Sequence[Picture], rows: Sequence[FileRow], *, groups: Sequence[str], copies: Container[int]
) -> list[str]:
    """The part that table or layout give each picture, or nothing. DataError where a patient or group is in two."""
    parts = [_split_part(row.split, picture) or picture.split for row, picture in zip(rows, pictures, strict=True)]
    cases = []
    for number, (picture, row, group) in enumerate(zip(pictures, rows, groups, strict=True)):
        owner = _patient(row, picture), group or _patient(row, picture)
        cases.append(CaseEntry(picture.case, *owner, frozenset(), "", excluded=number in copies, split=parts[number]))
    check_given_splits(DatasetIndex(name, "", (), cases=tuple(cases)))
    return parts


def _split_part(word: str, picture: Picture) -> str:
    parts = {"": "", "train": "train", "training": "train", "val": "validation", "valid": "validation"}
    parts |= {"validation": "validation", "test": "test", "testing": "test"}
    if word.lower() not in parts:
        raise DataError(f"{picture.name}: unknown split {word!r}; expected train, validation or test")
    return parts[word.lower()]


def _remarks(plan: _Plan) -> Iterator[str]:
    near = sum(not pair.copy for pair in plan.likenesses)
    unknown = sum(not row.patient for row in plan.rows)
    total = counted(len(plan.pictures), "image")
    copies = counted(len(plan.copies), "copy", "copies")
    remarks = {
        f"{copies} of other images: marked, used in no split": len(plan.copies),
        f"{counted(near, 'pair')} of near views: kept in one split": near,
        f"patient unknown for {unknown} of {total}: only groups keep them together": unknown,
    }
    yield from (text for text, count in remarks.items() if count)
    yield from _disputed(plan)
    drawn = Counter(rater for survey in plan.surveys for rater in survey.raters)
    if len(plan.raters) > 1:
        said = ", ".join(f"{rater} {drawn[rater]}" for rater in plan.raters)
        yield f"raters of {total}: {said}; labels.rater chooses one"


def _disputed(plan: _Plan) -> Iterator[str]:
    """A remark where one picture occurs twice with different masks: which, and whose mask counts."""
    dice = {frozenset((pair.first, pair.second)): pair.least_dice for pair in plan.likenesses}
    differing = [(copy, kept) for copy, kept in plan.copies.items() if dice.get(frozenset((copy, kept)), 1) < 1]
    if differing:
        copy, kept = differing[0]
        count = counted(len(differing), "copy has another mask", "copies have other masks")
        least, names = dice[frozenset((copy, kept))], (plan.pictures[copy].name, plan.pictures[kept].name)
        example = f"{names[0]} and {names[1]} (Dice {least:.2f} on the class that differs most)"
        yield f"{count} than the same picture kept: {example}; the mask of {names[1]} is kept"
