"""What SimpleITK lets pass: headers that name pixel files elsewhere, and NIfTI files shorter than they declare."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO

_HEADER_BYTES = 1 << 16
_PIXEL_FILE = re.compile(rb"^(?:ElementDataFile|data ?file)\s*[=:]\s*(?P<name>[^\r\n]+)", re.IGNORECASE | re.MULTILINE)
_NIFTI_HEADER_BYTES, _NIFTI_1, _NIFTI_2 = 540, 348, 540
"""Bytes to look at, and what the first number of a header of NIfTI-1 and NIfTI-2 is."""
_BLOCK_BYTES = 1 << 20
_WITHIN = ("local", "internal")
"""MetaImage's word for pixels behind the header, in the same file."""


def check_pixel_file(path: Path) -> None:
    """ValueError where a MetaImage or NRRD header names a pixel file that is missing, elsewhere, or one of many."""
    if path.suffix.lower() not in (".mhd", ".mha", ".nhdr", ".nrrd"):
        return
    with path.open("rb") as file:
        match = _PIXEL_FILE.search(file.read(_HEADER_BYTES).split(b"\n\n")[0])
    if match is None:
        return
    name = match["name"].decode("utf-8", "replace").strip()
    if name.lower() in _WITHIN:
        return
    if name.upper().startswith("LIST") or "%" in name:
        raise ValueError("its pixels lie in a file per slice; save it as one .mha or .nii.gz")
    if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
        raise ValueError("its header names a pixel file outside its folder; put both in one folder and name it plainly")
    pixels = path.parent / name
    if not pixels.is_file():
        raise ValueError(f"its pixel file {name} is missing; put it beside the header, or save both as one .mha")
    if not pixels.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError("its pixel file is a link out of its folder; put the file itself there")


def check_nifti_length(path: Path, *, max_bytes: int) -> None:
    """ValueError where a NIfTI file holds fewer bytes than its header declares: ITK would fill up with anything.

    A compressed one is unpacked for that, once and without keeping it; damage of its packing shows on the way.
    """
    packed = path.name.lower().endswith(".gz")
    if not packed and path.suffix.lower() != ".nii":
        return
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            declared = _nifti_bytes(file.read(_NIFTI_HEADER_BYTES))
            if declared > max_bytes:
                return  # refused for that once SimpleITK has read the header
            file.seek(0)
            held = _count(file, up_to=declared) if packed else path.stat().st_size
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise ValueError("cannot be read as a volume: it is damaged or cut short") from error
    if held < declared:
        raise ValueError("cannot be read as a volume: it holds fewer bytes than its header declares")


def _nifti_bytes(header: bytes) -> int:
    """Header and pixels together, by the header of NIfTI-1 or 2 in either byte order; 0 where it is neither."""
    for order in "<>":
        length = struct.unpack(f"{order}i", header[:4])[0]
        if length == _NIFTI_1:
            axes, (bits,) = struct.unpack(f"{order}8h", header[40:56]), struct.unpack(f"{order}h", header[72:74])
            (offset,) = struct.unpack(f"{order}f", header[108:112])
        elif length == _NIFTI_2:
            axes, (bits,) = struct.unpack(f"{order}8q", header[16:80]), struct.unpack(f"{order}h", header[14:16])
            (offset,) = struct.unpack(f"{order}q", header[168:176])
        else:
            continue
        return int(offset) + math.prod(max(1, axis) for axis in axes[1 : 1 + max(0, min(7, axes[0]))]) * bits // 8
    return 0


def _count(file: IO[bytes], *, up_to: int) -> int:
    held = 0
    while held < up_to and (block := file.read(_BLOCK_BYTES)):
        held += len(block)
    return held
