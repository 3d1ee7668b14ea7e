"""Cells of a search: named, seeded and placed as grid cells are."""

from pathlib import Path

import pytest
from sweep_files import load_text

from uscl.errors import SpecError

SEARCH = """\
name: small
recipe: demo
data: phantom
fixed: {finetune.lr: 0.5}
search:
  trials: 8
  objectives: {val/dsc: maximize}
  space:
    temporal.polarity: [none, positive]
    temporal.window: {int: [1, 20], when: {temporal.polarity: positive}}
"""
NEAR = {"temporal.polarity": "positive", "temporal.window": 7}


def grid_cell(folder: Path, *, grid: str, sets: tuple[str, ...] = ()):
    """The one cell of a grid with the same settings."""
    text = SEARCH.partition("search:")[0] + f"grid: {grid}\n"
    (cell,) = load_text(folder, text, sets=sets).cells()
    return cell


def test_a_proposal_is_the_cell_that_a_grid_would_have(tmp_path: Path):
    cell = load_text(tmp_path, SEARCH).maker.cell(3, NEAR)
    same = grid_cell(tmp_path, grid="{temporal.polarity: [positive], temporal.window: [7]}")
    assert (cell.number, cell.label) == (3, "temporal.polarity=positive temporal.window=7")
    assert cell.label == same.label and cell.spec == same.spec and cell.axes == same.axes
    assert cell.fixed == same.fixed == {"finetune.lr": 0.5} and cell.asked == same.asked


def test_a_setting_that_was_not_asked_for_is_the_files(tmp_path: Path):
    text = SEARCH.replace("0.5}", "0.5, temporal.window: 3}")
    cell = load_text(tmp_path, text).maker.cell(1, {"temporal.polarity": "none"})
    assert cell.spec.temporal.window == 3 and list(cell.axes) == ["temporal.polarity"]
    assert cell.fixed == {"finetune.lr": 0.5, "temporal.window": 3}


def test_repeats_move_three_seeds_and_are_told_as_one(tmp_path: Path):
    maker = load_text(tmp_path, SEARCH.replace("trials: 8", "trials: 8\n  repeats: 3")).maker
    cells = [maker.cell(1, NEAR, repeat=repeat) for repeat in range(3)]
    seeds = [(cell.spec.seed.pretrain, cell.spec.seed.finetune, cell.spec.labels.draw) for cell in cells]
    assert seeds == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    assert [cell.axes["seed"] for cell in cells] == [0, 1, 2]
    assert cells[2].label == "temporal.polarity=positive temporal.window=7 seed=2"
    same = grid_cell(tmp_path, grid="{temporal.polarity: [positive], temporal.window: [7], seed: [2]}")
    assert (cells[2].spec, cells[2].axes, cells[2].label) == (same.spec, same.axes, same.label)


def test_seeds_of_the_file_are_where_repeats_begin(tmp_path: Path):
    text = SEARCH.replace("trials: 8", "trials: 8\n  repeats: 2")
    one = load_text(tmp_path, text.replace("0.5}", "0.5, seed: 5}")).maker.cell(1, NEAR, repeat=1)
    assert (one.spec.seed.pretrain, one.spec.labels.draw, one.axes["seed"]) == (6, 6, 6)
    three = load_text(tmp_path, text.replace("0.5}", "0.5, seed: 5, labels.draw: 0}")).maker.cell(1, NEAR, repeat=1)
    assert (three.spec.seed.pretrain, three.spec.seed.finetune, three.spec.labels.draw) == (6, 6, 1)
    assert three.label.endswith("seed.pretrain=6 seed.finetune=6 labels.draw=1")
    assert three.fixed == {"finetune.lr": 0.5} and "seed" not in three.axes
    chosen = load_text(tmp_path, text, sets=("seed=7",)).maker.cell(1, NEAR, repeat=1)
    assert chosen.axes["seed"] == chosen.spec.seed.finetune == 8 and chosen.label.count("seed") == 1


def test_without_repeats_seeds_are_no_axis(tmp_path: Path):
    cell = load_text(tmp_path, SEARCH).maker.cell(1, NEAR)
    assert "seed" not in cell.axes and "seed" not in cell.label


def test_what_set_changes_is_an_axis_of_every_proposal(tmp_path: Path):
    maker = load_text(tmp_path, SEARCH, sets=("encoder.steps=20", "finetune.lr=0.5", "temporal.window=9")).maker
    cell = maker.cell(1, {"temporal.polarity": "positive"})
    assert cell.axes == {"temporal.polarity": "positive", "encoder.steps": 20, "temporal.window": 9}
    assert (cell.spec.encoder.steps, cell.spec.temporal.window) == (20, 9)


def test_a_proposal_that_is_impossible_is_refused_at_its_line(tmp_path: Path):
    maker = load_text(tmp_path, SEARCH.replace("finetune.lr: 0.5", "method: supervised")).maker
    path = tmp_path / "x.yaml"
    with pytest.raises(SpecError) as caught:
        maker.cell(1, NEAR)
    assert str(caught.value).startswith(f"{path}:9: temporal.polarity: 'positive' pairs frames by time")
    assert str(maker.cell(1, {"temporal.polarity": "none"}).error("temporal.polarity", "no")).startswith(f"{path}:9: ")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temporal.windw": 3}, "a proposal: temporal.windw: unknown key; did you mean 'temporal.window'?"),
        ({"temporal.guard": "far"}, "a proposal: temporal.guard: expected a number, got 'far'"),
    ],
)
def test_a_proposal_of_another_file_is_refused(tmp_path: Path, params: dict, message: str):
    """An edited file may have lost a setting that an earlier start proposed."""
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, SEARCH).maker.cell(1, params)
    assert str(caught.value) == message
