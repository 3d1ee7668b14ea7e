from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from uscl.cli.check import check, schema
from uscl.errors import SpecError, StoreError
from uscl.records import Outcome, StageRef
from uscl.store.stages import StageStore, new_attempt

SWEEPS = Path(__file__).parents[2] / "sweeps"
SMALL = """\
name: small
recipe: demo
data: phantom
rows:
  - {label: none, temporal.polarity: none}
  - {label: near, temporal.polarity: positive, temporal.stage: decoder}
grid:
  temporal.window: [3, 4]
"""


def run_check(*arguments: object) -> Result:
    return CliRunner().invoke(check, [str(argument) for argument in arguments])


def cells_of(result: Result) -> list[dict]:
    assert result.exception is None, result.output
    return json.loads(result.output)


def small(folder: Path, text: str = SMALL) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def publish(store: Path, ref: StageRef) -> None:
    StageStore(store).publish(
        ref,
        attempt=new_attempt(),
        files={"weights.safetensors": b""},
        outcome=Outcome.DONE,
        inputs={},
        parent=None,
        metrics={},
        flags=(),
        provenance={},
    )


def test_temporal_as_json_has_30_cells_on_5_encoders_and_10_decoders(tmp_path: Path):
    cells = cells_of(run_check(SWEEPS / "temporal.yaml", "--json", "--store", tmp_path / "runs"))
    assert len(cells) == len({cell["cell"] for cell in cells}) == 30
    for kind, number in (("encoder", 5), ("decoder", 10), ("finetune", 30)):
        assert len({cell["stages"][kind]["key"] for cell in cells}) == number
        assert sum(cell["reuse"][kind] == "new" for cell in cells) == number
    first = cells[0]
    assert first["settings"]["temporal.polarity"] == "none"
    assert first["cell"] == first["stages"]["finetune"]["key"]
    assert list(first["stages"]) == ["encoder", "decoder", "finetune", "evaluate/val", "evaluate/test"]
    assert cells[1]["reuse"]["encoder"] == "cell 1"
    assert not (tmp_path / "runs").exists()


def test_grid_collapses_what_means_the_same(tmp_path: Path):
    cells = cells_of(run_check(SWEEPS / "grid.yaml", "--json", "--store", tmp_path / "runs"))
    assert len(cells) + sum(len(cell["duplicates"]) for cell in cells) == 216
    stages = [len({cell["stages"][kind]["key"] for cell in cells}) for kind in ("encoder", "decoder", "finetune")]
    assert stages == [10, 28, 168]  # as the header of the file says


def test_the_table_names_number_id_label_reuse_and_duplicates(tmp_path: Path):
    path = small(tmp_path)
    cells = cells_of(run_check(path, "--json", "--store", tmp_path / "runs"))
    lines = run_check(path, "--store", tmp_path / "runs").output.splitlines()
    assert lines[0].startswith(f"small: {path}, dataset ")
    assert lines[1].split() == [
        "cell",
        "id",
        "label",
        "encoder",
        "decoder",
        "finetune",
        "evaluate/val",
        "evaluate/test",
    ]
    assert [line.split()[:2] for line in lines[2:5]] == [[str(c["number"]), c["cell"][:10]] for c in cells]
    assert lines[3].split()[2:6] == ["near", "temporal.window=3", "cell", "1"]
    assert lines[5] == "cell 2 is the same as cell 1: runs once"
    assert lines[6] == "training cases by labels.fraction: 1 -> 96"
    assert lines[7] == "3 cells, 0 finished; to run: 1 x encoder, 3 x decoder, 3 x finetune, 6 x evaluate"
    assert cells[0]["duplicates"] == [2]


def test_many_duplicates_are_one_line_with_spans(tmp_path: Path):
    output = run_check(SWEEPS / "grid.yaml", "--store", tmp_path / "runs").output
    (line,) = (line for line in output.splitlines() if "same as" in line)
    assert line.startswith("48 cells are the same as an earlier one and run once: ")
    assert line.endswith("(which as which: --json)") and len(line) <= 160
    assert "training cases by labels.fraction: 0.1 -> 10, 0.5 -> 48, 1 -> 96" in output.splitlines()


def test_a_fraction_that_gives_different_counts_shows_their_range(tmp_path: Path):
    path = small(tmp_path)
    lines = run_check(path, "--store", tmp_path / "runs", "--set", "split.test_fraction=[0.2, 0.5]").output.splitlines()
    (line,) = (line for line in lines if line.startswith("training cases by labels.fraction: "))
    assert line == "training cases by labels.fraction: 1 -> 48-96"


def test_what_the_store_holds_is_said(tmp_path: Path):
    path, store = small(tmp_path), tmp_path / "runs"
    first = cells_of(run_check(path, "--json", "--store", store))[0]
    for ref in first["stages"].values():
        publish(store, StageRef(**ref))
    cells = cells_of(run_check(path, "--json", "--store", store))
    assert set(cells[0]["reuse"].values()) == {"stored"}
    assert cells[1]["reuse"]["encoder"] == "stored"
    assert cells[1]["reuse"]["decoder"] == "new"
    assert (
        run_check(path, "--store", store).output.splitlines()[-1].startswith("3 cells, 1 finished; to run: 2 x decoder")
    )


def test_two_files_share_and_say_so(tmp_path: Path):
    path = small(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.replace("name: small", "name: other"))
    cells = cells_of(run_check(path, other, "--json", "--store", tmp_path / "runs"))
    assert [cell["sweep"] for cell in cells] == ["small"] * 3 + ["other"] * 3
    assert cells[3]["reuse"]["finetune"] == "cell 1 of small"


LABELS = """\
name: labels
recipe: demo
data: phantom
rows:
  - {label: none, temporal.polarity: none}
  - {label: alone, method: supervised}
"""


def test_several_files_end_with_what_they_are_together(tmp_path: Path):
    """3 + 2 cells; `none` is in both; `alone` is fine-tuned from nothing."""
    path, other = small(tmp_path), tmp_path / "labels.yaml"
    other.write_text(LABELS)
    lines = run_check(path, other, "--store", tmp_path / "runs").output.splitlines()
    assert lines[-1] == "2 sweeps, 5 cells, 4 distinct; 1 x encoder, 3 x decoder, 4 x finetune, 8 x evaluate"
    assert lines[-2] == "2 cells, 0 finished; to run: 1 x finetune, 2 x evaluate"
    assert not any("sweeps" in line for line in run_check(other, "--store", tmp_path / "runs").output.splitlines())


def test_files_without_pretraining_have_no_stages_of_it(tmp_path: Path):
    path, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    text = "recipe: demo\ndata: phantom\nfixed: {method: supervised}\n"
    path.write_text(f"name: a\n{text}grid: {{labels.fraction: [0.5, 1.0]}}\n")
    other.write_text(f"name: b\n{text}grid: {{labels.fraction: [1.0], evaluate.tta: [flip]}}\n")
    lines = run_check(path, other, "--store", tmp_path / "runs").output.splitlines()
    assert lines[-1] == "2 sweeps, 3 cells, 3 distinct; 2 x finetune, 6 x evaluate", "one network, scored in two ways"


def test_files_that_cannot_be_one_command_are_told_so(tmp_path: Path):
    path, other = small(tmp_path), tmp_path / "other.yaml"
    other.write_text(SMALL.replace("name: small", "name: other") + "resources: {gpus_per_trial: 0.5}\n")
    last = run_check(path, other, "--store", tmp_path / "runs").output.splitlines()[-1]
    assert last.startswith(f"not to be run in one command: resources.gpus_per_trial is 1 in {path} and 0.5 in {other}")


def test_options_reach_the_sweep(tmp_path: Path):
    arguments = ("--set", "finetune.steps=3", "--set", "temporal.window=[3]", "--name", "mine")
    cells = cells_of(run_check(small(tmp_path), "--json", "--store", tmp_path / "runs", *arguments))
    assert [cell["settings"]["finetune.steps"] for cell in cells] == [3, 3]
    assert {cell["sweep"] for cell in cells} == {"mine"}


def test_a_mistake_is_one_line_with_its_place(tmp_path: Path):
    path = small(tmp_path, SMALL.replace("[3, 4]", "[3, four]"))
    error = run_check(path, "--store", tmp_path / "runs").exception
    assert isinstance(error, SpecError)
    assert str(error) == f"{path}:8: temporal.window: expected a number, got 'four'"


def test_schema_prints_json_and_markdown():
    printed = CliRunner().invoke(schema, [])
    assert json.loads(printed.output)["title"] == "uscl sweep file"
    assert CliRunner().invoke(schema, ["--markdown"]).output.startswith("# Settings\n")


def test_a_store_that_is_an_address_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_check(SWEEPS / "temporal.yaml", "--store", "gs://bucket/x")
    assert isinstance(result.exception, StoreError)
    assert (
        str(result.exception) == "gs://bucket/x: no folder; a store is a local or shared folder, or s3://bucket/prefix"
    )
    result = run_check(SWEEPS / "temporal.yaml", "--store", "s3://key:hunter2@bucket/x")
    assert isinstance(result.exception, StoreError) and "no credentials in a store's address" in str(result.exception)
    assert "hunter2" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_over_a_bucket_is_checked_against_it(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = run_check(SWEEPS / "temporal.yaml", "--store", bucket)
    assert result.exit_code == 0 and "0 finished" in result.output
    assert f"dataset {tmp_path}/uscl/data/phantom-" in result.output
    result = run_check(SWEEPS / "temporal.yaml", "--data", "s3://bucket/data")
    assert isinstance(result.exception, SpecError)
    assert "s3://bucket/data: a dataset is a folder that every machine sees" in str(result.exception)


def test_a_setting_that_nothing_reads_is_told(tmp_path):
    output = run_check(SWEEPS / "temporal.yaml", "--store", tmp_path, "--set", "speckle.model=rayleigh").output
    assert "note: speckle.model: given, and read by no cell that has it" in output
