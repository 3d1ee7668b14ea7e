"""The one training loop of `uscl`: a generator that trains a task and says how it goes.

A task draws everything from (seed, step), so a resumed run takes the same steps as an undisturbed one. Metrics
are summed on the device and read only at fixed steps: between those, nothing waits for the GPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from uscl.records import Drained, MetricPoint, Outcome, Progress, StageRef
from uscl.store.curves import decode_points, encode_points
from uscl.store.stages import StageStore

POINTS_PER_STAGE = 50
"""Metric points of one stage: enough for a curve, few enough for a tracker."""
WARMUP_FRACTION = 0.05
"""Part of the steps over which the learning rate rises linearly, before it falls as a half cosine to 0."""
GRADIENT_NORM_MAX = 12.0
"""nnU-Net's clipping norm; far above what a healthy step has."""
STOP_CHECK_S = 0.25
BF16_CAPABILITY = (8, 0)
"""Compute capability from which bf16 is native (Ampere); below, fp16 with a gradient scaler (V100, T4)."""


class Task(Protocol):
    """What is trained: its parameters, its loss of a step, and the state that a resume needs."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """The trained parameters, in a fixed order."""

    def state(self) -> dict[str, Tensor]:
        """Every tensor that changes while training, by name."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of a step and detached scalars to log beside it."""

    def after_step(self, step: int) -> dict[str, float]:
        """Called after each optimiser step (1-based); measurements such as a validation, mostly none."""


OptimizerOf: TypeAlias = Callable[[Sequence[nn.Parameter], float], torch.optim.Optimizer]
Schedule: TypeAlias = Callable[[int, int], float]


def adam(parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015), the optimiser of every stage but nnU-Net's recipe."""
    return torch.optim.Adam(parameters, lr=lr)


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine from 1 to 0; `step` counts from 0."""
    warmup = max(1, round(WARMUP_FRACTION * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long and how fast; `frames_per_step` only serves the frames/s of the view."""

    steps: int
    lr: float
    frames_per_step: int
    prefix: str
    """Put before the name of each measurement: `encoder/loss`."""
    optimizer: OptimizerOf = adam
    """Makes the optimiser from the parameters and the peak learning rate; its state is saved tensor by tensor."""
    schedule: Schedule = learning_rate_factor
    """Factor of the learning rate at (step, steps), step from 0."""


@dataclass(frozen=True, slots=True)
class FitContext:
    """Where the loop runs and whom it tells."""

    ref: StageRef
    store: StageStore
    attempt: str
    device: torch.device
    stop_requested: Callable[[], bool]
    progress_every_s: float = 60.0
    event_every_s: float = 2.0
    amp: bool = True
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a fit ended; `drained` means that it is not over and its progress is saved."""

    outcome: Outcome
    points: tuple[MetricPoint, ...]
    frames_per_s: float
    drained: bool = False


@dataclass(slots=True)
class _Run:
    """What changes while a fit runs; all of it is in a progress point."""

    step: int = 0
    points: list[MetricPoint] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counted: int = 0


class Precision:
    """Automatic mixed precision: bf16 or fp16 by compute capability on a GPU, off elsewhere."""

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.dtype = amp_dtype(device) if enabled else None
        self._device_type = device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def autocast(self) -> Any:
        """The context of a forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self._device_type, dtype=self.dtype)


def amp_dtype(device: torch.device) -> torch.dtype | None:
    """The mixed-precision type of a device: None on a CPU, bf16 from Ampere on, fp16 before."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= BF16_CAPABILITY else torch.float16


def fit(task: Task, settings: FitSettings, context: FitContext) -> Generator[Progress | Drained, None, FitResult]:
    """Train the task to its last step, resuming from the newest progress point that the store has.

    Yields Progress about every `event_every_s`, and at once, with 0 frames/s, where it resumes; saves a progress point
    every `progress_every_s` and, when asked to stop, at once before yielding Drained. A non-finite loss
    ends the fit as DIVERGED.
    """
    parameters = list(task.parameters())
    optimizer = settings.optimizer(parameters, settings.lr)
    precision = Precision(context.device, enabled=context.amp)
    run = _resume(task, optimizer, precision, context)
    log_every = max(1, settings.steps // POINTS_PER_STAGE)
    started = told = saved = checked = context.clock()
    first_step = durable_step = run.step
    speed = 0.0
    if run.step:
        yield _progress(run, settings, context, speed=speed, durable_step=durable_step)
    while run.step < settings.steps:
        _train_step(task, settings, optimizer=optimizer, precision=precision, parameters=parameters, run=run)
        measured = task.after_step(run.step)
        due = measured or run.step % log_every == 0 or run.step == settings.steps
        if due and not _log_point(run, measured, settings.prefix):
            return FitResult(Outcome.DIVERGED, tuple(run.points), speed)
        now = context.clock()
        speed = (run.step - first_step) * settings.frames_per_step / max(now - started, 1e-9)
        stopping = now - checked >= STOP_CHECK_S and context.stop_requested()
        checked = now if now - checked >= STOP_CHECK_S else checked
        if stopping or now - saved >= context.progress_every_s:
            _save(task, optimizer, precision, run=run, context=context)
            saved, durable_step = context.clock(), run.step
        if stopping:
            yield Drained(context.ref.kind, context.ref.key, run.step)
            return FitResult(Outcome.DONE, tuple(run.points), speed, drained=True)
        if now - told >= context.event_every_s:
            yield _progress(run, settings, context, speed=speed, durable_step=durable_step)
            told = context.clock()
    finite = all(bool(weight.isfinite().all()) for weight in parameters)  # the last step's loss cannot tell
    return FitResult(Outcome.DONE if finite else Outcome.DIVERGED, tuple(run.points), speed)


def _train_step(
    task: Task,
    settings: FitSettings,
    *,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    parameters: list[nn.Parameter],
    run: _Run,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * settings.schedule(run.step, settings.steps)
    optimizer.zero_grad(set_to_none=True)
    with precision.autocast():
        loss, measured = task.loss(run.step)
    precision.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    precision.scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM_MAX)
    precision.scaler.step(optimizer)
    precision.scaler.update()
    for name, value in {"loss": loss.detach(), **measured}.items():
        value = value.float()
        run.sums[name] = run.sums[name] + value if name in run.sums else value
    run.counted += 1
    run.step += 1


def _log_point(run: _Run, measured: dict[str, float], prefix: str) -> bool:
    """Close the interval since the last point; False where its loss is not finite. The one place that waits."""
    values = {f"{prefix}/{name}": float(total) / run.counted for name, total in run.sums.items()}
    values |= {f"{prefix}/{name}": value for name, value in measured.items()}
    run.points.append(MetricPoint(step=run.step, values=values))
    run.sums.clear()
    run.counted = 0
    return math.isfinite(values[f"{prefix}/loss"])


def _progress(run: _Run, settings: FitSettings, context: FitContext, *, speed: float, durable_step: int) -> Progress:
    return Progress(
        kind=context.ref.kind,
        key=context.ref.key,
        step=run.step,
        steps=settings.steps,
        frames_per_s=speed,
        values=run.points[-1].values if run.points else {},
        durable_step=durable_step,
    )


def _save(
    task: Task, optimizer: torch.optim.Optimizer, precision: Precision, *, run: _Run, context: FitContext
) -> None:
    """One progress point: everything a resume needs, as safetensors and Parquet."""
    tensors = {f"task.{name}": tensor for name, tensor in task.state().items()}
    tensors |= {f"sums.{name}": tensor for name, tensor in run.sums.items()}
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": slot for name, slot in slots.items()}
    for name, value in precision.scaler.state_dict().items():
        tensors[f"scaler.{name}"] = torch.tensor(value)
    tensors["counted"] = torch.tensor(run.counted)
    files = {"state.safetensors": pack_tensors(tensors), "metrics.parquet": encode_points(run.points)}
    context.store.save_progress(context.ref, attempt=context.attempt, step=run.step, files=files)


def _resume(task: Task, optimizer: torch.optim.Optimizer, precision: Precision, context: FitContext) -> _Run:
    """The newest progress point of the stage put back in place, or a fresh start."""
    point = context.store.load_progress(context.ref)
    if point is None:
        return _Run()
    # on the CPU: whoever takes a tensor moves it, and Adam's step counts must not live on a GPU
    tensors = unpack_tensors(point.files["state.safetensors"], torch.device("cpu"))
    task.load_state(below(tensors, "task."))
    _resume_optimizer(optimizer, below(tensors, "optimizer."))
    scaler = {name: tensor.item() for name, tensor in below(tensors, "scaler.").items()}
    if scaler:
        precision.scaler.load_state_dict(scaler)
    return _Run(
        step=point.step,
        points=list(decode_points(point.files["metrics.parquet"])),
        sums={name: total.to(context.device) for name, total in below(tensors, "sums.").items()},
        counted=int(tensors["counted"]),
    )


def _resume_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    """Moments and step counts, by `number.name`, in their parameters' memory layout: Adam's fast path wants it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        number, slot = name.split(".", 1)
        parameter = parameters[int(number)]
        laid_out = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
        slots.setdefault(int(number), {})[slot] = laid_out.detach()
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors bytes, from whatever device and layout they are in."""
    packed: bytes = tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return packed


def unpack_tensors(content: bytes, device: torch.device) -> dict[str, Tensor]:
    """What `pack_tensors` wrote, on a device."""
    return {name: tensor.to(device) for name, tensor in tensors_from_bytes(content).items()}
