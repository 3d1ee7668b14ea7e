"""`uscl sweep`, `trial` and `logs` as far as they go without training anything."""

import pytest
from click.testing import CliRunner

from uscl.cli.main import uscl
from uscl.errors import ClusterError, LeaseHeld, SpecError, StoreError
from uscl.records import Failed, Outcome
from uscl.spec.reader import load_sweep
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.sweep.plan import plan_sweep
from uscl.sweep.runner import StudyOutcome, SweepOutcome

TEXT = """\
name: small
recipe: demo
data: phantom
rows:
  - {label: baseline, contrast.loss: infonce}
  - {label: twin, contrast.loss: infonce}
grid:
  labels.fraction: [0.5, 1.0]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with small.yaml, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(TEXT)
    return tmp_path


def call(*arguments):
    """Output of a command that ends well; errors are raised."""
    result = CliRunner().invoke(uscl, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def finish(place, *, file="small.yaml", seconds=30.0):
    """Publish every stage of a file, as if it had run."""
    plan = plan_sweep(load_sweep(place / file), store_root=place / "runs")
    store = StageStore(place / "runs")
    for planned in plan.cells:
        for name, ref in planned.plan.stages.items():
            metrics = {f"{name.split('/')[1]}/dsc": 0.625} if "/" in name else {}
            store.publish(
                ref, attempt="a", files={}, outcome=Outcome.DONE, inputs={}, parent=None, metrics=metrics, flags=(),
                provenance={"seconds": seconds},
            )  # fmt: skip
    return plan


def test_a_finished_sweep_says_so_and_prints_its_table(place):
    plan = finish(place)
    SweepFolder(place / "runs", "small").write_cells([planned.plan for planned in plan.cells])
    said = call("sweep", "small.yaml")
    assert "small: all 2 cells are finished; nothing to do\n" in said
    assert "cell 3 (twin labels.fraction=0.5) is the same as cell 1: runs once" in said
    assert "sharing saved 2 stage runs, 60 s of training" in said
    assert "0.625" in said
    assert "0.625" in (place / "runs" / "sweeps" / "small" / "report" / "table.md").read_text()
    assert not (place / "runs" / "data").exists() and not (place / "runs" / "mlflow.db").exists()


def test_a_sweep_whose_stages_other_sweeps_made_is_written_down_without_training(place):
    plan = finish(place)
    assert "nothing to do" in call("sweep", "small.yaml", "--no-mlflow", "--name", "second")
    folder = SweepFolder(place / "runs", "second")
    assert [cell.cell for cell in folder.read_cells()] == [planned.plan.cell for planned in plan.cells]
    assert folder.read_sweep()["identity"] == "second"


@pytest.fixture
def three(place):
    """small.yaml, more.yaml, which shares the cell of all labels with it, and half.yaml, whose cell more.yaml has."""
    more = TEXT.replace("name: small", "name: more").replace("  - {label: twin, contrast.loss: infonce}\n", "")
    (place / "more.yaml").write_text(more.replace("[0.5, 1.0]", "[1.0, 0.25]"))
    (place / "half.yaml").write_text(more.replace("name: more", "name: half").replace("[0.5, 1.0]", "[0.25]"))
    return ("sweep", "small.yaml", "more.yaml", "half.yaml")


def test_three_finished_files_print_their_tables_in_order_and_start_nothing(place, three):
    for file in three[1:]:
        finish(place, file=file)
    for _ in range(2):
        said = call(*three, "--no-mlflow")
        lines = said.splitlines()
        ends = [lines.index(f"{name}: {count}/{count} cells finished") for name, count in TABLES.items()]
        assert ends == sorted(ends) and said.count("0.625") >= 3
        assert lines[0] == "small: cell 3 (twin labels.fraction=0.5) is the same as cell 1: runs once"
        assert lines[-2:] == [
            "sharing saved 14 stage runs, 7 min of training",  # 25 uses of 1 + 1 + 3 + 6 outputs
            "3 sweeps: all 3 distinct cells are finished; nothing to do",
        ]
    for name in TABLES:
        assert (place / "runs" / "sweeps" / name / "report" / "table.md").exists()
        assert SweepFolder(place / "runs", name).read_sweep()["identity"] == name
    assert not (place / "runs" / "data").exists()


TABLES = {"small": 2, "more": 2, "half": 1}


def test_three_files_start_as_one_schedule(place, three, monkeypatch):
    def refuse(*_, **__):
        raise StoreError("stop here")

    finish(place)
    monkeypatch.setattr("uscl.cli.sweep.run_study", refuse)
    lines = CliRunner().invoke(uscl, three).output.splitlines()
    assert lines[2].startswith("more: 2 cells, 1 finished, 1 to run; store ")
    assert lines[3].startswith("half: 1 cells, 0 finished, 1 to run; store ")
    assert lines[4] == "3 sweeps as one schedule: 3 distinct cells, 1 to run"


def test_three_files_end_with_a_table_each_and_one_summary(place, three, monkeypatch):
    """Where the last cell has failed: it is named in both sweeps that declare it."""
    plan = finish(place)
    cells = [planned.plan.cell for planned in plan.cells]
    failed = plan_sweep(load_sweep(place / "half.yaml"), store_root=place / "runs").cells[0].plan.cell
    stands = [
        SweepOutcome(tuple(cells), {}, (), ()),
        SweepOutcome((cells[1],), {failed: Failed("error", "a bug\nand more", "")}, (failed,), ()),
        SweepOutcome((), {failed: Failed("error", "a bug\nand more", "")}, (failed,), ()),
    ]
    outcome = StudyOutcome(tuple(stands), trained={"encoder": 1, "finetune": 2}, seconds=50.0, exit_code=1)
    monkeypatch.setattr("uscl.cli.sweep.run_study", lambda *_, **__: outcome)
    result = CliRunner().invoke(uscl, [*three, "--no-mlflow"], standalone_mode=False)
    assert result.return_value == 1
    lines = [line for line in result.output.splitlines() if "finished" in line or "failed" in line]
    assert [line for line in lines[-7:] if not line.startswith("?")] == [
        "small: 2/2 cells finished",
        "more: 1/2 cells finished",
        "cell 2 failed (error): a bug; uscl logs more 2",
        "half: 0/1 cells finished",
        "cell 1 failed (error): a bug; uscl logs half 1",
        "3 sweeps: 2/3 distinct cells finished; trained 1 encoder, 2 finetune in 50 s",
    ]


@pytest.mark.parametrize("arguments", [["small.yaml", "more.yaml", "--name", "both"], ["small.yaml", "small.yaml"]])
def test_files_of_one_name_are_refused_together(place, three, arguments):
    with pytest.raises(SpecError, match=r"are both sweep '\w+', .*--name is for a single file"):
        CliRunner().invoke(uscl, ["sweep", *arguments], catch_exceptions=False)
    assert not (place / "runs").exists()


def test_a_held_sweep_stops_the_whole_command(place, three):
    with (
        SweepFolder(place / "runs", "more").acquire_lease(),
        pytest.raises(LeaseHeld, match=r"sweep more is being run .*; no sweep of this command has been started"),
    ):
        CliRunner().invoke(uscl, three, catch_exceptions=False)
    assert not (place / "runs" / "sweeps" / "small" / "sweep.yaml").exists()


def test_a_long_store_path_stays_on_its_line(place, monkeypatch):
    def refuse(*_, **__):
        raise StoreError("stop here")

    monkeypatch.setattr("uscl.cli.sweep.run_study", refuse)
    result = CliRunner().invoke(uscl, ["sweep", "small.yaml", "--store", "a-long-name/" * 9 + "runs"])
    assert "small: 2 cells, 0 finished, 2 to run; store " in result.output
    assert "a-long-name/" * 9 + "runs\n" in result.output


def test_a_sweep_held_by_another_driver_is_refused(place):
    with SweepFolder(place / "runs", "small").acquire_lease(), pytest.raises(LeaseHeld):
        CliRunner().invoke(uscl, ["sweep", "small.yaml"], catch_exceptions=False)


def test_a_store_that_cannot_be_made_is_refused(place):
    (place / "file").write_text("")
    with pytest.raises(StoreError, match="file/runs"):
        CliRunner().invoke(uscl, ["sweep", "small.yaml", "--store", "file/runs"], catch_exceptions=False)


@pytest.mark.parametrize("command", [["sweep", "small.yaml"], ["trial", "small.yaml", "1"]])
def test_bad_settings_end_before_anything_is_made(place, command):
    with pytest.raises(SpecError, match=r"--set temporal\.windw"):
        CliRunner().invoke(uscl, [*command, "--set", "temporal.windw=3"], catch_exceptions=False)
    assert not (place / "runs").exists()


def test_an_unknown_cell_of_a_trial(place):
    with pytest.raises(SpecError, match="no cell 'x9'"):
        CliRunner().invoke(uscl, ["trial", "small.yaml", "x9"], catch_exceptions=False)


def test_logs_by_number_by_id_and_by_file(place):
    plan = finish(place)
    folder = SweepFolder(place / "runs", "small")
    folder.write_cells([planned.plan for planned in plan.cells])
    cell = plan.cells[1].plan.cell
    folder.log_path(cell, "20260101-a").write_text("first attempt\n")
    folder.log_path(cell, "20260102-b").write_text("second attempt\n")
    assert call("logs", "small", "2") == call("logs", "small", cell[:8]) == "second attempt\n"
    assert call("logs", "small.yaml", "2", "--all") == "first attempt\nsecond attempt\n"
    assert "has not been tried" in call("logs", "small", "1")
    with pytest.raises(StoreError, match="no such sweep"):
        CliRunner().invoke(uscl, ["logs", "smal", "2"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--require-gpu"], "--require-gpu: there is none here"),
        (["--address", "nowhere"], "expected 'auto' or host:port"),
        (["--set", "resources.cpus_per_trial=9999"], "resources.cpus_per_trial: 9999, but this machine has"),
    ],
)
def test_a_start_that_is_refused_leaves_nothing_behind(place, monkeypatch, options, message):
    monkeypatch.setattr("uscl.sweep.cluster.local_gpus", lambda: 0)
    with pytest.raises(ClusterError, match=message):
        CliRunner().invoke(uscl, ["sweep", "small.yaml", *options], catch_exceptions=False)
    assert [path.name for path in place.iterdir()] == ["small.yaml"]


def test_an_empty_name_is_refused_as_any_other_bad_one(place):
    for name in ("", "a/b"):
        with pytest.raises(SpecError, match="--name: expected letters"):
            CliRunner().invoke(uscl, ["sweep", "small.yaml", "--name", name], catch_exceptions=False)


def test_cells_that_a_start_no_longer_declares_are_told(place, monkeypatch):
    def refuse(*_):
        raise StoreError("stop here")

    finish(place)
    call("sweep", "small.yaml", "--no-mlflow")
    monkeypatch.setattr("uscl.sweep.runner.have_data", refuse)
    result = CliRunner().invoke(uscl, ["sweep", "small.yaml", "--no-mlflow", "--set", "labels.fraction=0.25"])
    told = "small: 2 of 2 cells of the last start are no longer declared (their results stay in the store), 1 are new"
    assert f"{told}; --name keeps the two apart\n" in result.output, "on one line, in a pipe"


def test_nothing_finished_prints_no_table(place, monkeypatch):
    drained = StudyOutcome((SweepOutcome((), {}, (), ("c" * 64, "d" * 64), saved=("c" * 64,)),), exit_code=130)
    monkeypatch.setattr("uscl.cli.sweep.run_study", lambda *_, **__: drained)
    said = CliRunner().invoke(uscl, ["sweep", "small.yaml", "--no-mlflow"]).output
    assert "2 cells are left, 1 of them with saved progress; the same command goes on" in said
    assert "dsc" not in said
