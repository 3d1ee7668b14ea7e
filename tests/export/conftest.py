"""A trained cell of seconds, in a store with its sweep's folder, as `uscl sweep` leaves it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "data"))

from clip_files import make_dataset

from uscl.data.dataset import open_dataset
from uscl.records import CellPlan
from uscl.spec.trial import TrialSpec, flatten
from uscl.stages.keys import chain
from uscl.stages.run import run_trial
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder

SPEC = TrialSpec(
    method="supervised",
    data="noise",
    image={"size": 32},
    network={"preset": "tiny"},
    encoder={"steps": 1, "lr": 1, "clips": 2, "frames": 2},
    decoder={"steps": 1, "lr": 1, "clips": 2, "frames": 2, "level": 1},
    finetune={"steps": 4, "lr": 1e-2, "batch": 2, "select": "last"},
    split={"validation_fraction": 0.2, "test_fraction": 0.4},
    evaluate={"tta": "flip"},
)


def plan_of(number, links, spec):
    stages = {stage.name: stage.ref for stage in links.stages}
    return CellPlan(number, links.cell, f"cell {number}", {}, flatten(spec), stages)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Six labelled frames of noise at native sizes of their own; class `a` holds class `b`, on paper."""
    return make_dataset(tmp_path_factory.mktemp("export") / "noise", clips=0, contains={"a": ("b",)})


@pytest.fixture(scope="session")
def links(dataset):
    return chain(SPEC, open_dataset(dataset).index)


@pytest.fixture(scope="session")
def root(dataset, links, tmp_path_factory):
    """A store with one finished cell (number 1) and one that has not run (number 2), of the sweep `noise`."""
    root = tmp_path_factory.mktemp("store")
    list(run_trial(SPEC, StageStore(root), dataset=dataset, device="cpu", attempt="a", stop_requested=lambda: False))
    other = SPEC.model_copy(update={"finetune": SPEC.finetune.model_copy(update={"steps": 5})})
    waiting = chain(other, open_dataset(dataset).index)
    sweep = SweepFolder(root, "noise")
    sweep.write_sweep({"name": "noise", "data": str(dataset)})
    sweep.write_cells([plan_of(1, links, SPEC), plan_of(2, waiting, other)])
    return root
