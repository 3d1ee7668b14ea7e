"""Which frames make a pretraining batch, and how stored grey levels become network input.

A batch is V clips x F frames: an anchor, a near frame and far frames of each clip, so that temporal pairs exist
at all; with thousands of clips a uniform draw would almost never hold two frames of one clip (science.md 3.2).
Every draw is a function of (seed, step) alone: a resumed run draws what an undisturbed one would have drawn.
"""

# N frames, H x W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uscl.data.augment import send
from uscl.data.curriculum import clip_length, negative_range, reachable_range
from uscl.data.dataset import Dataset
from uscl.data.pairs import POSITION_TOLERANCE, near_far, within

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0
"""Chaitanya 2020: min-max by the 1st and 99th percentile of the frame, not clipped."""


@dataclass(frozen=True, slots=True)
class PairSampling:
    """Which frames of a clip a batch holds; `window` None draws frames uniformly (polarity `none`)."""

    window: float | None = None
    guard: float = 0.0
    unit: str = "frames"
    shuffled: bool = False
    density: str = "uniform"
    """`decreasing`: a near frame at distance t is drawn with weight 1 - t / T, T the first distance past the window."""
    curriculum: str = "none"
    """Of the far frames' distance, as in data/curriculum.py."""
    steps: int = 1
    """Steps over which the curriculum runs."""


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """N frames of one batch; `position` is a frame's place in its clip in the sampling's unit."""

    rows: NDArray[np.int64]
    clip: NDArray[np.int64]
    patient: NDArray[np.int64]
    position: NDArray[np.float64]
    short_clips: int
    """Clips of this batch too short for the window: their frames were drawn uniformly."""
    far_range: NDArray[np.float64] | None = None
    """(N, 2): at which distances far frames of each frame's clip count, under a curriculum."""


@dataclass(frozen=True, slots=True)
class _ClipFrames:
    rows: NDArray[np.int64]
    position: NDArray[np.float64]
    patient: int
    length: float
    """Of the whole clip, in the sampling's unit."""
    anchors: NDArray[np.int64]
    """Frames with a near and a far frame, by index; none without a window."""


@dataclass(frozen=True, slots=True)
class _Picks:
    """Frames of one clip, by their index among its usable frames."""

    frames: NDArray[np.int64]
    short: bool
    far_range: tuple[float, float] = (0.0, np.inf)


class ClipSampler:
    """Draws clip-structured batches. Frames marked as duplicates of their predecessor are never drawn."""

    def __init__(
        self,
        dataset: Dataset,
        clips: Sequence[str],
        *,
        num_clips: int,
        num_frames: int,
        sampling: PairSampling,
        seed: int,
    ) -> None:
        patients = {clip.clip: clip.patient for clip in dataset.index.clips}
        codes = {patient: code for code, patient in enumerate(sorted(set(patients.values())))}
        self._clips = [
            _usable_frames(dataset, clip, sampling=sampling, patient=codes[patients[clip]], seed=seed) for clip in clips
        ]
        self._num_clips, self._num_frames = num_clips, num_frames
        self._sampling, self._seed = sampling, seed

    def batch(self, step: int) -> ClipBatch:
        """The batch of one optimiser step: `num_clips` different clips (as far as there are as many)."""
        rng = np.random.default_rng([self._seed, step])
        few = len(self._clips) < self._num_clips
        chosen = rng.choice(len(self._clips), self._num_clips, replace=few)
        picks = [self._pick(self._clips[number], rng, step) for number in chosen]
        far_range = None
        if self._sampling.window is not None and self._sampling.curriculum != "none":
            far_range = np.repeat([pick.far_range for pick in picks], self._num_frames, axis=0)
        drawn = [(self._clips[number], pick.frames) for number, pick in zip(chosen, picks, strict=True)]
        return ClipBatch(
            rows=np.concatenate([clip.rows[frames] for clip, frames in drawn]),
            clip=np.repeat(chosen, self._num_frames),
            patient=np.repeat([clip.patient for clip, _ in drawn], self._num_frames),
            position=np.concatenate([clip.position[frames] for clip, frames in drawn]),
            short_clips=sum(pick.short for pick in picks),
            far_range=far_range,
        )

    def _pick(self, clip: _ClipFrames, rng: np.random.Generator, step: int) -> _Picks:
        """Anchor, near and far frames within the clip; any frames where it is too short for them."""
        count = len(clip.rows)
        if self._sampling.window is None:
            return _Picks(rng.choice(count, self._num_frames, replace=count < self._num_frames), short=False)
        far_range, anchors = self._anchors_at(clip, self._sampling.window, step)
        if not len(anchors):
            anything = rng.choice(count, self._num_frames, replace=count < self._num_frames)
            return _Picks(anything, short=True, far_range=far_range)
        anchor = int(anchors[rng.integers(len(anchors))])
        gap = torch.from_numpy(np.abs(clip.position[anchor] - clip.position))
        is_near, is_far = near_far(gap, window=self._sampling.window, guard=self._sampling.guard)
        is_near[anchor] = False
        near, far = np.flatnonzero(is_near.numpy()), np.flatnonzero((is_far & within(gap, *far_range)).numpy())
        num_near = max(1, self._num_frames // 4)
        num_far = self._num_frames - 1 - num_near
        density = self._near_density(gap.numpy(), near)
        picks: list[NDArray[np.int64]] = [
            np.array([anchor]),
            rng.choice(near, num_near, replace=len(near) < num_near, p=density),
            rng.choice(far, num_far, replace=len(far) < num_far),
        ]
        return _Picks(np.concatenate(picks), short=False, far_range=far_range)

    def _anchors_at(self, clip: _ClipFrames, window: float, step: int) -> tuple[tuple[float, float], NDArray[np.int64]]:
        """At which distances far frames of this clip count at this step, and its anchors for them."""
        if self._sampling.curriculum == "none":
            return (0.0, np.inf), clip.anchors
        gap = torch.from_numpy(np.abs(clip.position[:, None] - clip.position[None]))
        is_near, is_far = near_far(gap, window=window, guard=self._sampling.guard)
        is_near.fill_diagonal_(False)
        far_range = self._far_range(clip, gap[is_far].numpy(), step)
        is_far &= within(gap, *far_range)
        return far_range, np.flatnonzero((is_near.any(dim=1) & is_far.any(dim=1)).numpy())

    def _far_range(self, clip: _ClipFrames, far_gaps: NDArray[np.float64], step: int) -> tuple[float, float]:
        """At which distances far frames of this clip count at this step of a curriculum; any, where it has none."""
        if not len(far_gaps):
            return 0.0, np.inf
        low, high = negative_range(self._sampling.curriculum, step / self._sampling.steps)
        return reachable_range(far_gaps, low * clip.length, high * clip.length, tolerance=POSITION_TOLERANCE)

    def _near_density(self, gap_F: NDArray[np.float64], near: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Probability of each near frame; None: all alike. `gap_F`: distances from the anchor."""
        if self._sampling.density == "uniform" or self._sampling.window is None:
            return None
        past_window = gap_F[gap_F > self._sampling.window + POSITION_TOLERANCE].min()  # an anchor has far frames
        weight = 1.0 - gap_F[near] / past_window
        return np.asarray(weight / weight.sum())


def _usable_frames(dataset: Dataset, clip: str, *, sampling: PairSampling, patient: int, seed: int) -> _ClipFrames:
    frames = dataset.clip_table[clip]
    usable = np.flatnonzero(~frames.duplicate)
    position = _positions(np.arange(frames.num_frames), frames.times_ms, unit=sampling.unit)
    if sampling.shuffled:
        salt = int.from_bytes(clip.encode()[-8:], "little")
        position = np.random.default_rng([seed, salt]).permutation(position)
    return _ClipFrames(
        rows=frames.first_row + usable,
        position=position[usable],
        patient=patient,
        length=clip_length(position),
        anchors=_anchors(position[usable], sampling),
    )


def _anchors(position_F: NDArray[np.float64], sampling: PairSampling) -> NDArray[np.int64]:
    """Frames with a near and a far frame: those whose nearest frame is near and whose farthest is far."""
    if sampling.window is None:
        return np.empty(0, np.int64)
    order = np.argsort(position_F)
    ordered_F = position_F[order]
    space = np.diff(ordered_F, prepend=-np.inf, append=np.inf)
    nearest_F = np.empty_like(position_F)
    nearest_F[order] = np.minimum(space[:-1], space[1:])
    farthest_F = np.maximum(ordered_F[-1:] - position_F, position_F - ordered_F[:1])
    has_near, _ = near_far(torch.from_numpy(nearest_F), window=sampling.window, guard=sampling.guard)
    _, has_far = near_far(torch.from_numpy(farthest_F), window=sampling.window, guard=sampling.guard)
    return np.flatnonzero((has_near & has_far).numpy())


def _positions(number: NDArray[np.int64], times_ms: NDArray[np.float64], *, unit: str) -> NDArray[np.float64]:
    if unit == "ms":
        return times_ms.astype(np.float64)
    if unit == "fraction":
        return number / len(number)
    return number.astype(np.float64)


def normalise(frames_NHW: NDArray[np.uint8], *, size: int, norm: str) -> NDArray[np.float32]:
    """Stored grey levels as network input (N, size, size), float32; `norm` as in ImageSpec."""
    frames_NHW = resize(frames_NHW, size)
    grey: NDArray[np.float32] = np.divide(frames_NHW, np.float32(255.0), dtype=np.float32)
    if norm == "none":
        return grey
    if norm == "zscore":
        mean, std = grey.mean(axis=(1, 2), keepdims=True), grey.std(axis=(1, 2), keepdims=True)
        return np.asarray((grey - mean) / np.maximum(std, np.float32(1e-3)))
    low, high = grey_percentiles(frames_NHW)
    return np.asarray((grey - low) / np.maximum(high - low, np.float32(1.0 / 255.0)))


def resize(frames_NHW: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Square frames reduced to `size` px by area; as they are where they have it already."""
    if frames_NHW.shape[1] == size:
        return frames_NHW
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames_NHW])


def grey_percentiles(frames_NHW: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """1st and 99th percentile of each frame as (N, 1, 1) in [0, 1], exact from 256-bin histograms."""
    count, pixels = len(frames_NHW), frames_NHW[0].size
    offsets = (np.arange(count, dtype=np.int32) * 256)[:, None]
    bins = (frames_NHW.reshape(count, -1) + offsets).ravel()
    cumulative = np.bincount(bins, minlength=256 * count).reshape(count, 256).cumsum(axis=1)

    def level(percentile: float) -> NDArray[np.float32]:
        reached = cumulative >= pixels * percentile / 100.0
        return np.asarray(reached.argmax(axis=1) / 255.0, np.float32)[:, None, None]

    return level(LOW_PERCENTILE), level(HIGH_PERCENTILE)


def to_device(array: NDArray[np.float32], device: torch.device) -> Tensor:
    """The array as a tensor on the device, without waiting for the copy."""
    return send(torch.from_numpy(np.ascontiguousarray(array)), device)
