"""Find the same recording twice in a set of clips: byte for byte, or in another crop, size or encoding.

Exact copies have one hash. Two files of one recording share its motion: the mean change from frame to frame
correlates at .9998 between the two crops of one clip in `pocus`, and at most at .917 between any other two of its 44
clips; their frames, aligned, correlate at .94 or more. Both are asked for. Parts of a recording are not found.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from uscl.data.ingest.copies import aligned_correlation

MOTION_CORRELATION = 0.99
FRAME_CORRELATION = 0.9
MIN_FRAMES = 16
"""Shorter clips are compared byte for byte only: their motion says too little."""
_VIEW_PX = 64
_BLOCK_CLIPS = 256


@dataclass(frozen=True)
class ClipPrint:
    """What is kept of a clip to know it again."""

    exact: str
    """Hash of its frames."""
    motion: np.ndarray
    """(T - 1,) float32: mean absolute change from frame to frame, grey levels."""
    views: np.ndarray
    """(3, 64, 64) uint8: first, middle and last frame."""


@dataclass(frozen=True)
class SameRecording:
    """Two clips, by position, `first` before `second`; `exact` where their frames are equal."""

    first: int
    second: int
    exact: bool


def clip_print(frames: np.ndarray) -> ClipPrint:
    """`frames` (T, S, S) uint8."""
    motion = [cv2.norm(one, other, cv2.NORM_L1) / one.size for one, other in itertools.pairwise(frames)]
    chosen = frames[[0, len(frames) // 2, -1]]
    views = [cv2.resize(frame, (_VIEW_PX, _VIEW_PX), interpolation=cv2.INTER_AREA) for frame in chosen]
    exact = hashlib.sha256(repr(frames.shape).encode())
    exact.update(np.ascontiguousarray(frames).data)
    return ClipPrint(exact.hexdigest(), np.array(motion, np.float32), np.stack(views))


def find_same_recordings(prints: Sequence[ClipPrint]) -> list[SameRecording]:
    """Each exact copy with the first of its kind, and the pairs among those that show one recording."""
    first: dict[str, int] = {}
    found = []
    for position, entry in enumerate(prints):
        original = first.setdefault(entry.exact, position)
        if original != position:
            found.append(SameRecording(original, position, exact=True))
    lengths: dict[int, list[int]] = {}
    for position in first.values():
        if len(prints[position].motion) + 1 >= MIN_FRAMES and prints[position].motion.std() > 0:
            lengths.setdefault(len(prints[position].motion), []).append(position)
    for positions in lengths.values():
        found += [SameRecording(*pair, exact=False) for pair in _same_motion(prints, positions) if _same(prints, *pair)]
    return found


def _same_motion(prints: Sequence[ClipPrint], positions: Sequence[int]) -> list[tuple[int, int]]:
    motion = np.stack([prints[position].motion for position in positions])
    motion = motion - motion.mean(axis=1, keepdims=True)
    motion /= np.linalg.norm(motion, axis=1, keepdims=True)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(motion), _BLOCK_CLIPS):  # n x n at once is 200 MB for 7,000 clips
        alike = motion[start : start + _BLOCK_CLIPS] @ motion.T >= MOTION_CORRELATION
        pairs += [(start + one, other) for one, other in np.argwhere(alike).tolist() if start + one < other]
    return [(positions[one], positions[other]) for one, other in pairs]


def _same(prints: Sequence[ClipPrint], first: int, second: int) -> bool:
    views = (prints[position].views.astype(np.float32) for position in (first, second))
    return all(aligned_correlation(*pair)[0] >= FRAME_CORRELATION for pair in zip(*views, strict=True))
