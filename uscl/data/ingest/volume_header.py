"""Text headers of volumes that name their pixel file: is it there, beside the header, and long enough?"""

from __future__ import annotations

import re
from pathlib import Path

_HEADER_BYTES = 1 << 16
_PIXEL_FILE = re.compile(rb"^(?:ElementDataFile|data ?file)\s*[=:]\s*(?P<name>[^\r\n]+)", re.IGNORECASE | re.MULTILINE)
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
