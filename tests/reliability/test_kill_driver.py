"""kill -9 of the driver, then the same command: every cell once, nothing finished trained again, no run left RUNNING.

Five named points and five random moments, over stages of milliseconds, with a real Ray, store and embedded MLflow.
Ray's workers outlive a killed driver by 2-3 s, so two writers on one stage are part of what is tested.
"""

import random
from collections import Counter

import pytest
from sweep_fakes import fake_plan, grid_specs, journal
from sweep_processes import Driver

from uscl.store.sweeps import SweepFolder
from uscl.sweep.outlook import to_do

pytestmark = pytest.mark.slow

POINTS = (
    "mid-progress",
    "between weights and manifest",
    "between manifest and event",
    "while a follower waits",
    "during evaluation",
)
# Two polarities would keep both slots busy; one leaves the second slot waiting for the shared encoder.
ONE_ENCODER = {"polarities": ["none"]}


def check(root, grid):
    """What must hold after the last start."""
    plan = fake_plan(root, grid_specs(**{name: tuple(values) for name, values in grid.items()}))
    assert all(cell.finished for cell in to_do(plan))
    assert_nothing_finished_is_trained_again(root)
    cells = [planned.plan.cell for planned in plan.cells]
    finished = Counter(
        e["cell"] for e in SweepFolder(plan.store_root, "fake").read_events() if e["event"] == "CellFinished"
    )
    assert set(finished) <= set(cells) and max(finished.values(), default=1) == 1
    assert_one_finished_run_per_cell(plan, cells)


def assert_nothing_finished_is_trained_again(root):
    """No start of a stage after its first publication, and no attempt of two drivers published twice."""
    published = set()
    for what, *stage in journal(root):
        assert not (what == "start" and tuple(stage) in published), f"{stage} was trained again"
        if what == "publish":
            published.add(tuple(stage))


def assert_one_finished_run_per_cell(plan, cells, *, score=0.5):
    """As a reader of MLflow sees it; None: any score will do."""
    from mlflow.tracking import MlflowClient

    from uscl.tracking.location import find_location

    client = MlflowClient(tracking_uri=find_location(plan.store_root).uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == plan.identity]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    of_cells = [run for run in runs if run.data.tags.get("uscl.cell") in cells]
    assert Counter(run.data.tags["uscl.cell"] for run in of_cells) == Counter(cells)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in of_cells:
        assert run.data.metrics["test/dsc"] == (run.data.metrics["test/dsc"] if score is None else score)


@pytest.mark.filterwarnings("default")  # MLflow's own
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(tmp_path, point):
    grid = ONE_ENCODER if point == "while a follower waits" else {}
    driver = Driver(tmp_path, mirror=True, grid=grid, script={"pause_at": point, "step_s": 0.01})
    driver.wait_for((tmp_path / "dataset" / f"hit-{point}").exists)
    driver.kill()
    resumed = Driver(tmp_path, mirror=True, grid=grid, script={"step_s": 0.01})
    outcome = resumed.end()
    assert outcome["left"] == outcome["held"] == 0, resumed.lines
    check(tmp_path, grid)


@pytest.mark.filterwarnings("default")
def test_killed_at_five_random_moments_of_one_sweep(tmp_path):
    rng = random.Random(20)
    grid = {"seeds": [0, 1, 2]}
    for _ in range(5):
        driver = Driver(tmp_path, mirror=True, grid=grid, script={"step_s": 0.03})
        before = len(journal(tmp_path))
        target = before + rng.randint(1, 10)
        driver.wait_for(lambda target=target: len(journal(tmp_path)) >= target)
        driver.kill()
    outcome = Driver(tmp_path, mirror=True, grid=grid).end()
    assert outcome["finished"] == 18
    check(tmp_path, grid)


@pytest.mark.filterwarnings("default")
def test_killed_after_the_last_stage_the_next_start_closes_its_runs(tmp_path):
    """Nothing is left to train, yet MLflow has a run RUNNING that nobody would ever end."""
    grid = {"polarities": ["none"], "fractions": [1.0]}
    driver = Driver(tmp_path, mirror=True, grid=grid, script={"pause_at": "after the last stage"})
    driver.wait_for((tmp_path / "dataset" / "hit-after the last stage").exists)
    driver.kill()
    last = Driver(tmp_path, mirror=True, grid=grid).end()
    assert last["finished"] == 1 and not last["ray"], "nothing to train"
    check(tmp_path, grid)
