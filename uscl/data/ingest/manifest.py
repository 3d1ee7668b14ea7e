"""A `manifest.csv` and the files it names -> a dataset of clips, labelled images and labelled frames of clips."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.ingest.clips import ImportSummary, clip_names, import_clips
from uscl.data.ingest.drawn import Drawing, DrawnFrame, DrawnPicture, consensus, read_grey_frames, read_picture
from uscl.data.ingest.drawn_cases import Survey, bad_picture, survey_readable, write_pictures
from uscl.data.ingest.label_volumes import is_volume
from uscl.data.ingest.manifest_table import Manifest, ManifestRow, read_manifest
from uscl.data.ingest.mask_layout import Picture
from uscl.data.ingest.mask_values import NOTHING_DECIDED, MaskFile, MaskRules, combine, fit, read_mask
from uscl.data.ingest.masks import ClassMap
from uscl.data.ingest.merge import merge_datasets
from uscl.data.ingest.naming import READABLE, Naming, file_id, names_path, write_names
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.progress import Progress
from uscl.data.ingest.source import SourceFile
from uscl.data.ingest.sources import find_sources_of_clips
from uscl.data.ingest.table import FileTable
from uscl.data.wording import counted
from uscl.data.writer import refuse_existing
from uscl.errors import DataError

Labels = Mapping[int, Mapping[str, ManifestRow]]
"""Frame (-1: the whole file) -> rater -> row."""


@dataclass(frozen=True)
class ManifestOptions:
    """What is the same for every row."""

    size: int
    class_map: ClassMap | None = None
    """What mask values mean; None where no row has a label."""
    rules: MaskRules = NOTHING_DECIDED
    licence: str = ""
    strict: bool = False
    """The first file that lacks or cannot be read ends it."""
    workers: int = 0
    """Processes that read clips; 0: this one."""
    naming: Naming = READABLE
    """What clips and cases are called."""
    blank_top: float = 0.0
    """Of clips, as in ClipOptions."""
    keep_overlay: bool = False


def import_manifest(
    path: Path,
    out: Path,
    *,
    options: ManifestOptions,
    name: str = "",
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import what the table at `path` names into a dataset at `out`; paths are relative to its folder.

    A row with a clip and no label is a clip; one with an image and a label a labelled image; one with clip, frame and
    label a labelled frame of the clip, which is imported too. Rows of one file (and frame) with different raters are
    kept apart. Files that lack or cannot be read are left out and named. DataError, with file and line, where a row
    does not say what it must; where nothing is left; where a mask is empty and nobody decided what that means.
    """
    refuse_existing(out)
    manifest = read_manifest(path)
    if options.strict and manifest.bad:
        raise DataError(f"{path}: {manifest.bad[0]}")
    name = name or out.name
    names = _clip_names(manifest, options)
    labelled = [row for row in manifest.rows if row.label]
    if labelled and options.class_map is None:
        raise DataError(f"{path}:{labelled[0].line}: has a label; say what mask values mean: --classes 1=NAME,...")
    manifest = _tied(manifest, options.naming)
    if not (names and labelled):
        import_all = import_listed_masks if labelled else import_listed_clips
        return _with(manifest, import_all(manifest, names, out, options, name=name, progress=progress))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        parts = Path(folder, "clips"), Path(folder, "cases")
        one = import_listed_clips(manifest, names, parts[0], options, name=name, progress=progress)
        other = import_listed_masks(manifest, names, parts[1], options, name=name, progress=progress)
        both = merge_datasets(*parts, out, name=name, progress=progress)
    if options.naming.hides_names:
        words = _words(_labels(manifest), names, options.naming) | dict(names)
        write_names(names_path(out), [(word, file) for file, word in words.items()])
    bad, files = one.bad + other.bad, one.files + other.files
    return _with(manifest, replace(both, remarks=one.remarks + other.remarks, bad=bad, files=files))


def import_listed_clips(
    manifest: Manifest, names: Mapping[str, str], out: Path, options: ManifestOptions, *, name: str, progress: Progress
) -> ImportSummary:
    """The manifest's clips alone, as a dataset; `names`: file -> name of the clip."""
    table = FileTable(manifest.path, {file: manifest.owners[file] for file in names})
    settings: dict[str, Any] = {"size": options.size, "licence": options.licence, "strict": options.strict}
    overlay: dict[str, Any] = {"blank_top": options.blank_top, "keep_overlay": options.keep_overlay}
    asked = ClipOptions(options.size, frame_rate_hz=manifest.frame_rate_hz, **overlay)
    settings |= {"options": asked, "table": table, "naming": options.naming}
    settings |= {"workers": options.workers, "only": frozenset(names), "name": name, "progress": progress}
    return import_clips(manifest.path.parent, out, **settings)


def import_listed_masks(
    manifest: Manifest, names: Mapping[str, str], out: Path, options: ManifestOptions, *, name: str, progress: Progress
) -> ImportSummary:
    """The manifest's labelled images and frames alone, as a dataset; `names`: file -> name of the clip."""
    folder, class_map = manifest.path.parent, options.class_map
    assert class_map is not None
    labels = _labels(manifest)
    words = _words(labels, names, options.naming)
    pictures = [_picture(folder, file, words[file], of_file) for file, of_file in labels.items()]
    read = _Reader(folder, labels, class_map, options.rules).read
    readable, surveys, problems = survey_readable(pictures, read, progress)
    bad = tuple(bad_picture(problem, pictures, folder) for problem in problems)
    if bad and (options.strict or not readable):
        raise DataError(f"{manifest.path}: {bad[0]}")
    _check_empty(manifest.path, readable, surveys, options.rules)
    kept = [number for number, survey in enumerate(surveys) if survey.thumbnail is not None]
    chosen, found = [readable[number] for number in kept], [surveys[number] for number in kept]
    if not chosen:
        raise DataError(f"{manifest.path}: no label shows a class; nothing is left to import")
    rows = [options.naming.of_row(manifest.owners[picture.name]) for picture in chosen]
    document: dict[str, Any] = {"size": options.size, "name": name, "licence": options.licence, "progress": progress}
    written = write_pictures(out, chosen, found, rows, read, class_map, **document)
    if options.naming.hides_names:
        write_names(names_path(out), [(picture.case, picture.name) for picture in chosen])
    remarks = (*written.remarks, *_empty_remark(surveys, options.rules))
    return ImportSummary(cases=written.cases, remarks=remarks, bad=bad, files=len(pictures))


def _words(files: Iterable[str], names: Mapping[str, str], naming: Naming) -> dict[str, str]:
    """What each labelled file is called: a clip as the import of the clips calls it."""
    listed = list(files)
    words = clip_names([Path(file) for file in listed])
    if naming.hides_names:
        words = [naming.of_file(Path(file), "case") for file in listed]
    return {file: names.get(file, word) for file, word in zip(listed, words, strict=True)}


def _labels(manifest: Manifest) -> dict[str, dict[int, dict[str, ManifestRow]]]:
    """File -> frame (-1: all of it) -> rater -> row."""
    labels: dict[str, dict[int, dict[str, ManifestRow]]] = {}
    for row in (row for row in manifest.rows if row.label):
        labels.setdefault(row.file, {}).setdefault(-1 if row.frame is None else row.frame, {})[row.rater] = row
    return labels


def _check_empty(path: Path, pictures: Sequence[Picture], surveys: Sequence[Survey], rules: MaskRules) -> None:
    empty = next((picture.name for picture, survey in zip(pictures, surveys, strict=True) if survey.empty), None)
    if empty is not None and not rules.empty:
        raise DataError(
            f"{path}: a mask of {empty} holds no pixel of any class: is nothing there, or did nobody annotate? "
            "--empty absent keeps such images as without the classes, --empty skip leaves them out"
        )


def _empty_remark(surveys: Sequence[Survey], rules: MaskRules) -> Iterator[str]:
    empty = sum(survey.empty for survey in surveys)
    if empty:
        absent = rules.empty == "absent"
        how = "kept, as showing none of the classes" if absent else "left out, as not annotated"
        yield f"{counted(empty, 'empty mask')}: {how}"


def _with(manifest: Manifest, summary: ImportSummary) -> ImportSummary:
    """The same, with what the manifest says and the dataset does not hold: files that lack, parts of bare clips."""
    files, labelled = summary.files + len(manifest.bad), {row.file for row in manifest.rows if row.label}
    clips = dict.fromkeys(row.file for row in manifest.rows if row.is_clip and row.file not in labelled)
    split = [file for file in clips if manifest.owners[file].split]
    remarks = summary.remarks
    if split:
        count = counted(len(split), "clip has a split but no label", "clips have a split but no label")
        remarks += (f"{count} ({split[0]}): not kept, since only labelled images are split",)
    return replace(summary, bad=manifest.bad + summary.bad, files=files, remarks=remarks)


def _tied(manifest: Manifest, naming: Naming) -> Manifest:
    """A file of which nobody is named gets a group of its own, which a clip and its labelled frames share."""
    owners = {
        file: row if row.patient or row.group else replace(row, group=_own_group(file, naming))
        for file, row in manifest.owners.items()
    }
    return replace(manifest, owners=owners)


def _own_group(file: str, naming: Naming) -> str:
    return naming.of_file(Path(file), "file") if naming.hides_names else f"file-{file_id(Path(file))}"


def _clip_names(manifest: Manifest, options: ManifestOptions) -> dict[str, str]:
    """What the import of the clips will call each. DataError, with the line, where one is of no format that is read."""
    lines = {row.file: row.line for row in manifest.rows if row.is_clip}
    if not lines:
        return {}
    found = find_sources_of_clips(manifest.path.parent, ClipOptions(options.size)).only(lines)
    lacking = set(lines) - {source.name for source in found.sources} - {entry.name for entry in found.bad}
    if lacking:
        file = min(lacking, key=lines.__getitem__)
        raise DataError(f"{manifest.path}:{lines[file]}: {file} is no clip of a format that is read")
    words = clip_names([source.place for source in found.sources])
    if options.naming.hides_names:
        words = [options.naming.of_file(Path(source.name), "clip") for source in found.sources]
    return {source.name: word for source, word in zip(found.sources, words, strict=True)}


def _picture(folder: Path, file: str, case: str, labels: Labels) -> Picture:
    """With its masks, where these are of the whole file; else `_Reader` looks them up by frame."""
    whole = {rater: (MaskFile(folder / row.label),) for rater, row in labels.get(-1, {}).items()}
    return Picture(folder / file, file, case, whole)


@dataclass(frozen=True)
class _Reader:
    """Reads an image, or the labelled frames of a clip, with the masks of its raters."""

    folder: Path
    labels: Mapping[str, Labels]
    class_map: ClassMap
    rules: MaskRules

    def read(self, picture: Picture) -> DrawnPicture:
        """DataError, naming the file, where it is unreadable, has no such frame, or its mask does not fit."""
        labels = self.labels[picture.name]
        if not picture.masks:
            drawn = self._read_frames(picture, labels)
        elif len(labels) > 1:
            raise DataError(f"{picture.image}: has a label for the whole file and others for frames of it")
        elif next(iter(labels[-1].values())).is_clip and not is_volume(picture.image):
            raise DataError(f"{picture.image}: its label names no frame; only a volume has one label for all frames")
        else:
            drawn = read_picture(picture, self.class_map, self.rules)
        return replace(drawn, frames=tuple(self._judged(frame, labels) for frame in drawn.frames))

    def _judged(self, frame: DrawnFrame, labels: Labels) -> DrawnFrame:
        """With quality and view as each rater's row has them."""
        rows = labels.get(frame.frame) or labels.get(-1, {})
        first = next(iter(rows.values()))
        judged = [(drawing, rows.get(drawing.rater, first)) for drawing in frame.drawings]
        return replace(frame, drawings=tuple(replace(d, quality=row.quality, view=row.view) for d, row in judged))

    def _read_frames(self, picture: Picture, labels: Labels) -> DrawnPicture:
        grey = _frames(picture.image, sorted(labels))
        frames, empty, between, resized = [], 0, 0, 0
        for number, image in grey.items():
            drawings = []
            for rater, row in labels[number].items():
                mask = self.folder / row.label
                given = read_mask(MaskFile(mask), self.class_map, self.rules)
                options: dict[str, Any] = {"image": picture.image, "mask": mask, "resize": self.rules.resize}
                read = combine([fit(given, (1, *image.shape), **options)], self.class_map)
                empty, between, resized = empty + (not read.masks.any()), between + read.between, resized + read.resized
                if read.masks.any() or self.rules.empty != "skip":
                    drawings.append(Drawing(rater, read.masks[:, 0], read.known[0]))
            if self.rules.consensus and len(drawings) > 1:
                drawings.append(consensus(drawings))
            if drawings:
                frames.append(DrawnFrame(image, number, tuple(drawings)))
        return DrawnPicture(tuple(frames), 1, None, empty, between, resized)


def _frames(path: Path, wanted: list[int]) -> dict[int, np.ndarray]:
    """Frames (H, W) uint8 by number, counted from 0 as they are decoded. DataError where the clip has fewer."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give its labelled frame as an image of its own, in column image")
    found: dict[int, np.ndarray] = {}
    total = 0
    stream = (
        iter(read_grey_frames(path)[0]) if is_volume(path) else (n.image for n in SourceFile(path, path.name).frames())
    )
    for total, image in enumerate(stream, 1):
        if total - 1 in wanted:
            found[total - 1] = image
        if len(found) == len(wanted):
            return found
    lacking = next(number for number in wanted if number not in found)
    raise DataError(f"{path}: frame {lacking} is labelled, but it has {counted(total, 'frame')}, counted from 0")
