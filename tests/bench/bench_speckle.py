"""The speckle term's share of a fine-tuning step: `python tests/bench/bench_speckle.py [--paper]`. Wanted: under 5 %.

A step is what fine-tuning does: draw and augment a batch, forward, losses, backward, clipping, Adam; on one thread, at
recipe demo's sizes and, with --paper, at those of recipe paper (a step takes seconds on a CPU). The term is timed
by itself, forward and backward, as the difference of two whole steps would be noise; but in turns with whole steps,
as within a training: repeated alone it finds its memory in the cache and is a third cheaper.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from uscl.data.dataset import open_dataset
from uscl.data.writer import DatasetWriter
from uscl.spec.trial import ImageSpec, NetworkSpec, SpeckleSpec
from uscl.stages.context import StageContext
from uscl.stages.finetune import FinetuneTask
from uscl.stages.inputs import FinetuneInputs, FinetuneSettings
from uscl.stages.keys import DataSlice, Stage
from uscl.stages.loop import FitContext
from uscl.stages.speckle_term import SpeckleTerm
from uscl.store.stages import StageStore

CLASSES = ("capsule", "cortex", "medulla", "cec")
LEAVES = CLASSES[1:]
SIZES = {
    "demo": (64, 8, NetworkSpec(preset="tiny", norm="group"), "flip", 30),
    "paper": (192, 20, NetworkSpec(preset="chaitanya", norm="batch"), "us_safe", 2),
}
SETTINGS = {
    "nakagami, mask": {},
    "log_moment": {"estimator": "log_moment"},
    "jeffreys": {"form": "jeffreys"},
    "gamma": {"model": "gamma"},
    "rayleigh": {"model": "rayleigh"},
    "histogram": {"model": "histogram"},
    "band": {"region": "band"},
    "patch": {"region": "patch"},
    "decompressed": {"domain": "decompressed", "dynamic_range_db": 60.0},
    "permuted": {"permuted": True},
    "ema": {"balance": "ema"},
}


def write_discs(path: Path, *, size: int, count: int) -> None:
    """Frames of white noise with nested discs."""
    rng, axis = np.random.default_rng(0), np.linspace(-1, 1, size)
    masks = np.stack([np.hypot(axis[:, None], axis[None]) < limit for limit in (0.8, 0.6, 0.4, 0.2)])
    with DatasetWriter(path, name="discs", classes=CLASSES, contains={"capsule": LEAVES}, size=size) as writer:
        for number in range(count):
            image = rng.integers(1, 256, (size, size), dtype=np.uint8)
            writer.add_case(image, masks, case=str(number), patient=str(number))
        writer.close()


def task_on(folder: Path, *, size: int, batch: int, network: NetworkSpec, augment: str) -> FinetuneTask:
    """Fine-tuning without the term."""
    write_discs(folder / "discs", size=size, count=batch)
    settings = FinetuneSettings(
        steps=100, lr=1e-3, batch=batch, loss="dice_ce", augment=augment, freeze=None, transfer_bn_stats=None,
        select="last", select_every=None,
    )  # fmt: skip
    inputs = FinetuneInputs(
        seed=0, image=ImageSpec(size=size), network=network, finetune=settings, speckle=None, classes=CLASSES
    )
    data = DataSlice(cases=tuple(str(number) for number in range(batch)))
    stage = Stage("finetune", "finetune", "0" * 64, inputs, data, None)
    store = StageStore(folder / "store")
    fit = FitContext(stage.ref, store, attempt="bench", device=torch.device("cpu"), stop_requested=lambda: False)
    return FinetuneTask(inputs, StageContext(stage, open_dataset(folder / "discs"), {}, fit))


def seconds(calls: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """Median CPU time of each call, taken in turns, after a round that warms up."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, found in zip(calls, times, strict=True):
            started = time.process_time()
            call()
            found.append(time.process_time() - started)
    return [statistics.median(found[1:]) for found in times]


def step_of(task: FinetuneTask) -> Callable[[], None]:
    """One step without the term."""
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        task.loss(0)[0].backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 12.0)
        optimizer.step()

    return step


def term_of(changes: dict[str, object], task: FinetuneTask) -> Callable[[], None]:
    """The term alone, forward and backward to logits in the network's memory layout."""
    frames, device = task._train, torch.device("cpu")
    speckle = SpeckleSpec(weight=0.1, classes=LEAVES, **changes)
    term = SpeckleTerm(speckle, classes=CLASSES, steps=100, device=device)
    logits = task.network(frames.input_N1HW).detach()
    logits = logits.to(memory_format=torch.channels_last).requires_grad_()

    def step() -> None:
        rng = np.random.default_rng(0)
        probability = logits.float().contiguous().sigmoid()
        term.add(torch.ones(()), probability, frames, step=1, rng=rng)[0].backward()

    return step


def main() -> None:
    """Print the share of each setting."""
    torch.set_num_threads(1)
    for name in ("demo", "paper") if "--paper" in sys.argv else ("demo",):
        size, batch, network, augment, repeats = SIZES[name]
        with tempfile.TemporaryDirectory() as folder:
            task = task_on(Path(folder), size=size, batch=batch, network=network, augment=augment)
        print(f"{name}: {batch} frames of {size} px")
        step = step_of(task)
        for setting, changes in SETTINGS.items():
            plain, term = seconds([step, term_of(changes, task)], repeats)
            share = 100 * term / (plain + term)
            print(f"  {setting:16} {1e3 * term:7.2f} ms beside {1e3 * plain:.1f} ms: {share:5.2f} % of the step")


if __name__ == "__main__":
    main()
