"""What the values and colours of masks mean, and the grey levels of the image beside them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageOps

from uscl.data.ingest.limits import MAX_FRAME_PIXELS, TooLarge, check_frame_size
from uscl.errors import DataError
from uscl.spec.regions import all_within

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"))

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""


@dataclass(frozen=True)
class ClassMap:
    """What the values of a mask mean. Value 0 and black are background unless they are named."""

    names: Mapping[int, str]
    """Mask value -> class."""
    contains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Class -> classes within it: a pixel of an inner class belongs to the outer one too."""
    ignore: int | None = None
    """Value of pixels that nobody annotated."""
    colours: Mapping[Colour, str] = field(default_factory=dict)
    """Colour of a mask's pixels -> class, where masks are colour pictures."""
    ignore_colour: Colour | None = None
    """Colour of pixels that nobody annotated."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Each class once, outer ones that have no value of their own last."""
        return tuple(dict.fromkeys([*self.names.values(), *self.colours.values(), *self.contains]))


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
    return checked_map("--classes", ClassMap(names, outer, ignore))


def read_class_map(path: Path) -> ClassMap:
    """A YAML file with `classes: {1: nerve}` or `colours: {"#ff0000": nerve}`, `contains: {capsule: [cortex]}`,
    `ignore: 255` (or a colour); the last two may lack. DataError where it is no such file."""
    if not path.is_file():
        raise DataError(f"what do mask values mean? give --classes 1=NAME,2=NAME or a file {path}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        strange = sorted(set(map(str, document)) - {"classes", "colours", "contains", "ignore"})
        if strange:
            raise ValueError(f"unknown key {strange[0]!r}; known are classes, colours, contains, ignore")
        names = {_value(value): str(name) for value, name in (document.get("classes") or {}).items()}
        colours = {parse_colour(colour): str(name) for colour, name in (document.get("colours") or {}).items()}
        contains = {str(name): _words(inner) for name, inner in (document.get("contains") or {}).items()}
        ignore = document.get("ignore")
        of_colour = parse_colour(ignore) if isinstance(ignore, str) else None
        of_value = None if ignore is None or of_colour else _value(ignore)
        return checked_map(str(path), ClassMap(names, contains, of_value, colours, of_colour))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: expected `classes: {{1: nerve, 2: vessel}}` and the like: {reason}") from error


def parse_colour(text: Any) -> Colour:
    """`#ff0000` -> (255, 0, 0). ValueError where it is no colour."""
    if not isinstance(text, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r} is no colour; write it in quotes, like '#ff0000'")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def colour_text(colour: Sequence[int]) -> str:
    """(255, 0, 0) -> `#ff0000`."""
    return "#" + bytes(int(level) for level in colour).hex()


def read_grey(path: Path) -> tuple[np.ndarray, int]:
    """(H, W) uint8 and the number of channels of the file; upright, 16-bit grey scaled to 8."""
    image = open_image(path)
    channels = len(image.getbands())
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        return np.clip(deep >> 8 if deep.max() > 255 else deep, 0, 255).astype(np.uint8), channels
    if image.mode not in ("L", "1"):
        image = image.convert("RGB")
    return np.array(image.convert("L")), channels


def checked_map(where: str, class_map: ClassMap) -> ClassMap:
    """The same. DataError where it names no class, or classes cannot lie in each other so."""
    if not (class_map.names or class_map.colours):
        raise DataError(f"{where}: names no class; expected mask values and names, like 1=nerve,2=vessel")
    for outer, inners in class_map.contains.items():
        for inner in inners:
            if inner not in class_map.classes:
                raise DataError(f"{where}: {outer!r} contains {inner!r}, which is no class")
            if outer == inner or outer in all_within(inner, class_map.contains):
                raise DataError(f"{where}: {outer!r} and {inner!r} contain each other")
    return class_map


def open_image(path: Path) -> Image.Image:
    """The decoded picture, upright. DataError, naming the file, whatever Pillow raises of damaged or huge ones."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                check_frame_size(image.height, image.width)
                return ImageOps.exif_transpose(image)
    except TooLarge as error:
        raise DataError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:  # before our own look at the size
        raise DataError(
            f"{path}: is far too large; at most {MAX_FRAME_PIXELS // 1_000_000} million pixels are read"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as an image: {' '.join(str(error).split())}") from error
    except Exception as error:  # struct.error, TypeError, OverflowError, ...: damaged tags of TIFF and PNG
        raise DataError(f"{path}: cannot be read as an image ({type(error).__name__})") from error


def _value(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{value!r} is no mask value")
    return int(value)


def _words(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("expected a list of names")
    return [str(word) for word in value]
