"""The speckle term's share of a fine-tuning step: `python tests/bench/bench_speckle.py [--paper]`. Wanted: under 5 %.

Forward, segmentation loss, backward and optimiser on one thread, at recipe demo's sizes and, with --paper, at those of
recipe paper (slow on a CPU: a step takes seconds). Two figures per setting: the step with the term minus the step
without, which on a busy machine is mostly noise, and the term's own forward and backward alone against the step.
"""

import statistics
import sys
import time

import numpy as np
import torch

from uscl.losses.segmentation import deep_dice_ce
from uscl.models.unet import UNet
from uscl.spec.trial import ImageSpec, NetworkSpec, SpeckleSpec
from uscl.stages.pretraining import build_unet
from uscl.stages.speckle import SpeckleTerm

CLASSES = ("capsule", "cortex", "medulla", "cec")
LEAVES = CLASSES[1:]
SIZES = {
    "demo": (64, 8, NetworkSpec(preset="tiny", norm="group"), 30),
    "paper": (192, 20, NetworkSpec(preset="chaitanya", norm="batch"), 3),
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


def scene(size: int, batch: int) -> dict[str, torch.Tensor]:
    """Input, nested discs and everything known."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.linspace(-1, 1, size)
    radius_HW = (axis[:, None].square() + axis[None].square()).sqrt()
    truth = torch.stack([(radius_HW < limit).float() for limit in (0.8, 0.6, 0.4, 0.2)])
    raw = torch.rand((batch, size, size), generator=generator)
    return {"raw": raw, "truth": truth.expand(batch, -1, -1, -1).contiguous(), "known": torch.ones_like(raw)}


def seconds(step: object, repeats: int) -> float:
    """Median time of a call, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def term_of(changes: dict[str, object], batch: dict[str, torch.Tensor]) -> object:
    """A function of segmentation loss and logits that gives the whole loss."""
    speckle = SpeckleSpec(weight=0.1, classes=LEAVES, **changes)
    term = SpeckleTerm(speckle, classes=CLASSES, steps=100, device=torch.device("cpu"))
    cases = [str(number) for number in range(len(batch["raw"]))]

    def add(segmentation: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        planes = {"raw_BHW": batch["raw"], "known_BHW": batch["known"], "cases": cases}
        return term.add(segmentation, logits, batch["truth"], **planes, step=1, rng=np.random.default_rng(0))[0]

    return add


def step_of(network: UNet, batch: dict[str, torch.Tensor]) -> object:
    """One step without the term."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    frames = batch["raw"][:, None].contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = network.deep_logits(frames)
        deep_dice_ce(logits, batch["truth"], batch["known"][:, None], kind="dice_ce").backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()

    return step


def main() -> None:
    """Print the share of each setting."""
    torch.set_num_threads(1)
    for name in ("demo", "paper") if "--paper" in sys.argv else ("demo",):
        size, count, network_spec, repeats = SIZES[name]
        network = build_unet(ImageSpec(size=size), network_spec, num_classes=len(CLASSES))
        network = network.to(memory_format=torch.channels_last)
        batch = scene(size, count)
        plain = seconds(step_of(network, batch), repeats)
        print(f"{name}: {count} frames of {size} px, {1e3 * plain:.1f} ms per step without the term")
        # logits as the network gives them, in its memory layout
        logits = network(batch["raw"][:, None].contiguous(memory_format=torch.channels_last)).detach()
        nothing = torch.zeros(())
        for setting, changes in SETTINGS.items():
            add = term_of(changes, batch)
            leaf = logits.clone(memory_format=torch.preserve_format).requires_grad_()
            alone = seconds(lambda add=add, leaf=leaf: add(nothing, leaf).backward(), max(repeats, 10))
            print(f"  {setting:16} {1e3 * alone:7.2f} ms  {100 * alone / (plain + alone):5.2f} % of the step")


if __name__ == "__main__":
    main()
