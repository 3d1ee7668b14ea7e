"""Losses of five fixed steps of each kind of stage, stored beside STAGE_VERSION.

A change of these numbers is a change of what a stage computes: bump its version, then store the new losses with
    python tests/stages/test_golden.py
"""

import json
import sys
from pathlib import Path

import pytest

from uscl.data.dataset import open_dataset
from uscl.stages.keys import STAGE_VERSION, chain
from uscl.stages.run import run_trial
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore

GOLDEN = Path(__file__).with_name("golden.json")
RELATIVE = 1e-4

SETTINGS = {
    "encoder": {"steps": 5, "lr": 1e-3, "clips": 3, "frames": 4},
    "decoder": {"steps": 5, "lr": 1e-3, "clips": 3, "frames": 4, "level": 2, "patch": 1},
    "finetune": {"steps": 5, "lr": 1e-3, "batch": 4, "select_every": 5},
    "speckle": {"weight": 0.1, "min_pixels": 8},
}
VARIANTS = {
    "infonce": {"temporal__polarity": "positive_negative", "temporal__window": 2},
    "pairwise": {"contrast__loss": "pairwise", "temporal__polarity": "positive", "temporal__window": 2},
}


def five_steps(make_trial, dataset, store):
    """{variant: {stage: figures}}: the five losses of each training stage, the DSC of each evaluation."""
    figures = {}
    for variant, changes in VARIANTS.items():
        spec = make_trial(**SETTINGS, **changes)
        list(run_trial(spec, store, dataset=dataset, device="cpu", attempt=variant, stop_requested=lambda: False))
        figures[variant] = {}
        for stage in chain(spec, open_dataset(dataset).index).stages:
            if stage.kind == "evaluate":
                part = stage.name.split("/")[1]
                names = (f"{part}/dsc", f"{part}/delta_snr", f"{part}/hd95")
                figures[variant][stage.name] = [store.manifest(stage.ref).metrics[name] for name in names]
                continue
            points = decode_points(store.read(stage.ref, "metrics.parquet"))
            figures[variant][stage.name] = [point.values[f"{stage.kind}/loss"] for point in points]
    return figures


@pytest.fixture(scope="module")
def measured(trial, tiny_dataset, tmp_path_factory):
    return five_steps(trial, tiny_dataset, StageStore(tmp_path_factory.mktemp("golden")))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["encoder", "decoder", "finetune", "evaluate/val", "evaluate/test"])
def test_five_steps_give_the_figures_of_this_stage_version(measured, variant, name):
    stored = json.loads(GOLDEN.read_text())
    kind = name.split("/")[0]
    assert stored["versions"][kind] == STAGE_VERSION[kind], "store the figures of the new version: see this file's head"
    assert measured[variant][name] == pytest.approx(stored["figures"][variant][name], rel=RELATIVE, nan_ok=True)


if __name__ == "__main__":
    import tempfile

    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import make_trial, write_tiny_dataset

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_dataset(Path(folder) / "tiny")
        figures = five_steps(make_trial, Path(folder) / "tiny", StageStore(Path(folder) / "store"))
    GOLDEN.write_text(json.dumps({"versions": dict(STAGE_VERSION), "figures": figures}, indent=1) + "\n")
