"""A folder of images and masks -> a dataset of labelled cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from uscl.data.ingest.clips import ImportSummary
from uscl.data.ingest.drawn import DrawnPicture, read_picture
from uscl.data.ingest.drawn_cases import Survey, bad_picture, survey_readable, write_pictures
from uscl.data.ingest.mask_choices import with_masks
from uscl.data.ingest.mask_layout import (
    SIDE_BY_SIDE,
    MaskLayout,
    Picture,
    find_pictures,
    listed_problems,
    named_pictures,
)
from uscl.data.ingest.mask_values import JPEG_THRESHOLD, NOTHING_DECIDED, MaskRules
from uscl.data.ingest.masks import ClassMap
from uscl.data.ingest.naming import READABLE, Naming, names_path, write_names
from uscl.data.ingest.problems import BadFile
from uscl.data.ingest.progress import Progress
from uscl.data.ingest.table import FileTable, match_rows
from uscl.data.wording import counted, listed
from uscl.data.writer import refuse_existing
from uscl.errors import DataError

_SHOWN = 3


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
    strict: bool = False,
    naming: Naming = READABLE,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import the images below `folder` with their masks into a dataset at `out`; see `import_pictures`."""
    refuse_existing(out)
    found = find_pictures(folder, layout)
    options: dict[str, Any] = {"class_map": class_map, "size": size, "table": table, "name": name, "licence": licence}
    options |= {"rules": rules, "strict": strict, "bad": found.strays, "naming": naming, "progress": progress}
    summary = import_pictures(found.pictures, folder, out, **options)
    return replace(summary, remarks=(*found.remarks, *summary.remarks))


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
    strict: bool = False,
    bad: Sequence[BadFile] = (),
    naming: Naming = READABLE,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import images or volumes with their masks: one case per image (or frame) and rater.

    Images stay at native size; `size` is the side of the clip frames this dataset is meant to join. Every file is
    read and checked before anything is written. Of images that occur twice, one is kept and the others are marked
    as its copies, used in no split; copies and near views share a group, joined to the groups of `table`.
    A picture that is unreadable, of another size than its mask or has an unnamed mask value is left out and named in
    the summary, after `bad`. DataError, naming the files, where none is good, or one is not and `strict`; or where
    masks are empty or missing and nobody decided what that means.
    """
    refuse_existing(out)  # before minutes of reading
    listed_pictures, remarks = with_masks(pictures, rules)
    matched = match_rows(table, [picture.name for picture in listed_pictures], folder)
    listed_pictures = named_pictures(listed_pictures, naming)

    def read(picture: Picture) -> DrawnPicture:
        return read_picture(picture, class_map, rules)

    readable, surveys, problems = survey_readable(listed_pictures, read, progress)
    left_out = (*bad, *(bad_picture(problem, listed_pictures, folder) for problem in problems))
    if left_out and (strict or not readable):
        raise DataError(listed_problems([f"{folder / entry.name}: {entry.reason}" for entry in left_out]))
    _check_empty(readable, surveys, rules)
    kept = [number for number, survey in enumerate(surveys) if survey.thumbnail is not None]
    if not kept:
        raise DataError(f"{folder}: no image has a mask with a class in it; nothing is left to import")
    chosen, found = [readable[number] for number in kept], [surveys[number] for number in kept]
    row_of = {picture.name: row for picture, row in zip(listed_pictures, matched.rows, strict=True)}
    options: dict[str, Any] = {"size": size, "name": name, "licence": licence, "progress": progress}
    rows = [naming.of_row(row_of[picture.name]) for picture in chosen]
    written = write_pictures(out, chosen, found, rows, read, class_map, **options)
    if naming.hides_names:
        write_names(names_path(out), [(picture.case, picture.name) for picture in chosen])
    remarks += (*matched.remarks, *written.remarks, *_mask_remarks(surveys, chosen, rules))
    remarks += tuple(_class_remarks(class_map, written.present))
    return ImportSummary(cases=written.cases, remarks=remarks, bad=left_out, files=len(readable) + len(left_out))


def _check_empty(pictures: Sequence[Picture], surveys: Sequence[Survey], rules: MaskRules) -> None:
    """DataError with all empty masks, where nobody decided what they mean."""
    empty = [picture.name for picture, survey in zip(pictures, surveys, strict=True) if survey.empty]
    if empty and not rules.empty:
        count = counted(sum(survey.empty for survey in surveys), "mask holds", "masks hold")
        raise DataError(
            f"{count} no pixel of any class ({listed(empty, shown=_SHOWN)}): is nothing there, or did nobody annotate? "
            "--empty absent keeps them as images without the classes, --empty skip leaves them out"
        )


def _mask_remarks(surveys: Sequence[Survey], pictures: Sequence[Picture], rules: MaskRules) -> Iterator[str]:
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


def _class_remarks(class_map: ClassMap, present: Set[str]) -> Iterator[str]:
    """Classes that several mask values share, and classes that no mask holds."""
    for name in class_map.classes:
        values = [str(value) for value, named in class_map.names.items() if named == name]
        if len(values) > 1:
            yield f"mask values {' and '.join(values)} are one class: {name}"
        if name not in present:
            yield f"class {name} (mask value {', '.join(values) or 'none'}) occurs in no mask: leave it out, or look"
