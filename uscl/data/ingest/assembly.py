"""Parts become frame files of about 1 GiB: copied batch by batch and dropped file by file, so never all twice on disk.

A dataset of one file per clip would need no copying; but each trial opens its dataset, and 7,000 files are slow to
open on a shared folder and more than a process may hold open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from uscl.data.arrow_files import FILE_BYTES
from uscl.data.content import sync_and_hash
from uscl.data.ingest.parts import PartFolder
from uscl.data.schema import frame_schema


@dataclass(frozen=True)
class FrameFile:
    """A frame file of the dataset to be, and the parts that it is made of."""

    path: Path
    keys: tuple[str, ...]
    num_frames: int

    @property
    def entry_path(self) -> Path:
        """Holds its hash and size; where it is, the file is whole."""
        return self.path.with_suffix(".json")

    @property
    def entry(self) -> dict[str, Any] | None:
        """sha256 and bytes; None where the file is not finished."""
        if not (self.entry_path.is_file() and self.path.is_file()):
            return None
        entry: dict[str, Any] = json.loads(self.entry_path.read_text(encoding="utf-8"))
        return entry if self.path.stat().st_size == entry["bytes"] else None


def plan_files(parts: PartFolder, frames: Mapping[str, int], size: int) -> list[FrameFile]:
    """The files that hold parts of so many `frames` each, in this order; a part is never cut."""
    groups: list[list[str]] = []
    filled = FILE_BYTES + 1
    for key, count in frames.items():
        if filled + count * size * size > FILE_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(key)
        filled += count * size * size
    return [_frame_file(parts, keys, sum(frames[key] for key in keys)) for keys in groups]


def assemble(parts: PartFolder, file: FrameFile, size: int) -> None:
    """Write a frame file and its entry, then drop the frames of its parts. OSError where the disk is full."""
    if len(file.keys) == 1:
        parts.frames_file(file.keys[0]).replace(file.path)
    else:
        _concatenate([parts.frames_file(key) for key in file.keys], file.path, size)
    file.entry_path.write_text(json.dumps(sync_and_hash(file.path)), encoding="utf-8")
    for key in file.keys:
        parts.frames_file(key).unlink(missing_ok=True)


def lacking(parts: PartFolder, files: Sequence[FrameFile]) -> set[str]:
    """Parts whose frames are neither in a finished file nor by themselves: left of an assembly that changed course."""
    unfinished = [file for file in files if file.entry is None]
    return {key for file in unfinished for key in file.keys if not parts.frames_file(key).is_file()}


def _frame_file(parts: PartFolder, keys: Sequence[str], num_frames: int) -> FrameFile:
    name = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]
    return FrameFile(parts.path / f"file-{name}.arrow", tuple(keys), num_frames)


def _concatenate(paths: Sequence[Path], target: Path, size: int) -> None:
    with pa.ipc.new_file(target, frame_schema(size)) as writer:
        for path in paths:
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source)
                for number in range(reader.num_record_batches):
                    writer.write_batch(reader.get_batch(number))
