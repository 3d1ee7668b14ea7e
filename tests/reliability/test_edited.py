"""T12: a sweep file that was made longer, shorter or otherwise, and stage code that was changed, against one store."""

from collections import Counter

import pytest
from click.testing import CliRunner

from uscl.cli.main import uscl
from uscl.errors import StoreError
from uscl.records import Outcome
from uscl.spec.reader import load_sweep
from uscl.stages import keys
from uscl.sweep.editions import edition_notes
from uscl.sweep.folders import write_plans
from uscl.sweep.outlook import cell_store
from uscl.sweep.plan import plan_sweep
from uscl.sweep.runner import unfinished
from uscl.sweep.study import study_of

ROWS = "rows:\n  - {label: off, temporal.polarity: none}\n  - {label: on, temporal.polarity: positive}\n"


def plan_of(tmp_path, grid="{labels.fraction: [0.5, 1.0]}", *, rows=ROWS, sets=()):
    (tmp_path / "x.yaml").write_text(f"name: x\nrecipe: demo\ndata: phantom\n{rows}grid: {grid}\n")
    return plan_sweep(load_sweep(tmp_path / "x.yaml", sets=sets), store_root=tmp_path / "runs")


def run(plan):
    """Finish a plan as a start would: its folder written, every missing stage published. Returns what was trained."""
    said, trained = [], []
    write_plans(study_of([plan]), said.append)
    for planned in plan.cells:
        store = cell_store(plan.store_root, planned.plan)
        for ref in planned.plan.stages.values():
            if not store.has(ref):
                trained.append(ref)
                store.publish(
                    ref, attempt="a", files={"weights.safetensors": ref.key.encode()}, outcome=Outcome.DONE,
                    inputs={}, parent=None, metrics={}, flags=(), provenance={"seconds": 1.0},
                )  # fmt: skip
    return said, trained


def kinds(refs):
    return dict(Counter(ref.kind for ref in refs))


def test_a_longer_grid_trains_its_new_cells_alone(tmp_path):
    run(plan_of(tmp_path))
    longer = plan_of(tmp_path, "{labels.fraction: [0.25, 0.5, 1.0]}")
    new = [planned.plan.cell for planned in longer.cells if planned.spec.labels.fraction == 0.25]
    assert list(unfinished(study_of([longer]))) == new
    said, trained = run(longer)
    assert said == ["x: 2 cells are new since the last start"]
    assert kinds(trained) == {"finetune": 2, "evaluate": 4}  # pretraining is that of the others
    assert edition_notes(longer) == []


def test_a_shorter_grid_keeps_what_it_drops_and_says_so(tmp_path):
    longer = plan_of(tmp_path)
    run(longer)
    shorter = plan_of(tmp_path, "{labels.fraction: [0.5]}")
    said, trained = run(shorter)
    assert trained == [] and unfinished(study_of([shorter])) == ()
    assert said == [
        "x: 2 of 4 cells of the last start are no longer declared (their results stay in the store), 0 are new; "
        "--name keeps the two apart"
    ]
    assert unfinished(study_of([longer])) == ()
    assert run(longer)[1] == []


def test_reordered_rows_and_new_labels_are_the_same_cells(tmp_path):
    run(plan_of(tmp_path))
    rows = "rows:\n  - {label: A, temporal.polarity: positive}\n  - {label: B, temporal.polarity: none}\n"
    assert unfinished(study_of([plan_of(tmp_path, "{labels.fraction: [1.0, 0.5]}", rows=rows)])) == ()


def test_an_edited_setting_is_new_work_and_nothing_of_the_old_is_read(tmp_path):
    before = plan_of(tmp_path)
    run(before)
    edited = plan_of(tmp_path, sets=["encoder.lr=1.0e-3"])
    old, new = ({r for c in p.cells for r in c.plan.stages.values()} for p in (before, edited))
    assert not old & new
    _, trained = run(edited)
    assert set(trained) == new


def test_another_dataset_under_the_same_name_is_refused_and_said(tmp_path):
    run(plan_of(tmp_path))
    other = plan_of(tmp_path, sets=["phantom.seed=5"])
    assert edition_notes(other)[0].startswith("the dataset's contents have changed since the last start")
    with pytest.raises(StoreError, match=r"dataset_fingerprint .* with --name"):
        write_plans(study_of([other]), print)


# ---- stage code

ALL = {"encoder": 2, "decoder": 2, "finetune": 4, "evaluate": 8}
ABOVE = {"encoder": ALL, "decoder": ALL | {"encoder": 0}, "finetune": {"finetune": 4, "evaluate": 8},
         "evaluate": {"evaluate": 8}}  # fmt: skip


@pytest.mark.parametrize("kind", ABOVE)
def test_a_raised_stage_version_makes_that_stage_and_all_above_it_anew(tmp_path, monkeypatch, kind):
    before = plan_of(tmp_path)
    run(before)
    version = keys.STAGE_VERSION[kind]
    monkeypatch.setitem(keys.STAGE_VERSION, kind, version + 1)
    after = plan_of(tmp_path)
    anew = {name: count for name, count in ABOVE[kind].items() if count}
    (note,) = edition_notes(after)
    counted = ", ".join(f"{count} {name}" for name, count in anew.items())
    assert note == (
        f"stage versions since the last start: {kind} {version} -> {version + 1}; {sum(anew.values())} outputs are "
        f"made anew because of it ({counted}); the old ones stay in the store and are not read"
    )
    assert len(unfinished(study_of([after]))) == 4
    _, trained = run(after)
    assert kinds(trained) == anew
    assert not set(trained) & {ref for cell in before.cells for ref in cell.plan.stages.values()}
    assert all(cell_store(before.store_root, c.plan).has(r) for c in before.cells for r in c.plan.stages.values())
    assert edition_notes(after) == []


def test_only_outputs_that_were_there_are_counted(tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    write_plans(study_of([plan]), print)
    monkeypatch.setitem(keys.STAGE_VERSION, "encoder", 9)
    assert edition_notes(plan_of(tmp_path)) == [
        "stage versions since the last start: encoder 1 -> 9; no output of this sweep is affected"
    ]


def test_a_store_that_recorded_no_versions_says_unknown(tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    run(plan)
    path = plan.store_root / "sweeps" / "x" / "sweep.yaml"
    path.write_text(path.read_text().split("stage_versions:")[0])
    assert edition_notes(plan) == []
    monkeypatch.setitem(keys.STAGE_VERSION, "finetune", 9)
    (note,) = edition_notes(plan_of(tmp_path))
    assert note.startswith(
        "stages have other keys than at the last start, whose versions of the stage code are unknown"
    )
    assert "12 outputs are made anew because of it (4 finetune, 8 evaluate)" in note


def test_check_and_a_dry_run_say_it(tmp_path, monkeypatch):
    run(plan_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(keys.STAGE_VERSION, "evaluate", 9)
    monkeypatch.setattr("uscl.sweep.probe.time_stages", lambda *_, **__: {})
    for command in (["check", "x.yaml"], ["sweep", "x.yaml", "--dry-run"]):
        result = CliRunner().invoke(uscl, command, catch_exceptions=False)
        assert "evaluate 2 -> 9; 8 outputs are made anew because of it (8 evaluate)" in result.output
