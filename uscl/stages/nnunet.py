"""The `finetune` stage of `method: nnunet2d`: nnU-Net's 2-D recipe, re-implemented in our loop.

Planned network and batch, deep supervision, Dice + binary cross-entropy on sigmoid regions, SGD with Nesterov momentum
and polynomial decay, its own augmentation list, foreground oversampling, last weights. An nnU-Net-style baseline of
ours, not nnU-Net: `nnunet_plan.DEVIATIONS` lists where it differs. Isensee et al. 2021; science.md 5.2.
"""

# N cases, B batch, K classes, H x W pixels

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uscl.data.augment import send, warp
from uscl.data.augment_nnunet import POLICIES, change_grey_levels, draw_nnunet
from uscl.data.labelled import LabelledFrames, load_labelled
from uscl.losses.segmentation import deep_dice_ce
from uscl.records import Outcome
from uscl.spec.nnunet_plan import NnunetPlan, nnunet_network, plan_nnunet
from uscl.stages.context import CURVES, WEIGHTS, StageContext, StageEvents, StageOutput, seed_everything, step_rng
from uscl.stages.inputs import NnunetInputs
from uscl.stages.loop import FitSettings, below, fit, pack_tensors
from uscl.stages.pretraining import build_unet
from uscl.stages.speckle_term import SpeckleTerm
from uscl.store.curves import encode_points

PLAN = "plan.json"
"""File of the plan, beside the weights."""
MOMENTUM, WEIGHT_DECAY = 0.99, 3e-5
DECAY_POWER = 0.9
FOREGROUND_FRACTION = 0.33
"""Part of a batch that is drawn for a class."""


def train_nnunet2d(context: StageContext) -> StageEvents:
    """Train the planned network on the stage's cases; publishes its last weights and its plan."""
    inputs = context.stage.inputs
    assert isinstance(inputs, NnunetInputs)
    plan = plan_of(inputs, len(context.stage.data.cases))
    task = NnunetTask(inputs, plan, context)
    settings = FitSettings(
        steps=inputs.nnunet.steps,
        lr=inputs.nnunet.lr,
        frames_per_step=plan.batch,
        prefix="finetune",
        optimizer=sgd,
        schedule=polynomial_decay,
    )
    result = yield from fit(task, settings, context.fit)
    if result.drained:
        return None
    files = {CURVES: encode_points(result.points), PLAN: plan.model_dump_json(indent=1).encode()}
    if result.outcome is Outcome.DONE:
        files[WEIGHTS] = pack_tensors(task.network.state_dict())
    return StageOutput(result.outcome, files, task.summary(), result.frames_per_s)


def plan_of(inputs: NnunetInputs, num_cases: int) -> NnunetPlan:
    """The plan that the inputs and the number of training cases amount to."""
    return plan_nnunet(
        (inputs.image.size, inputs.image.size),
        num_cases,
        num_classes=len(inputs.classes),
        base_width=inputs.nnunet.base_width,
        batch=inputs.nnunet.batch,
    )


def sgd(parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """nnU-Net's SGD: Nesterov momentum 0.99, weight decay 3e-5."""
    return torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY)


def polynomial_decay(step: int, steps: int) -> float:
    """(1 - step / steps)^0.9; nnU-Net takes this step once per epoch of 250, here it is every step."""
    return float((1.0 - step / steps) ** DECAY_POWER)


def draw_cases(present_NK: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which cases make a batch of `count`: uniform ones, then a third drawn for a class, with replacement.

    For each of the last third a class is drawn uniformly among those that some case has, then a case that has it.
    nnU-Net draws a case first and then where in it to cut the patch; here a patch is the whole frame. Uniform
    throughout where no case has any class.
    """
    num_free = round(count * (1 - FOREGROUND_FRACTION))
    everyone = np.arange(len(present_NK))
    classes = np.flatnonzero(present_NK.any(axis=0))
    chosen = [rng.choice(everyone, num_free)]
    for _ in range(count - num_free):
        with_class = np.flatnonzero(present_NK[:, rng.choice(classes)]) if len(classes) else everyone
        chosen.append(rng.choice(with_class, 1))
    return np.concatenate(chosen)


class NnunetTask:
    """The training task of this stage; see `loop.Task`."""

    def __init__(self, inputs: NnunetInputs, plan: NnunetPlan, context: StageContext) -> None:
        seed_everything(inputs.seed, "finetune")
        self._inputs, self._plan, self._device = inputs, plan, context.device
        network = build_unet(inputs.image, nnunet_network(inputs.nnunet), num_classes=len(inputs.classes))
        assert network.widths == plan.widths
        self.network = network.to(context.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image, cases = inputs.image, context.stage.data.cases
        self._train = load_labelled(context.dataset, cases, size=image.size, norm=image.norm, device=context.device)
        inside = self._train.truth_NKHW * self._train.known_N1HW
        self._present_NK = inside.amax(dim=(2, 3)).bool().cpu().numpy()
        self._speckle: SpeckleTerm | None = None
        if inputs.speckle is not None:
            steps = inputs.nnunet.steps
            self._speckle = SpeckleTerm(inputs.speckle, classes=inputs.classes, steps=steps, device=context.device)

    def parameters(self) -> Iterable[nn.Parameter]:
        """All weights."""
        return self.network.parameters()

    def state(self) -> dict[str, Tensor]:
        """The network and the speckle term's running means; batches and changes are functions of the step."""
        state = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self._speckle is not None:
            state |= {f"speckle.{name}": tensor for name, tensor in self._speckle.balance.state().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self.network.load_state_dict(below(state, "network."))
        if self._speckle is not None:
            self._speckle.balance.load_state(below(state, "speckle."))

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Dice + cross-entropy over the outputs of every stage, plus the weighted speckle term where there is one."""
        rng = step_rng(self._inputs.seed, "finetune", step)
        batch = self._draw(rng)
        logits = self.network.deep_logits(batch.input_N1HW.contiguous(memory_format=torch.channels_last))
        segmentation = deep_dice_ce(logits, batch.truth_NKHW, batch.known_N1HW, kind="dice_ce")
        if self._speckle is None:
            return segmentation, {}
        with torch.autocast(self._device.type, enabled=False):
            probability = logits[0].float().contiguous().sigmoid()  # sums over pixels are slow in channels_last
        return self._speckle.add(segmentation, probability, batch, step=step, rng=rng)

    def after_step(self, step: int) -> dict[str, float]:
        """Nothing: the last weights are taken, no validation frame is read."""
        return {}

    def summary(self) -> dict[str, float]:
        """Which step was taken, on how many cases, in batches of how many."""
        return {
            "finetune/chosen_step": float(self._inputs.nnunet.steps),
            "finetune/labelled_cases": float(len(self._train.cases)),
            "finetune/batch": float(self._plan.batch),
        }

    def _draw(self, rng: np.random.Generator) -> LabelledFrames:
        """A batch under nnU-Net's changes; the raw frame moves along, but keeps its grey levels."""
        frames, count, size = self._train, self._plan.batch, self._inputs.image.size
        chosen = draw_cases(self._present_NK, count, rng)
        draw = draw_nnunet(count, size, POLICIES[self._inputs.nnunet.augment], rng).to(self._device)
        rows = send(torch.from_numpy(chosen), self._device)
        planes = (frames.input_N1HW, frames.raw_N1HW, frames.known_N1HW, frames.truth_NKHW)
        moved = warp(torch.cat([plane[rows] for plane in planes], dim=1), draw.theta_B23)
        grey, raw, known, truth = torch.split(moved, [1, 1, 1, moved.shape[1] - 3], dim=1)
        return LabelledFrames(
            cases=tuple(frames.cases[number] for number in chosen),
            input_N1HW=change_grey_levels(grey, draw),
            raw_N1HW=raw,
            known_N1HW=(known > 0.5).float(),
            truth_NKHW=(truth > 0.5).float(),
        )
