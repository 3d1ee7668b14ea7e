"""The `finetune` stage: the whole U-Net on few labelled frames, with or without a speckle term."""

# N cases, B batch, K classes, H x W pixels

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from uscl.data.augment import (
    FINETUNE_INTENSITY,
    FINETUNE_SPATIAL,
    FLIP_ONLY,
    IntensityDraw,
    change_intensity,
    draw_affine,
    draw_intensity,
    send,
    warp,
)
from uscl.data.augment_chaitanya import draw_chaitanya, warp_elastic
from uscl.data.labelled import LabelledFrames, load_labelled
from uscl.errors import DataError
from uscl.losses.exclusive import exclusive_dice_ce
from uscl.losses.segmentation import deep_dice_ce, dice_ce
from uscl.models.outputs import make_heads, num_outputs, partial_overlap
from uscl.models.unet import UNet
from uscl.records import Outcome
from uscl.stages.context import CURVES, WEIGHTS, StageContext, StageEvents, StageOutput, seed_everything, step_rng
from uscl.stages.inputs import FinetuneInputs
from uscl.stages.loop import FitSettings, below, fit, pack_tensors
from uscl.stages.pretraining import build_unet
from uscl.stages.speckle_term import SpeckleTerm
from uscl.store.curves import encode_points

VALIDATION_BATCH = 32
BN_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
OVERLAP_TOLERANCE = 0.05
"""Part of a class's pixels that may overlap otherwise than declared under softmax; 0.03 % do in kidneyUS."""


def train_finetune(context: StageContext) -> StageEvents:
    """Fine-tune on the stage's cases; publishes the whole network, at its best validation step or its last."""
    inputs = context.stage.inputs
    assert isinstance(inputs, FinetuneInputs)
    task = FinetuneTask(inputs, context)
    settings = FitSettings(
        steps=inputs.finetune.steps,
        lr=inputs.finetune.lr,
        frames_per_step=inputs.finetune.batch,
        prefix="finetune",
    )
    result = yield from fit(task, settings, context.fit)
    if result.drained:
        return None
    curves = encode_points(result.points)
    if result.outcome is Outcome.DIVERGED:
        return StageOutput(result.outcome, {CURVES: curves}, task.summary(), result.frames_per_s)
    files = {WEIGHTS: pack_tensors(task.chosen_weights()), CURVES: curves}
    return StageOutput(result.outcome, files, task.summary(), result.frames_per_s)


class FinetuneTask:
    """The training task of this stage; see `loop.Task`."""

    def __init__(self, inputs: FinetuneInputs, context: StageContext) -> None:
        seed_everything(inputs.seed, "finetune")
        self._inputs, self._device = inputs, context.device
        self.network = build_network(inputs, context.parent_weights).to(context.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.encoder.requires_grad_(inputs.finetune.freeze != "encoder")
        self._train_mode()
        self._train = self._load(context, context.stage.data.cases)
        validation = context.stage.data.validation
        self._validation = self._load(context, validation) if validation else None
        kind = inputs.network.heads
        self._heads = make_heads(kind, inputs.classes, inputs.contains, device=context.device)
        self._segmentation_loss = exclusive_dice_ce if kind == "softmax" else dice_ce
        if kind == "softmax":
            _refuse_partial_overlap(self._train, inputs)
        self._speckle: SpeckleTerm | None = None
        if inputs.speckle is not None:
            steps = inputs.finetune.steps
            self._speckle = SpeckleTerm(inputs.speckle, classes=inputs.classes, steps=steps, device=context.device)
        self._best: dict[str, Tensor] = {}
        self._best_dice = torch.tensor(-1.0)
        self._best_step = torch.tensor(0)

    def parameters(self) -> Iterable[nn.Parameter]:
        """All weights, or all but the encoder's where it is frozen."""
        return [weight for weight in self.network.parameters() if weight.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """The network, the best step's network with its validation Dice, and the speckle term's running means."""
        state = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        state |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        if self._speckle is not None:
            state |= {f"speckle.{name}": tensor for name, tensor in self._speckle.balance.state().items()}
        return state | {"best_dice": self._best_dice, "best_step": self._best_step}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self.network.load_state_dict(below(state, "network."))
        self._best = below(state, "best.")
        if self._speckle is not None:
            self._speckle.balance.load_state(below(state, "speckle."))
        self._best_dice, self._best_step = state["best_dice"].cpu(), state["best_step"].cpu()

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Segmentation loss of a random batch, plus the weighted speckle term where there is one."""
        rng = step_rng(self._inputs.seed, "finetune", step)
        batch = self._draw(rng)
        logits = self.network.deep_logits(batch.input_N1HW.contiguous(memory_format=torch.channels_last))
        target, kind = self._heads.target(batch.truth_NKHW), self._inputs.finetune.loss
        segmentation = deep_dice_ce(logits, target, batch.known_N1HW, kind=kind, loss=self._segmentation_loss)
        if self._speckle is None:
            return segmentation, {}
        with torch.autocast(self._device.type, enabled=False):
            finest = logits[0].float().contiguous()  # sums over pixels are slow in channels_last
            probability = self._heads.class_probability(finest)
        return self._speckle.add(segmentation, probability, batch, step=step, rng=rng)

    def after_step(self, step: int) -> dict[str, float]:
        """Mean validation Dice every `select_every` steps and at the end; remembers the best network."""
        settings = self._inputs.finetune
        if self._validation is None or settings.select_every is None:
            return {}
        if step % settings.select_every and step != settings.steps:
            return {}
        dice = self._validation_dice(self._validation)
        if dice > float(self._best_dice):
            self._best_dice, self._best_step = torch.tensor(dice), torch.tensor(step)
            self._best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        return {"val_dsc": dice}

    def chosen_weights(self) -> Mapping[str, Tensor]:
        """The best network by validation, or the last."""
        return self._best or self.network.state_dict()

    def summary(self) -> dict[str, float]:
        """Which step was taken, and on how many cases."""
        chosen = int(self._best_step) if self._validation is not None else self._inputs.finetune.steps
        return {"finetune/chosen_step": float(chosen), "finetune/labelled_cases": float(len(self._train.cases))}

    def _load(self, context: StageContext, cases: tuple[str, ...]) -> LabelledFrames:
        image = self._inputs.image
        return load_labelled(context.dataset, cases, size=image.size, norm=image.norm, device=context.device)

    def _draw(self, rng: np.random.Generator) -> LabelledFrames:
        """A random batch under one spatial transform per case; grey levels change in the network's input only."""
        frames, count = self._train, self._inputs.finetune.batch
        chosen = rng.choice(len(frames.cases), count, replace=len(frames.cases) < count)
        rows = send(torch.from_numpy(chosen), self._device)
        parts = [part[rows] for part in (frames.input_N1HW, frames.raw_N1HW, frames.known_N1HW, frames.truth_NKHW)]
        if self._inputs.finetune.augment != "none":
            moved, intensity = self._move(torch.cat(parts, dim=1), rng)
            planes = torch.split(moved, [1, 1, 1, moved.shape[1] - 3], dim=1)
            parts = [planes[0], planes[1], (planes[2] > 0.5).float(), (planes[3] > 0.5).float()]
            if intensity is not None:
                parts[0] = change_intensity(parts[0], intensity)
        return LabelledFrames(tuple(frames.cases[number] for number in chosen), *parts)

    def _move(self, planes_NCHW: Tensor, rng: np.random.Generator) -> tuple[Tensor, IntensityDraw | None]:
        """The planes of every case under its spatial transform, and the change of grey levels that goes with it."""
        settings, size, count = self._inputs.finetune, self._inputs.image.size, len(planes_NCHW)
        if settings.augment == "chaitanya":
            draw = draw_chaitanya(count, size, faithful_bugs=settings.faithful_bugs, rng=rng).to(self._device)
            return warp_elastic(planes_NCHW, draw.theta_B23, draw.bend_B233), draw.intensity
        bounds = FINETUNE_SPATIAL if settings.augment == "us_safe" else FLIP_ONLY
        moved = warp(planes_NCHW, send(draw_affine(count, bounds, rng), self._device))
        if settings.augment == "flip":
            return moved, None
        return moved, draw_intensity((count, size, size), FINETUNE_INTENSITY, rng).to(self._device)

    @torch.no_grad()
    def _validation_dice(self, frames: LabelledFrames) -> float:
        """Mean Dice over classes and cases at network size; both empty counts as 1."""
        self.network.eval()
        dice = []
        for start in range(0, len(frames.cases), VALIDATION_BATCH):
            part = slice(start, start + VALIDATION_BATCH)
            found = self._heads.found(self.network(frames.input_N1HW[part])) * frames.known_N1HW[part]
            truth = frames.truth_NKHW[part] * frames.known_N1HW[part]
            overlap, total = (found * truth).sum((2, 3)), (found + truth).sum((2, 3))
            dice.append(torch.where(total > 0, 2 * overlap / total.clamp_min(1), torch.ones_like(total)))
        self._train_mode()
        return float(torch.cat(dice).mean())

    def _train_mode(self) -> None:
        """Training mode; a frozen encoder keeps its batch-norm statistics too."""
        self.network.train()
        self.network.encoder.train(self._inputs.finetune.freeze != "encoder")


def build_network(inputs: FinetuneInputs, parent_weights: Mapping[str, Tensor]) -> UNet:
    """The network with its initial weights, and over them those that pretraining gives."""
    outputs = num_outputs(inputs.network.heads, len(inputs.classes))
    network = build_unet(inputs.image, inputs.network, num_classes=outputs)
    carried = {
        name: tensor
        for name, tensor in parent_weights.items()
        if inputs.finetune.transfer_bn_stats is not False or name.rsplit(".", 1)[-1] not in BN_STATISTICS
    }
    _, unexpected = network.load_state_dict(carried, strict=False)
    assert not unexpected, f"pretrained weights the network lacks: {unexpected[:3]}"
    return network


def _refuse_partial_overlap(frames: LabelledFrames, inputs: FinetuneInputs) -> None:
    """DataError where masks overlap otherwise than the dataset declares: exclusive classes would not stand for them."""
    overlap = partial_overlap(frames.truth_NKHW, inputs.classes, inputs.contains, tolerance=OVERLAP_TOLERANCE)
    if overlap is not None:
        first, second, part = overlap
        raise DataError(
            f"masks of '{first}' and '{second}' are neither separate nor nested as the dataset declares"
            f" ({part:.0%} of the smaller one's pixels); network.heads: softmax cannot tell them apart, use sigmoid"
        )
