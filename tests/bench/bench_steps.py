"""What losses, sampling and augmentation cost on top of the network: frames/s of a step of each stage.

    python tests/bench/bench_steps.py [--seconds 8] [--recipe demo|paper] [--device cpu]

Each stage's own step (draw, read, augment, forward, loss, figures, backward, clip, Adam) against a plain forward,
backward, clip and Adam step of the same network on one batch, in turns within one run, so that both see the same
machine. The encoder's plain step is its encoder and head; the decoder's is the frozen encoder, the trained blocks and
its head; fine-tuning's is the U-Net. Wanted: losses and sampling under 20 % on top. `frames` is the part of making
the batch: drawing, reading, and the two augmentations. What the speckle term costs: bench_speckle.py.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from uscl.data.dataset import Dataset, open_dataset
from uscl.data.phantom import build_phantom
from uscl.spec.phantom import PhantomSpec
from uscl.spec.reader import load_sweep
from uscl.spec.trial import TrialSpec
from uscl.stages.context import StageContext
from uscl.stages.decoder import DecoderTask
from uscl.stages.encoder import EncoderTask
from uscl.stages.finetune import FinetuneTask
from uscl.stages.keys import Stage, chain
from uscl.stages.loop import GRADIENT_NORM_MAX, FitContext, Precision, Task
from uscl.store.stages import StageStore

WANTED_ON_TOP = 0.20
SWEEP = """\
name: bench
recipe: {recipe}
data: phantom
rows:
  - {{temporal.polarity: positive_negative, temporal.window: 5}}
phantom: {{patients: 5, clips_per_patient: 2, frames_per_clip: 14, labels_per_patient: 3}}
"""


def specs_of(recipe: str, folder: Path) -> tuple[TrialSpec, PhantomSpec]:
    """The trial and the phantom it reads."""
    path = folder / "bench.yaml"
    path.write_text(SWEEP.format(recipe=recipe), encoding="utf-8")
    sweep = load_sweep(path)
    (cell,) = sweep.cells()
    return cell.spec, sweep.phantom


def task_of(stage: Stage, dataset: Dataset, store: StageStore, device: torch.device) -> Task:
    """The training task of a stage, from fresh weights."""
    fit = FitContext(ref=stage.ref, store=store, attempt="bench", device=device, stop_requested=lambda: False)
    context = StageContext(stage=stage, dataset=dataset, parent_weights={}, fit=fit)
    tasks = {"encoder": EncoderTask, "decoder": DecoderTask, "finetune": FinetuneTask}
    made: Task = tasks[stage.kind](stage.inputs, context)
    return made


def stepper(
    parameters: list[nn.Parameter], loss: Callable[[int], Tensor], device: torch.device
) -> Callable[[int], object]:
    """One optimiser step as loop.py takes it."""
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    precision = Precision(device, enabled=True)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision.autocast():
            value = loss(number)
        precision.scaler.scale(value).backward()
        precision.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM_MAX)
        precision.scaler.step(optimizer)
        precision.scaler.update()

    return step


def plain_forward(kind: str, task: Task) -> tuple[Callable[[], Tensor], Callable[[int], object], int]:
    """The network's own forward pass on a batch made once, the making of a batch, and the frames in it."""
    if kind == "finetune":
        made = task._draw(np.random.default_rng(0)).input_N1HW.contiguous(memory_format=torch.channels_last)
        return (
            lambda: task.network(made).float().square().mean(),
            lambda number: task._draw(np.random.default_rng(number)),
            len(made),
        )
    image = task._views.views(0).image_N1HW
    if kind == "encoder":
        return lambda: task._head(task._encoder(image)[-1]).float().square().mean(), task._views.views, len(image)

    def decoded() -> Tensor:
        with torch.no_grad():
            features = task._network.encode(image)
        regions: Tensor = task._head(task._network.decode(features, upto=task._inputs.decoder.level))
        return regions.float().square().mean()

    return decoded, task._views.views, len(image)


def alternate(steps: dict[str, Callable[[int], object]], seconds: float, device: torch.device) -> dict[str, float]:
    """Median seconds of each step, taken in turns for about `seconds`, at least 4 rounds; the first warms up.

    On a CPU its own time counts (one thread), so that what else the machine does matters less.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in steps}
    begun, number = time.perf_counter(), 0
    while number < 4 or time.perf_counter() - begun < seconds:
        for name, step in steps.items():
            started = clock()
            step(number)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(clock() - started)
        number += 1
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def bench_stage(kind: str, task: Task, seconds: float, device: torch.device) -> None:
    """Print one stage's step beside the plain one, and what making its batch takes."""
    forward, frames_of, frames = plain_forward(kind, task)
    parameters = list(task.parameters())
    steps = {
        "stage": stepper(parameters, lambda number: task.loss(number)[0], device),
        "plain": stepper(parameters, lambda number: forward(), device),
        "frames": frames_of,
    }
    took = alternate(steps, seconds, device)
    on_top = took["stage"] / took["plain"] - 1
    made = took["frames"] / took["plain"]
    verdict = "as wanted" if on_top < WANTED_ON_TOP else f"MISSES {WANTED_ON_TOP:.0%}"
    print(
        f"{kind:9s}{frames / took['stage']:7.0f} frames/s, plain {frames / took['plain']:7.0f}:"
        f" {on_top:+.0%} on top ({verdict}): frames {made:+.0%}, loss and the rest {on_top - made:+.0%};"
        f" batches of {frames}"
    )


def main() -> None:
    """Bench every stage of a recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="per stage")
    parser.add_argument("--recipe", default="demo", choices=("demo", "paper"))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        spec, phantom = specs_of(options.recipe, Path(scratch))
        build_phantom(phantom, Path(scratch) / "phantom")
        dataset, store = open_dataset(Path(scratch) / "phantom"), StageStore(Path(scratch) / "store")
        links = chain(spec, dataset.index)
        print(f"recipe {options.recipe}, {spec.network.preset} at {spec.image.size} px, on {device}")
        stages = [links.stage(kind) for kind in ("encoder", "decoder", "finetune")]
        for stage in stages:
            bench_stage(stage.kind, task_of(stage, dataset, store, device), options.seconds, device)


if __name__ == "__main__":
    main()
