"""Read one labelled image: grey levels, and class masks by a map from mask values to names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageOps

from uscl.data.ingest.limits import check_frame_size
from uscl.errors import DataError

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"))
JPEG_THRESHOLD = 128
"""JPEG leaves values between 0 and 255; thresholds of 100 to 150 are in use (data-formats.md 4)."""


@dataclass(frozen=True)
class ClassMap:
    """What the values of a mask mean. Value 0 is background unless it is named."""

    names: Mapping[int, str]
    """Mask value -> class."""
    contains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Class -> classes within it: a pixel of an inner class belongs to the outer one too."""
    ignore: int | None = None
    """Value of pixels that nobody annotated."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Each class once, outer ones that have no value of their own last."""
        return tuple(dict.fromkeys([*self.names.values(), *self.contains]))


@dataclass(frozen=True)
class LabelledImage:
    """An image with its masks, as read."""

    grey: np.ndarray
    """(H, W) uint8."""
    channels: int
    masks: np.ndarray
    """(K, H, W) bool, in the order of the map's classes."""
    known: np.ndarray
    """(H, W) bool."""


def parse_class_map(classes: str, contains: Sequence[str] = (), ignore: int | None = None) -> ClassMap:
    """`1=nerve,2=vessel` and `capsule=cortex,medulla` (one entry per outer class). DataError where they say nothing."""
    names: dict[int, str] = {}
    for part in filter(None, classes.split(",")):
        value, _, name = part.partition("=")
        if not value.strip().isdigit() or not name.strip():
            raise DataError(f"--classes: cannot read {part!r}; expected VALUE=NAME, like 1=nerve,2=vessel")
        if int(value) in names:
            raise DataError(f"--classes: value {int(value)} is named twice")
        names[int(value)] = name.strip()
    outer = {}
    for part in contains:
        name, _, inner = part.partition("=")
        outer[name.strip()] = [word.strip() for word in inner.split(",") if word.strip()]
        if not outer[name.strip()]:
            raise DataError(
                f"--contains: cannot read {part!r}; expected OUTER=INNER,INNER, like capsule=cortex,medulla"
            )
    return _checked("--classes", ClassMap(names, outer, ignore))


def read_class_map(path: Path) -> ClassMap:
    """A YAML file with `classes: {1: nerve}`, `contains: {capsule: [cortex]}`, `ignore: 255`; the last two may lack."""
    if not path.is_file():
        raise DataError(f"what do mask values mean? give --classes 1=NAME,2=NAME or a file {path}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = {int(value): str(name) for value, name in document["classes"].items()}
        contains = {str(name): [str(word) for word in inner] for name, inner in document.get("contains", {}).items()}
        ignore = document.get("ignore")
        return _checked(str(path), ClassMap(names, contains, None if ignore is None else int(ignore)))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: expected `classes: {{1: nerve, 2: vessel}}` and the like: {reason}") from error


def read_labelled_image(image_path: Path, mask_path: Path, class_map: ClassMap) -> LabelledImage:
    """Read a pair. DataError, naming the files, where one is unreadable, sizes differ or a mask value has no name."""
    grey, channels = read_grey(image_path)
    values = _mask_values(mask_path, class_map)
    if values.shape != grey.shape:
        sizes = [f"{shape[1]} x {shape[0]} px" for shape in (grey.shape, values.shape)]
        raise DataError(f"{image_path} is {sizes[0]} (width x height), but its mask {mask_path} is {sizes[1]}")
    known_values = {0, *class_map.names} | ({class_map.ignore} if class_map.ignore is not None else set())
    unnamed = sorted(set(np.unique(values).tolist()) - known_values)
    if unnamed:
        listed = ", ".join(map(str, unnamed[:5])) + (", ..." if len(unnamed) > 5 else "")
        raise DataError(f"{mask_path}: holds value {listed}, which --classes does not name")
    return LabelledImage(grey, channels, _class_masks(values, class_map), values != _ignored(class_map))


def read_grey(path: Path) -> tuple[np.ndarray, int]:
    """(H, W) uint8 and the number of channels of the file; upright, 16-bit grey scaled to 8."""
    image = _open(path)
    channels = len(image.getbands())
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        return np.clip(deep >> 8 if deep.max() > 255 else deep, 0, 255).astype(np.uint8), channels
    if image.mode not in ("L", "1"):
        image = image.convert("RGB")
    return np.array(image.convert("L")), channels


def _mask_values(path: Path, class_map: ClassMap) -> np.ndarray:
    """(H, W) mask values. Palettes keep their indices; colour is taken where all channels agree."""
    image = _open(path)
    values = np.asarray(image).astype(np.uint8 if image.mode == "1" else np.int64)
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        if np.any(colours != colours[..., :1]):
            raise DataError(f"{path}: is a colour picture, so its values name no classes; save it as palette or grey")
        values = colours[..., 0]
    if path.suffix.lower() in (".jpg", ".jpeg"):
        if len(class_map.names) != 1:
            raise DataError(f"{path}: JPEG does not keep the values of several classes; save masks as PNG")
        values = np.where(values >= JPEG_THRESHOLD, next(iter(class_map.names)), 0)
    return values


def _class_masks(values: np.ndarray, class_map: ClassMap) -> np.ndarray:
    masks = {name: np.zeros(values.shape, bool) for name in class_map.classes}
    for value, name in class_map.names.items():
        masks[name] |= values == value
    for name in masks:
        for inner in _all_within(class_map.contains, name):
            masks[name] |= masks[inner]
    return np.stack(list(masks.values()))


def _all_within(contains: Mapping[str, Sequence[str]], name: str) -> set[str]:
    found: set[str] = set()
    left = list(contains.get(name, ()))
    while left:
        inner = left.pop()
        if inner not in found:
            found.add(inner)
            left += contains.get(inner, ())
    return found


def _ignored(class_map: ClassMap) -> int:
    return -1 if class_map.ignore is None else class_map.ignore


def _checked(where: str, class_map: ClassMap) -> ClassMap:
    if not class_map.names:
        raise DataError(f"{where}: names no class; expected mask values and names, like 1=nerve,2=vessel")
    for outer, inners in class_map.contains.items():
        for inner in inners:
            if inner not in class_map.classes:
                raise DataError(f"{where}: {outer!r} contains {inner!r}, which is no class")
            if outer == inner or outer in _all_within(class_map.contains, inner):
                raise DataError(f"{where}: {outer!r} and {inner!r} contain each other")
    return class_map


def _open(path: Path) -> Image.Image:
    """The whole picture, upright. DataError, naming the file, whatever Pillow raises of damaged or huge ones."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                check_frame_size(image.height, image.width)
                return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {' '.join(str(error).split())}") from error
    except Exception as error:  # struct.error, TypeError, OverflowError, ...: damaged tags of TIFF and PNG
        raise DataError(f"{path}: cannot be read as an image ({type(error).__name__})") from error
