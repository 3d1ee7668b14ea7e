"""Frames of a file as it holds them, one by one at their own size: what a network is shown, and the way back."""

# K classes, H x W pixels of the file, h x w pixels of the view

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from uscl.data.ingest.dicom import DICOM_SUFFIXES, dicom_frames, is_dicom
from uscl.data.ingest.frames import NativeFrame
from uscl.data.ingest.masks import IMAGE_SUFFIXES, read_grey
from uscl.data.ingest.naming import file_id
from uscl.data.ingest.video import VIDEO_SUFFIXES, video_frames
from uscl.errors import DataError


@dataclass(frozen=True)
class SourceFile:
    """An image, DICOM or video file, and the plain name its results go by."""

    path: Path
    name: str

    def frames(self) -> Iterator[NativeFrame]:
        """Its frames in order: one of an image. DataError, naming the file, where it cannot be read."""
        if self.path.suffix.lower() in IMAGE_SUFFIXES:
            grey, _ = read_grey(self.path)
            return iter([NativeFrame(grey)])
        return video_frames(self.path) if self.path.suffix.lower() in VIDEO_SUFFIXES else dicom_frames(self.path)


def find_sources(path: Path) -> list[SourceFile]:
    """A file, or every image, DICOM and video file below a folder, by path. DataError where there is none."""
    if path.is_file():
        if not _is_source(path):
            raise DataError(f"{path}: is no image, DICOM or video file that uscl reads")
        return [SourceFile(path, file_id(Path(path.name)))]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    found = [file.relative_to(path) for file in files if _is_source(file)]
    if not found:
        raise DataError(f"{path}: holds no image, DICOM or video file")
    names = [file_id(file) for file in found]
    twice = {name for name in names if names.count(name) > 1}
    return [
        SourceFile(path / file, f"{name}-{file.suffix[1:] or 'dicom'}" if name in twice else name)
        for file, name in zip(found, names, strict=True)
    ]


def shown(frame: NativeFrame) -> np.ndarray:
    """The view (h, w) of a frame that a network is given: its B-mode region, with square pixels."""
    view = np.ascontiguousarray(frame.image[frame.rows, frame.columns])
    return _resized(view, max(1, round(view.shape[1] * frame.aspect)), cv2.INTER_LINEAR) if frame.stretched else view


def to_file_size(frame: NativeFrame, masks_Khw: np.ndarray) -> np.ndarray:
    """Masks (K, h, w) of `shown` as (K, H, W) of the file's pixels; nothing lies outside the region. bool."""
    masks_KHW = np.zeros((len(masks_Khw), *frame.image.shape), np.bool_)
    width = frame.image[frame.rows, frame.columns].shape[1]
    for target, mask in zip(masks_KHW, masks_Khw, strict=True):
        inner = _resized(mask.astype(np.uint8), width, cv2.INTER_NEAREST_EXACT) if frame.stretched else mask
        target[frame.rows, frame.columns] = inner
    return masks_KHW


def _resized(image: np.ndarray, width: int, interpolation: int) -> np.ndarray:
    return np.asarray(cv2.resize(image, (width, image.shape[0]), interpolation=interpolation))


def _is_source(path: Path) -> bool:
    suffix = path.suffix.lower()
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES | DICOM_SUFFIXES
    return suffix in known or (not suffix and path.name != "DICOMDIR" and is_dicom(path))
