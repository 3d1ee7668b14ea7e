"""`uscl ui` and `uscl sync`: which sweeps, which address, whose lease. MLflow is a stand-in."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from uscl.cli import ui as ui_module
from uscl.errors import LeaseHeld, SpecError, StoreError, UsclError
from uscl.records import CellPlan, StageRef
from uscl.store.sweeps import SweepFolder
from uscl.tracking.location import Location
from uscl.tracking.mirror import Synced

ADDRESS = "http://tracker:5000"


@pytest.fixture
def store(tmp_path):
    for name in ("temporal", "grid"):
        folder = SweepFolder(tmp_path, name)
        folder.write_sweep({"name": name, "report": {"columns": "labels.fraction", "values": ["test/dsc"]}})
        settings = {"method": "supervised", "labels.fraction": 0.1}
        stages = {"finetune": StageRef("finetune", "a" * 64), "evaluate/test": StageRef("evaluate", "b" * 64)}
        folder.write_cells([CellPlan(1, "a" * 64, "one", {"labels.fraction": 0.1}, settings, stages)])
    return tmp_path


@pytest.fixture
def synced(monkeypatch):
    """Which sweeps were copied, and the table that each would have been given."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    calls = {}

    def sync(store, identity, *, cells, table, figures):
        assert figures() == {}, "nothing is finished"
        calls[identity] = table()["table.txt"]
        return Synced(Location(ADDRESS, None), "7", len(cells))

    monkeypatch.setattr(ui_module.mirror, "sync", sync)
    return calls


def call(command, *args):
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    if isinstance(result.exception, UsclError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_sync_copies_every_sweep_with_its_table(store, synced):
    result = call(ui_module.sync, "--store", store)
    assert result.output == f"grid: 1 runs in {ADDRESS}\ntemporal: 1 runs in {ADDRESS}\n"
    assert "? not finished, not in the mean: 1 of 1 cells (1)" in synced["temporal"]


def test_sync_of_one_sweep(store, synced):
    call(ui_module.sync, "grid", "--store", store)
    assert list(synced) == ["grid"]


def test_ui_prints_a_link_per_sweep_where_a_server_has_them(store, synced):
    result = call(ui_module.ui, "--store", store)
    assert result.output.splitlines() == [
        f"grid (1 runs): {ADDRESS}/#/experiments/7/runs?viewStateShareKey=uscl",
        f"temporal (1 runs): {ADDRESS}/#/experiments/7/runs?viewStateShareKey=uscl",
        f"MLflow's home: {ADDRESS}",
    ]


def test_a_sweep_under_way_copies_itself(store, synced):
    with SweepFolder(store, "grid").acquire_lease():
        result = call(ui_module.sync, "--store", store)
        assert "grid: is running and copies itself" in result.stderr
        assert list(synced) == ["temporal"]
        with pytest.raises(LeaseHeld, match="sweep grid is being run by process"):
            call(ui_module.sync, "grid", "--store", store)


def test_an_unknown_sweep_is_answered_with_the_known_ones(store, synced):
    with pytest.raises(SpecError, match=r"no sweep 'liver' in .*; it has: grid, temporal"):
        call(ui_module.sync, "liver", "--store", store)


def test_an_empty_store_is_said(tmp_path, synced):
    with pytest.raises(StoreError, match="no sweep in this store yet; run one, or give another --store"):
        call(ui_module.ui, "--store", tmp_path)


def test_a_busy_port_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ui_module.free_port(port) > port


def test_a_server_that_cannot_start_is_one_line(tmp_path, monkeypatch):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho starting\necho no such option >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(ui_module.sys, "executable", str(broken))
    location = Location(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts")
    with (
        pytest.raises(UsclError, match="the MLflow server ended at once: no such option"),
        ui_module.serving(location, port=ui_module.free_port(5700)),
    ):
        pass


def test_the_commands_import_no_mlflow_torch_or_ray():
    code = "import sys, uscl.cli.ui; print([m for m in ('mlflow', 'torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"
