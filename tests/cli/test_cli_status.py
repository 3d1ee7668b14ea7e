"""`uscl status` and `uscl why` as a reader meets them, over a sweep that was run in this process."""

import json
import re

import pytest
from click.testing import CliRunner
from sweep_fakes import fake_plan, grid_specs
from test_dispatch import play, start
from test_status import DRIVER, POSITIVE_FAILS, stored

from uscl.cli.main import uscl
from uscl.errors import SpecError, StoreError
from uscl.store.sweeps import SweepFolder

pytestmark = pytest.mark.usefixtures("no_fsync")


def call(root, *arguments):
    """Output of a command that ends well; errors are raised."""
    result = CliRunner().invoke(uscl, [*arguments, "--store", str(root / "store")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def failed(tmp_path):
    """Cells 1 to 3 finished, 4 failed, 5 and 6 held."""
    plan = fake_plan(tmp_path, grid_specs(), faults=POSITIVE_FAILS)
    stored(plan)
    play(start(plan))
    return tmp_path


@pytest.fixture
def running(failed, monkeypatch):
    """A driver is at cell 4 again."""
    folder = SweepFolder(failed / "store", "fake")
    cell = folder.read_cells()[3]
    trial = {"cell": cell.cell, "attempt": "now", "node": "gpu1 gpu 0", "stage": "decoder", "kind": "decoder",
             "key": cell.stages["decoder"].key, "step": 30, "steps": 100, "frames_per_s": 2120.4, "since_s": 1000.0,
             "stage_since_s": 1000.0, "time_s": 1240.0}  # fmt: skip
    folder.write_live({"workers": 2, "device": "cuda", "gpus_per_trial": 1, "trials": [trial]})
    monkeypatch.setattr(SweepFolder, "driver", lambda self: DRIVER)
    monkeypatch.setattr("uscl.cli.status.time.time", lambda: 1300.0)
    return failed


def test_a_line_for_each_sweep(failed):
    plan = fake_plan(failed, grid_specs(polarities=("none",)), name="second")
    stored(plan)
    lines = call(failed, "status").splitlines()
    assert re.fullmatch(
        r"fake: 3/6 cells finished, 1 failed, 2 held; nobody runs it; last event \d+ s ago", lines[0]
    ) and lines[1:] == ["second: 3/3 cells finished; nobody runs it; nothing has happened yet"]
    summaries = json.loads(call(failed, "status", "--json"))
    assert [each["sweep"] for each in summaries] == ["fake", "second"]
    assert set(summaries[0]) == {"sweep", "total", "cells", "driver", "stopping", "last_activity_s"}
    assert summaries[0]["cells"] == {"finished": 3, "running": 0, "waiting": 0, "failed": 1, "held": 2}


def test_a_sweep_whose_driver_has_ended(failed):
    head, *lines = call(failed, "status", "fake").splitlines()
    assert head.startswith("fake: 3/6 cells finished, 1 failed, 2 held; nobody runs it")
    assert lines.pop(3).startswith("spent: under 0.01 CPU-hours; under 0.01 trial-hours in attempts that were drained")
    assert lines[:3] == [
        "stages: encoder 2/2, decoder 1/2, finetune 3/6, evaluate 6/12",
        "failed: 4 (the next start tries them again)",
        "held: 5-6 (a stage they need failed; `uscl why` says where)",
    ]
    assert lines[3] == "saved by sharing: 4 stage runs, 4 s of training"
    assert lines[4] == "time left: unknown (too few finished yet of: decoder)"
    assert re.fullmatch(
        r"last error, \d+ s ago: cell 4 \(error\): ValueError: a bug in the decoder; uscl logs fake 4", lines[5]
    )


def test_a_sweep_that_runs(running):
    lines = call(running, "status", "fake").splitlines()
    assert lines[0].startswith("fake: 3/6 cells finished, 1 running, 2 held; run by process 17 on node; last event")
    assert lines[1] == "driver: process 17 on node since 2026-01-01 (uscl sweep fake.yaml)"
    (trial,) = [line for line in lines if line.startswith("running")]
    assert trial == (
        "running: cell 4 (cell 4) | gpu1 gpu 0 | decoder | #####----------- 30/100 | 2120 frames/s | "
        "5 min at this stage"
    )
    document = json.loads(call(running, "status", "fake", "--json"))
    assert document["trials"] == [
        {"cell": 4, "label": "cell 4", "node": "gpu1 gpu 0", "stage": "decoder", "step": 30, "steps": 100,
         "frames_per_s": 2120.4, "seconds": 300.0, "stage_seconds": 300.0, "median_seconds": None, "straggler": False}
    ]  # fmt: skip
    assert document["numbers"] == {"finished": [1, 2, 3], "running": [4], "waiting": [], "failed": [], "held": [5, 6]}


def test_why_a_cell_failed_and_why_another_is_held(failed):
    lines = call(failed, "why", "fake", "4").splitlines()
    assert re.fullmatch(r"fake cell 4 \(cell 4\), id [0-9a-f]{10}: failed", lines[0])
    assert re.match(r"  encoder: done, by this cell in 1 s, attempt \S+", lines[1])
    assert lines[2:6] == ["  decoder: missing", "  finetune: missing", "  evaluate val: missing",
                          "  evaluate test: missing"]  # fmt: skip
    assert re.match(
        r"attempt 1, \d{4}-\S+ \S+ to \S+ \S+ on here: failed \(error\) in decoder: ValueError: a bug in the decoder",
        lines[6],
    )
    assert lines[7:] == ["  trained: encoder"]
    told = call(failed, "why", "fake", "4", "--traceback")
    assert "sweep_fakes.py" in told and "  log: trial 4 | cell" in told
    held = call(failed, "why", "fake", "6")
    assert "held: its decoder failed in cell 4 (error): ValueError: a bug in the decoder\n" in held
    assert held.endswith("no attempt of its own is on record\n")
    document = json.loads(call(failed, "why", "fake", "6", "--json"))
    assert (document["state"], document["held_by"]["cell"], document["attempts"]) == ("held", 4, [])


def test_by_file_and_by_id(failed, monkeypatch):
    (failed / "fake.yaml").write_text("name: fake\nrecipe: demo\ndata: phantom\ngrid: {seed: [0]}\n")
    monkeypatch.chdir(failed)
    cell = SweepFolder(failed / "store", "fake").read_cells()[0].cell
    assert call(failed, "why", "fake.yaml", cell[:8]) == call(failed, "why", "fake", "1")
    assert call(failed, "status", "fake.yaml").splitlines()[1:4] == call(failed, "status", "fake").splitlines()[1:4]


@pytest.mark.parametrize("command", [["status", "fak"], ["why", "fak", "1"], ["stop", "fak"]])
def test_an_unknown_sweep_names_those_there_are(failed, command):
    with pytest.raises(StoreError, match=r"fak: no such sweep in the store at \S+; it has fake"):
        call(failed, *command)
    assert not (failed / "store" / "sweeps" / "fak").exists()


def test_an_unknown_cell_and_an_empty_store(failed):
    with pytest.raises(SpecError, match="no cell '99'"):
        call(failed, "why", "fake", "99")
    assert "no sweep has been run in the store at" in call(failed / "nothing", "status")
    assert json.loads(call(failed / "nothing", "status", "--json")) == []


def test_a_torn_sweep_is_told_and_the_others_shown(failed, tmp_path):
    plan = fake_plan(tmp_path, grid_specs(polarities=("none",)), name="second")
    (stored(plan).path / "cells.json").write_text("[{")
    result = CliRunner().invoke(uscl, ["status", "--store", str(failed / "store")], catch_exceptions=False)
    assert result.stdout.startswith("fake: ") and "second" not in result.stdout
    assert "second/cells.json is torn" in result.stderr
