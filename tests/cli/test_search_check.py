"""What `uscl check` prints of a search."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from uscl.cli.check import check

SEARCH = """\
name: small
recipe: demo
data: phantom
search:
  sampler: random
  trials: 8
  repeats: 2
  seed: 5
  objectives: {val/dsc: maximize, val/hd95: minimize}
  constraints: {val/miss_rate: {max: 0.1}, val/dsc_leaf: {min: 0.25, max: 0.75}}
  space:
    temporal.polarity: [none, positive, negative]
    temporal.window: {int: [2, 6], step: 2, when: {temporal.polarity: [positive, negative]}}
"""


def output_of(folder: Path, text: str, *arguments: str) -> str:
    path = folder / "small.yaml"
    path.write_text(text)
    result = CliRunner().invoke(check, [str(path), "--store", str(folder / "runs"), *arguments])
    assert result.exception is None, result.output
    return result.output


def test_all_of_a_search_is_printed(tmp_path: Path):
    head, *lines = output_of(tmp_path, SEARCH).splitlines()
    assert head.startswith(f"small: {tmp_path / 'small.yaml'}, dataset ")
    assert lines == [
        "search: random (seed 5), 8 proposals, each 2 cells with seeds one apart",
        "maximize val/dsc",
        "minimize val/hd95",
        "keep val/miss_rate <= 0.1",
        "keep 0.25 <= val/dsc_leaf <= 0.75",
        "setting            values                           asked for",
        "temporal.polarity  one of none, positive, negative  always",
        "temporal.window    whole numbers 2 to 6 by 2        where temporal.polarity is positive or negative",
        "space: 7 points; 8 trials try each once and end",
    ]
    assert not (tmp_path / "runs").exists()


def test_a_space_larger_than_the_trials_is_not_tried_through(tmp_path: Path):
    assert output_of(tmp_path, SEARCH, "--set", "search.trials=6").splitlines()[-1] == "space: 7 points"
    endless = SEARCH + "    contrast.temperature: {float: [0.01, 1], log: true}\n"
    lines = output_of(tmp_path, endless).splitlines()
    assert lines[-2].split() == ["contrast.temperature", "0.01", "to", "1", "(log)", "always"]
    assert lines[-1] == "space: continuous, never all tried"


def test_what_set_takes_out_of_the_space_is_said(tmp_path: Path):
    lines = output_of(tmp_path, SEARCH, "--set", "temporal.window=4").splitlines()
    assert lines[-2:] == [
        "by --set temporal.window=4 is fixed: another search than the file's",
        "space: 3 points; 8 trials try each once and end",
    ]


def test_as_json_a_search_is_one_object(tmp_path: Path):
    (found,) = json.loads(output_of(tmp_path, SEARCH, "--json", "--set", "temporal.window=4"))
    assert found["sweep"] == "small" and found["cells"] == []
    assert (found["size"], found["enumerated"]) == (3, True)
    assert found["notes"] == ["temporal.window=4 is fixed"]
    assert found["search"]["space"] == {"temporal.polarity": {"choice": ["none", "positive", "negative"]}}
    assert found["search"]["constraints"]["val/dsc_leaf"] == {"min": 0.25, "max": 0.75}
    (endless,) = json.loads(output_of(tmp_path, SEARCH.replace("{int: [2, 6], step: 2", "{float: [2, 6]"), "--json"))
    assert (endless["size"], endless["enumerated"]) == (None, False)


def test_a_search_beside_a_grid_says_that_more_cells_come(tmp_path: Path):
    grid = tmp_path / "grid.yaml"
    grid.write_text("name: g\nrecipe: demo\ndata: phantom\n")
    lines = output_of(tmp_path, SEARCH, str(grid)).splitlines()
    counted = "2 sweeps, 1 cells, 1 distinct; 1 x encoder, 1 x decoder, 1 x finetune, 2 x evaluate"
    assert counted + "; 1 of them propose more" in lines
