"""Batches of Chaitanya et al. 2020, with a clip for a volume and its time bins for partitions (science.md 2.2, 2.3).

A batch has P places: a frame each, m clips x `parts` bins in the order of clips, or frames from anywhere. Every place
comes in several slots: a second draw of its bin, and views of its frame. Images lie slot by slot, so the N images of
slot s are numbers s P to s P + P - 1. Masks depend on that layout alone: they are made once, on the CPU.
"""
# P places, S slots, N = S x P images

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uscl.data.batches import ClipBatch
from uscl.data.dataset import Dataset
from uscl.data.pairs import LocalPairs, PairMasks
from uscl.errors import DataError

FAITHFUL_SKIP_STRIDE = 4
"""The official G^D- leaves out every 4th image as of the same partition, whatever the number of partitions."""


@dataclass(frozen=True, slots=True)
class BatchRule:
    """What a variant makes of the frames of a batch."""

    originals: int
    """Views of a frame as it is; they come first."""
    augmented: int
    """Randomly changed views of a frame."""
    draws: int = 1
    """Frames drawn per place; all first draws come before the second ones."""
    links: tuple[tuple[int, int], ...] = ()
    """Global variants: slots whose images of one place are positives, in both directions."""

    @property
    def slots(self) -> int:
        """Images per place."""
        return self.draws * (self.originals + self.augmented)


RULES: Mapping[str, BatchRule] = {
    "clip": BatchRule(originals=0, augmented=2),
    "GR": BatchRule(originals=0, augmented=2, links=((0, 1),)),
    "GDminus": BatchRule(originals=1, augmented=2, links=((0, 1), (0, 2), (1, 2))),
    # slots: x_i, x_j, x~_i, x~_j
    "GD": BatchRule(originals=1, augmented=1, draws=2, links=((0, 2), (0, 1), (1, 3), (2, 3))),
    "LR": BatchRule(originals=0, augmented=2),
    "LD": BatchRule(originals=1, augmented=1),
}


class PartitionSampler:
    """Draws m clips x `parts` time bins x one frame, once or twice. Frames marked as duplicates are never drawn.

    Frame k of a clip's n others is in bin floor(k x parts / n); a clip with fewer frames than bins is never drawn.
    The second draw takes another frame of the same bin (the same one where the bin has no other), or, under
    `other_clips`, is independent of the first: m clips of its own.
    """

    def __init__(
        self,
        dataset: Dataset,
        clips: Sequence[str],
        *,
        num_clips: int,
        parts: int,
        draws: int = 1,
        other_clips: bool = False,
        seed: int,
    ) -> None:
        self._frames = _usable(dataset, clips, at_least=parts)
        if not len(self._frames.count):
            raise DataError(f"no clip has {parts} frames that differ from the one before; set fewer parts")
        self._num_clips, self._parts, self._draws = num_clips, parts, draws
        self._other_clips, self._seed = other_clips, seed

    def batch(self, step: int) -> ClipBatch:
        """The batch of one optimiser step; different clips, as far as there are as many."""
        rng = np.random.default_rng([self._seed, step])
        clip, pick = self._draw(rng)
        if self._draws == 2:
            again = self._draw(rng) if self._other_clips else (clip, self._again(clip, pick, rng))
            clip, pick = np.concatenate([clip, again[0]]), np.concatenate([pick, again[1]])
        return self._frames.batch(clip.ravel(), pick.ravel())

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Clip and frame within the clip of every place, each (m, parts)."""
        number = len(self._frames.count)
        chosen = rng.choice(number, self._num_clips, replace=number < self._num_clips)
        clip = np.repeat(chosen[:, None], self._parts, axis=1)
        start, size = self._bins(clip)
        return clip, start + rng.integers(size)

    def _again(self, clip: NDArray[np.int64], pick: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Another frame of each place's bin; the same where it has no other."""
        start, size = self._bins(clip)
        further = np.where(size > 1, 1 + rng.integers(np.maximum(size - 1, 1)), 0)
        return start + (pick - start + further) % size

    def _bins(self, clip: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frame and number of frames of every place's bin, each (m, parts)."""
        edges = -(-self._frames.count[clip[:, :1]] * np.arange(self._parts + 1) // self._parts)  # rounded up
        return edges[:, :-1], np.diff(edges, axis=1)


class FrameSampler:
    """Draws different frames from anywhere (G^R, L^R). Frames marked as duplicates are never drawn."""

    def __init__(self, dataset: Dataset, clips: Sequence[str], *, num_frames: int, seed: int) -> None:
        self._frames = _usable(dataset, clips, at_least=1)
        self._num_frames, self._seed = num_frames, seed

    def batch(self, step: int) -> ClipBatch:
        """The batch of one optimiser step: every frame is as likely, whatever clip it is of."""
        rng, number = np.random.default_rng([self._seed, step]), len(self._frames.rows)
        chosen = rng.choice(number, self._num_frames, replace=number < self._num_frames)
        clip = np.searchsorted(self._frames.first, chosen, side="right") - 1
        return self._frames.batch(clip, chosen - self._frames.first[clip])


def partition_masks(variant: str, *, clips: int, parts: int, faithful_bugs: bool = False) -> PairMasks:
    """Pairs of a batch under G^D- or G^D: positives by the variant's links, negatives all images of other partitions.

    Images of the same partition of any clip are ignored unless linked. (N, N) with N = slots x clips x parts.
    `faithful_bugs`: G^D- takes images as of one partition by their number modulo 4, whatever `parts`.
    """
    stride = FAITHFUL_SKIP_STRIDE if faithful_bugs and variant == "GDminus" else parts
    return slot_masks(RULES[variant].links, torch.arange(clips * parts) % stride)


def simclr_masks(frames: int) -> PairMasks:
    """Pairs of G^R, N = 2 x frames: the frame's other view against all 2 N - 2 images of other frames."""
    return slot_masks(RULES["GR"].links, torch.arange(frames))


def slot_masks(links: Sequence[tuple[int, int]], part_P: Tensor) -> PairMasks:
    """Positives: the same place in two linked slots. Negatives: places of another part. Links name every slot."""
    slots, places = 1 + max(max(link) for link in links), len(part_P)
    linked_SS = torch.zeros(slots, slots, dtype=torch.bool)
    linked_SS[tuple(torch.tensor(links).T)] = True
    same_PP = torch.eye(places, dtype=torch.bool)
    positive_SPSP = (linked_SS | linked_SS.T)[:, None, :, None] & same_PP[None, :, None, :]
    part_N = part_P.repeat(slots)
    return PairMasks(positive_SPSP.reshape(slots * places, -1), part_N[:, None] != part_N[None])


def cross_clip_pairs(*, clips: int, parts: int) -> LocalPairs:
    """Pairs of L^D, N = 2 x clips x parts: (a1_i, a2_i), (a1_i, a1_j) and (a1_i, a1_k), in this direction only.

    Slot 1 is the frame, slot 2 its augmented view; j and k are the same bin of the next two clips, going round: with
    3 clips, of both others. All three kinds weigh the same.
    """
    place_P = torch.arange(clips * parts)
    others = [(place_P + step * parts) % len(place_P) for step in (1, 2)]
    second_P = torch.cat([place_P + len(place_P), *others])
    nowhere_NN = torch.zeros(2 * len(place_P), 2 * len(place_P), dtype=torch.bool)
    return LocalPairs(place_P.repeat(3), second_P, torch.zeros_like(second_P, dtype=torch.bool), nowhere_NN)


def blank_images(variant: str, *, clips: int, parts: int) -> Tensor:
    """bool (N,): images that the official G^D batch leaves blank: all slots of its last clip (science.md 2.5)."""
    last_P = torch.arange(clips * parts) >= (clips - 1) * parts
    return last_P.repeat(RULES[variant].slots)


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames that may be drawn, clip after clip."""

    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    """Where each clip's frames begin in `rows`."""
    count: NDArray[np.int64]
    patient: NDArray[np.int64]

    def batch(self, clip: NDArray[np.int64], pick: NDArray[np.int64]) -> ClipBatch:
        """The batch of the `pick`-th frames of clips."""
        return ClipBatch(
            rows=self.rows[self.first[clip] + pick],
            clip=clip,
            patient=self.patient[clip],
            position=pick.astype(np.float64),
            short_clips=0,
        )


def _usable(dataset: Dataset, clips: Sequence[str], *, at_least: int) -> _Frames:
    owner = {clip.clip: clip.patient for clip in dataset.index.clips}
    codes = {patient: code for code, patient in enumerate(sorted(set(owner.values())))}
    rows = {clip: _rows(dataset, clip) for clip in clips}
    rows = {clip: found for clip, found in rows.items() if len(found) >= at_least}
    count = np.array([len(found) for found in rows.values()], np.int64)
    return _Frames(
        rows=np.concatenate([np.empty(0, np.int64), *rows.values()]),
        first=count.cumsum() - count,
        count=count,
        patient=np.array([codes[owner[clip]] for clip in rows], np.int64),
    )


def _rows(dataset: Dataset, clip: str) -> NDArray[np.int64]:
    frames = dataset.clip_table[clip]
    return np.asarray(frames.first_row + np.flatnonzero(~frames.duplicate), np.int64)
