"""The batches of both pretraining stages: two random views of each drawn frame, and who they are."""

# N views (two per frame), H x W pixels

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

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
        self._kind, self._spatial = kind, spatial
        self._sampler = ClipSampler(
            context.dataset,
            context.stage.data.clips,
            num_clips=stage.clips,
            num_frames=stage.frames,
            sampling=pair_sampling(inputs.pairs),
            seed=inputs.seed,
        )
        self._pool = ThreadPoolExecutor(1) if context.device.type == "cuda" else None
        self._ahead: tuple[int, Future[tuple[ClipBatch, np.ndarray]]] | None = None

    def views(self, step: int) -> Views:
        """The views of one step, the first of every frame before the second of every frame."""
        batch, frames = self._read(step)
        rng = step_rng(self._seed, self._kind, step)
        image = to_device(frames[:, None], self._context.device).repeat(2, 1, 1, 1)
        theta = None
        if self._spatial:
            theta = send(draw_affine(len(image), PRETRAIN_SPATIAL, rng), image.device)
            image = warp(image, theta)
        draw = draw_intensity((len(image), *image.shape[2:]), PRETRAIN_INTENSITY, rng)
        image = change_intensity(image, draw.to(image.device))
        twice = [torch.from_numpy(np.tile(part, 2)) for part in (batch.clip, batch.rows, batch.position, batch.patient)]
        return Views(image.contiguous(memory_format=torch.channels_last), *twice, theta_N23=theta)

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


def pair_sampling(pairs: PairInputs) -> PairSampling:
    """How frames are drawn for these pairs: uniformly under polarity `none`."""
    if pairs.polarity == "none":
        return PairSampling()
    return PairSampling(
        window=pairs.window, guard=pairs.guard or 0.0, unit=pairs.unit or "frames", shuffled=bool(pairs.shuffled)
    )


def pair_settings(pairs: PairInputs) -> dict[str, object]:
    """The keyword arguments that `pair_masks` and `local_pairs` share."""
    return {
        "polarity": pairs.polarity,
        "window": pairs.window,
        "guard": pairs.guard or 0.0,
        "negatives": pairs.negatives or "all",
    }
