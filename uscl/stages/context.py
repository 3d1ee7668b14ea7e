"""What a stage function is handed and what it gives back; its generator yields Progress or Drained meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from uscl.data.dataset import Dataset
from uscl.errors import StoreError
from uscl.records import STAGE_KINDS, Drained, Metrics, Outcome, Progress
from uscl.stages.keys import Stage
from uscl.stages.loop import FitContext

WEIGHTS = "weights.safetensors"
"""File of a stage's weights; an evaluation and a diverged stage have none."""
CURVES = "metrics.parquet"
"""File of a stage's metric points."""


def _no_parent(name: str) -> bytes:
    raise StoreError(f"the chain starts here: no parent has a file {name!r}")


@dataclass(frozen=True, slots=True)
class StageContext:
    """One stage to run: its inputs and data, the weights below it, and where it runs."""

    stage: Stage
    dataset: Dataset
    parent_weights: Mapping[str, Tensor]
    """The direct parent's weights as the store has them; empty where the chain starts here."""
    fit: FitContext
    parent_file: Callable[[str], bytes] = _no_parent
    """Any other published file of the direct parent, by name, checked against its sha256; StoreError where none."""

    @property
    def device(self) -> torch.device:
        """Where the stage computes."""
        return self.fit.device


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a stage publishes."""

    outcome: Outcome
    files: Mapping[str, bytes]
    metrics: Metrics
    frames_per_s: float
    flags: tuple[str, ...] = ()


StageEvents: TypeAlias = Generator[Progress | Drained, None, StageOutput | None]
"""Events of a stage; it returns None where it was drained."""

StageFunction: TypeAlias = Callable[[StageContext], StageEvents]


def seed_everything(seed: int, kind: str) -> None:
    """Seed torch's global generator, from which initial weights come; each kind of stage has its own stream."""
    state = np.random.SeedSequence([seed, STAGE_KINDS.index(kind)]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> 1))


def step_rng(seed: int, kind: str, step: int) -> np.random.Generator:
    """The generator of one step's random draws: a function of seed, kind and step, so a resume needs no state."""
    return np.random.default_rng([seed, STAGE_KINDS.index(kind), 1, step])
