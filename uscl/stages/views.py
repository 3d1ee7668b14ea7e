"""The batches of both pretraining stages: two random views of each drawn frame, and who they are."""

# N views (two per frame), H x W pixels

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uscl.data.augment import (
    PRETRAIN_INTENSITY,
    PRETRAIN_SPATIAL,
    change_intensity,
    draw_affine,
    draw_intensity,
    send,
    warp,
)
from uscl.data.batches import ClipBatch, ClipSampler, PairSampling, normalise, to_device
from uscl.spec.trial import DecoderSpec, EncoderSpec
from uscl.stages.context import StageContext, step_rng
from uscl.stages.inputs import DecoderInputs, EncoderInputs, PairInputs


@dataclass(frozen=True, slots=True)
class Views:
    """Two views of each frame of a batch; the small tensors stay on the CPU, where the masks are built."""

    image_N1HW: Tensor
    clip_N: Tensor
    frame_N: Tensor
    position_N: Tensor
    patient_N: Tensor
    far_range_N2: Tensor | None
    """At which distances far frames of a view's clip count; None without a curriculum."""
    short_clips: float
    """Share of the batch's clips that are too short for the window, in [0, 1]."""


class ViewLoader:
    """Loads the views of a step; on a GPU the next step's frames are read while this one computes."""

    def __init__(self, context: StageContext, *, kind: str, spatial: bool) -> None:
        """`spatial` off keeps the two views of a frame aligned: only their grey levels differ."""
        inputs = context.stage.inputs
        assert isinstance(inputs, EncoderInputs | DecoderInputs)
        stage: EncoderSpec | DecoderSpec = inputs.encoder if isinstance(inputs, EncoderInputs) else inputs.decoder
        self._context, self._image, self._seed = context, inputs.image, inputs.seed
        self._kind, self._spatial, self._num_clips = kind, spatial, stage.clips
        self._sampler = ClipSampler(
            context.dataset,
            context.stage.data.clips,
            num_clips=stage.clips,
            num_frames=stage.frames,
            sampling=pair_sampling(inputs.pairs, steps=stage.steps),
            seed=inputs.seed,
        )
        self._pool = ThreadPoolExecutor(1) if context.device.type == "cuda" else None
        self._ahead: tuple[int, Future[tuple[ClipBatch, np.ndarray]]] | None = None

    def views(self, step: int) -> Views:
        """The views of one step, the first of every frame before the second of every frame."""
        batch, frames = self._read(step)
        rng = step_rng(self._seed, self._kind, step)
        image = to_device(frames[:, None], self._context.device).repeat(2, 1, 1, 1)
        if self._spatial:
            image = warp(image, send(draw_affine(len(image), PRETRAIN_SPATIAL, rng), image.device))
        draw = draw_intensity((len(image), *image.shape[2:]), PRETRAIN_INTENSITY, rng)
        image = change_intensity(image, draw.to(image.device))
        clip, frame, position, patient = (
            torch.from_numpy(np.tile(part, 2)) for part in (batch.clip, batch.rows, batch.position, batch.patient)
        )
        return Views(
            image_N1HW=image.contiguous(memory_format=torch.channels_last),
            clip_N=clip,
            frame_N=frame,
            position_N=position,
            patient_N=patient,
            far_range_N2=None if batch.far_range is None else torch.from_numpy(np.tile(batch.far_range, (2, 1))),
            short_clips=batch.short_clips / self._num_clips,
        )

    def close(self) -> None:
        """Stop reading ahead."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _read(self, step: int) -> tuple[ClipBatch, np.ndarray]:
        ahead, self._ahead = self._ahead, None
        current = ahead[1].result() if ahead and ahead[0] == step else self._load(step)
        if self._pool is not None:
            self._ahead = (step + 1, self._pool.submit(self._load, step + 1))
        return current

    def _load(self, step: int) -> tuple[ClipBatch, np.ndarray]:
        batch = self._sampler.batch(step)
        frames = self._context.dataset.frames(batch.rows)
        return batch, normalise(frames, size=self._image.size, norm=self._image.norm)


def pair_sampling(pairs: PairInputs, *, steps: int) -> PairSampling:
    """How frames are drawn for these pairs over a stage's steps: uniformly under polarity `none`."""
    if pairs.polarity == "none":
        return PairSampling()
    return PairSampling(
        window=pairs.window,
        guard=pairs.guard or 0.0,
        unit=pairs.unit or "frames",
        shuffled=bool(pairs.shuffled),
        density=pairs.density,
        curriculum=pairs.curriculum,
        steps=steps,
    )


def pair_settings(pairs: PairInputs, views: Views) -> dict[str, object]:
    """The keyword arguments that `pair_masks` and `local_pairs` share, for one batch."""
    return {
        "frame_N": views.frame_N,
        "polarity": pairs.polarity,
        "window": pairs.window,
        "guard": pairs.guard or 0.0,
        "negatives": pairs.negatives or "all",
        "soft": pairs.soft,
        "far_range_N2": views.far_range_N2,
    }


def short_clips(views: Views, pairs: PairInputs) -> dict[str, Tensor]:
    """The share of clips too short for the window, to be logged where there is a window; nothing waits for it."""
    if pairs.polarity == "none":
        return {}
    return {"short_clips": torch.full((), views.short_clips, device=views.image_N1HW.device)}
