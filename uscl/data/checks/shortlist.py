"""Which pictures are worth comparing closely: the few that are most alike when 16 px wide, at the best small shift.

An aligned correlation of two pictures costs milliseconds, and there are N squared pairs. Here a pair costs 25 dot
products of 144 numbers, in one matrix product. However alike the pictures of a set are, each is compared closely with
NEAREST others and no more, so the cost grows with N. It finds all pairs of `usgra` whose aligned correlation is .84 or
more, the spectra of ingest/copies.py the copies among them only.
"""

# N, M pictures, T frames, H x W pixels

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

COARSE_PX = 16
_SHIFT = 2
"""Shifts to +-2 of 16 px: to an eighth of the picture, as far as the close comparison goes."""
_INNER = slice(_SHIFT, COARSE_PX - _SHIFT)
NEAREST = 4
"""Others that each picture is compared with closely."""
_LEAST_AGREEMENT = 0.8
"""Less is not compared: the pairs of `usgra` that people call near views agree by .9 and more when 16 px wide."""
_ROWS = 512


def coarse(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """N images (H, W), of whatever size -> (N, 16, 16) float32."""
    small = [cv2.resize(image, (COARSE_PX, COARSE_PX), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(small).astype(np.float32) if small else np.zeros((0, COARSE_PX, COARSE_PX), np.float32)


def coarse_agreement(one_N: np.ndarray, other_M: np.ndarray) -> np.ndarray:
    """(N, M) correlation of the middles of `one` with those of `other`, both (., 16, 16), at the best of 25 shifts."""
    middle = _unit(one_N[:, _INNER, _INNER])
    best = np.full((len(one_N), len(other_M)), -1, np.float32)
    for down in range(2 * _SHIFT + 1):
        for right in range(2 * _SHIFT + 1):
            size = COARSE_PX - 2 * _SHIFT
            moved = _unit(other_M[:, down : down + size, right : right + size])
            np.maximum(best, middle @ moved.T, out=best)
    return best


def nearest_pairs(coarse_N: np.ndarray, units: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of positions, sorted: each with the NEAREST of other units that it agrees with most."""
    pairs: set[tuple[int, int]] = set()
    unit_N = np.unique(np.asarray(units, str), return_inverse=True)[1]
    for start in range(0, len(coarse_N), _ROWS):  # a block of rows at a time bounds the memory
        agreement = coarse_agreement(coarse_N[start : start + _ROWS], coarse_N)
        agreement[unit_N[start : start + _ROWS, None] == unit_N[None]] = -2
        for row, best in enumerate(top(agreement, NEAREST).tolist()):
            close = [one for one in best if agreement[row, one] >= _LEAST_AGREEMENT]
            pairs |= {(min(start + row, one), max(start + row, one)) for one in close}
    return sorted(pairs)


def top(scores_NM: np.ndarray, count: int) -> np.ndarray:
    """(N, count) columns of the highest scores of each row, the highest first; of equals the first."""
    return np.argsort(-scores_NM, axis=1, kind="stable")[:, :count]


def _unit(patches: np.ndarray) -> np.ndarray:
    flat = patches.reshape(len(patches), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6), np.float32)
