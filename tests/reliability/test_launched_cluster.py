"""The head and worker start commands of cluster.yaml, executed on loopback, and sweeps on what they started.

One cluster of a head and two workers serves the tests in order; the last one kills its head.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from launched_cluster import Launched
from sweep_fakes import journal
from sweep_processes import Driver

from uscl.store.sweeps import SweepFolder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """A head with MLflow, and two workers of one CPU each."""
    with Launched(workers=2) as launched:
        yield launched


def events(root):
    """What happened, as the store has it."""
    return SweepFolder(root / "store", "fake").read_events()


def health(port, timeout_s=60.0):
    """What the MLflow server says, once it answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "no MLflow server"
            time.sleep(0.2)


def doctor(cluster, tmp_path, **env):
    """Exit code, and findings as lines."""
    command = [sys.executable, "-m", "uscl.cli.main", "doctor", "--address", "auto", "--store", str(tmp_path), "--json"]
    ran = subprocess.run(command, env=cluster.env | env, capture_output=True, text=True, timeout=120, check=False)
    document = json.loads(ran.stdout)
    return (
        ran.returncode,
        document,
        {f"{f['level']} {f['topic']}: {f['what']}; {f['fix']}" for f in document["findings"]},
    )


def test_the_doctor_sees_every_node_and_the_token(cluster, tmp_path):
    code, document, lines = doctor(cluster, tmp_path / "store")
    assert code == 0 and len(document["nodes"]) == 3, lines
    assert "fine token: the cluster takes the token of ~/.ray/auth_token; " in lines
    assert sum(line.startswith("fine node: ") for line in lines) >= 1
    code, document, lines = doctor(cluster, tmp_path / "store", RAY_AUTH_TOKEN="0" * 64)
    assert code == 2 and document["nodes"] == []
    assert any("the cluster refuses the token of RAY_AUTH_TOKEN; on the head `ray get-auth-token`" in x for x in lines)


def test_a_driver_without_the_token_is_told_in_one_line(cluster, tmp_path):
    (tmp_path / "home").mkdir()
    env = {name: value for name, value in cluster.env.items() if not name.startswith("RAY_AUTH")}
    driver = Driver(tmp_path, env=env | {"HOME": str(tmp_path / "home")}, address="auto")
    driver.process.wait(60)
    driver._reader.join(10)
    assert "asks for a token and there is none on this machine" in driver.lines[-1]
    assert not (tmp_path / "store").exists()


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_a_sweep_survives_the_loss_of_a_worker_and_mlflow_has_each_run_once(cluster, tmp_path):
    assert health(cluster.mlflow_port) == b"OK"
    uri = f"http://127.0.0.1:{cluster.mlflow_port}"
    env = cluster.env | {"MLFLOW_TRACKING_URI": uri}
    driver = Driver(tmp_path, env=env, address="auto", mirror=True, script={"steps": 10, "step_s": 0.1})
    driver.wait_for(lambda: {"worker-0", "worker-1"} <= {line["node"] for line in events(tmp_path)})
    cluster.kill("worker-1")
    outcome = driver.end()
    assert (outcome["finished"], outcome["held"], outcome["exit_code"]) == (6, 0, 0), driver.lines
    assert {line["node"] for line in events(tmp_path)} == {"worker-0", "worker-1"}, "none on the head"
    assert [line["failure"] for line in events(tmp_path) if line["event"] == "Failed"] == ["lost"]
    published = [line for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 22
    assert_six_finished_runs(uri)


def assert_six_finished_runs(uri):
    """In the server that the head's start commands started."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "fake"]
    runs = client.search_runs([experiment.experiment_id])
    assert sum("uscl.cell" in run.data.tags for run in runs) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_loss_of_the_head_is_one_line_and_the_same_command_goes_on(cluster, tmp_path):
    script = {"steps": 20, "step_s": 0.1}
    driver = Driver(tmp_path, env=cluster.env, address="auto", script=script)
    driver.wait_for(lambda: sum(line[0] == "publish" for line in journal(tmp_path)) >= 1)
    cluster.kill("head")
    outcome = driver.end()
    assert outcome["hard"] and outcome["exit_code"] == 2
    after = driver.lines[driver.lines.index("event StagePublished") :]
    (last,) = [line for line in after if not line.startswith(("event", "{"))]
    assert "has not answered for" in last and last.endswith("then the same command goes on")
    cluster.kill()
    before = {line[1:] for line in journal(tmp_path) if line[0] == "publish"}
    with Launched(workers=1) as second:
        outcome = Driver(tmp_path, env=second.env, address="auto", script={"step_s": 0.01}).end()
    assert (outcome["finished"], outcome["left"], outcome["exit_code"]) == (6, 0, 0)
    published = [line[1:] for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) and before <= set(published), "nothing is trained twice"
    assert os.getpid() not in second.pids()
