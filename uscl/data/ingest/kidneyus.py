"""The Open Kidney Ultrasound Data Set as its owners deliver it -> a dataset of labelled cases of two raters.

Singla et al., https://github.com/rsingla92/kidneyUS. Its quirks, with counts: data-formats.md 7.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.data.ingest.annotation import Annotation
from uscl.data.ingest.annotation_text import MAX_COORDINATE_PX
from uscl.data.ingest.annotations import read_annotations
from uscl.data.ingest.case_masks import outline_faults, to_case
from uscl.data.ingest.class_names import ClassNames
from uscl.data.ingest.clips import ImportSummary
from uscl.data.ingest.drawn import Drawing, DrawnFrame, DrawnPicture, consensus
from uscl.data.ingest.drawn_cases import bad_picture, survey_readable, write_pictures
from uscl.data.ingest.kidneyus_files import (
    OBTAIN,
    KidneyFiles,
    by_number,
    find_kidneyus,
    patients_of,
    picture_of,
    read_spacings,
    spacing_of,
)
from uscl.data.ingest.mask_layout import Picture
from uscl.data.ingest.masks import read_grey
from uscl.data.ingest.naming import file_id
from uscl.data.ingest.problems import BadFile
from uscl.data.ingest.progress import Progress
from uscl.data.ingest.table import FileRow
from uscl.data.wording import counted
from uscl.data.writer import refuse_existing
from uscl.errors import DataError

LICENCE = "CC BY-NC-SA"
CLASS_NAMES = ClassNames(
    {"Capsule": "capsule", "Central Echo Complex": "cec", "Medulla": "medulla", "Cortex": "cortex"},
    {"capsule": ("cec", "medulla", "cortex")},
)
"""Exactly as the label files spell them; whatever lies within the kidney belongs to its capsule too."""

_ANY_SIZE = (MAX_COORDINATE_PX, MAX_COORDINATE_PX)


@dataclass(frozen=True)
class _Labels:
    """What the label files say of each image, by file name."""

    by_image: Mapping[str, Mapping[str, Annotation]]
    """Image -> rater -> what that rater drew."""
    bad: tuple[BadFile, ...]
    remarks: tuple[str, ...]


def import_kidneyus(
    folder: Path,
    out: Path,
    *,
    size: int,
    name: str = "",
    licence: str = "",
    majority: bool = False,
    strict: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import the set's images and labels below `folder` into a dataset at `out`: a case per image and rater.

    Outlines are filled even-odd, as the published masks are. A rater's empty row is an image seen with nothing drawn,
    and a class not drawn is not there: the set's own rule. `majority` adds what both raters drew. Images that lack or
    cannot be read, and drawings with a broken row, are left out and named; with `strict` the first is a DataError.
    DataError too where the label files lack, or all images.
    """
    refuse_existing(out)
    files = find_kidneyus(folder)
    labels = _read_labels(files.labels, folder)
    pictures, missing, remarks = _match(labels, files, folder)
    spacings, said = _spacings(files)
    read = _Reader(labels.by_image, spacings, majority=majority).read
    readable, surveys, problems = survey_readable(pictures, read, progress)
    bad = (*labels.bad, *missing, *(bad_picture(problem, pictures, folder) for problem in problems))
    if bad and (strict or not readable):
        raise DataError(f"{folder}: {bad[0]}")
    document: dict[str, Any] = {"size": size, "name": name, "licence": licence or LICENCE, "progress": progress}
    rows = _rows(readable, tuple(labels.by_image))
    written = write_pictures(out, readable, surveys, rows, read, CLASS_NAMES, **document)
    drawn = {picture.name: labels.by_image[picture.image.name] for picture in readable}
    remarks += [*labels.remarks, *_drawing_remarks(drawn), *said, *_spacing_remark(readable, spacings)]
    remarks += [f"licence {LICENCE}: not for commercial use, share alike", *written.remarks]
    return ImportSummary(cases=written.cases, remarks=tuple(remarks), bad=bad, files=len(labels.by_image))


def _read_labels(files: Mapping[str, Path], folder: Path) -> _Labels:
    """Both label files; an image with a row that cannot be read is no annotation of that rater."""
    by_image: dict[str, dict[str, Annotation]] = {}
    bad: list[BadFile] = []
    odd: Counter[str] = Counter()
    for rater, path in files.items():
        place = path.relative_to(folder).as_posix()
        for annotation in read_annotations(path, format="via-csv", class_key="Anatomy", rater=rater):
            image = Path(annotation.image).name
            raters = by_image.setdefault(image, {}) if image else {}
            reason = next(iter([*annotation.problems, *_strange_classes(annotation)]), "")
            if reason or rater in raters:
                said = reason.replace(f"{folder}/", "") or "is named with two paths"
                bad.append(BadFile(image or place, f"drawing of rater {rater}: {said}"))
                continue
            raters[rater] = annotation
            odd.update(f"(rater {rater}): {remark}" for remark in annotation.remarks)
    remarks = [f"{counted(number, 'image')} {text}" for text, number in odd.most_common()]
    if len(files) == 1:
        remarks.insert(0, f"labels of rater {next(iter(files))} alone: the other's file is not there")
    return _Labels(by_image, tuple(bad), tuple(remarks))


def _strange_classes(annotation: Annotation) -> Iterator[str]:
    strange = sum(region.name not in CLASS_NAMES.names for region in annotation.regions)
    if strange:
        what = counted(strange, "region has a class", "regions have classes")
        yield f"{what} not of the set; expected {', '.join(CLASS_NAMES.names)}"


def _match(labels: _Labels, files: KidneyFiles, folder: Path) -> tuple[list[Picture], list[BadFile], list[str]]:
    """Pictures of the annotated images that are there; of the others, files that lack and what to say."""
    lacking = [name for name in labels.by_image if name not in files.images]
    if lacking and len(lacking) == len(labels.by_image):
        count = counted(len(lacking), "annotated image")
        raise DataError(f"{folder}: holds label files, but none of the {count} ({lacking[0]}): {OBTAIN}")
    there = by_number(name for name, raters in labels.by_image.items() if raters and name in files.images)
    shown = {picture_of(name) for name in there} - {""}
    copies = [name for name in lacking if picture_of(name) in shown]
    missing = [BadFile(name, f"no such image; {OBTAIN}") for name in lacking if picture_of(name) not in shown]
    remarks = []
    if copies:
        count = counted(len(copies), "annotated copy has", "annotated copies have")
        remarks.append(f"{count} no file of that name ({copies[0]}), but the picture is there under another")
    bare = [name for name in files.images if name not in labels.by_image]
    if bare:
        remarks.append(f"{counted(len(bare), 'image')} without a row ({bare[0]}): not labelled, so left out")
    return [_picture(files.images[name], folder) for name in there], missing, remarks


def _picture(path: Path, folder: Path) -> Picture:
    return Picture(path, path.relative_to(folder).as_posix(), file_id(Path(path.name)))


@dataclass(frozen=True)
class _Reader:
    """Reads an image with what its raters drew."""

    labels: Mapping[str, Mapping[str, Annotation]]
    spacings: Mapping[str, tuple[float, float]]
    majority: bool

    def read(self, picture: Picture) -> DrawnPicture:
        """DataError where the image is unreadable, or something was drawn beyond its borders."""
        grey, channels = read_grey(picture.image)
        drawings = []
        for rater, annotation in self.labels[picture.image.name].items():
            _check_within(picture.image, annotation, grey.shape)
            masks, known = to_case([annotation], CLASS_NAMES, grey.shape, even_odd=True)
            given = {key.lower(): word for key, word in annotation.attributes.items()}
            drawings.append(Drawing(rater, masks, known, given.get("quality", ""), given.get("view", "")))
        if self.majority and len(drawings) > 1:
            drawings.append(consensus(drawings))
        spacing = spacing_of(picture.image.name, self.spacings)
        return DrawnPicture((DrawnFrame(grey, -1, tuple(drawings)),), channels, spacing, 0, 0, 0)


def _check_within(path: Path, annotation: Annotation, shape: tuple[int, int]) -> None:
    """No outline of the set leaves its image, so one that does was drawn on an image of another size."""
    faults = [fault for region in annotation.regions for fault in outline_faults(region, shape)]
    if any("outside" in fault for fault in faults):
        size = f"{shape[1]} x {shape[0]} px (width x height)"
        raise DataError(f"{path}: is {size}, and rater {annotation.rater} drew beyond that; was it scaled or cut?")


def _rows(pictures: Sequence[Picture], names: Sequence[str]) -> list[FileRow]:
    """The patient of each picture, by the names of all annotated images: who belongs together hangs on no file."""
    patients = dict(zip(names, patients_of(names), strict=True))
    owners = [patients[picture.image.name] for picture in pictures]
    return [FileRow(patient=owner, group=owner) for owner in owners]


def _spacings(files: KidneyFiles) -> tuple[dict[str, tuple[float, float]], list[str]]:
    if files.transducers is None:
        hint = "; the xlsx is not read: save it as TransducerInfo.csv" if files.spreadsheet else ""
        return {}, [f"no TransducerInfo.csv: pixel sizes are unknown{hint}"]
    spacings, refused = read_spacings(files.transducers)
    rows = counted(refused, "row gives no pixel size", "rows give no pixel size")
    return spacings, [f"{rows} in {files.transducers.name} (0, exactly 1 or none): unknown"] if refused else []


def _spacing_remark(pictures: Sequence[Picture], spacings: Mapping[str, tuple[float, float]]) -> list[str]:
    known = sum(spacing_of(picture.image.name, spacings) is not None for picture in pictures)
    return [f"pixel size known for {known} of {counted(len(pictures), 'image')}"] if spacings else []


def _drawing_remarks(drawn: Mapping[str, Mapping[str, Annotation]]) -> Iterator[str]:
    """What the user should know of what was drawn, and not drawn, on the images that are there."""
    empty: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    some: Counter[str] = Counter()
    for raters in drawn.values():
        for rater, annotation in raters.items():
            classes = {region.name for region in annotation.regions}
            empty[rater] += not classes
            some[rater] += 0 < len(classes) < len(CLASS_NAMES.names)
            kinds = {fault.partition(":")[0] for r in annotation.regions for fault in outline_faults(r, _ANY_SIZE)}
            faults.update(f"(rater {rater}) an outline {kind}" for kind in kinds)
    yield from _by_rater(empty, "seen with nothing drawn: all classes are taken as not there, as this set means it")
    yield from _by_rater(
        some, "without some class: taken as not there, though its guideline says to trace what is sure"
    )
    yield from (f"{counted(number, 'image')} {text}" for text, number in faults.most_common())


def _by_rater(counts: Mapping[str, int], what: str) -> Iterator[str]:
    if any(counts.values()):
        said = ", ".join(f"{number} by rater {rater}" for rater, number in sorted(counts.items()))
        yield f"images {what} ({said})"
