"""A folder of images and masks -> a dataset of labelled cases, with copies of one picture marked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from uscl.data.ingest.clips import ImportSummary, Progress
from uscl.data.ingest.copies import Likeness, Thumbnail, copies_to_exclude, find_likenesses, make_thumbnail
from uscl.data.ingest.frames import find_sector
from uscl.data.ingest.grouping import join_groups
from uscl.data.ingest.masks import IMAGE_SUFFIXES, ClassMap, LabelledImage, read_grey, read_labelled_image
from uscl.data.ingest.naming import READABLE, Naming, file_id, names_path, write_names
from uscl.data.ingest.table import FileRow, FileTable, licence_text, match_rows, source_list
from uscl.data.schema import UNKNOWN_PATIENT, CaseEntry, DatasetIndex
from uscl.data.splits import check_given_splits
from uscl.data.wording import counted
from uscl.data.writer import DatasetWriter, refuse_existing
from uscl.errors import DataError

MAX_BLACK_STILL = 2
"""Grey level up to which a pixel of a still counts as black."""

_SHOWN = 3
"""Problems that a message spells out."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Pair:
    """An image and its mask; `name` is the image's path below the folder, `case` a plain word for it."""

    image: Path
    mask: Path
    name: str
    case: str


def import_labels(
    folder: Path,
    out: Path,
    *,
    class_map: ClassMap,
    size: int,
    table: FileTable | None = None,
    name: str = "",
    licence: str = "",
    naming: Naming = READABLE,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import every pair of `images/` and `masks/` below `folder` into a dataset at `out`.

    Images stay at native size; `size` is the side of the clip frames this dataset is meant to join. Every file is
    read and checked before anything is written. Of images that occur twice, one is kept and the others are marked
    as its copies, used in no split; copies and near views share a group, joined to the groups of `table`.
    DataError, naming the files, where a pair is incomplete, unreadable, of two sizes, or has an unnamed mask value.
    """
    refuse_existing(out)  # before minutes of reading
    pairs = find_pairs(folder)
    if naming.hides_names:
        pairs = [replace(pair, case=naming.of_file(Path(pair.name), "case")) for pair in pairs]
    matched = match_rows(table, [pair.name for pair in pairs], folder)
    rows = [naming.of_row(row) for row in matched.rows]
    thumbnails = _survey(pairs, class_map, progress)
    likenesses = find_likenesses(thumbnails, lambda position: read_grey(pairs[position].image)[0])
    kept_for = copies_to_exclude(thumbnails, likenesses)
    alike = [(found.first, found.second) for found in likenesses]
    groups = join_groups([pair.case for pair in pairs], [row.group for row in rows], alike)
    parts = _given_parts(name or out.name, pairs, rows, groups=groups, copies=kept_for)
    sources, present = source_list(rows), set[str]()
    document = {"licence": licence or licence_text(sources), "sources": sources, "contains": class_map.contains}
    with DatasetWriter(out, name=name or out.name, classes=class_map.classes, size=size, **document) as writer:
        for number, (pair, row) in enumerate(zip(pairs, rows, strict=True)):
            progress("writing", number, len(pairs))
            read = read_labelled_image(pair.image, pair.mask, class_map)
            copy_of = pairs[kept_for[number]].case if number in kept_for else ""
            patient = _patient(row, pair)
            _add(writer, pair, read, patient=patient, group=groups[number], copy_of=copy_of, split=parts[number])
            present |= {name for name, mask in zip(class_map.classes, read.masks, strict=True) if mask.any()}
        progress("writing", len(pairs), len(pairs))
    if naming.hides_names:
        write_names(names_path(out), [(pair.case, pair.name) for pair in pairs])
    remarks = (*matched.remarks, *_remarks(pairs, rows, kept_for, likenesses), *_class_remarks(class_map, present))
    return ImportSummary(cases=len(pairs), remarks=remarks)


def find_pairs(folder: Path) -> list[Pair]:
    """Pairs of equal stem in every `images/` folder at or below `folder` and the `masks/` beside it, sorted.

    By name, never by position: a missing file would shift every later pair. DataError where one lacks its partner.
    """
    homes = [path for path in (folder / "images", *sorted(folder.rglob("images"))) if path.is_dir()]
    if not homes:
        raise DataError(f"{folder}: holds no folder `images` (with `masks` beside it)")
    pairs: list[Pair] = []
    lonely: list[str] = []
    for home in dict.fromkeys(homes):
        images, masks = _by_stem(home), _by_stem(home.with_name("masks"))
        lonely += [f"{images[stem]} has no mask" for stem in sorted(set(images) - set(masks))]
        lonely += [f"{masks[stem]} has no image" for stem in sorted(set(masks) - set(images))]
        place = home.parent.relative_to(folder)
        for stem in sorted(set(images) & set(masks)):
            name = images[stem].relative_to(folder).as_posix()
            pairs.append(Pair(images[stem], masks[stem], name, file_id(place / images[stem].name)))
    if lonely:
        raise DataError(_listed(lonely) + "; each image needs the mask of the same name")
    if not pairs:
        raise DataError(f"{folder}: its folder `images` is empty")
    return pairs


def _survey(pairs: Sequence[Pair], class_map: ClassMap, progress: Progress) -> list[Thumbnail]:
    """Read and check every pair; DataError with the first problems of all."""
    thumbnails: list[Thumbnail] = []
    problems: list[str] = []
    for number, pair in enumerate(pairs):
        progress("checking", number, len(pairs))
        read = _caught(lambda pair=pair: read_labelled_image(pair.image, pair.mask, class_map), problems)
        if read is not None:
            exact = hashlib.sha256(repr(read.grey.shape).encode() + read.grey.tobytes()).hexdigest()
            thumbnails.append(make_thumbnail(read.grey, read.masks, exact=exact, channels=read.channels))
    progress("checking", len(pairs), len(pairs))
    if problems:
        raise DataError(_listed(problems))
    return thumbnails


def _caught(read: Callable[[], _Value], problems: list[str]) -> _Value | None:
    try:
        return read()
    except DataError as error:
        problems.append(str(error))
        return None


def _patient(row: FileRow, pair: Pair) -> str:
    return row.patient or f"{UNKNOWN_PATIENT}{pair.case}"


def _given_parts(
    name: str, pairs: Sequence[Pair], rows: Sequence[FileRow], *, groups: Sequence[str], copies: Container[int]
) -> list[str]:
    """The part that the table gives each pair, or nothing. DataError where a patient or group is in two."""
    parts = [_split_part(row.split, pair) for row, pair in zip(rows, pairs, strict=True)]
    cases = []
    for number, (pair, row, group) in enumerate(zip(pairs, rows, groups, strict=True)):
        owner = _patient(row, pair), group or _patient(row, pair)
        cases.append(CaseEntry(pair.case, *owner, frozenset(), "", excluded=number in copies, split=parts[number]))
    check_given_splits(DatasetIndex(name, "", (), cases=tuple(cases)))
    return parts


def _add(
    writer: DatasetWriter, pair: Pair, read: LabelledImage, *, patient: str, group: str, copy_of: str, split: str
) -> None:
    writer.add_case(
        read.grey,
        read.masks,
        case=pair.case,
        patient=patient,
        group=group,
        known=read.known,
        sector=find_sector(read.grey, max_black=MAX_BLACK_STILL) | read.masks.any(axis=0),
        excluded=bool(copy_of),
        copy_of=copy_of,
        split=split,
    )


def _split_part(word: str, pair: Pair) -> str:
    parts = {"": "", "train": "train", "training": "train", "val": "validation", "valid": "validation"}
    parts |= {"validation": "validation", "test": "test", "testing": "test"}
    if word.lower() not in parts:
        raise DataError(f"{pair.name}: unknown split {word!r}; expected train, validation or test")
    return parts[word.lower()]


def _remarks(
    pairs: Sequence[Pair], rows: Sequence[FileRow], kept_for: Mapping[int, int], likenesses: Sequence[Likeness]
) -> tuple[str, ...]:
    near = sum(not pair.copy for pair in likenesses)
    unknown = sum(not row.patient for row in rows)
    jpeg = sum(pair.mask.suffix.lower() in (".jpg", ".jpeg") for pair in pairs)
    remarks = {
        f"{counted(len(kept_for), 'copy', 'copies')} of other images: marked, used in no split": len(kept_for),
        f"{counted(near, 'pair')} of near views: kept in one split": near,
        f"patient unknown for {unknown} of {counted(len(pairs), 'image')}: only groups keep them together": unknown,
        f"{counted(jpeg, 'JPEG mask')}: cut at 128; save masks as PNG": jpeg,
    }
    return *(text for text, count in remarks.items() if count), *_disputed(pairs, kept_for, likenesses)


def _disputed(pairs: Sequence[Pair], kept_for: Mapping[int, int], likenesses: Sequence[Likeness]) -> Iterator[str]:
    """A remark where one picture occurs twice with different masks: which, and whose mask counts."""
    dice = {frozenset((pair.first, pair.second)): pair.least_dice for pair in likenesses}
    differing = [(copy, kept) for copy, kept in kept_for.items() if dice.get(frozenset((copy, kept)), 1) < 1]
    if differing:
        copy, kept = differing[0]
        count = counted(len(differing), "copy has another mask", "copies have other masks")
        least = dice[frozenset((copy, kept))]
        example = f"{pairs[copy].name} and {pairs[kept].name} (Dice {least:.2f} on the class that differs most)"
        yield f"{count} than the same picture kept: {example}; the mask of {pairs[kept].name} is kept"


def _class_remarks(class_map: ClassMap, present: Set[str]) -> Iterator[str]:
    """Classes that several mask values share, and classes that no mask holds."""
    for name in class_map.classes:
        values = [str(value) for value, named in class_map.names.items() if named == name]
        if len(values) > 1:
            yield f"mask values {' and '.join(values)} are one class: {name}"
        if name not in present:
            yield f"class {name} (mask value {', '.join(values) or 'none'}) occurs in no mask: leave it out, or look"


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    found: dict[str, Path] = {}
    for path in sorted(files):
        if path.stem in found:
            raise DataError(f"{path} and {found[path.stem].name} have the same stem; which is meant?")
        found[path.stem] = path
    return found


def _listed(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more
