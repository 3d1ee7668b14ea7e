"""Open a dataset folder: its index, clip frames through a memory map, labelled cases at native size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uscl.data.schema import (
    CLIPS_FILE,
    DATASET_FILE,
    DATASET_FORMAT,
    DATASET_VERSION,
    LABELS_FILE,
    RATING_COLUMNS,
    CaseEntry,
    ClipEntry,
    DatasetIndex,
)
from uscl.errors import DataError


@dataclass(frozen=True)
class ClipFrames:
    """Where a clip's frames lie and what is known of each."""

    first_row: int
    num_frames: int
    times_ms: np.ndarray
    """(T,) float64, NaN where unknown."""
    duplicate: np.ndarray
    """(T,) bool: an exact or near copy of its predecessor."""
    source_size: tuple[int, int]
    """Height and width before the letterbox, px."""
    sector_bits: bytes = field(repr=False)
    size: int

    @property
    def sector(self) -> np.ndarray:
        """(S, S) bool: the part of the square that is ultrasound."""
        return _unpack(np.frombuffer(self.sector_bits, np.uint8), (self.size, self.size))


@dataclass(frozen=True)
class Case:
    """A labelled frame at native size."""

    case: str
    patient: str
    image: np.ndarray
    """(H, W) uint8, read-only."""
    masks: np.ndarray
    """(K, H, W) bool, in the order of the dataset's classes; nested classes overlap."""
    known: np.ndarray
    """(H, W) bool: where the annotation counts."""
    sector: np.ndarray
    """(H, W) bool: the part that is ultrasound."""
    spacing_mm: tuple[float, float] | None
    """Size of a pixel (row, column), mm; None where unknown."""
    rater: str = ""
    """Whose mask it is; empty where the dataset names nobody."""


class Dataset:
    """An open dataset; made by `open_dataset`. Frames are read through a memory map, without copying the file."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.licence: str = document.get("licence", "")
        self.sources: tuple[Mapping[str, Any], ...] = tuple(document.get("sources", ()))
        self.clip_rows = pq.read_table(path / CLIPS_FILE, memory_map=True).to_pylist()
        rows = pq.read_table(path / LABELS_FILE, memory_map=True).to_pylist()
        self.case_rows: list[dict[str, Any]] = [dict.fromkeys(RATING_COLUMNS, "") | row for row in rows]
        self.index = _index(document, self.clip_rows, self.case_rows)
        self.clip_table = {row["clip"]: _clip_frames(row, self.index.size) for row in self.clip_rows}
        self._case_table = {row["case"]: row for row in self.case_rows}
        names = sorted(document["files"])
        self._frames = _FrameFiles([path / name for name in names if name.startswith("frames-")], self.index.size)
        self._planes = _record_batches([path / name for name in names if name.startswith("labels-")])

    @property
    def name(self) -> str:
        """The dataset's own name."""
        return self.index.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the mask planes."""
        return self.index.classes

    @property
    def size(self) -> int:
        """Side of the stored square frames, px."""
        return self.index.size

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """(N,) row numbers -> (N, S, S) uint8, a fresh array. Row = a clip's `first_row` + frame number."""
        return self._frames.read(np.asarray(rows, np.int64))

    def case(self, case: str) -> Case:
        """The labelled frame called `case`. DataError where there is none."""
        row = self._case_table.get(case)
        if row is None:
            raise DataError(f"{self.path}: has no case {case!r}")
        shape = (row["height_px"], row["width_px"])
        batch = self._planes[row["row"]]
        image, planes, known, sector = (_bytes_of(batch.column(column)) for column in range(4))
        planes = planes.reshape(shape)
        masks = [(planes >> np.uint8(bit)) & np.uint8(1) for bit in range(len(self.classes))]
        stacked = np.stack(masks).astype(bool) if masks else np.zeros((0, *shape), bool)
        spacing = tuple(row["spacing_mm"]) if row["spacing_mm"] else None
        fields = (image.reshape(shape), stacked, _unpack(known, shape), _unpack(sector, shape), spacing)
        return Case(case, row["patient"], *fields, row["rater"])

    def case_fits(self, case: str) -> bool:
        """Whether the stored image, class, known and sector planes of a case are as long as its size says."""
        row = self._case_table[case]
        pixels = row["height_px"] * row["width_px"]
        batch = self._planes[row["row"]]
        lengths = [len(_bytes_of(batch.column(column))) for column in range(4)]
        return lengths == [pixels, pixels, (pixels + 7) // 8, (pixels + 7) // 8]


class _FrameFiles:
    """All frames of a dataset as views of the memory-mapped files, addressed by row number."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self._size = size
        self._batches = _record_batches(paths)
        self._views = [_pixels(batch.column(0), size) for batch in self._batches]
        self._starts = np.cumsum([0, *(len(view) for view in self._views)])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(N,) row numbers -> (N, S, S) uint8. IndexError where there is no such row."""
        if len(rows) and not (rows.min() >= 0 and rows.max() < self._starts[-1]):
            raise IndexError(f"rows {rows.min()}..{rows.max()} of {self._starts[-1]}")
        frames = np.empty((len(rows), self._size, self._size), np.uint8)
        holders = np.searchsorted(self._starts, rows, side="right") - 1
        offsets = rows - self._starts[holders]
        for position, (holder, offset) in enumerate(zip(holders.tolist(), offsets.tolist(), strict=True)):
            frames[position] = self._views[holder][offset]
        return frames


def open_dataset(path: str | Path) -> Dataset:
    """Open a dataset folder. DataError where it is none, of another version, or a file is missing or cut short.

    Compares file sizes, not hashes: opening stays quick whatever the size.
    """
    path = Path(path)
    document = read_document(path)
    for name, entry in document["files"].items():
        file = path / name
        if not file.is_file():
            raise DataError(f"{path}: file {name} is missing; make the dataset again")
        if file.stat().st_size != entry["bytes"]:
            raise DataError(
                f"{path}: file {name} has {file.stat().st_size} bytes, not {entry['bytes']}; make the dataset again"
            )
    try:
        return Dataset(path, document)
    except (KeyError, TypeError, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); make the dataset again") from error


def read_document(path: Path) -> dict[str, Any]:
    """dataset.json of a folder. DataError where it is missing, unreadable or of another format version."""
    try:
        document = json.loads((path / DATASET_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path} is not a dataset: it has no {DATASET_FILE}; make one with `uscl data import`"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path / DATASET_FILE} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("format") != DATASET_FORMAT:
        raise DataError(f"{path} is not a dataset: {DATASET_FILE} is of another kind")
    if document.get("version") != DATASET_VERSION:
        raise DataError(
            f"{path} is a dataset of version {document.get('version')}, this uscl reads version {DATASET_VERSION}; "
            "make it again"
        )
    return document


def _index(document: Mapping[str, Any], clips: list[dict[str, Any]], cases: list[dict[str, Any]]) -> DatasetIndex:
    return DatasetIndex(
        name=document["name"],
        fingerprint=document["fingerprint"],
        classes=tuple(document["classes"]),
        contains={outer: tuple(inner) for outer, inner in document["contains"].items()},
        size=document["size"],
        clips=tuple(_clip_entry(row) for row in clips),
        cases=tuple(_case_entry(row) for row in cases),
        agreement=_agreement(document.get("agreement", {})),
    )


def _agreement(given: Any) -> dict[str, float]:
    """The scores between two raters; TypeError where these are no numbers by name."""
    if not isinstance(given, dict) or not all(type(value) in (int, float) for value in given.values()):
        raise TypeError(f"agreement: expected numbers by measurement, got {given!r}")
    return {name: float(value) for name, value in given.items()}


def _clip_entry(row: dict[str, Any]) -> ClipEntry:
    fields = {key: row[key] for key in ("clip", "patient", "group", "num_frames", "content", "frame_time_ms")}
    return ClipEntry(**fields, has_times=row["times_ms"] is not None)


def _case_entry(row: dict[str, Any]) -> CaseEntry:
    names = ("case", "patient", "group", "content", "excluded", "split", "rater", "image", "quality")
    fields = {name: row[name] for name in names}
    return CaseEntry(**fields, classes=frozenset(row["classes"]))


def _clip_frames(row: dict[str, Any], size: int) -> ClipFrames:
    unknown = row["times_ms"] is None
    times = np.full(row["num_frames"], np.nan) if unknown else np.asarray(row["times_ms"], np.float64)
    duplicate = np.asarray(row["duplicate"], bool)
    source = (row["source_height_px"], row["source_width_px"])
    return ClipFrames(row["first_row"], row["num_frames"], times, duplicate, source, row["sector"], size)


def _record_batches(paths: list[Path]) -> list[pa.RecordBatch]:
    batches = []
    for path in paths:
        with pa.memory_map(str(path)) as file:  # closed: the views keep the map, not one of the process's open files
            reader = pa.ipc.open_file(file)
            batches += [reader.get_batch(number) for number in range(reader.num_record_batches)]
    return batches


def _pixels(column: pa.Array, size: int) -> np.ndarray:
    return np.frombuffer(column.buffers()[1], np.uint8, len(column) * size * size).reshape(len(column), size, size)


def _bytes_of(column: pa.Array) -> np.ndarray:
    """The one value of a binary column as (N,) uint8, without copying."""
    return np.frombuffer(column[0].as_buffer(), np.uint8)


def _unpack(bits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
