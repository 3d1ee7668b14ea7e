"""Find the same picture twice in a set of labelled images, also where a copy was cropped or moved a little.

An exact hash misses a cropped copy and a thumbnail most of them; the correlation at the best shift separates them
cleanly (data-formats.md 4: copies at least .997, one near view .975, every other pair at most .861).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft

HEIGHT_PX = 128
MAX_SHIFT_PX = 14
COPY_CORRELATION = 0.997
COPY_MASK_DICE = 0.9
"""Neighbouring frames of a clip correlate as highly as copies do, but their masks move; a copy's do not."""
NEAR_CORRELATION = 0.95
_RECHECK_CORRELATION = 0.97
"""From here a pair is compared again at native size: a shift by part of a small pixel costs a copy up to .005."""
_NATIVE_CROP_PX = 256
_SPECTRUM_PX = 112
_SPECTRUM_CORRELATION = 0.6
"""Pairs whose shift-free spectra agree less are not compared further; on usgra every copy is above .93."""
_COMPARE_ALL = 60
"""Up to so many images every pair is compared: their mean spectrum says too little."""
_MIN_OVERLAP_FRACTION = 0.6


@dataclass(frozen=True)
class Thumbnail:
    """One labelled image, 128 px high."""

    grey: np.ndarray
    """(128, W) float32."""
    masks: np.ndarray
    """(K, 128, W) bool."""
    exact: str
    """Hash of the native grey image."""
    rank: tuple[int, int]
    """Colour channels and native pixels: the copy of lower rank is the one given up."""


@dataclass(frozen=True)
class Likeness:
    """Two images, by position, that show the same thing; `copy` where one adds nothing to the other."""

    first: int
    second: int
    correlation: float
    copy: bool
    least_dice: float = 1.0
    """Where the pixels are the same: Dice of the class on which the masks agree least."""


def make_thumbnail(image: np.ndarray, masks: np.ndarray, *, exact: str, channels: int) -> Thumbnail:
    """`image` (H, W) uint8, `masks` (K, H, W) bool."""
    height, width = image.shape
    shape = (max(1, round(width * HEIGHT_PX / height)), HEIGHT_PX)
    grey = cv2.resize(image, shape, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = [cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
    return Thumbnail(grey, np.stack(small).astype(bool), exact, (channels, height * width))


def find_likenesses(thumbnails: Sequence[Thumbnail], load: Callable[[int], np.ndarray]) -> list[Likeness]:
    """All pairs that are copies or near views, in order of position; `load` gives the native image of a position."""
    found = []
    for first, second in _candidates(thumbnails):
        one, other = thumbnails[first], thumbnails[second]
        if one.exact == other.exact:
            found.append(Likeness(first, second, 1.0, copy=True, least_dice=_least_dice(one.masks, other.masks)))
            continue
        correlation, down, right = aligned_correlation(one.grey, other.grey)
        same_masks = _mask_dice(one.masks, other.masks, down=down, right=right) >= COPY_MASK_DICE
        if same_masks and _RECHECK_CORRELATION <= correlation < COPY_CORRELATION:
            correlation = max(correlation, _native_correlation(load(first), load(second), down=down, right=right))
        if correlation >= NEAR_CORRELATION:
            found.append(Likeness(first, second, correlation, copy=correlation >= COPY_CORRELATION and same_masks))
    return found


def copies_to_exclude(thumbnails: Sequence[Thumbnail], likenesses: Sequence[Likeness]) -> dict[int, int]:
    """Position of each copy to leave out -> position of the one that stays: more channels, more pixels, first."""
    order = sorted(range(len(thumbnails)), key=lambda i: (*(-value for value in thumbnails[i].rank), i))
    place = {position: number for number, position in enumerate(order)}
    kept_for: dict[int, int] = {}
    for likeness in sorted(likenesses, key=lambda pair: min(place[pair.first], place[pair.second])):
        if likeness.copy:
            kept, given_up = sorted((likeness.first, likeness.second), key=place.__getitem__)
            kept_for.setdefault(given_up, kept_for.get(kept, kept))
    return kept_for


def aligned_correlation(one: np.ndarray, other: np.ndarray) -> tuple[float, int, int]:
    """Best Pearson correlation over the overlap of two float images, and the shift (down, right) of `other`.

    Shifts to +-14 px; the overlap holds at least 0.6 of the smaller image. Sums over every overlap by FFT.
    """
    shape = [scipy.fft.next_fast_len(a + b, real=True) for a, b in zip(one.shape, other.shape, strict=True)]
    offset = np.float32((one.mean() + other.mean()) / 2)  # correlation is unmoved by it, rounding is not
    first = [scipy.fft.rfft2(plane, shape) for plane in _powers(one - offset)]
    second = [np.conj(scipy.fft.rfft2(plane, shape)) for plane in _powers(other - offset)]
    pairs = [(0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1)]
    shifts = np.arange(-MAX_SHIFT_PX, MAX_SHIFT_PX + 1)
    window = np.ix_(shifts % shape[0], shifts % shape[1])
    sums = (scipy.fft.irfft2(first[a] * second[b], shape)[window] for a, b in pairs)
    count, s1, s2, s11, s22, s12 = (values.astype(np.float64) for values in sums)
    count = np.maximum(count, 1)
    spread = np.maximum(s11 - s1**2 / count, 1e-6) * np.maximum(s22 - s2**2 / count, 1e-6)
    correlation = (s12 - s1 * s2 / count) / np.sqrt(spread)
    correlation[count < _MIN_OVERLAP_FRACTION * min(one.size, other.size)] = -1
    down, right = np.unravel_index(int(correlation.argmax()), correlation.shape)
    return float(correlation[down, right]), int(shifts[down]), int(shifts[right])


def _native_correlation(one: np.ndarray, other: np.ndarray, *, down: int, right: int) -> float:
    """Best correlation of the middles of two native images that fit at (down, right) when 128 px high."""
    scale = one.shape[0] / HEIGHT_PX
    first = _centre(one, _NATIVE_CROP_PX, _NATIVE_CROP_PX)
    moved = {"down": -round(down * scale), "right": -round(right * scale)}
    second = _centre(other, _NATIVE_CROP_PX, _NATIVE_CROP_PX, **moved)
    return aligned_correlation(first.astype(np.float32), second.astype(np.float32))[0]


def _powers(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.ones_like(image), image, image * image


def _candidates(thumbnails: Sequence[Thumbnail]) -> list[tuple[int, int]]:
    """Pairs whose amplitude spectra, which no shift changes, agree: one matrix product for all pairs."""
    if len(thumbnails) <= _COMPARE_ALL:
        return list(itertools.combinations(range(len(thumbnails)), 2))
    spectra = _spectra(thumbnails)
    found: list[tuple[int, int]] = []
    for start in range(0, len(spectra), 1024):  # a block of rows at a time bounds the memory
        agreement = spectra[start : start + 1024] @ spectra.T
        rows, columns = np.nonzero(agreement > _SPECTRUM_CORRELATION)
        found += [(int(a) + start, int(b)) for a, b in zip(rows, columns, strict=True) if a + start < b]
    return found


def _spectra(thumbnails: Sequence[Thumbnail]) -> np.ndarray:
    """(N, D) unit vectors: log amplitudes of the centre, less their mean over all images."""
    spectra = np.stack([_spectrum(thumbnail.grey) for thumbnail in thumbnails])
    spectra -= spectra.mean(axis=0)
    return np.asarray(spectra / np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-6), np.float32)


def _spectrum(grey: np.ndarray) -> np.ndarray:
    """Log amplitudes of the middle 112 x 112 px under a window that hides the borders; low frequencies only."""
    middle = _centre(grey, _SPECTRUM_PX, _SPECTRUM_PX)
    padding = [(0, _SPECTRUM_PX - length) for length in middle.shape]
    window = np.outer(*(np.hanning(length) for length in middle.shape))
    amplitude = np.abs(scipy.fft.rfft2(np.pad((middle - middle.mean()) * window, padding)))
    low = np.concatenate([amplitude[:20, :20], amplitude[-20:, :20]])
    return np.log1p(low).ravel().astype(np.float32)


def _centre(image: np.ndarray, height: int, width: int, *, down: int = 0, right: int = 0) -> np.ndarray:
    """The middle of an image, `height` x `width` or less, moved by (down, right) as far as there is room."""
    top = min(max(0, (image.shape[0] - height) // 2 + down), max(0, image.shape[0] - height))
    left = min(max(0, (image.shape[1] - width) // 2 + right), max(0, image.shape[1] - width))
    return image[top : top + height, left : left + width]


def _mask_dice(one: np.ndarray, other: np.ndarray, *, down: int, right: int) -> float:
    """Dice of all planes together after `other` (K, H, W) is moved; 1 where both are empty."""
    first, second = _overlap(one.shape[1], other.shape[1], down), _overlap(one.shape[2], other.shape[2], right)
    a = one[:, first[0], second[0]]
    b = other[:, first[1], second[1]]
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def _least_dice(one: np.ndarray, other: np.ndarray) -> float:
    """The lowest Dice of any plane of two (K, H, W) masks of one size."""
    planes = zip(one[:, None], other[:, None], strict=True)
    return min((_mask_dice(*pair, down=0, right=0) for pair in planes), default=1.0)


def _overlap(length: int, other: int, shift: int) -> tuple[slice, slice]:
    """Where two lines overlap when the second starts at `shift`: the slice of each."""
    start, end = max(0, shift), min(length, other + shift)
    return slice(start, end), slice(start - shift, end - shift)
