"""The formats that clips come in: how each is found below a folder, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.dicom import DICOM_SUFFIXES, is_dicom, read_dicom
from uscl.data.ingest.frames import DecodedClip
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.video import VIDEO_SUFFIXES, read_video

Reader = Callable[[Path, ClipOptions], Iterator[DecodedClip]]
"""Yields the clips of one file or folder of images, mostly one; DataError, naming it, where it cannot be read."""


@dataclass(frozen=True)
class ClipFormat:
    """One format."""

    name: str
    """As summaries call it: `DICOM`, `video`."""
    find: Callable[[Sequence[Path]], list[Path]]
    """Those of the files below a folder that are its own; for image folders, the folders."""
    read: Reader


def _videos(files: Sequence[Path]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]


def _dicoms(files: Sequence[Path]) -> list[Path]:
    return [file for file in files if _is_dicom_file(file)]


def _is_dicom_file(file: Path) -> bool:
    suffix = file.suffix.lower()
    return suffix in DICOM_SUFFIXES or (not suffix and file.name != "DICOMDIR" and is_dicom(file))


def _one(read: Callable[..., DecodedClip]) -> Reader:
    def reader(path: Path, options: ClipOptions) -> Iterator[DecodedClip]:
        """The one clip of a file."""
        yield read(path, size=options.size, options=options)

    return reader


CLIP_FORMATS = (
    ClipFormat("DICOM", _dicoms, _one(read_dicom)),
    ClipFormat("video", _videos, _one(read_video)),
)
"""In the order in which they are asked; a file belongs to the first that takes it."""
