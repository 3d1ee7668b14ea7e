"""`uscl doctor`: what it prints, its JSON, its exit codes; and that looking imports nothing heavy."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from uscl.cli import doctor as command
from uscl.cli.doctor import doctor
from uscl.sweep.findings import Finding, Level
from uscl.sweep.nodes import GpuFacts, NodeFacts


def run(*arguments):
    """Exit code and output; the code is what `main` would leave with."""
    ran = CliRunner().invoke(doctor, [*map(str, arguments)], standalone_mode=False)
    if ran.exception:
        raise ran.exception
    return ran.return_value, ran.output


def test_a_machine_that_will_do(tmp_path):
    code, output = run("--store", tmp_path / "runs")
    assert code == 0 and output.endswith("nothing would stop a sweep; 0 warnings\n")
    assert "fine     store     " in output and "fine     mlflow    sqlite:///" in output
    assert not (tmp_path / "runs").exists()


def test_what_would_stop_a_sweep_is_exit_code_2_and_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    code, output = run("--store", tmp_path / "file" / "runs", "--data", tmp_path)
    assert code == 2 and output.endswith("2 findings would stop a sweep; 0 warnings\n")
    assert "stop     store     " in output and "stop     data      " in output
    assert output.count("-> do") == 2


def test_a_mlflow_server_that_is_down_and_an_address_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    code, output = run("--store", tmp_path)
    assert code == 0 and "warning  mlflow    http://127.0.0.1:1: nobody answers (" in output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "some/folder")
    code, output = run("--store", tmp_path)
    assert code == 2 and "stop     mlflow    MLFLOW_TRACKING_URI=some/folder" in output


def test_json_and_the_table_of_nodes(tmp_path, monkeypatch):
    v100 = GpuFacts("Tesla V100", (7, 0), 16 * 1024**3)
    node = NodeFacts("gpu3", {"torch": "2.13.0+cu130"}, 8, 0.0, gpus=(v100,), num_gpus=4)
    stop = Finding(Level.STOP, "gpu", "node gpu3: no kernel", "install it")
    monkeypatch.setattr(command.examine, "examine_cluster", lambda address, **options: ([stop], [node]))
    code, output = run("--store", tmp_path, "--address", "h:1", "--json")
    document = json.loads(output)
    assert code == 2 and document["stop"]
    assert {"level": "stop", "topic": "gpu", "what": "node gpu3: no kernel", "fix": "install it"} in document[
        "findings"
    ]
    assert document["nodes"][0]["gpus"][0]["name"] == "Tesla V100"
    _, output = run("--store", tmp_path, "--address", "h:1")
    assert "gpu3                        8  2.13.0+cu130   4 x Tesla V100 (sm_70)" in output


@pytest.mark.slow
def test_a_machine_without_a_card_is_looked_at_without_torch_ray_or_mlflow(tmp_path):
    code = (
        "import sys; from uscl.cli.main import main; sys.argv = ['uscl', 'doctor', '--store', sys.argv[1]]\n"
        "try: main()\nexcept SystemExit as end: print('code', end.code)\n"
        "print('loaded:', [name for name in 'torch ray mlflow optuna'.split() if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.rstrip().endswith("code 0\nloaded: []"), ran.stdout
