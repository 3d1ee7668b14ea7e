"""Several sweeps as one schedule: their distinct cells, their folders, and the books of a start, without Ray."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from sweep_fakes import fake_plan, grid_specs, journal, trial_spec
from test_dispatch import Recorder, play

from uscl.errors import LeaseHeld, SpecError, StoreError
from uscl.records import CellFinished, Outcome
from uscl.store.sweeps import SweepFolder
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.folders import knows, leased, session, write_plans
from uscl.sweep.order import RUNNING
from uscl.sweep.queue import CellState, Turn
from uscl.sweep.runner import run_study
from uscl.sweep.sharing import sharing
from uscl.sweep.signals import StopRequests
from uscl.sweep.study import OneSweep, distinct_cells, queue_of, study_of
from uscl.sweep.terms import Terms

GRIDS = {
    "one": {"polarities": ("none",), "fractions": (0.1, 1.0)},
    "two": {"polarities": ("positive", "none"), "fractions": (1.0, 0.5)},
    "three": {"polarities": ("none",), "fractions": (1.0,)},
}
"""`none 1.0` is cell 2 of one, 3 of two and 1 of three; 7 cells, 5 distinct."""


def plans_of(root, grids=GRIDS, *, share=True, **script):
    """The sweeps of some grids."""
    return [
        fake_plan(root, grid_specs(**grid), name=name, share=share, steps=1, **script) for name, grid in grids.items()
    ]


def start(study, *sinks, slots=2):
    """A dispatch as run_study makes it; the folders are there."""
    for plan in study.plans:
        SweepFolder(plan.store_root, plan.identity).path.mkdir(parents=True, exist_ok=True)
    path = SweepFolder(study.store_root, study.plans[0].identity).path / "session-x"
    path.write_bytes(RUNNING)
    return Dispatch(
        study, queue_of(study, slots=slots), sinks=sinks, terms=Terms("cpu", 1, "sweep_fakes:run_trial", path)
    )


def scored_in_two_ways(root):
    """Two sweeps of one cell: one network, evaluated with and without its mirror image."""
    specs = [trial_spec(evaluate={"tta": tta}) for tta in ("none", "flip")]
    return [fake_plan(root, [spec], name=name, steps=1) for name, spec in zip(("one", "two"), specs, strict=True)]


def with_resources(plan, **resources):
    """The plan with other resources."""
    changed = plan.spec.resources.model_copy(update=resources)
    return replace(plan, spec=SimpleNamespace(**vars(plan.spec) | {"resources": changed}))


# ---- the value


def test_a_cell_of_several_sweeps_is_one_and_known_by_each_ones_number(tmp_path):
    study = study_of(plans_of(tmp_path))
    assert [cell.title for cell in study.cells] == ["one 1", "one 2", "two 1", "two 2", "two 4"]
    shared = study.cells[1]
    assert {sweep: plan.number for sweep, plan in shared.declared.items()} == {"one": 2, "two": 3, "three": 1}
    assert shared.also == "two 3, three 1" and study.cells[0].also == ""
    assert [cell.title for cell in study.cells_of(study.plans[1])] == ["two 1", "two 2", "one 2", "two 4"]
    assert study.identity == "one + two + three" and study.cell(shared.key) is shared


def test_a_single_sweep_is_a_study_of_its_own_cells(tmp_path):
    (plan, *_) = plans_of(tmp_path)
    study = study_of([plan])
    assert [cell.key for cell in study.cells] == [planned.plan.cell for planned in plan.cells]
    assert [cell.title for cell in study.cells] == ["trial 1", "trial 2"] and study.identity == "one"
    assert study.resources == plan.spec.resources


def test_one_network_scored_in_two_ways_is_two_cells_of_the_study(tmp_path):
    one, two = scored_in_two_ways(tmp_path)
    cell = one.cells[0].plan.cell
    assert two.cells[0].plan.cell == cell
    cells = distinct_cells([one, two])
    assert [cell.key for cell in cells] == [cell, cell + "+1"]
    assert [list(cell.declared) for cell in cells] == [["one"], ["two"]]


def test_two_files_with_one_name_are_refused(tmp_path):
    (plan, *_) = plans_of(tmp_path)
    with pytest.raises(SpecError) as refused:
        study_of([plan, plan])
    assert str(refused.value) == (
        "one.yaml and one.yaml are both sweep 'one', and a sweep has one folder and one MLflow experiment; "
        "give each file a name of its own (--name is for a single file)"
    )


def test_resources_that_one_schedule_cannot_give_both_are_refused_and_the_others_are_the_smallest(tmp_path):
    one, two, three = plans_of(tmp_path)
    with pytest.raises(SpecError) as refused:
        study_of([one, with_resources(two, cpus_per_trial=2.0)])
    assert str(refused.value) == (
        "resources.cpus_per_trial is 1 in one.yaml and 2 in two.yaml, and one schedule needs one; "
        "give it for all with --set resources.cpus_per_trial=1, or run the files one by one"
    )
    with pytest.raises(SpecError, match=r"resources\.amp is true in one\.yaml and false in two\.yaml"):
        study_of([one, with_resources(two, amp=False)])
    study = study_of(
        [one, with_resources(two, workers=3, progress_every_s=9.0), with_resources(three, workers=2)],
    )
    assert (study.resources.workers, study.resources.progress_every_s) == (2, 0.05)


def test_each_dataset_is_made_once(tmp_path):
    one, two, three = plans_of(tmp_path)
    study = study_of([one, replace(two, dataset_path=tmp_path / "other"), three])
    assert [plan.identity for plan in study.datasets] == ["one", "two"]


# ---- a start


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A study that has run: itself, its dispatch, a sink of the whole and one of each sweep."""
    study = study_of(plans_of(tmp_path_factory.mktemp("played")))
    whole, mine = Recorder(), [Recorder() for _ in study.plans]
    narrowed = [OneSweep(study, plan, sink) for plan, sink in zip(study.plans, mine, strict=True)]
    dispatch = start(study, whole, *narrowed)
    play(dispatch)
    return SimpleNamespace(study=study, dispatch=dispatch, whole=whole, mine=mine)


def test_every_distinct_cell_runs_once_and_each_sweep_has_its_own_history(played):
    assert len(played.dispatch.cells_in(CellState.FINISHED)) == 5
    assert played.dispatch.trained == {"encoder": 2, "decoder": 2, "finetune": 5, "evaluate": 10}
    assert sum(isinstance(event.event, CellFinished) for event in played.whole.events) == 5
    for plan, sink in zip(played.study.plans, played.mine, strict=True):
        cells = sorted(planned.plan.cell for planned in plan.cells)
        assert sorted(event.cell for event in sink.events if isinstance(event.event, CellFinished)) == cells
        assert {event.cell for event in sink.events} == set(cells)
        kept = SweepFolder(plan.store_root, plan.identity).read_events()
        assert sorted(line["cell"] for line in kept if line["event"] == "CellFinished") == cells


def test_the_log_of_a_shared_cell_lies_in_every_sweeps_folder(played):
    study = played.study
    cell = study.cells[1].planned.plan.cell
    (one,), (two,), (three,) = (SweepFolder(study.store_root, sweep).logs(cell) for sweep in ("one", "two", "three"))
    text = one.read_text()
    assert text == two.read_text() == three.read_text()
    assert text.splitlines()[0].startswith("one 2 = two 3, three 1 | cell ")
    assert text.splitlines()[-1].endswith("| one 2 | finished | done | val/dsc 0.500 | test/dsc 0.500")
    own = study.cells[0].planned.plan.cell
    assert len(SweepFolder(study.store_root, "one").logs(own)) == 1
    assert not SweepFolder(study.store_root, "two").logs(own)


def test_sharing_counts_a_cell_of_two_sweeps_twice(played):
    # uses: encoder and decoder 7, finetune 7, evaluate 14; trained: 2, 2, 5, 10
    saved = sharing(*played.study.plans)
    assert (saved.saved_runs, saved.saved_seconds) == (7 * 5 - 19, 7.0 * 5 - 19)
    assert sharing(played.study.plans[0]).saved_runs == 2


def test_unshared_a_cell_of_two_sweeps_is_still_one(tmp_path):
    grids = {"one": GRIDS["one"], "three": GRIDS["three"]}
    dispatch = start(study_of(plans_of(tmp_path, grids, share=False)))
    play(dispatch)
    assert dispatch.trained == {"encoder": 2, "decoder": 2, "finetune": 2, "evaluate": 4}


def test_whole_seed_blocks_of_all_sweeps_come_first(tmp_path):
    grids = {name: {**grid, "seeds": (0, 1) if name == "one" else (1, 0)} for name, grid in GRIDS.items()}
    study = study_of(plans_of(tmp_path, grids))
    queue, taken = queue_of(study), []
    while not isinstance(key := queue.take("trial"), Turn):
        taken.append(study.cell(key))
        for link in queue.missing(key):
            queue.published(link)
        queue.end("trial")
    assert [cell.planned.spec.seed.pretrain for cell in taken] == [0] * 5 + [1] * 5
    assert taken[0].planned.spec.temporal.polarity == "none", "its encoder unlocks three cells, the other's two"


def test_what_goes_wrong_with_a_shared_cell_is_told_in_each_sweep(tmp_path):
    study = study_of(
        plans_of(tmp_path, faults={"none 1.0": "error in finetune", "positive 0.5": "diverge in finetune"})
    )
    dispatch = start(study)
    play(dispatch)
    assert [cell.title for cell in dispatch.cells_in(CellState.HELD)] == ["one 2"]
    assert list(dispatch.failures) == [study.cells[1].key]
    for sweep in ("one", "two", "three"):
        kept = SweepFolder(study.store_root, sweep).read_events()
        (failed,) = [line for line in kept if line["event"] == "Failed"]
        assert failed["cell"] == study.cells[1].declared[sweep].cell
        assert failed["log_tail"][-1].endswith("one 2 | failed (error) | ValueError: a bug in the finetune")


def test_a_shared_encoder_that_diverges_ends_the_waiting_cells_of_every_sweep(tmp_path):
    faults = {f"none {fraction}": "diverge in encoder" for fraction in (0.1, 0.5, 1.0)}
    study = study_of(plans_of(tmp_path, faults=faults))
    play(start(study))
    for sweep, diverged in (("one", 2), ("two", 2), ("three", 1)):
        ends = [e for e in SweepFolder(study.store_root, sweep).read_events() if e["event"] == "CellFinished"]
        assert sum(end["result"]["outcome"] == Outcome.DIVERGED for end in ends) == diverged
        assert all(end["cell"] == end["result"]["cell"] for end in ends)


def test_one_network_scored_in_two_ways_is_trained_once_under_two_histories(tmp_path):
    study = study_of(scored_in_two_ways(tmp_path))
    sinks = [Recorder(), Recorder()]
    dispatch = start(study, *(OneSweep(study, plan, sink) for plan, sink in zip(study.plans, sinks, strict=True)))
    play(dispatch)
    assert dispatch.trained == {"encoder": 1, "decoder": 1, "finetune": 1, "evaluate": 4}
    for plan, sink in zip(study.plans, sinks, strict=True):
        (cell,) = [planned.plan.cell for planned in plan.cells]
        assert {event.cell for event in sink.events} == {cell}
        kept = SweepFolder(plan.store_root, plan.identity).read_events()
        assert {line["cell"] for line in kept} == {cell} and kept[-1]["event"] == "CellFinished"


# ---- folders


def test_all_leases_or_none_and_the_message_says_which_is_held(tmp_path):
    study = study_of(plans_of(tmp_path))
    with SweepFolder(study.store_root, "two").acquire_lease():
        with pytest.raises(LeaseHeld, match=r"sweep two is being run .*; no sweep of this command has been started"):
            run_study(study, lambda: pytest.fail("no sink is opened"), say=pytest.fail)
        with SweepFolder(study.store_root, "one").acquire_lease():
            pass
    assert not list(study.store_root.glob("sweeps/*/sweep.yaml")) and not journal(tmp_path)


def test_leases_are_taken_in_one_order_whatever_that_of_the_files(tmp_path, monkeypatch):
    taken, acquire = [], SweepFolder.acquire_lease

    def noted(folder):
        taken.append(folder.identity)
        return acquire(folder)

    monkeypatch.setattr(SweepFolder, "acquire_lease", noted)
    plans = plans_of(tmp_path)
    for order in (plans, plans[::-1]):
        with leased(study_of(order)):
            pass
    assert taken == ["one", "three", "two"] * 2


def test_a_killed_start_is_seen_in_every_folder(tmp_path):
    study = study_of(plans_of(tmp_path))
    with leased(study), session(study, StopRequests()) as path:
        write_plans(study, pytest.fail)
        assert path.parent.name == "one"
        (path.parent / "tune-old").mkdir()
        assert not any(knows(plan) for plan in study.plans), "as if its driver had been killed here"
    assert all(knows(plan) for plan in study.plans)
    assert not list(study.store_root.glob("sweeps/*/session-*"))
    with session(study, StopRequests()):
        assert not list(study.store_root.glob("sweeps/*/tune-*"))


def test_a_folder_of_another_sweep_stops_all_before_anything_is_written(tmp_path):
    study = study_of(plans_of(tmp_path))
    SweepFolder(study.store_root, "three").write_sweep({"recipe": "paper"})
    with pytest.raises(StoreError, match="sweeps/three: holds a sweep with recipe 'paper'"):
        write_plans(study, pytest.fail)
    assert not (study.store_root / "sweeps" / "one").exists()
