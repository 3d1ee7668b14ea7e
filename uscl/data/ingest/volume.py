"""Volumes of planes over time as clips: NIfTI, MetaImage and NRRD by SimpleITK, the extra `volumes`."""

# T planes, H x W pixels, C components

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from uscl.data.ingest import volume_pixels
from uscl.data.ingest.colour import is_colour
from uscl.data.ingest.frames import DecodedClip
from uscl.data.ingest.grey_levels import GreyScale
from uscl.data.ingest.image_folder import LABEL_FOLDERS
from uscl.data.ingest.limits import check_frame_size
from uscl.data.ingest.numbering import names_a_mask
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.pictures import Picture, clips_from
from uscl.data.ingest.still_image import grey_of_rgb
from uscl.data.ingest.volume_header import check_nifti_length, check_pixel_file
from uscl.errors import DataError

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".vol")
MAX_VOLUME_BYTES = 1 << 32
"""Of the pixels of one volume: SimpleITK reads it whole."""
_TIMEOUT_S = 600
_UNREADABLE = "cannot be read as a volume: it is damaged, cut short, or not what its name says"
MAX_LABEL_VALUES = 16
"""A volume of so few different whole numbers holds labels, not grey levels."""
_MOST_AXES = 4
_KRETZ = b"KRETZFILE"


def find_volumes(files: Sequence[Path]) -> list[Path]:
    """Those with a suffix of a volume, unless their name or folder says that they are masks."""
    return [
        file
        for file in files
        if file.name.lower().endswith(VOLUME_SUFFIXES)
        and not names_a_mask(file)
        and file.parent.name.lower() not in {*LABEL_FOLDERS, "label_mha"}
    ]


def read_volume(path: Path, options: ClipOptions) -> Iterator[DecodedClip]:
    """The planes of a volume as one clip: the third axis, or the fourth behind a third of one plane, is time.

    Directions and offsets are left aside: no flips. Grey levels by `GreyScale`; in-plane spacing in mm; times by the
    options' frame rate only. DataError, naming the file, where it cannot be read, holds labels, or has axes that are
    not planes over time.
    """
    with tempfile.TemporaryDirectory(prefix="uscl-volume-") as place:
        try:
            _refuse_kretz(path)
            check_pixel_file(path)
            check_nifti_length(path, max_bytes=MAX_VOLUME_BYTES)
            planes, spacing_mm = _read(path, Path(place))
            scale = _scale_of(planes)
            notes = (scale.note,) if scale.note else ()
            notes += () if spacing_mm else ("no spacing in mm that can be believed",)
            yield from clips_from(_pictures(planes, scale, spacing_mm), options, notes=notes)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _refuse_kretz(path: Path) -> None:
    with path.open("rb") as file:
        kretz = file.read(len(_KRETZ)) == _KRETZ
    if kretz or path.suffix.lower() == ".vol":
        raise ValueError("is a Kretz volume, a closed format; export it from the scanner as DICOM, or save it as NIfTI")


def _read(path: Path, place: Path) -> tuple[np.ndarray, tuple[float, float] | None]:
    """(T, H, W) or (T, H, W, C) of the file's type, and the (row, column) spacing in mm where it can be believed.

    SimpleITK works in a process of its own, for it can crash on damaged headers; its array lies in `place`.
    """
    if importlib.util.find_spec("SimpleITK") is None:
        raise ValueError("is a volume, which needs SimpleITK: pip install 'uscl[volumes]'")
    pixels = place / "pixels.npy"
    command = [sys.executable, "-P", volume_pixels.__file__, str(path.resolve()), str(pixels), str(MAX_VOLUME_BYTES)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ValueError(f"cannot be read as a volume within {_TIMEOUT_S} s") from None
    if not done.stdout:
        raise ValueError(_UNREADABLE)
    facts = json.loads(done.stdout)
    _check_size(facts["size"], facts["bytes"])
    if done.returncode:
        raise ValueError(_UNREADABLE)
    column, row = facts["spacing"][:2]
    believed = all(np.isfinite(value) and 0 < value < 10 for value in (row, column)) and (row, column) != (1.0, 1.0)
    planes = _planes(np.load(pixels, mmap_mode="r"), facts["components"])
    return planes, (row, column) if believed else None


def _check_size(size: Sequence[int], num_bytes: int) -> None:
    """ValueError where the header declares more than is read, or axes that are not planes over time."""
    check_frame_size(size[1], size[0])
    if num_bytes > MAX_VOLUME_BYTES:
        raise ValueError(f"declares {num_bytes / 1e9:.1f} GB of pixels, more than the 4.3 GB that are read; cut it")
    if len(size) > _MOST_AXES or (len(size) == _MOST_AXES and size[2] != 1 and size[3] != 1):
        raise ValueError(f"has axes of {' x '.join(map(str, size))}: not planes over time; save one plane over time")


def _planes(array: np.ndarray, components: int) -> np.ndarray:
    """SimpleITK's array, with the axes of the file reversed, as (T, H, W) or (T, H, W, 3)."""
    tail = (components,) if components > 1 else ()
    if components not in (1, 3, 4):
        raise ValueError(f"has {components} components per pixel; grey or RGB is read")
    height, width = array.shape[: array.ndim - len(tail)][-2:]
    planes = array.reshape(-1, height, width, *tail)
    return planes[..., :3] if tail else planes


def _scale_of(planes: np.ndarray) -> GreyScale:
    """The rule for its grey levels. ValueError where it holds labels, or nothing at all."""
    if not planes.size:
        raise ValueError("holds no pixel")
    if planes.ndim == 4:
        if planes.dtype != np.uint8:
            raise ValueError(f"has colour of type {planes.dtype}; colour of 8 bits is read")
        return GreyScale()
    lowest, highest = float(planes.min()), float(planes.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError("holds values that are not numbers")
    values = _few_values(planes)
    if values:
        raise ValueError(f"holds only {values} different values, all whole: labels rather than grey levels, so no clip")
    return GreyScale.of(lowest, highest, whole=planes.dtype.kind in "iu")


def _few_values(planes: np.ndarray) -> int:
    """How many different values there are, where they are few and whole; else 0."""
    seen: set[float] = set()
    for plane in planes:
        seen.update(np.unique(plane).tolist())
        if len(seen) > MAX_LABEL_VALUES:
            return 0
    return len(seen) if all(float(value).is_integer() for value in seen) else 0


def _pictures(planes: np.ndarray, scale: GreyScale, spacing_mm: tuple[float, float] | None) -> Iterator[Picture]:
    row, column = spacing_mm or (None, None)
    aspect = column / row if row and column else 1.0
    for plane in planes:
        coloured = plane.ndim == 3
        grey = grey_of_rgb(np.ascontiguousarray(plane)) if coloured else np.array(scale.applied(plane))
        yield Picture(grey, aspect=aspect, row_mm=row, coloured=coloured and is_colour(np.ascontiguousarray(plane)))
