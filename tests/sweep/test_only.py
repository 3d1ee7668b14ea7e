"""`--only`: which cells, by any setting, label or number; the folder and the tables keep all."""

import json

import pytest
from sweep_fakes import fake_plan, grid_specs

from uscl.errors import SpecError
from uscl.spec.reader import load_sweep
from uscl.sweep.folders import write_plans
from uscl.sweep.only import only
from uscl.sweep.plan import plan_sweep
from uscl.sweep.runner import RunOptions, run_study, unfinished
from uscl.sweep.signals import StopRequests
from uscl.sweep.study import study_of

TEXT = """\
name: x
recipe: demo
data: phantom
rows:
  - {label: off, temporal.polarity: none}
  - {label: on, temporal.polarity: positive, temporal.window: [2, 4]}
grid: {labels.fraction: [0.5, 1.0], seed: [0, 1]}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("only")
    (folder / "x.yaml").write_text(TEXT)
    return study_of([plan_sweep(load_sweep(folder / "x.yaml"), store_root=folder / "runs")])


def numbers(study):
    return [cell.planned.plan.number for cell in study.cells]


@pytest.mark.parametrize(
    "conditions, chosen",
    [
        ([], range(1, 13)),
        (["temporal.window=4"], [9, 10, 11, 12]),
        (["temporal.window=4.0"], [9, 10, 11, 12]),
        (["labels.fraction=5e-1", "seed=0"], [1, 5, 9]),
        (["labels.fraction=0.5,seed=0"], [1, 5, 9]),
        (["temporal.window=2", "temporal.window=4", "seed=1,labels.fraction=1"], [8, 12]),
        (["temporal.polarity=none"], [1, 2, 3, 4]),
        (["temporal.soft=false", "cell=3"], [3]),
        (["label=off*"], [1, 2, 3, 4]),
        (["label=*labels.fraction=1 seed=1"], [4, 8, 12]),
        (["cell=3", "cell=12"], [3, 12]),
    ],
)
def test_conditions_choose_cells(study, conditions, chosen):
    assert numbers(only(study, conditions)) == list(chosen)


def test_a_cell_may_be_named_by_the_start_of_its_id(study):
    assert numbers(only(study, [f"cell={study.cells[6].planned.plan.cell[:10]}"])) == [7]


@pytest.mark.parametrize(
    "condition, message",
    [
        ("temporal.windw=4", "--only temporal.windw: no setting of this name; did you mean 'temporal.window'?"),
        ("temporal.window=3", "--only temporal.window=3: no cell has this; temporal.window is 5, 2, 4"),
        ("labels.fraction=true", "--only labels.fraction=true: no cell has this; labels.fraction is 0.5, 1"),
        ("seed=7", "--only seed=7: no cell has this; seed is 0, 1"),
        (
            "cell=13",
            "--only cell=13: no cell has this; cell is a number from 1 to 12, or the first 4 or more digits of an id",
        ),
        (
            "temporal.polarity=none,temporal.window=4",
            "--only temporal.polarity=none, temporal.window=4: no cell has all of these; `uscl check` prints the cells",
        ),
        ("seed", "--only seed: expected KEY=VALUE, as in --only labels.fraction=0.1"),
        ("seed=", "--only seed=: expected KEY=VALUE, as in --only labels.fraction=0.1"),
    ],
)
def test_what_matches_nothing_says_what_there_is(study, condition, message):
    with pytest.raises(SpecError) as error:
        only(study, [condition])
    assert str(error.value) == message


def test_the_folder_declares_every_cell_and_only_the_chosen_are_to_run(study):
    chosen = only(study, ["cell=3"])
    assert unfinished(chosen) == (chosen.cells[0].key,)
    write_plans(chosen, print)
    written = study.plans[0].store_root / "sweeps" / "x" / "cells.json"
    assert len(json.loads(written.read_text())) == 12


def test_chosen_cells_that_are_finished_leave_nothing_to_do(tmp_path):
    """The others are not counted as finished."""
    plan = fake_plan(tmp_path, grid_specs())
    whole = study_of([plan])
    for ref in plan.cells[0].plan.stages.values():
        from uscl.store.stages import StageStore

        StageStore(plan.store_root).publish(
            ref, attempt="a", files={}, outcome="done", inputs={}, parent=None, metrics={}, flags=(), provenance={}
        )
    outcome = run_study(only(whole, ["cell=1"]), list, options=RunOptions(), say=lambda line: None)
    assert outcome.sweeps[0].finished == (plan.cells[0].plan.cell,)
    assert outcome.exit_code == 0 and len(unfinished(whole)) == 5


def test_the_clock_asks_for_a_drain_that_is_no_signal():
    requests = StopRequests()
    assert requests.due(1e12) == ""
    requests.until_s = 1000.0
    assert requests.due(999.9) == ""
    assert requests.due(1000.0).startswith("it is ")
    assert requests.exit_code == 0 and not requests.hard
