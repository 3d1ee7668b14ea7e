"""`uscl sweep --dry-run` and its companions as a user meets them; nothing is trained."""

import json

import pytest
from click.testing import CliRunner

from uscl.cli.main import uscl
from uscl.errors import SpecError
from uscl.sweep.history import Cost

TEXT = "name: small\nrecipe: demo\ndata: phantom\ngrid: {labels.fraction: [0.5, 1.0]}\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with small.yaml on a machine of two cores without a GPU, where each unit takes half a second."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(TEXT)
    monkeypatch.setattr("uscl.sweep.rehearsal.os.cpu_count", lambda: 2)
    monkeypatch.setattr("uscl.sweep.preflight._GPU_FILES", ())

    def half_a_second(needs, **options):
        return {need.work.shape: Cost(0.5, 1e6, "probe") for need in needs if need.stage.kind != "evaluate"}

    monkeypatch.setattr("uscl.sweep.probe.time_stages", half_a_second)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(uscl, ["sweep", "small.yaml", *arguments], catch_exceptions=False, standalone_mode=False)


def test_it_prints_cells_stages_time_and_disk_and_writes_nothing(place):
    result = call("--dry-run")
    lines = result.output.splitlines()
    assert lines[:5] == [
        "small: 2 cells: 0 finished, 0 failed last time, 2 new",
        "  1 x encoder: 1 new, 2 min of work",
        "  1 x decoder: 1 new, 50 s of work",
        "  2 x finetune: 2 new, 4 min of work",
        "  4 x evaluate: 4 new, 4 of unknown time",
    ]
    assert lines[5] == "CPU-hours: at least 0.11 (no GPU here; stages: 4 by a timed probe)"
    assert lines[6].startswith("end: at least 5 min from now, ")
    assert lines[6].endswith(", with 2 workers (the longest chain of stages decides)")
    assert lines[7].startswith(
        "disk: at least 36.5 MB (4.0 MB of outputs, 24.0 MB of resume points meanwhile, 8.5 MB of ph"
    )
    assert result.return_value == 0 and not (place / "runs").exists()


def test_as_json(place):
    document = json.loads(call("--dry-run", "--json", "--workers", "1").output)
    assert document["cells"] == {"all": 2, "finished": 0, "failed": 0, "new": 2}
    assert document["cpu_hours"] == pytest.approx(400 / 3600) and document["gpu_hours"] is None
    assert (document["wall_seconds"], document["bound_by"]) == (400, "workers")
    assert document["fits"] is True and document["stages_of_unknown_time"] == 4
    assert document["stages"][2]["kind"] == "finetune" and document["stages"][2]["distinct"] == 2


def test_what_cannot_fit_exits_3(monkeypatch):
    result = call("--dry-run", "--require-gpu")
    assert result.return_value == 3
    assert result.output.splitlines()[-1].startswith("cannot fit: --require-gpu: there is none here")
    monkeypatch.setattr("uscl.store.files.Files.free_bytes", lambda self: 10)
    assert json.loads(call("--dry-run", "--json").output)["refusals"] == ["the disk is too small"]


def test_only_and_until_go_with_it():
    lines = call("--dry-run", "--only", "labels.fraction=0.5", "--until", "+1m").output.splitlines()
    assert lines[0] == "small: 1 cells: 0 finished, 0 failed last time, 1 new"
    assert lines[-1].startswith("note: --until ") and lines[-1].endswith(" comes before that")


def test_some_cells_are_counted_as_such_and_until_reaches_the_runner(monkeypatch):
    seen = []

    def run(study, sinks, *, options, say):
        seen.append(options.until_s)
        raise SpecError("stop here")

    monkeypatch.setattr("uscl.cli.sweep.run_study", run)
    monkeypatch.setattr("uscl.cli.sweep.time.time", lambda: 1000.0)
    result = CliRunner().invoke(uscl, ["sweep", "small.yaml", "--only", "labels.fraction=0.5", "--until", "+8h"])
    assert result.output.startswith("small: 1 of 2 cells, 0 finished, 1 to run; store ")
    assert seen == [1000.0 + 8 * 3600]


@pytest.mark.parametrize("arguments", [["--json"], ["--only", "x=1"], ["--until", "soon"]])
def test_mistakes_are_one_line(arguments):
    with pytest.raises(SpecError, match=r"^--(json|only|until)"):
        call(*arguments)


def test_a_search_is_taken_to_its_end_by_random_points(place):
    space = "temporal.polarity: [none, positive], labels.fraction: [0.5, 1.0]"
    block = f"search: {{trials: 9, repeats: 2, objectives: {{val/dsc: maximize}}, space: {{{space}}}}}\n"
    (place / "small.yaml").write_text("name: small\nrecipe: demo\ndata: phantom\n" + block)
    result = call("--dry-run")
    lines = result.output.splitlines()
    assert lines[0] == "small: 8 cells: 0 finished, 0 failed last time, 8 new", "four points, two repeats"
    assert "  8 x evaluate: 8 new, 8 of unknown time" in lines
    assert "note: random points stand for the proposals to come; the winners' test scores are not counted" in lines
    assert result.return_value == 0 and not (place / "runs").exists()


def test_only_is_not_for_a_search(place):
    block = "search: {trials: 2, objectives: {val/dsc: maximize}, space: {labels.fraction: [0.5, 1.0]}}\n"
    (place / "small.yaml").write_text("name: small\nrecipe: demo\ndata: phantom\n" + block)
    with pytest.raises(SpecError, match="a search proposes its own cells"):
        call("--only", "labels.fraction=0.5")
