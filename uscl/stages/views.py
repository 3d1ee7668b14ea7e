"""The batches of both pretraining stages: views of each drawn frame, and who they are."""

# N views (two per frame; other numbers under some variants), H x W pixels

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from uscl.data.augment import (
    CHAITANYA_GREY,
    PRETRAIN_INTENSITY,
    PRETRAIN_SPATIAL,
    change_intensity,
    draw_affine,
    draw_crop,
    draw_intensity,
    send,
    warp,
)
from uscl.data.batches import ClipBatch, PairSampling, normalise, to_device
from uscl.data.partitions import RULES
from uscl.spec.trial import DecoderSpec, EncoderSpec
from uscl.stages.context import StageContext, step_rng
from uscl.stages.inputs import DecoderInputs, EncoderInputs, PairInputs
from uscl.stages.variants import batch_sampler, blanked


@dataclass(frozen=True, slots=True)
class Views:
    """The views of each frame of a batch; the small tensors stay on the CPU, where the masks are built."""

    image_N1HW: Tensor
    clip_N: Tensor
    frame_N: Tensor
    position_N: Tensor
    patient_N: Tensor
    far_range_N2: Tensor | None
    """At which distances far frames of a view's clip count; None without a curriculum."""
    short_clips: float
    """Share of the batch's clips that are too short for the window, in [0, 1]."""
    theta_N23: Tensor | None = field(default=None, kw_only=True)
    """The affine transform of each view, on the device; None where views are aligned."""


class ViewLoader:
    """Loads the views of a step; on a GPU the next step's frames are read while this one computes."""

    def __init__(self, context: StageContext, *, kind: str, spatial: bool) -> None:
        """`spatial` off keeps the two views of a frame aligned: only their grey levels differ."""
        inputs = context.stage.inputs
        assert isinstance(inputs, EncoderInputs | DecoderInputs)
        stage: EncoderSpec | DecoderSpec = inputs.encoder if isinstance(inputs, EncoderInputs) else inputs.decoder
        self._context, self._image, self._seed = context, inputs.image, inputs.seed
        self._kind, self._spatial, self._num_clips = kind, spatial, stage.clips
        self._rule, self._chaitanya, self._blank_N = RULES[stage.variant], stage.augment == "chaitanya", blanked(stage)
        sampling = pair_sampling(inputs.pairs, steps=stage.steps)
        self._sampler = batch_sampler(inputs, context.dataset, context.stage.data.clips, sampling=sampling)
        self._pool = ThreadPoolExecutor(1) if context.device.type == "cuda" else None
        self._ahead: tuple[int, Future[tuple[ClipBatch, np.ndarray]]] | None = None

    def views(self, step: int) -> Views:
        """The views of one step, the first of every frame before the second of every frame."""
        batch, frames = self._read(step)
        frame = to_device(frames[:, None], self._context.device)
        rng = step_rng(self._seed, self._kind, step)
        image, theta = self._changed(frame.repeat(self._rule.augmented, 1, 1, 1), rng)
        if self._rule.originals:
            image = torch.cat([frame.repeat(self._rule.originals, 1, 1, 1), image])
        if self._blank_N is not None:
            image = image.masked_fill(send(self._blank_N, image.device)[:, None, None, None], 0.0)
        copies = self._rule.originals + self._rule.augmented
        named = (batch.clip, batch.rows, batch.position, batch.patient)
        clip, frame_number, position, patient = (torch.from_numpy(np.tile(part, copies)) for part in named)
        return Views(
            image_N1HW=image.contiguous(memory_format=torch.channels_last),
            clip_N=clip,
            frame_N=frame_number,
            position_N=position,
            patient_N=patient,
            far_range_N2=None if batch.far_range is None else torch.from_numpy(np.tile(batch.far_range, (copies, 1))),
            short_clips=batch.short_clips / self._num_clips,
            theta_N23=theta,
        )

    def _changed(self, image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """Each image under a random change of its own, and the affine transforms among them."""
        theta = None
        if self._spatial:
            count = len(image)
            theta = draw_crop(count, rng) if self._chaitanya else draw_affine(count, PRETRAIN_SPATIAL, rng)
            theta = send(theta, image.device)
            image = warp(image, theta)
        draw = draw_intensity((len(image), *image.shape[2:]), PRETRAIN_INTENSITY, rng)
        image = change_intensity(image, draw.to(image.device))
        return (image.clamp(*CHAITANYA_GREY) if self._chaitanya else image), theta

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
