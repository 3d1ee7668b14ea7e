"""The formats that clips come in: how each is found below a folder, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.dicom import DICOM_SUFFIXES, is_dicom, read_dicom
from uscl.data.ingest.frames import DecodedClip
from uscl.data.ingest.image_folder import find_image_folders, find_image_stacks, read_image_folder, read_image_stack
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.video import find_videos, video_clips
from uscl.data.ingest.volume import find_volumes, read_volume

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


def _dicoms(files: Sequence[Path]) -> list[Path]:
    return [file for file in files if _is_dicom_file(file)]


def _is_dicom_file(file: Path) -> bool:
    suffix = file.suffix.lower()
    return suffix in DICOM_SUFFIXES or (not suffix and file.name != "DICOMDIR" and is_dicom(file))


CLIP_FORMATS = (
    ClipFormat("DICOM", _dicoms, read_dicom),
    ClipFormat("video", find_videos, video_clips),
    ClipFormat("volume", find_volumes, read_volume),
    ClipFormat("image stack", find_image_stacks, read_image_stack),
    ClipFormat("image folder", find_image_folders, read_image_folder),
)
"""In the order in which they are asked; a file belongs to the first that takes it."""
