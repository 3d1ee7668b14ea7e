"""T2 and T9 under a real Ray: processes that die in every way, and a worker killed in the middle of a stage."""

from collections import Counter

import pytest
from sweep_fakes import fake_plan, grid_specs, journal
from sweep_processes import Driver

from uscl.store.sweeps import SweepFolder

pytestmark = pytest.mark.slow


def records(root, event):
    return [line for line in SweepFolder(root / "store", "fake").read_events() if line["event"] == event]


def test_every_kind_of_end_gets_its_class_and_the_sweep_goes_on(tmp_path):
    faults = {
        "none 0.1": "exit with 137 in finetune",
        "none 0.5": "exit with 139 in evaluate/val",
        "none 1.0": "exit once in finetune",
        "positive 0.1": "long error in finetune",
        "positive 0.5": "oom in finetune",
        "positive 1.0": "nan in finetune",
    }
    outcome = Driver(tmp_path, script={"faults": faults}).end()
    assert (outcome["finished"], outcome["held"], outcome["exit_code"]) == (4, 2, 1)
    failed = records(tmp_path, "Failed")
    assert Counter(line["failure"] for line in failed) == {"lost": 3, "error": 1, "oom": 1}
    assert all(line["node"] and line["kind"] and len(line["message"]) < 3_000 for line in failed)
    assert {line["deaths_left"] for line in failed if line["failure"] == "lost"} == {2}
    begun = {line["attempt"]: line["node"] for line in records(tmp_path, "Started")}
    assert len(begun) == 6 + 3, "every attempt has its beginning"
    assert {line["attempt"] for line in failed} <= set(begun) and all(begun.values())
    again = Driver(tmp_path, skip_failed=True).end()
    assert (again["finished"], again["held"], again["trained"]) == (4, 2, {}), "not tried again where not wanted"
    assert Driver(tmp_path).end()["finished"] == 6, "a new start tries again what failed"


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_a_killed_worker_resumes_from_its_checkpoint(tmp_path):
    """The fake is killed after three of its six steps; each step that it makes is noted."""
    grid = {"polarities": ["none"], "fractions": [1.0]}
    script = {"steps": 6, "faults": {"none 1.0": "kill at step 4 in encoder"}}
    outcome = Driver(tmp_path, grid=grid, script=script, mirror=True).end()
    assert (outcome["finished"], outcome["exit_code"]) == (1, 0)
    steps = [int(key) for what, kind, key in journal(tmp_path) if (what, kind) == ("step", "encoder")]
    assert steps == [1, 2, 3, 4, 5, 6], "no step is made twice, and none is left out"
    (failed,) = records(tmp_path, "Failed")
    assert (failed["failure"], failed["kind"], failed["deaths_left"]) == ("lost", "encoder", 2)
    assert_one_run(fake_plan(tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)), **script))


def assert_one_run(plan):
    """MLflow has one run of the cell, finished, and every step of its curve once."""
    from mlflow.tracking import MlflowClient

    from uscl.tracking.location import find_location

    client = MlflowClient(tracking_uri=find_location(plan.store_root).uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == plan.identity]
    cell = plan.cells[0].plan.cell
    runs = [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags.get("uscl.cell") == cell]
    assert [run.info.status for run in runs] == ["FINISHED"]
    curve = [point.step for point in client.get_metric_history(runs[0].info.run_id, "encoder/loss")]
    assert curve and len(curve) == len(set(curve))
