"""Volumes of labelled frames: NIfTI and MHA, 2-D images saved with a third axis of one, and 2-D over time."""

# T frames, H x W pixels

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uscl.errors import DataError

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".mha")
"""Files that hold their own pixels; `.mhd` and `.nhdr` point to others."""
MAX_VOXELS = 2_000_000_000
_HEADER_BYTES = 1 << 16
_FAKE_SPACING = 999.0
"""What nnU-Net v1 writes on the third axis of a 2-D image."""


@dataclass(frozen=True)
class Volume:
    """Frames as stored."""

    frames: np.ndarray
    """(T, H, W), or (T, H, W, 3) colour, in the file's own number format."""
    spacing_mm: tuple[float, float] | None
    """Of a pixel (row, column); None where the file says 1 x 1, as files do that know nothing."""


def is_volume(path: Path) -> bool:
    """Whether the name is that of a volume."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def stem_of(path: Path) -> str:
    """A file's name without its suffix: of `a.nii.gz` it is `a`."""
    ending = next((suffix for suffix in VOLUME_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: -len(ending)] if ending else path.name


def read_volume(path: Path) -> Volume:
    """All frames. DataError, naming the file, where it cannot be read, is no stack of images, or is too large.

    SimpleITK gives (T, H, W) for what nibabel calls (W, H, T). An axis of one pixel, or of spacing 999, is no axis.
    """
    sitk = _simple_itk(path)
    _check_is_whole(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, spacing = reader.GetSize(), reader.GetSpacing()
        _check_size(path, size, reader.GetNumberOfComponents())
        frames = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:  # its text names paths and header values
        raise DataError(f"{path}: cannot be read as a volume: damaged, or cut short") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory") from error
    return _as_stack(frames, spacing, len(size))


def grey_frames(path: Path) -> tuple[np.ndarray, int, tuple[float, float] | None]:
    """(T, H, W) uint8 grey levels, channels, spacing. DataError where levels are not 0 to 255: no scale is guessed."""
    volume = read_volume(path)
    frames = volume.frames
    if frames.ndim == 4:
        frames = frames.astype(np.float64) @ np.array([0.299, 0.587, 0.114])  # as Pillow's L
    low, high = float(frames.min()), float(frames.max())
    in_units = 0 < high <= 1 and frames.dtype.kind == "f"
    if in_units or not (low >= 0 and high <= 255):
        said = f"holds grey levels of {low:g} to {high:g}; expected 0 to 255"
        raise DataError(f"{path}: {said}: scale them and save again")
    return np.rint(frames).astype(np.uint8), 1 if volume.frames.ndim == 3 else 3, volume.spacing_mm


def _simple_itk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise DataError(f"{path}: volumes need SimpleITK; install it with: pip install 'uscl[volumes]'") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _check_is_whole(path: Path) -> None:
    """DataError where an MHA file says that its pixels are elsewhere: it could name any file of the machine."""
    if path.name.lower().endswith(".mha"):
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        places = [line.split(b"=")[-1].strip() for line in header.split(b"\n") if line.startswith(b"ElementDataFile")]
        if places[:1] != [b"LOCAL"]:
            raise DataError(f"{path}: does not hold its pixels itself (ElementDataFile is not LOCAL)")


def _check_size(path: Path, size: tuple[int, ...], components: int) -> None:
    voxels = int(np.prod([int(length) for length in size], dtype=object)) * components
    if voxels > MAX_VOXELS:
        raise DataError(f"{path}: holds {voxels:,} values; at most {MAX_VOXELS:,} are read")
    real = [length for length in size if length > 1]
    if len(size) not in (2, 3) and len(real) > 3:
        raise DataError(f"{path}: has {len(real)} axes; expected images over time (width, height, frames)")
    if components not in (1, 3):
        raise DataError(f"{path}: has {components} values a pixel; expected grey or colour")


def _as_stack(frames: np.ndarray, spacing: tuple[float, ...], axes: int) -> Volume:
    """Axes in the array are those of the file reversed; what is left after fake ones are gone is (T, H, W)."""
    spacings = list(spacing[::-1])
    fake = [axis for axis in range(axes) if frames.shape[axis] == 1]
    order = sorted(fake, key=lambda axis: (spacings[axis] != _FAKE_SPACING, axis))
    drop = order[: max(0, axes - 2)]
    kept = [axis for axis in range(axes) if axis not in drop]
    plain = frames.reshape([frames.shape[axis] for axis in kept] + list(frames.shape[axes:]))
    if len(kept) == 2:
        plain = plain[None]
    rows, columns = (float(spacings[axis]) for axis in kept[-2:])
    unknown = (rows, columns) == (1.0, 1.0) or not (rows > 0 and columns > 0)
    return Volume(plain, None if unknown else (rows, columns))
