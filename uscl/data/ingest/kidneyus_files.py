"""What lies in a folder of the Open Kidney Ultrasound Data Set: label files, images, pixel sizes; who is one patient.

All counts are of the set as its owners deliver it (data-formats.md 7.1).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.annotation_text import read_text
from uscl.data.ingest.found import find_files
from uscl.data.ingest.grouping import join_groups
from uscl.data.wording import listed
from uscl.errors import DataError

RATERS = ("1", "2")
OBTAIN = (
    "its owners hand the images out after registration (the form is linked in the README of rsingla92/kidneyUS); "
    "unpack the archive anywhere below DIR"
)
"""How to get the images: they may not be passed on."""
UNCALIBRATED = 1.0
"""A pixel size of exactly 1 cm stands for none: all 24 Acuson rows."""
_NAME = re.compile(r"(?P<prefix>\d+)_(?P<picture>IM-[\w-]+?)(?:_anon)?$", re.IGNORECASE)
_NO_IMAGES = re.compile(r"reviewed_masks|__MACOSX", re.IGNORECASE)
_MM_PER_CM = 10.0
_COLUMNS = ("Filename", "Physical Delta X", "Physical Delta Y")


@dataclass(frozen=True)
class KidneyFiles:
    """The files of the set that are read."""

    labels: Mapping[str, Path]
    """Rater -> VIA CSV."""
    images: Mapping[str, Path]
    """File name -> image."""
    transducers: Path | None
    """A CSV with the size of a pixel of each image."""
    spreadsheet: bool
    """Whether that lies there as the xlsx that is delivered, which is not read."""


def find_kidneyus(folder: Path) -> KidneyFiles:
    """Find the set's files at or below `folder`. DataError where label files lack, or two have one name."""
    files = find_files(folder).files
    labels = {rater: _only(files, rf"reviewed_labels_{rater}\.csv") for rater in RATERS}
    found = {rater: path for rater, path in labels.items() if path}
    if not found:
        raise DataError(f"{folder}: holds neither labels/reviewed_labels_1.csv nor labels/reviewed_labels_2.csv")
    images = _images(folder, files)
    spreadsheet = any(re.fullmatch(r".*TransducerInfo\.xlsx", path.name, re.IGNORECASE) for path in files)
    return KidneyFiles(found, images, _only(files, r".*TransducerInfo\.csv"), spreadsheet)


def picture_of(name: str) -> str:
    """`IM-0112-0078` of `104_IM-0112-0078_anon.png`, which renamed copies share; empty where it is named otherwise."""
    match = _NAME.match(Path(name).stem)
    return match["picture"] if match else ""


def by_number(names: Iterable[str]) -> list[str]:
    """Sorted by the number before the picture's name: of a picture and its renamed copies, the picture comes first."""
    return sorted(names, key=lambda name: (_number(_NAME.match(Path(name).stem)), name))


def patients_of(names: Sequence[str]) -> list[str]:
    """The patient of each file name: `kidneyus-104`; empty where the name says nothing.

    Names of one number are one patient, and so are those of one `IM-...`: the number alone misses the renamed copies,
    and of some numbers there are two pictures. The lowest number names the patient.
    """
    matches = [_NAME.match(Path(name).stem) for name in names]
    order = sorted(range(len(names)), key=lambda place: _number(matches[place]))
    numbers = [f"{_number(matches[place]):06}" if matches[place] else "" for place in order]
    first: dict[str, int] = {}
    pictures = [picture_of(names[place]) for place in order]
    alike = [(first.setdefault(picture, place), place) for place, picture in enumerate(pictures) if picture]
    joined = join_groups([names[place] for place in order], numbers, alike)
    named = dict(zip(order, joined, strict=True))
    return [f"kidneyus-{int(named[place]):03}" if named[place] else "" for place in range(len(names))]


def read_spacings(path: Path) -> tuple[dict[str, tuple[float, float]], int]:
    """Height and width of a pixel in mm by picture (else by stem), and how many rows give none that can be true.

    Deltas are in cm; a sign is only a direction (negative in all Toshiba rows), and exactly 1 means uncalibrated.
    DataError, with file and line, where the columns lack or a size is no number.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    lacking = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if lacking:
        raise DataError(f"{path}:1: has no column {lacking[0]!r}; expected {', '.join(_COLUMNS)}")
    spacings: dict[str, tuple[float, float]] = {}
    refused = 0
    try:
        for row in reader:
            across, down = (_size_cm(row[name], f"{path}:{reader.line_num}: {name}") for name in _COLUMNS[1:])
            if across is None or down is None:
                refused += 1
            else:
                spacings[_key(row["Filename"] or "")] = (down * _MM_PER_CM, across * _MM_PER_CM)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: cannot be read as CSV: {error}") from None
    return spacings, refused


def spacing_of(name: str, spacings: Mapping[str, tuple[float, float]]) -> tuple[float, float] | None:
    """Of an image, also where only another copy of its picture is listed."""
    return spacings.get(_key(name))


def _key(name: str) -> str:
    return picture_of(name.strip()) or Path(name.strip()).stem


def _size_cm(text: str | None, where: str) -> float | None:
    try:
        size = abs(float(text or "nan"))
    except ValueError:
        raise DataError(f"{where} is no number; expected the size of a pixel in cm") from None
    return None if size in (0.0, UNCALIBRATED) or not math.isfinite(size) else size


def _number(match: re.Match[str] | None) -> int:
    return int(match["prefix"]) if match else 0


def _images(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """PNG files by name, without published masks, which have the names of their images."""
    found: dict[str, Path] = {}
    for path in files:
        inner = path.relative_to(folder).parts[:-1]
        if path.suffix.lower() != ".png" or any(_NO_IMAGES.match(part) for part in inner):
            continue
        if path.name in found:
            raise DataError(f"{path} and {found[path.name]} have one name; which is the image? Move one away")
        found[path.name] = path
    return found


def _only(files: Sequence[Path], pattern: str) -> Path | None:
    found = [path for path in files if re.fullmatch(pattern, path.name, re.IGNORECASE)]
    if len(found) > 1:
        raise DataError(f"{listed([str(path) for path in found], shown=3)} could each be meant; leave one below DIR")
    return found[0] if found else None
