"""One image file, or one page of it, as a frame of a clip: upright, grey at its own depth, nothing of its metadata."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from uscl.data.ingest.limits import check_frame_size

_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, struct.error, OverflowError)
_DAMAGED += (ZeroDivisionError, AttributeError, NotImplementedError, Image.DecompressionBombError, MemoryError)
"""What Pillow raises on files that are not whole."""
_TURNING = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""
_EXIF_ORIENTATION = 0x0112


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """An image whose pixels are not read yet. ValueError where it is damaged or too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata, which is not kept; the size is checked here
            with Image.open(path) as image:
                check_frame_size(image.height, image.width)
                yield image
    except Image.DecompressionBombError:
        raise ValueError("is larger than the largest image that is read, 100 million pixels") from None
    except _DAMAGED as error:
        raise ValueError(str(error).splitlines()[0] if isinstance(error, ValueError) else "is damaged") from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width after EXIF rotation, px."""
    turned = image.getexif().get(_EXIF_ORIENTATION) in _TURNING
    return (image.width, image.height) if turned else (image.height, image.width)


def upright_pixels(image: Image.Image) -> np.ndarray:
    """(H, W) of the file's own type where it is deep grey, (H, W) uint8 grey, or (H, W, 3) uint8 RGB.

    Palettes become their colours; what is transparent becomes black. ValueError where values are not finite.
    """
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        deep = np.array(image)
        if not np.isfinite(deep).all():
            raise ValueError("holds values that are not numbers")
        return deep
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))


def grey_of_rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W) uint8 luma."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
