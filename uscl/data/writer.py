"""Write a dataset folder: aside first, every file hashed, renamed into place at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uscl.data.arrow_files import ArrowFiles, frame_batches
from uscl.data.content import clip_content, digest, sync_and_hash
from uscl.data.schema import (
    CLIP_SCHEMA,
    CLIPS_FILE,
    DATASET_FILE,
    DATASET_FORMAT,
    DATASET_VERSION,
    LABEL_SCHEMA,
    LABELS_FILE,
    MAX_CLASSES,
    ORIGINS,
    PLANE_SCHEMA,
    RATING_COLUMNS,
    SPLIT_PARTS,
    frame_schema,
)
from uscl.errors import DataError

NEAR_DUPLICATE = 0.15
"""Mean absolute difference to the predecessor, levels of 255, below which a frame is a copy (data-formats.md 12)."""


@dataclass(frozen=True)
class StoredFrames:
    """Frames of a clip that lie in a file which `adopt_frames` took."""

    count: int
    first_row: int


class DatasetWriter:
    """A dataset under way. Use as a context manager: leaves nothing behind when an exception passes.

    `size` is the side of stored clip frames, px. `fingerprint` replaces the hash over the files where the content
    is known by other means (a generated dataset). `agreement` holds scores between two raters, `dynamic_range_db` the
    decibels between black and white. `aside` is the folder it grows in, on the same file system. DataError where
    `path` exists, or a clip or case is ill-formed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str,
        classes: Sequence[str],
        size: int,
        contains: Mapping[str, Sequence[str]] | None = None,
        licence: str = "",
        sources: Sequence[Mapping[str, Any]] = (),
        fingerprint: str | None = None,
        agreement: Mapping[str, float] | None = None,
        dynamic_range_db: float | None = None,
        aside: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self.classes = tuple(classes)
        self.size = size
        contains = {outer: list(inner) for outer, inner in (contains or {}).items() if inner}
        _check_classes(self.path, self.classes, contains)
        self._document: dict[str, Any] = {"format": DATASET_FORMAT, "version": DATASET_VERSION, "name": name}
        self._document |= {"classes": list(self.classes), "contains": contains, "size": size}
        self._document |= {"licence": licence, "sources": [dict(source) for source in sources]}
        self._document |= {"agreement": dict(agreement)} if agreement else {}
        self._document |= {"dynamic_range_db": dynamic_range_db} if dynamic_range_db else {}
        self._fingerprint = fingerprint
        self._aside = _new_folder(self.path, aside)
        self._hashed: dict[str, dict[str, Any]] = {}
        self._frames = ArrowFiles(self._aside, "frames", frame_schema(size))
        self._planes = ArrowFiles(self._aside, "labels", PLANE_SCHEMA)
        self._clips: list[dict[str, Any]] = []
        self._cases: list[dict[str, Any]] = []
        self._ids: set[tuple[str, str]] = set()
        self._owners: dict[str, tuple[str, str]] = {}
        self._raters: set[tuple[str, str]] = set()

    def add_clip(
        self,
        frames: np.ndarray | StoredFrames,
        *,
        clip: str,
        patient: str,
        group: str = "",
        times_ms: np.ndarray | None = None,
        duplicate: np.ndarray | None = None,
        sector: np.ndarray | None = None,
        source_size: tuple[int, int] | None = None,
        spacing_mm: tuple[float, float] | None = None,
        note: str = "",
        content: str | None = None,
    ) -> None:
        """Store a clip: `frames` (T, S, S) uint8; or say where they are, with `duplicate` and `content` of theirs.

        `times_ms` (T,) rising, None where unknown; `duplicate` (T,) bool, measured on `frames` where not given;
        `sector` (S, S) bool, everything where not given; `source_size` (height, width) px before the letterbox;
        `group` is the unit that must not be split, the patient where empty; `content` replaces the content hash.
        """
        self._claim("clip", clip)
        if isinstance(frames, StoredFrames):
            assert duplicate is not None and content
            stored = frames
            batches: Iterator[pa.Array] = iter(())
        else:
            frames = np.ascontiguousarray(frames)
            self._check_frames(clip, frames, times_ms)
            duplicate = find_duplicates(frames) if duplicate is None else np.asarray(duplicate, bool)
            stored = StoredFrames(len(frames), self._frames.rows)
            batches = frame_batches(frames)
        sector = np.ones((self.size, self.size), bool) if sector is None else np.asarray(sector, bool)
        times = None if times_ms is None else np.asarray(times_ms, np.float64)
        row: dict[str, Any] = {"clip": clip, "patient": patient, "group": group or patient, "note": note}
        row |= {"num_frames": stored.count, "first_row": stored.first_row, "times_ms": times, "duplicate": duplicate}
        row |= {"frame_time_ms": median_frame_time(times), "sector": np.packbits(sector).tobytes()}
        height, width = source_size or (self.size, self.size)
        row |= {"source_height_px": height, "source_width_px": width, "spacing_mm": spacing_mm}
        row["content"] = content or clip_content(np.asarray(frames), times_ms=times, duplicate=duplicate, sector=sector)
        self._clips.append(row)
        for batch in batches:
            self._frames.append([batch])

    def adopt_frames(self, file: Path, *, rows: int, entry: Mapping[str, Any]) -> int:
        """Take over a finished file of `rows` frames without copying; its sha256 and bytes are in `entry`.

        Returns its first row. The file stays where it is, as a second name, where the file system can do that.
        """
        target, first = self._frames.next_path(), self._frames.rows
        try:
            target.hardlink_to(file)
        except OSError:
            file.rename(target)
        self._frames.rows += rows
        self._hashed[target.name] = dict(entry)
        return first

    def add_case(
        self,
        image: np.ndarray,
        masks: np.ndarray,
        *,
        case: str,
        patient: str,
        group: str = "",
        known: np.ndarray | None = None,
        sector: np.ndarray | None = None,
        spacing_mm: tuple[float, float] | None = None,
        excluded: bool = False,
        copy_of: str = "",
        split: str = "",
        clip: str = "",
        frame: int = -1,
        content: str | None = None,
        rater: str = "",
        image_id: str = "",
        quality: str = "",
        view: str = "",
        origin: str = "",
    ) -> None:
        """Store a labelled frame at native size: `image` (H, W) uint8, `masks` (K, H, W) bool in the order of classes.

        `known` (H, W) bool: where the annotation counts; `sector` (H, W) bool: the part that is ultrasound;
        both everywhere where not given. `spacing_mm` (row, column); `excluded` with `copy_of` marks a copy.
        `image_id` is the column `image`: the picture's name, where several raters drew on it.
        """
        self._claim("case", case)
        self._check_case(case, image, masks, split)
        self._check_rating(case, image_id or case, owner=(patient, group or patient), rater=rater, origin=origin)
        known = np.ones(image.shape, bool) if known is None else np.asarray(known, bool)
        sector = np.ones(image.shape, bool) if sector is None else np.asarray(sector, bool)
        planes = pack_planes(masks, image.shape)
        present = [name for name, mask in zip(self.classes, masks, strict=True) if mask.any()]
        row: dict[str, Any] = {"case": case, "patient": patient, "group": group or patient, "split": split}
        row |= {"excluded": excluded, "copy_of": copy_of, "classes": present, "row": self._planes.rows}
        row |= {"height_px": image.shape[0], "width_px": image.shape[1], "spacing_mm": spacing_mm}
        row |= {"clip": clip, "frame": frame, "rater": rater, "image": image_id if image_id != case else ""}
        row |= {"quality": quality, "view": view, "origin": origin}
        row["content"] = content or digest(image, planes, known, sector, json.dumps(spacing_mm).encode())
        self._cases.append(row)
        packed = (np.packbits(known), np.packbits(sector))
        self._planes.append([pa.array([part.tobytes()], pa.large_binary()) for part in (image, planes, *packed)])

    def add_file(self, name: str, content: bytes) -> None:
        """Store a further file beside the others (`truth.parquet`); it is hashed like them."""
        self._claim("file", name)
        (self._aside / name).write_bytes(content)

    def add_remarks(self, remarks: Sequence[str]) -> None:
        """Keep what an import of outlines says of cases, by their names, for `uscl data check`; [] is: none is odd."""
        self._document["remarks"] = [*self._document.get("remarks", ()), *remarks]

    def close(self) -> str:
        """Finish: write the tables, hash every file, put the folder in place. Returns the fingerprint."""
        self._frames.close()
        self._planes.close()
        pq.write_table(pa.Table.from_pylist(self._clips, CLIP_SCHEMA), self._aside / CLIPS_FILE)
        pq.write_table(_label_table(self._cases), self._aside / LABELS_FILE)
        names = sorted(path.name for path in self._aside.iterdir())
        files = {name: self._hashed.get(name) or sync_and_hash(self._aside / name) for name in names}
        document = self._document | {"files": files}
        fingerprint = self._fingerprint or _fingerprint(document)
        text = json.dumps(document | {"fingerprint": fingerprint}, indent=1, ensure_ascii=False)
        (self._aside / DATASET_FILE).write_text(text + "\n", encoding="utf-8")
        sync_and_hash(self._aside / DATASET_FILE)
        try:
            self._aside.rename(self.path)
        except OSError as error:
            self.abandon()
            raise DataError(f"{self.path}: cannot put the finished dataset there: {error.strerror}") from error
        return fingerprint

    def abandon(self) -> None:
        """Drop everything written so far."""
        self._frames.close()
        self._planes.close()
        shutil.rmtree(self._aside, ignore_errors=True)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
        elif self._aside.exists():
            self.close()

    def _claim(self, kind: str, name: str) -> None:
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise DataError(f"{self.path}: {name!r} cannot name a {kind}: it must be a plain word, without slashes")
        if (kind, name) in self._ids:
            raise DataError(f"{self.path}: two {kind}s are called {name!r}; names must be unique")
        self._ids.add((kind, name))

    def _check_frames(self, clip: str, frames: np.ndarray, times_ms: np.ndarray | None) -> None:
        square = (self.size, self.size)
        if frames.dtype != np.uint8 or frames.ndim != 3 or frames.shape[1:] != square or not len(frames):
            raise DataError(
                f"clip {clip}: expected uint8 frames of shape (T >= 1, {self.size}, {self.size}), "
                f"got {frames.dtype} {frames.shape}"
            )
        if times_ms is not None and (len(times_ms) != len(frames) or not np.all(np.diff(times_ms) > 0)):
            raise DataError(
                f"clip {clip}: expected {len(frames)} rising frame times, got {len(times_ms)} or unsorted ones"
            )

    def _check_case(self, case: str, image: np.ndarray, masks: np.ndarray, split: str) -> None:
        if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
            raise DataError(f"case {case}: expected a uint8 image (H, W), got {image.dtype} {image.shape}")
        if masks.shape != (len(self.classes), *image.shape):
            raise DataError(
                f"case {case}: the image is {image.shape[0]} x {image.shape[1]} px with {len(self.classes)} classes, "
                f"but its masks are {' x '.join(map(str, masks.shape))}"
            )
        if split not in ("", *SPLIT_PARTS):
            raise DataError(f"case {case}: unknown split {split!r}; expected one of {', '.join(SPLIT_PARTS)}")

    def _check_rating(self, case: str, image: str, *, owner: tuple[str, str], rater: str, origin: str) -> None:
        """One case per picture and rater, all cases of a picture with one patient and group: no split cuts them."""
        if self._owners.setdefault(image, owner) != owner:
            raise DataError(f"case {case}: another case of image {image} has another patient or group")
        if (image, rater) in self._raters:
            raise DataError(f"case {case}: image {image} has a case of rater {rater!r} already; one case per rater")
        self._raters.add((image, rater))
        if origin not in ORIGINS:
            raise DataError(f"case {case}: unknown origin {origin!r}; expected one of {', '.join(ORIGINS[1:])}")


def pack_planes(masks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(K, H, W) bool -> (H, W) uint8 with class k in bit k."""
    planes = np.zeros(shape, np.uint8)
    for bit, mask in enumerate(masks):
        planes |= mask.astype(np.uint8) << np.uint8(bit)
    return planes


def find_duplicates(frames: np.ndarray) -> np.ndarray:
    """(T,) bool: the frame equals its predecessor or differs by less than NEAR_DUPLICATE grey levels on average."""
    duplicate = np.zeros(len(frames), bool)
    for number in range(1, len(frames)):
        duplicate[number] = is_near_duplicate(frames[number], frames[number - 1])
    return duplicate


def is_near_duplicate(frame: np.ndarray, previous: np.ndarray) -> bool:
    """Whether two uint8 images of one shape are the same frame for all purposes of time."""
    return bool(cv2.norm(frame, previous, cv2.NORM_L1) / frame.size < NEAR_DUPLICATE)


def median_frame_time(times_ms: np.ndarray | None) -> float:
    """Median of the steps of `times_ms`, ms; NaN where there are none."""
    return float("nan") if times_ms is None or len(times_ms) < 2 else float(np.median(np.diff(times_ms)))


def _label_table(cases: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows of labels.parquet, without the columns about raters that say nothing."""
    silent = [name for name in RATING_COLUMNS if not any(case[name] for case in cases)]
    return pa.Table.from_pylist(list(cases), LABEL_SCHEMA).drop_columns(silent)


def _fingerprint(document: Mapping[str, Any]) -> str:
    """sha256 over the files and what gives them meaning; not over the name, licence or sources."""
    facts = {key: document[key] for key in ("version", "classes", "contains", "size")}
    facts["files"] = {name: entry["sha256"] for name, entry in document["files"].items()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _check_classes(path: Path, classes: tuple[str, ...], contains: Mapping[str, Sequence[str]]) -> None:
    if len(classes) > MAX_CLASSES:
        raise DataError(f"{path}: {len(classes)} classes; a dataset holds at most {MAX_CLASSES} (one bit plane each)")
    if len(set(classes)) != len(classes):
        raise DataError(f"{path}: a class is named twice: {', '.join(classes)}")
    for name in [*contains, *(inner for inners in contains.values() for inner in inners)]:
        if name not in classes:
            raise DataError(f"{path}: containment names {name!r}, which is no class; classes are {', '.join(classes)}")


def refuse_existing(path: Path) -> None:
    """DataError where `path` exists: a dataset is never written over anything."""
    if path.exists():
        raise DataError(f"{path} exists already; remove it or choose another place for the dataset")


def _new_folder(path: Path, aside: Path | None) -> Path:
    refuse_existing(path)
    aside = aside or path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{path}: cannot write a dataset there: {error.strerror}") from error
    return aside
