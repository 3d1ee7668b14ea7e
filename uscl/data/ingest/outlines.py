"""Drawn outlines and the images they were drawn on -> a dataset of labelled cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.ingest.annotation import Annotation
from uscl.data.ingest.case_masks import outline_faults, to_case
from uscl.data.ingest.class_names import ClassNames, check_named
from uscl.data.ingest.clips import ImportSummary
from uscl.data.ingest.drawn import Drawing, DrawnFrame, DrawnPicture
from uscl.data.ingest.drawn_cases import Survey, survey_of, write_pictures
from uscl.data.ingest.mask_layout import Picture
from uscl.data.ingest.masks import IMAGE_SUFFIXES, read_grey
from uscl.data.ingest.naming import READABLE, Naming, file_id, names_path, write_names
from uscl.data.ingest.outline_choices import Choices, choose, find_images, match_images
from uscl.data.ingest.progress import Progress
from uscl.data.ingest.source import SourceFile
from uscl.data.ingest.table import FileTable, match_rows
from uscl.data.wording import counted, listed
from uscl.data.writer import refuse_existing
from uscl.errors import DataError

_SHOWN = 3


@dataclass(frozen=True)
class OutlineSummary(ImportSummary):
    """An import of outlines, with what it left out."""

    problems: tuple[str, ...] = ()
    """What is wrong, with file and place; where there is any, the command ends with exit code 1."""


@dataclass(frozen=True)
class _Drawn:
    """An image or frame and what was drawn on it."""

    picture: Picture
    annotation: Annotation


@dataclass(frozen=True)
class OutlineOptions:
    """How outlines become masks, and what regions that are not there mean."""

    class_names: ClassNames
    choices: Choices
    even_odd: bool = False
    """Whether outlines of one class make holes where they overlap; else they are joined."""


def import_outlines(
    annotations: Sequence[Annotation],
    images: Path,
    out: Path,
    *,
    options: OutlineOptions,
    size: int,
    table: FileTable | None = None,
    name: str = "",
    licence: str = "",
    strict: bool = False,
    naming: Naming = READABLE,
    progress: Progress = lambda what, done, total: None,
) -> OutlineSummary:
    """Import what one rater drew on images and videos below `images` into a dataset at `out`.

    Images without annotation are left out, and so are, named in `problems`, those of which something cannot be read;
    with `strict` the first of these is a DataError. Copies and near views are treated as by `import_labels`. DataError
    too where a region's name has no class, a decision is needed and not made, or no image is left.
    """
    refuse_existing(out)
    check_named(annotations, options.class_names)
    found = find_images(images)
    matched, unmatched = match_images(annotations, found)
    chosen = choose([a for a in annotations if a.image in matched or not a.image], options.class_names, options.choices)
    read = _reader(options)
    survey = _Gathered([*unmatched, *chosen.problems])
    shared = Counter(file_id(Path(path)) for path in found)
    drawn = [_drawn_on(found, matched[a.image], a, shared, naming) for a in chosen.annotations]
    drawn = survey.readable(drawn, read, progress)
    if strict and survey.problems:
        raise DataError(survey.problems[0])
    if not drawn:
        reasons = listed([*survey.problems, *chosen.remarks], shown=_SHOWN)
        raise DataError(f"{images}: no annotated image is left; {reasons}")
    matched_rows = match_rows(table, [item.picture.name for item in drawn], images)
    rows = [naming.of_row(row) for row in matched_rows.rows]
    by_case = {item.picture.case: item for item in drawn}
    document: dict[str, Any] = {"size": size, "name": name, "licence": licence, "progress": progress}
    pictures = [item.picture for item in drawn]
    named = options.class_names
    written = write_pictures(
        out, pictures, survey.found, rows, lambda picture: read(by_case[picture.case]), named, **document
    )
    if naming.hides_names:
        write_names(names_path(out), [(picture.case, picture.name) for picture in pictures])
    unlisted = len(set(found) - set(matched.values()))
    alone = (f"{counted(unlisted, 'file')} without annotation: not annotated, so left out",) if unlisted else ()
    remarks = (*alone, *chosen.remarks, *survey.remarks, *matched_rows.remarks, *written.remarks)
    absent = tuple(f"class {word} occurs on no image" for word in named.classes if word not in written.present)
    return OutlineSummary(cases=len(drawn), remarks=remarks + absent, problems=tuple(survey.problems))


def _drawn_on(
    found: Mapping[str, Path], name: str, annotation: Annotation, shared: Mapping[str, int], naming: Naming
) -> _Drawn:
    """With a case name of its own: with the suffix where another file differs in that alone."""
    case = naming.of_file(Path(name), "case")
    if not naming.hides_names and shared[case] > 1:
        case = f"{case}-{Path(name).suffix[1:].lower()}"
    case += "" if annotation.frame is None else f"-{annotation.frame:05}"
    return _Drawn(Picture(found[name], name, case), annotation)


class _Gathered:
    """Reads every image once, and gathers what is odd and what is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        self.found: list[Survey] = []
        self._odd: Counter[str] = Counter()

    def readable(
        self, drawn: Sequence[_Drawn], read: Callable[[_Drawn], DrawnPicture], progress: Progress
    ) -> list[_Drawn]:
        """Those that can be read; `found` gets what a look at each found."""
        good = []
        for number, item in enumerate(drawn):
            progress("reading", number, len(drawn))
            try:
                drawn_picture = read(item)
            except DataError as error:
                self.problems.append(str(error))
                continue
            good.append(item)
            self.found.append(survey_of(drawn_picture))
            shape = drawn_picture.frames[0].grey.shape
            faults = [fault for region in item.annotation.regions for fault in outline_faults(region, shape)]
            self._odd.update({*item.annotation.remarks, *(_kind(fault) for fault in faults)})
            if any(region.origin == "model" for region in item.annotation.regions):
                self._odd["a model drew regions, or helped"] += 1
        progress("reading", len(drawn), len(drawn))
        return good

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is odd, with the number of images; most frequent first."""
        return tuple(f"{counted(number, 'image')}: {text}" for text, number in self._odd.most_common())


def _kind(fault: str) -> str:
    """Of a region's fault, what can be counted over images."""
    return f"an outline {fault.partition(':')[0]}"


def _reader(options: OutlineOptions) -> Callable[[_Drawn], DrawnPicture]:
    """Reads images of annotations. DataError, naming the file, where one is unreadable or of another size."""
    frames = _VideoFrames()

    def read(item: _Drawn) -> DrawnPicture:
        path, annotation = item.picture.image, item.annotation
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        if is_image != (annotation.frame is None):
            what = "an image, but its annotation names a frame" if is_image else "a video, but its annotation no frame"
            raise DataError(f"{path}: is {what}")
        grey, channels = read_grey(path) if annotation.frame is None else (frames.read(path, annotation.frame), 1)
        if annotation.size not in (None, grey.shape):
            sizes = [f"{width} x {height} px" for height, width in (grey.shape, annotation.size)]
            raise DataError(f"{path}: is {sizes[0]} (width x height), but was annotated at {sizes[1]}")
        try:
            masks, known = to_case([annotation], options.class_names, grey.shape, even_odd=options.even_odd)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return DrawnPicture((DrawnFrame(grey, -1, (Drawing("", masks, known),)),), channels, None, 0, 0, 0)

    return read


class _VideoFrames:
    """Frames of videos by number. Keeps where it is: annotations come in order, and a video is decoded once for all."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._next = 0

    def read(self, path: Path, frame: int) -> np.ndarray:
        """(H, W) uint8. DataError where the video has fewer frames or cannot be read."""
        if path != self._path or frame < self._next - 1:
            self._path, self._next = path, 0
            self._stream = SourceFile(path, path.name).frames()
        while self._next <= frame:
            native = next(self._stream, None)
            if native is None:
                self._path, count = None, self._next
                raise DataError(f"{path}: frame {frame} is annotated, but it has {counted(count, 'frame')}")
            self._image = native.image
            self._next += 1
        return self._image
