"""A sweep whose store is a bucket: killed and resumed, cut off from it for a while, copied to MLflow afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from s3_server import Wire
from sweep_fakes import fake_plan, grid_specs, journal
from sweep_processes import Driver

from uscl.store.roots import open_files, read_file
from uscl.store.sweeps import SweepFolder
from uscl.sweep.outlook import to_do

pytestmark = pytest.mark.slow

STALE_S = 3.0

TINY = """\
name: tiny
recipe: demo
data: phantom
phantom: {patients: 6, clips_per_patient: 1, frames_per_clip: 12, labels_per_patient: 3, size: 32}
resources: {gpus_per_trial: 0}
fixed: {image.size: 32, encoder.steps: 5, encoder.clips: 2, decoder.clips: 2, decoder.steps: 5, finetune.steps: 5}
rows: [{label: base, temporal.polarity: none}]
report: {rows: [contrast.loss], columns: labels.fraction, values: [test/dsc]}
"""


def assert_each_cell_once(root, address, *, cells=6):
    """Every cell finished and told once, every stage published once, no session and no lease left."""
    plan = fake_plan(root, grid_specs(), store=address)
    assert len(plan.cells) == cells and all(cell.finished for cell in to_do(plan))
    published = Counter(line for line in journal(root) if line[0] == "publish")
    assert len(published) == 22 and max(published.values()) == 1
    folder = SweepFolder(address, "fake")
    finished = Counter(event["cell"] for event in folder.read_events() if event["event"] == "CellFinished")
    assert set(finished) == {planned.plan.cell for planned in plan.cells} and max(finished.values()) == 1
    assert folder.sessions() == [] and read_file(folder.path / "lease.json") == b""
    assert not open_files(address).exists("torn")
    return plan


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_killed_resumed_and_synced(tmp_path, bucket, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {"store": bucket, "stale_s": STALE_S}
    first = Driver(tmp_path, **options, script={"pause_at": "between weights and manifest", "step_s": 0.01})
    first.wait_for((tmp_path / "dataset" / "hit-between weights and manifest").exists)
    first.kill()
    assert len(SweepFolder(bucket, "fake").sessions()) == 1
    outcome = Driver(tmp_path, **options, script={"step_s": 0.01}).end()
    assert (outcome["finished"], outcome["held"], outcome["left"], outcome["exit_code"]) == (6, 0, 0, 0)
    plan = assert_each_cell_once(tmp_path, bucket)
    log = SweepFolder(bucket, "fake").logs(plan.cells[-1].plan.cell)[-1]
    assert "finished | done" in read_file(log).decode()

    idle = Driver(tmp_path, **options).end()
    assert (idle["finished"], idle["trained"], idle["ray"]) == (6, {}, False), "nothing to do, and no Ray to do it"

    from mlflow.tracking import MlflowClient

    from uscl.cli.ui import sync
    from uscl.tracking.location import find_location

    sync.main(["--store", bucket, "fake"], standalone_mode=False)
    location = find_location(plan.store_root)
    assert location.database.is_relative_to(tmp_path / "cache")
    client = MlflowClient(tracking_uri=location.uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "fake"]
    runs = client.search_runs([experiment.experiment_id])
    of_cells = Counter(run.data.tags["uscl.cell"] for run in runs if "uscl.cell" in run.data.tags)
    assert of_cells == Counter(planned.plan.cell for planned in plan.cells)
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_one_driver_at_a_time_drained_by_a_signal_and_gone_on(tmp_path, bucket):
    options = {"store": bucket, "stale_s": STALE_S}
    driver = Driver(tmp_path, **options, script={"steps": 400, "step_s": 0.05})
    driver.wait_for(lambda: len(journal(tmp_path)) >= 1)
    second = Driver(tmp_path, **options, script={"steps": 400, "step_s": 0.05})
    second.process.wait(60)
    assert any(f"sweep fake is being run by process {driver.process.pid} on" in line for line in second.lines)
    assert json.loads(read_file(SweepFolder(bucket, "fake").path / "lease.json"))["pid"] == driver.process.pid
    driver.signal(signal.SIGTERM)
    outcome = driver.end()
    assert (outcome["exit_code"], outcome["held"], outcome["saved"]) == (143, 0, 2), driver.lines
    assert [event["event"] for event in SweepFolder(bucket, "fake").read_events()][-1] == "Drained"
    script = {"steps": 3, "step_s": 0.01}  # the resume point is further than that
    outcome = Driver(tmp_path, **options, script=script).end()
    assert (outcome["finished"], outcome["exit_code"]) == (6, 0)
    assert_each_cell_once(tmp_path, bucket)


def test_an_endpoint_that_goes_away_for_a_while_costs_nothing(tmp_path, s3_server, bucket):
    wire = Wire(s3_server.port)
    address = bucket.replace(f":{s3_server.port}", f":{wire.port}")
    driver = Driver(tmp_path, store=address, stale_s=STALE_S, script={"steps": 5, "step_s": 0.05})
    driver.wait_for(lambda: len(journal(tmp_path)) >= 8)
    wire.cut()
    time.sleep(8.0)
    assert driver.process.poll() is None, driver.lines
    before = len(journal(tmp_path))
    wire.mend()
    outcome = driver.end()
    assert (outcome["finished"], outcome["held"], outcome["failed"], outcome["exit_code"]) == (6, 0, {}, 0), (
        driver.lines
    )
    assert not [event for event in SweepFolder(bucket, "fake").read_events() if event["event"] == "Failed"]
    assert before < len(journal(tmp_path))
    assert_each_cell_once(tmp_path, bucket)
    wire.cut()


def test_a_real_sweep_from_the_command_line(tmp_path, s3_server, bucket, monkeypatch):
    """The address, its service and keys from the environment; phantom and MLflow in this machine's cache."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])),
        "XDG_CACHE_HOME": str(tmp_path / "cache"), "USCL_STORE": bucket.partition("?")[0], "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_server.port}",
    }  # fmt: skip

    def uscl(*arguments):
        command = [sys.executable, "-m", "uscl.cli.main", *arguments]
        ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    said = uscl("sweep", "tiny.yaml")
    assert "tiny: 1/1 cells finished; trained 1 encoder, 1 decoder, 1 finetune, 2 evaluate" in said
    assert "all 1 cells are finished; nothing to do" in uscl("sweep", "tiny.yaml")
    assert "finished | done" in uscl("logs", "tiny", "1")
    assert "| contrast.loss |" in uscl("report", "tiny", "--format", "md")
    assert {path.name for path in (tmp_path / "cache" / "uscl").iterdir()} == {"data", "mlflow"}
    assert not (tmp_path / "runs").exists()
    assert SweepFolder(bucket, "tiny").has_report("table.md")
