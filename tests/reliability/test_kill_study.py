"""Three sweeps that share cells, given to one command: one schedule, also after kill -9 of its driver.

First over stages of milliseconds, then with the real ones on a phantom of eight patients; Ray, store and the embedded
MLflow are real in both.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sweep_fakes import fake_plan, grid_specs, journal
from sweep_processes import Driver
from test_kill_driver import assert_nothing_finished_is_trained_again, assert_one_finished_run_per_cell

from uscl.spec.reader import load_sweep
from uscl.store.sweeps import SweepFolder
from uscl.sweep.folders import knows
from uscl.sweep.plan import plan_sweep
from uscl.sweep.runner import unfinished
from uscl.sweep.study import study_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own

ROOT = Path(__file__).parents[2]
GRIDS = {
    "labels": {"polarities": ["none"], "fractions": [0.1, 0.5, 1.0]},
    "pairs": {"polarities": ["none", "positive"], "fractions": [1.0]},
    "both": {"polarities": ["positive", "none"], "fractions": [0.5, 1.0]},
}
"""9 cells, 5 distinct, on 2 encoders and 2 decoders."""


def check(study):
    """What must hold of every sweep after the last start."""
    assert not unfinished(study) and all(knows(plan) for plan in study.plans)
    for plan in study.plans:
        cells = [planned.plan.cell for planned in plan.cells]
        events = SweepFolder(plan.store_root, plan.identity).read_events()
        ends = Counter(event["cell"] for event in events if event["event"] == "CellFinished")
        assert set(ends) <= set(cells) and max(ends.values()) == 1
        assert_one_finished_run_per_cell(plan, cells, score=None)


def fake_study(root):
    """The study that the driver runs."""
    grids = {name: {key: tuple(values) for key, values in grid.items()} for name, grid in GRIDS.items()}
    return study_of([fake_plan(root, grid_specs(**grid), name=name) for name, grid in grids.items()])


def test_one_start_trains_each_stage_of_all_three_once(tmp_path):
    outcome = Driver(tmp_path, grids=GRIDS, mirror=True).end()
    assert outcome["trained"] == {"encoder": 2, "decoder": 2, "finetune": 5, "evaluate": 10}
    assert (outcome["finished"], outcome["exit_code"]) == (9, 0), "each sweep counts the cells it declares"
    starts = [line[1:] for line in journal(tmp_path) if line[0] == "start"]
    assert len(starts) == len(set(starts)) == 19
    check(fake_study(tmp_path))
    again = Driver(tmp_path, grids=GRIDS, mirror=True).end()
    assert again["trained"] == {} and again["finished"] == 9 and not again["ray"]


def test_killed_at_random_moments_the_same_command_finishes_all_three(tmp_path):
    rng = random.Random(3)
    for _ in range(2):
        driver = Driver(tmp_path, grids=GRIDS, mirror=True, script={"step_s": 0.05})
        target = len(journal(tmp_path)) + rng.randint(2, 8)
        driver.wait_for(lambda target=target: len(journal(tmp_path)) >= target)
        driver.kill()
        assert not any(knows(plan) for plan in fake_study(tmp_path).plans), "each has a session left behind"
    assert Driver(tmp_path, grids=GRIDS, mirror=True).end()["finished"] == 9
    assert_nothing_finished_is_trained_again(tmp_path)
    check(fake_study(tmp_path))


def test_a_signal_drains_all_three_and_the_same_command_goes_on(tmp_path):
    driver = Driver(tmp_path, grids=GRIDS, script={"steps": 40, "step_s": 0.1})
    driver.wait_for(lambda: len(journal(tmp_path)) >= 2)
    driver.signal(signal.SIGTERM)
    outcome = driver.end()
    assert (outcome["exit_code"], outcome["left"], outcome["failed"]) == (143, 9, {})
    assert not list((tmp_path / "store").glob("sweeps/*/session-*"))
    assert Driver(tmp_path, grids=GRIDS, script={"steps": 40}).end()["finished"] == 9
    published = [line for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 19


# ---- real stages

HEAD = """\
recipe: demo
data: phantom
phantom: {patients: 8, clips_per_patient: 1, frames_per_clip: 8, labels_per_patient: 3, size: 32}
resources: {gpus_per_trial: 0, workers: 2}
fixed:
  image.size: 32
  encoder: {steps: 6, clips: 3}
  decoder: {steps: 4, clips: 3}
  finetune: {steps: 6, select_every: 3}
"""
FILES = {
    "baselines": "grid: {temporal.polarity: [none], labels.fraction: [0.5, 1.0]}\n",
    "temporal": "grid: {temporal.polarity: [none, positive], temporal.window: [3], labels.fraction: [0.5]}\n",
    "speckle": "grid: {temporal.polarity: [none], speckle.weight: [0, 0.1], labels.fraction: [0.5]}\n",
}
"""6 cells, 4 distinct (`none 0.5` is in all three), on 2 encoders and 2 decoders."""


def uscl(folder, *arguments):
    """A started `uscl ARGUMENTS` in the folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "uscl.cli.main", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
        env=os.environ | {"PYTHONPATH": path, "MLFLOW_TRACKING_URI": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def said(process):
    """All that it printed; it must have ended well."""
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


def published(folder):
    """(kind, key, attempt) of every stage that the three sweeps have on record as trained."""
    found = set()
    for name in FILES:
        for event in SweepFolder(folder / "runs", name).read_events():
            if event["event"] == "StagePublished":
                found.add((event["kind"], event["key"], event["attempt"]))
    return found


def test_real_sweeps_share_their_cells_and_survive_a_kill(tmp_path):
    for name, grid in FILES.items():
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\n{HEAD}{grid}")
    files = [f"{name}.yaml" for name in FILES]
    total = said(uscl(tmp_path, "check", *files)).splitlines()[-1]
    assert total == "3 sweeps, 6 cells, 4 distinct; 2 x encoder, 2 x decoder, 4 x finetune, 8 x evaluate"

    first = uscl(tmp_path, "sweep", *files)
    deadline = time.monotonic() + 200
    while len(published(tmp_path)) < 4:
        assert first.poll() is None and time.monotonic() < deadline, first.communicate(timeout=5)
        time.sleep(0.02)
    first.kill()
    first.communicate()

    output = said(uscl(tmp_path, "sweep", *files)).splitlines()
    ends = [output.index(f"{name}: 2/2 cells finished") for name in FILES]
    assert ends == sorted(ends) and output[-1].startswith("3 sweeps: 4/4 distinct cells finished; trained ")
    stages = Counter((kind, key) for kind, key, _ in published(tmp_path))
    assert max(stages.values()) == 1, "no stage was trained to its end twice"
    there = Counter(path.parts[-3] for path in (tmp_path / "runs").glob("stages/*/*/manifest.json"))
    assert there == {"encoder": 2, "decoder": 2, "finetune": 4, "evaluate": 8}

    plans = [plan_sweep(load_sweep(tmp_path / file), store_root=tmp_path / "runs") for file in files]
    check(study_of(plans))
    for name in FILES:
        assert "| cell " in said(uscl(tmp_path, "logs", name, "1")), "`none 0.5` is cell 1 of each"
    again = said(uscl(tmp_path, "sweep", *files)).splitlines()
    assert again[-1] == "3 sweeps: all 4 distinct cells are finished; nothing to do"
    assert not any("Ray" in line for line in again)
