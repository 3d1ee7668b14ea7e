"""A dataset of seconds: eight patients, discs that drift, two nested classes."""

import numpy as np
import pytest
import torch

from uscl.data.dataset import open_dataset
from uscl.data.writer import DatasetWriter
from uscl.spec.trial import TrialSpec

SIZE = 32


def disc(row, column, radius):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def frame(rng, outer, inner):
    grey = rng.rayleigh(30.0, (SIZE, SIZE)) * (1.0 + 1.2 * outer + 1.2 * inner)
    return np.clip(grey, 0, 255).astype(np.uint8)


def write_tiny_dataset(path):
    """Eight patients with two clips of 14 frames and three labelled frames each."""
    rng = np.random.default_rng(0)
    with DatasetWriter(path, name="tiny", classes=("outer", "inner"), contains={"outer": ("inner",)}, size=SIZE) as out:
        for patient in range(8):
            row, column = rng.uniform(12, 20, 2)
            for clip in range(2):
                frames = []
                for step in range(14):
                    moved = row + 3 * np.sin(step / 4 + clip)
                    frames.append(frame(rng, disc(moved, column, 10), disc(moved, column, 5)))
                times = np.arange(14) * 40.0
                out.add_clip(np.stack(frames), clip=f"p{patient}c{clip}", patient=f"p{patient}", times_ms=times)
            for case in range(3):
                outer, inner = disc(row + case, column, 10), disc(row + case, column, 5)
                masks = np.stack([outer, inner])
                out.add_case(frame(rng, outer, inner), masks, case=f"p{patient}i{case}", patient=f"p{patient}")
        out.close()


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """Folder of the dataset; `open_dataset` it."""
    path = tmp_path_factory.mktemp("data") / "tiny"
    write_tiny_dataset(path)
    return path


@pytest.fixture(scope="session")
def tiny_index(tiny_dataset):
    return open_dataset(tiny_dataset).index


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Before any fixture of a module trains: the bits of two threads are others."""
    torch.set_num_threads(1)


def make_trial(**changes):
    """A trial of a few steps on 32 px; `changes` by dotted name with __ for dots."""
    fields = {
        "data": "tiny",
        "image": {"size": SIZE},
        "network": {"preset": "tiny"},
        "encoder": {"steps": 6, "lr": 1e-3, "clips": 3, "frames": 4},
        "decoder": {"steps": 4, "lr": 1e-3, "clips": 3, "frames": 4, "level": 2, "patch": 1},
        "finetune": {"steps": 8, "lr": 1e-3, "batch": 4, "select_every": 4},
        "split": {"validation_fraction": 0.25, "test_fraction": 0.25},
    }
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            fields[section] = {**fields.get(section, {}), key: value}
        else:
            fields[section] = value
    return TrialSpec(**fields)


@pytest.fixture(scope="session")
def trial():
    """`trial(temporal__polarity='positive')` makes a TrialSpec."""
    return make_trial
