"""A folder as nnU-Net takes it -> pictures and what mask values mean: `imagesTr`, `labelsTr`, `dataset.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.data.ingest.found import find_files
from uscl.data.ingest.label_volumes import VOLUME_SUFFIXES
from uscl.data.ingest.mask_layout import Picture, case_name, listed_problems
from uscl.data.ingest.mask_values import MaskFile
from uscl.data.ingest.masks import IMAGE_SUFFIXES, ClassMap, checked_map
from uscl.data.wording import counted, listed
from uscl.errors import DataError

_CHANNEL = re.compile(r"(.+)_(\d{4})")
"""`kidney_007_0000`: a case, and the number of a channel."""
_MAX_JSON_BYTES = 1 << 24
_PARTS = {"imagesTr": ("labelsTr", ""), "imagesTs": ("labelsTs", "test")}
"""Folder of images -> its folder of masks, and the part of the split that it gives."""


@dataclass(frozen=True)
class NnunetFolder:
    """What such a folder holds."""

    pictures: tuple[Picture, ...]
    class_map: ClassMap
    remarks: tuple[str, ...]


def read_nnunet_folder(folder: Path, *, channel: int | None = None) -> NnunetFolder:
    """Images with their masks. Cases of `imagesTs` that have masks in `labelsTs` are the test part.

    `channel` is the one that is read where an image has several. DataError where dataset.json is none, or images and
    masks do not go together; what a mask holds is checked when it is read.
    """
    document = _read_json(folder / "dataset.json")
    class_map = _class_map(folder / "dataset.json", document.get("labels"))
    ending = _ending(folder, document)
    channels = document.get("channel_names") or document.get("modality") or {}
    chosen = _channel(folder, channels, channel)
    pictures: list[Picture] = []
    remarks: list[str] = []
    for images, (masks, part) in _PARTS.items():
        found = _images(folder / images, ending, chosen)
        labels = _labels(folder / masks, ending)
        _check_partners(found, labels, images=folder / images, needed=images == "imagesTr")
        pictures += [_picture(folder, path, labels[case], part) for case, path in found.items() if case in labels]
        bare = [path.name for case, path in found.items() if case not in labels]
        said = counted(len(bare), f"image of {images} has", f"images of {images} have")
        remarks += [f"{said} no mask ({listed(bare, shown=1)}): left out"] if bare else []
    if not pictures:
        raise DataError(f"{folder}: holds no image in imagesTr with a mask in labelsTr (names end with {ending})")
    return NnunetFolder(tuple(pictures), class_map, tuple(remarks))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DataError(f"{path}: is larger than {_MAX_JSON_BYTES >> 20} MiB; expected nnU-Net's description")
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing; an nnU-Net folder says there what its mask values mean") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected an object with labels and file_ending")
    return document


def _class_map(path: Path, labels: Any) -> ClassMap:
    """Mask value -> the smallest region that holds it; regions within regions are classes within classes."""
    regions, ignore = _regions(path, labels)
    names: dict[int, str] = {}
    for value in sorted(set[int]().union(*regions.values())):
        names[value] = min((name for name in regions if value in regions[name]), key=lambda name: len(regions[name]))
    contains = {outer: _directly_within(outer, regions) for outer in regions}
    for one, first in regions.items():
        for other, second in regions.items():
            if first & second and not (first < second or second < first) and one != other:
                raise DataError(f"{path}: regions {one!r} and {other!r} share values and neither holds the other")
    return checked_map(str(path), ClassMap(names, {name: inner for name, inner in contains.items() if inner}, ignore))


def _regions(path: Path, labels: Any) -> tuple[dict[str, frozenset[int]], int | None]:
    """Class -> the values of its pixels, background left out; and the value that means: not annotated."""
    if not isinstance(labels, dict) or not labels:
        raise DataError(f"{path}: expected labels, like {{'background': 0, 'nerve': 1}}")
    if all(str(name).isdigit() for name in labels):  # version 1 has it the other way round
        labels = {str(name): int(value) for value, name in labels.items()}
    regions, ignore = {}, None
    for name, value in labels.items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(type(number) is int and number >= 0 for number in values):
            raise DataError(f"{path}: label {name!r}: expected a whole number, or a list of them")
        if name == "ignore":
            ignore = values[0]
        elif values != [0]:
            regions[str(name)] = frozenset(values)
    return regions, ignore


def _directly_within(outer: str, regions: Mapping[str, frozenset[int]]) -> list[str]:
    """Regions inside `outer` that lie in no other region inside it."""
    inside = [name for name in regions if regions[name] < regions[outer]]
    return [name for name in inside if not any(regions[name] < regions[other] for other in inside)]


def _ending(folder: Path, document: Mapping[str, Any]) -> str:
    """`.nii.gz` where version 1 says nothing."""
    ending = document.get("file_ending", ".nii.gz")
    known = (*sorted(IMAGE_SUFFIXES), *VOLUME_SUFFIXES)
    if not isinstance(ending, str) or ending.lower() not in known:
        raise DataError(f"{folder / 'dataset.json'}: file_ending is none that is read; these are: {', '.join(known)}")
    return ending


def _channel(folder: Path, channels: Any, given: int | None) -> int:
    if not isinstance(channels, dict):
        raise DataError(f"{folder / 'dataset.json'}: expected channel_names, like {{'0': 'B-mode'}}")
    if given is None and len(channels) > 1:
        names = ", ".join(f"{number} {name}" for number, name in channels.items())
        raise DataError(f"{folder}: images have {len(channels)} channels ({names}); choose one with --channel")
    if given is not None and channels and str(given) not in channels:
        raise DataError(f"{folder}: has no channel {given}; channels are {', '.join(map(str, channels))}")
    return given or 0


def _images(home: Path, ending: str, channel: int) -> dict[str, Path]:
    """Case -> its file of that channel. DataError where files do not end with a channel's number."""
    found, strange = {}, []
    for path in _files(home, ending):
        parts = _CHANNEL.fullmatch(path.name[: -len(ending)])
        if parts is None:
            strange.append(path)
        elif int(parts[2]) == channel:
            found[parts[1]] = path
    if strange:
        raise DataError(f"{strange[0]}: expected a name like case_0000{ending}, with the number of the channel")
    return found


def _labels(home: Path, ending: str) -> dict[str, Path]:
    return {path.name[: -len(ending)]: path for path in _files(home, ending)}


def _files(home: Path, ending: str) -> list[Path]:
    if not home.is_dir():
        return []
    return [path for path in find_files(home).files if path.parent == home and path.name.endswith(ending)]


def _check_partners(found: Mapping[str, Path], labels: Mapping[str, Path], *, images: Path, needed: bool) -> None:
    """DataError where a mask has no image, or a training image no mask."""
    problems = [f"{path} has no image in {images.name}" for case, path in labels.items() if case not in found]
    problems += [f"{path} has no mask" for case, path in found.items() if case not in labels and needed]
    if problems:
        raise DataError(listed_problems(problems) + "; nnU-Net pairs case_0000 with case")


def _picture(folder: Path, image: Path, mask: Path, part: str) -> Picture:
    return Picture(
        image, image.relative_to(folder).as_posix(), case_name(Path(mask.name)), {"": (MaskFile(mask),)}, part
    )
