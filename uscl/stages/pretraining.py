"""What both pretraining stages share: the road from a task to a published output, and what is said of it."""

# N embeddings, D their size

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from uscl.metrics.embedding import COLLAPSED_STD, figures
from uscl.models.unet import UNet
from uscl.records import MetricPoint, Outcome
from uscl.spec.trial import DecoderSpec, EncoderSpec, ImageSpec, NetworkSpec, PixelSpec
from uscl.stages.context import CURVES, WEIGHTS, StageContext, StageEvents, StageOutput
from uscl.stages.loop import FitSettings, Task, fit, pack_tensors
from uscl.stages.variants import images_per_step
from uscl.store.curves import encode_points

COLLAPSED_LOSS_OVER_CHANCE = 0.98
LAST_FRACTION = 0.2
"""A pretraining is flagged by what it shows in the last fifth of its steps (design.md 4.1)."""
COORDINATES_RETRIEVAL = 0.5
"""Above this the same position is found in other patients: the stage learned coordinates (science.md 2.3)."""


class PretrainingTask(Task, Protocol):
    """A task whose weights are handed on without its projection head."""

    def pretrained_weights(self) -> Mapping[str, Tensor]:
        """What the next stage starts from, under the names that the whole network has."""

    def close(self) -> None:
        """Stop reading ahead."""


def pretrain(task: PretrainingTask, spec: EncoderSpec | DecoderSpec | PixelSpec, context: StageContext) -> StageEvents:
    """Train a pretraining task to its end; publishes its curve and, unless it diverged, its weights."""
    kind = context.stage.kind
    frames = 2 * spec.batch if isinstance(spec, PixelSpec) else images_per_step(spec)
    settings = FitSettings(steps=spec.steps, lr=spec.lr, frames_per_step=frames, prefix=kind)
    try:
        result = yield from fit(task, settings, context.fit)
    finally:
        task.close()
    if result.drained:
        return None
    metrics, flags = pretraining_summary(result.points, kind)
    files = {CURVES: encode_points(result.points)}
    if result.outcome is Outcome.DONE:
        files[WEIGHTS] = pack_tensors(task.pretrained_weights())
    return StageOutput(result.outcome, files, metrics, result.frames_per_s, flags)


def build_unet(image: ImageSpec, network: NetworkSpec, *, num_classes: int = 1) -> UNet:
    """The U-Net of the settings, with fresh weights; pretraining has no use for its tail."""
    return UNet(
        network.preset,
        num_classes=num_classes,
        image_size=image.size,
        norm=network.norm,
        activation=network.activation,
        base_width=network.base_width,
    )


def describe_embeddings(embedding_ND: Tensor, positive_NN: Tensor) -> dict[str, Tensor]:
    """Spread, alignment and uniformity of a batch, detached (Wang and Isola 2020)."""
    with torch.no_grad(), torch.autocast(embedding_ND.device.type, enabled=False):
        return figures(embedding_ND.detach().float(), positive_NN)


def evenly(length: int, number: int, device: torch.device) -> Tensor:
    """Indices of at most `number` evenly spread members of `length`, (min(number, length),) int64."""
    number = min(number, length)
    return torch.arange(number, device=device) * length // number


def last_fifth(points: tuple[MetricPoint, ...], name: str) -> float:
    """Mean of a measurement over the last fifth of the steps, NaN where it was never measured."""
    first = (1.0 - LAST_FRACTION) * points[-1].step if points else 0.0
    values = [point.values[name] for point in points if point.step > first and name in point.values]
    return float(np.mean(values)) if values else float("nan")


def pretraining_summary(points: tuple[MetricPoint, ...], kind: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """What a pretraining's manifest says of it, and its flags.

    `collapsed`: the last fifth shows no learning; `coordinates`: a region's place is found again in other patients."""
    names = (
        "loss",
        "loss_over_chance",
        "embedding_std",
        "alignment",
        "uniformity",
        "position_retrieval",
        "short_clips",
    )
    values = {f"{kind}/{name}": last_fifth(points, f"{kind}/{name}") for name in names}
    summary = {name: value for name, value in values.items() if not np.isnan(value)}
    spread, loss = summary.get(f"{kind}/embedding_std", 1.0), summary.get(f"{kind}/loss_over_chance", 0.0)
    flags = ["collapsed"] if spread < COLLAPSED_STD or loss > COLLAPSED_LOSS_OVER_CHANCE else []
    if summary.get(f"{kind}/position_retrieval", 0.0) > COORDINATES_RETRIEVAL:
        flags.append("coordinates")
    return summary, tuple(flags)
