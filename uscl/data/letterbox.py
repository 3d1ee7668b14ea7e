"""Fit an image of any shape into a square and back: one scale, black padding, aspect kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Interpolation = Literal["image", "linear", "nearest"]
"""`image`: area when shrinking, linear when growing; `nearest` for masks; `linear` for probabilities."""


@dataclass(frozen=True)
class Letterbox:
    """Between a `height` x `width` image and a `size` x `size` square: centred, the longest side filling it."""

    height: int
    width: int
    size: int

    @classmethod
    def of(cls, image: np.ndarray, size: int) -> Letterbox:
        """The letterbox of an image (H, W)."""
        return cls(image.shape[0], image.shape[1], size)

    @property
    def scale(self) -> float:
        """Square pixels per native pixel."""
        return self.size / max(self.height, self.width)

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the image inside the square, px; at least 1."""
        return max(1, round(self.height * self.scale)), max(1, round(self.width * self.scale))

    @property
    def top(self) -> int:
        """Rows of padding above."""
        return (self.size - self.inner[0]) // 2

    @property
    def left(self) -> int:
        """Columns of padding to the left."""
        return (self.size - self.inner[1]) // 2

    def to_square(self, image: np.ndarray, interpolation: Interpolation = "image") -> np.ndarray:
        """`image` (height, width) or (K, height, width), bool, uint8 or float32 -> the same with a square of `size`."""
        if image.ndim == 3:
            planes = [self.to_square(plane, interpolation) for plane in image]
            return np.stack(planes) if planes else np.zeros((0, self.size, self.size), image.dtype)
        assert image.shape == (self.height, self.width)
        square = np.zeros((self.size, self.size), image.dtype)
        rows, columns = self._window()
        square[rows, columns] = _resize(image, self.inner, interpolation)
        return square

    def to_native(self, planes: np.ndarray, interpolation: Interpolation = "linear") -> np.ndarray:
        """`planes` (K, size, size) -> (K, height, width); the padding is dropped."""
        assert planes.shape[-2:] == (self.size, self.size)
        rows, columns = self._window()
        native = [_resize(plane[rows, columns], (self.height, self.width), interpolation) for plane in planes]
        return np.stack(native) if native else np.zeros((0, self.height, self.width), planes.dtype)

    def shrunk(self, image: np.ndarray, interpolation: Interpolation = "image") -> np.ndarray:
        """`image` (height, width) without padding, its longest side `size`; as it is where it is no larger."""
        return image if self.scale >= 1 else _resize(image, self.inner, interpolation)

    def enlarged(self, masks: np.ndarray) -> np.ndarray:
        """bool (K, h, w) of a `shrunk` frame -> bool (K, height, width): linear, then cut at 1/2."""
        if masks.shape[1:] == (self.height, self.width):
            return masks
        planes = [_resize(mask.astype(np.float32), (self.height, self.width), "linear") for mask in masks]
        return np.stack(planes) > 0.5

    def _window(self) -> tuple[slice, slice]:
        height, width = self.inner
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def _resize(image: np.ndarray, shape: tuple[int, int], interpolation: Interpolation) -> np.ndarray:
    """`image` (H, W) at `shape` (height, width); bool comes back as bool."""
    if image.shape == shape:
        return image
    if image.dtype == np.bool_:
        return _resize(image.view(np.uint8), shape, "nearest").astype(np.bool_)
    shrinking = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    code = {"nearest": cv2.INTER_NEAREST_EXACT, "linear": cv2.INTER_LINEAR}.get(
        interpolation, cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (shape[1], shape[0]), interpolation=code))
