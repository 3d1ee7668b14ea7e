"""Images and masks -> a dataset of labelled cases, with raters kept apart and copies of one picture marked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from uscl.data.ingest.clips import ImportSummary, Progress
from uscl.data.ingest.copies import Likeness, Thumbnail, copies_to_exclude, find_likenesses, make_thumbnail
from uscl.data.ingest.drawn import Drawing, DrawnFrame, DrawnPicture, read_grey_frames, read_picture
from uscl.data.ingest.frames import find_sector
from uscl.data.ingest.grouping import join_groups
from uscl.data.ingest.mask_choices import with_masks
from uscl.data.ingest.mask_layout import SIDE_BY_SIDE, MaskLayout, Picture, find_pictures, listed_problems
from uscl.data.ingest.mask_values import JPEG_THRESHOLD, NOTHING_DECIDED, MaskRules
from uscl.data.ingest.masks import ClassMap
from uscl.data.ingest.table import FileRow, FileTable, licence_text, match_rows, source_list
from uscl.data.schema import UNKNOWN_PATIENT, CaseEntry, DatasetIndex
from uscl.data.splits import check_given_splits
from uscl.data.wording import counted, listed
from uscl.data.writer import DatasetWriter, refuse_existing
from uscl.errors import DataError

MAX_BLACK_STILL = 2
"""Grey level up to which a pixel of a still counts as black."""

_SHOWN = 3


@dataclass(frozen=True)
class _Survey:
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


def import_labels(
    folder: Path,
    out: Path,
    *,
    class_map: ClassMap,
    size: int,
    table: FileTable | None = None,
    name: str = "",
    licence: str = "",
    layout: MaskLayout = SIDE_BY_SIDE,
    rules: MaskRules = NOTHING_DECIDED,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import the images below `folder` with their masks into a dataset at `out`; see `import_pictures`."""
    refuse_existing(out)
    options = {"class_map": class_map, "size": size, "table": table, "name": name, "licence": licence}
    return import_pictures(find_pictures(folder, layout), folder, out, rules=rules, progress=progress, **options)


def import_pictures(
    pictures: Sequence[Picture],
    folder: Path,
    out: Path,
    *,
    class_map: ClassMap,
    size: int,
    table: FileTable | None = None,
    name: str = "",
    licence: str = "",
    rules: MaskRules = NOTHING_DECIDED,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import images or volumes with their masks: one case per image (or frame) and rater.

    Images stay at native size; `size` is the side of the clip frames this dataset is meant to join. Every file is
    read and checked before anything is written. Of images that occur twice, one is kept and the others are marked
    as its copies, used in no split; copies and near views share a group, joined to the groups of `table`.
    DataError, naming the files, where one is unreadable, sizes differ, a mask value has no name, or masks are empty
    or missing and nobody decided what that means.
    """
    refuse_existing(out)  # before minutes of reading
    listed_pictures, remarks = with_masks(pictures, rules)
    surveys = _survey(listed_pictures, class_map, rules, progress)
    kept = [number for number, survey in enumerate(surveys) if survey.thumbnail is not None]
    if not kept:
        raise DataError(f"{folder}: no image has a mask with a class in it; nothing is left to import")
    chosen, found = [listed_pictures[number] for number in kept], [surveys[number] for number in kept]
    matched = match_rows(table, [picture.name for picture in chosen], folder)
    plan = _plan(name or out.name, chosen, found, matched.rows)
    sources = source_list(matched.rows)
    document = {"licence": licence or licence_text(sources), "sources": sources, "contains": class_map.contains}
    with DatasetWriter(out, name=name or out.name, classes=class_map.classes, size=size, **document) as writer:
        num_cases, present = _write(writer, plan, class_map, rules, progress)
    remarks += (*matched.remarks, *_remarks(plan), *_mask_remarks(surveys, chosen, rules))
    return ImportSummary(cases=num_cases, remarks=(*remarks, *_class_remarks(class_map, present)))


@dataclass(frozen=True)
class _Plan:
    """What is known of every picture before anything is written; all in one order."""

    pictures: Sequence[Picture]
    surveys: Sequence[_Survey]
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


def _survey(pictures: Sequence[Picture], class_map: ClassMap, rules: MaskRules, progress: Progress) -> list[_Survey]:
    """Read and check every picture; DataError with the first problems of all, or with all empty masks."""
    surveys: list[_Survey] = []
    problems: list[str] = []
    for number, picture in enumerate(pictures):
        progress("checking", number, len(pictures))
        try:
            surveys.append(_surveyed(read_picture(picture, class_map, rules)))
        except DataError as error:
            problems.append(str(error))
    progress("checking", len(pictures), len(pictures))
    if problems:
        raise DataError(listed_problems(problems))
    empty = [picture.name for picture, survey in zip(pictures, surveys, strict=True) if survey.empty]
    if empty and not rules.empty:
        count = counted(sum(survey.empty for survey in surveys), "mask holds", "masks hold")
        raise DataError(
            f"{count} no pixel of any class ({listed(empty, shown=_SHOWN)}): is nothing there, or did nobody annotate? "
            "--empty absent keeps them as images without the classes, --empty skip leaves them out"
        )
    return surveys


def _surveyed(read: DrawnPicture) -> _Survey:
    thumbnail = None
    if read.frames:
        exact = hashlib.sha256(repr((len(read.frames), read.frames[0].grey.shape)).encode())
        for frame in read.frames:
            exact.update(frame.grey.tobytes())
        first = read.frames[0]
        thumbnail = make_thumbnail(first.grey, first.drawings[0].masks, exact=exact.hexdigest(), channels=read.channels)
    raters = tuple(sorted({drawing.rater for frame in read.frames for drawing in frame.drawings}))
    return _Survey(thumbnail, len(read.frames), raters, read.empty, read.between, read.resized)


def _plan(name: str, pictures: Sequence[Picture], surveys: Sequence[_Survey], rows: Sequence[FileRow]) -> _Plan:
    """Copies, groups and parts of all pictures. DataError where a patient or group is given to two parts."""
    thumbnails = [survey.thumbnail for survey in surveys if survey.thumbnail is not None]
    found = find_likenesses(thumbnails, lambda place: read_grey_frames(pictures[place].image)[0][0])
    likenesses = [_of_whole(likeness, surveys) for likeness in found]
    copies = copies_to_exclude(thumbnails, likenesses)
    alike = [(found.first, found.second) for found in likenesses]
    groups = join_groups([picture.case for picture in pictures], [row.group for row in rows], alike)
    parts = _given_parts(name, pictures, rows, groups=groups, copies=copies)
    return _Plan(pictures, surveys, rows, groups, parts, copies, likenesses)


def _of_whole(found: Likeness, surveys: Sequence[_Survey]) -> Likeness:
    """Volumes are compared by one frame: only where all their pixels are equal is one a copy of the other."""
    pair = surveys[found.first], surveys[found.second]
    several = any(survey.num_frames > 1 for survey in pair)
    one, other = (survey.thumbnail.exact if survey.thumbnail else "" for survey in pair)
    return replace(found, copy=False) if several and one != other else found


def _write(
    writer: DatasetWriter, plan: _Plan, class_map: ClassMap, rules: MaskRules, progress: Progress
) -> tuple[int, set[str]]:
    """Read everything again and store it. Returns the number of cases, and the classes that occur."""
    num_cases, present = 0, set[str]()
    for place, picture in enumerate(plan.pictures):
        progress("writing", place, len(plan.pictures))
        read = read_picture(picture, class_map, rules)
        for frame in read.frames:
            for drawing in frame.drawings:
                _add(writer, plan, place, read, frame, drawing)
                num_cases += 1
                present |= {name for name, mask in zip(class_map.classes, drawing.masks, strict=True) if mask.any()}
    progress("writing", len(plan.pictures), len(plan.pictures))
    return num_cases, present


def _add(
    writer: DatasetWriter, plan: _Plan, place: int, read: DrawnPicture, frame: DrawnFrame, drawing: Drawing
) -> None:
    picture, row = plan.pictures[place], plan.rows[place]
    image = _image_id(picture, frame.frame)
    kept = plan.pictures[plan.copies[place]] if place in plan.copies else None
    copy_of = _case_name(_image_id(kept, frame.frame), drawing.rater, plan) if kept else ""
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
        quality=row.quality,
        view=row.view,
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


def _mask_remarks(surveys: Sequence[_Survey], pictures: Sequence[Picture], rules: MaskRules) -> Iterator[str]:
    """What was decided about masks, by the user's rules and by the one that JPEG has without asking."""
    empty, between = (sum(getattr(survey, what) for survey in surveys) for what in ("empty", "between"))
    resized = sum(survey.resized for survey in surveys)
    files = [file.path for picture in pictures for files in picture.masks.values() for file in files]
    jpeg = sum(path.suffix.lower() in (".jpg", ".jpeg") for path in files)
    touched = sum(survey.between > 0 for survey in surveys)
    meaning = {"absent": "kept, as showing none of the classes", "skip": "left out, as not annotated"}
    if empty:
        yield f"{counted(empty, 'empty mask')}: {meaning[rules.empty]}"
    if jpeg and rules.threshold is None:
        yield f"{counted(jpeg, 'JPEG mask')}: cut at {JPEG_THRESHOLD}; save masks as PNG"
    if between:
        how = f"the nearest of the named colours ({rules.colour_tolerance} levels at most)"
        how = how if rules.colour_tolerance else f"a cut at {rules.threshold or JPEG_THRESHOLD}"
        yield f"{counted(between, 'pixel')} in between in the masks of {counted(touched, 'image')}: decided by {how}"
    if resized:
        yield f"{counted(resized, 'mask')} scaled to their images, nearest pixel"


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


def _class_remarks(class_map: ClassMap, present: Set[str]) -> Iterator[str]:
    """Classes that several mask values share, and classes that no mask holds."""
    for name in class_map.classes:
        values = [str(value) for value, named in class_map.names.items() if named == name]
        if len(values) > 1:
            yield f"mask values {' and '.join(values)} are one class: {name}"
        if name not in present:
            yield f"class {name} (mask value {', '.join(values) or 'none'}) occurs in no mask: leave it out, or look"
