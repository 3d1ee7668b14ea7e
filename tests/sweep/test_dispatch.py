"""The driver's books with fake trials and without Ray: a loop plays Tune."""

import random

import pytest
from sweep_fakes import NAME, fake_plan, grid_specs, journal

from uscl.records import CellFinished, Failed, Outcome, Progress
from uscl.store.sweeps import SweepFolder
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.order import DRAINING, LAST_EVENTS, RUNNING, work
from uscl.sweep.outlook import queue_cells
from uscl.sweep.queue import CellQueue, CellState, Turn
from uscl.sweep.sharing import sharing
from uscl.sweep.study import queue_of, study_of
from uscl.sweep.terms import Terms


class Recorder:
    """A sink that keeps what it sees."""

    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)

    def close(self):
        pass


class Broken:
    """A sink that always raises."""

    def on_event(self, event):
        raise RuntimeError("sink is broken")

    def close(self):
        raise RuntimeError("sink is broken")


def start(plan, *sinks, slots=2):
    """A dispatch as run_study makes it."""
    study = study_of([plan])
    folder = SweepFolder(plan.store_root, plan.identity)
    folder.path.mkdir(parents=True, exist_ok=True)
    session = folder.path / "session-x"
    session.write_bytes(RUNNING)
    return Dispatch(study, queue_of(study, slots=slots), sinks=sinks, terms=Terms("cpu", 1, NAME, session))


def play(dispatch, *, slots=2, rng=None, drain_after=None):
    """Tune's part: fill the slots, advance a random live trial by one event, until FINISHED."""
    rng, live, counter = rng or random.Random(0), {}, 0
    for turn in range(10_000):
        if turn == drain_after:
            dispatch.drain()
            dispatch._terms.session_path.write_bytes(RUNNING + DRAINING)
        while len(live) < slots:
            counter += 1
            order = dispatch.take(str(counter))
            if isinstance(order, Turn):
                break
            live[str(counter)] = work(order)
        if not live:
            assert order is Turn.FINISHED
            return
        trial = rng.choice(sorted(live))
        event = next(live[trial])
        dispatch.event(trial, event, node="here")
        if isinstance(event, LAST_EVENTS):
            del live[trial]
    pytest.fail("never finished")


@pytest.mark.parametrize("share", [True, False])
def test_a_sweep_runs_every_cell_and_trains_shared_stages_once(tmp_path, share):
    plan = fake_plan(tmp_path, grid_specs(seeds=(0, 1)), share=share)
    recorder = Recorder()
    dispatch = start(plan, Broken(), recorder)
    play(dispatch)
    assert len(dispatch.cells_in(CellState.FINISHED)) == 12
    kinds = {"encoder": 4, "decoder": 4, "finetune": 12, "evaluate": 24}
    assert dispatch.trained == (kinds if share else kinds | {"encoder": 12, "decoder": 12})
    finished = [e.cell for e in recorder.events if isinstance(e.event, CellFinished)]
    assert sorted(finished) == sorted(p.plan.cell for p in plan.cells)
    saved = sharing(plan)
    assert (saved.saved_runs, saved.saved_seconds) == ((16, 16.0) if share else (0, 0.0))
    starts = [line[1:] for line in journal(tmp_path) if line[0] == "start"]
    assert not share or len(starts) == len(set(starts))


def test_whole_seed_blocks_finish_first(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(seeds=(0, 1)))
    recorder = Recorder()
    play(start(plan, recorder, slots=1), slots=1)
    seeds = [plan.cell(e.cell).spec.seed.pretrain for e in recorder.events if isinstance(e.event, CellFinished)]
    assert seeds == [0] * 6 + [1] * 6


def test_events_are_kept_without_progress_and_a_failure_with_its_class_traceback_and_log_tail(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(), faults={"none 0.1": "error in finetune"})
    recorder = Recorder()
    play(start(plan, recorder))
    kept = SweepFolder(plan.store_root, "fake").read_events()
    begun = [line for line in kept if line["event"] == "Started"]
    assert len(kept) - len(begun) == len([e for e in recorder.events if not isinstance(e.event, Progress)])
    assert len(begun) == 6 and {line["node"] for line in begun} == {"here"}
    failed = [line for line in kept if line["event"] == "Failed"]
    assert len(failed) == 1, "a bug is not tried again"
    assert failed[0]["failure"] == "error" and failed[0]["node"] == "here"
    assert failed[0]["message"] == "ValueError: a bug in the finetune"
    assert "sweep_fakes.py" in failed[0]["traceback"]
    blamed = {name: failed[0][name] for name in ("kind", "key", "deaths", "deaths_left", "held")}
    key = plan.cells[0].plan.cell
    assert blamed == {"kind": "finetune", "key": key, "deaths": 1, "deaths_left": 0, "held": True}
    assert failed[0]["log_tail"][-1].endswith("trial 1 | failed (error) | ValueError: a bug in the finetune")


def test_a_bug_in_a_shared_stage_holds_its_cells_and_the_others_finish(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(), faults={f"none {f}": "error in encoder" for f in (0.1, 0.5, 1.0)})
    dispatch = start(plan)
    play(dispatch)
    assert [cell.planned.plan.number for cell in dispatch.cells_in(CellState.HELD)] == [1, 2, 3]
    assert len(dispatch.failures) == 1
    fixed = start(fake_plan(tmp_path, grid_specs()))
    play(fixed)
    assert len(fixed.cells_in(CellState.FINISHED)) == 6, "a new start tries again"


@pytest.mark.parametrize(("fault", "failure"), [("oom", "oom"), ("long error", "error")])
def test_failure_classes_and_bounded_messages(tmp_path, fault, failure):
    plan = fake_plan(
        tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)), faults={"none 1.0": f"{fault} in encoder"}
    )
    dispatch = start(plan)
    play(dispatch)
    (failed,) = dispatch.failures.values()
    assert failed.failure == failure and len(failed.message) <= 2_000 and len(failed.traceback) <= 20_000


def test_a_diverged_shared_stage_finishes_its_cells_as_diverged(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(), faults={f"none {f}": "diverge in encoder" for f in (0.1, 0.5, 1.0)})
    recorder = Recorder()
    dispatch = start(plan, recorder)
    play(dispatch)
    results = {e.cell: e.event.result for e in recorder.events if isinstance(e.event, CellFinished)}
    outcomes = [results[p.plan.cell].outcome for p in plan.cells]
    assert outcomes == [Outcome.DIVERGED] * 3 + [Outcome.DONE] * 3
    assert dispatch.trained["finetune"] == 3
    again = start(plan)
    assert again.take("1") is Turn.FINISHED, "diverged is a result: not run again"


@pytest.mark.parametrize("after", [0, 1, 5, 20, 60])
def test_drained_anywhere_and_started_again_nothing_finished_is_trained_twice(tmp_path, after):
    plan = fake_plan(tmp_path, grid_specs())
    play(start(plan), drain_after=after, rng=random.Random(after))
    resumed = start(plan)
    play(resumed)
    assert len(resumed.cells_in(CellState.FINISHED)) == 6
    publications = [line[1:] for line in journal(tmp_path) if line[0] == "publish"]
    assert len(publications) == len(set(publications)) == 2 + 2 + 6 + 12


def test_a_lost_trial_is_tried_again_and_late_news_of_it_are_dropped(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)))
    dispatch = start(plan)
    first = work(dispatch.take("1"))
    dispatch.event("1", next(first), node="here")
    dispatch.gone("1", Failed("lost", "killed", ""))
    dispatch.event("1", next(first), node="here")
    play(dispatch)
    assert not dispatch.failures and len(dispatch.cells_in(CellState.FINISHED)) == 1


def test_a_trial_that_tune_forgets_is_released(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)))
    dispatch = start(plan)
    dispatch.take("1")
    for _ in range(3):
        assert dispatch.take("2") is Turn.WAIT
        dispatch.look_for_lost({})
    assert not isinstance(dispatch.take("2"), Turn)


def test_a_thousand_cells_cost_little(tmp_path):
    """Not timed to the millisecond: quadratic work per hand-out would take minutes."""
    specs = grid_specs(polarities=("none", "positive"), fractions=(0.1, 0.5, 1.0), seeds=range(170))
    queue = CellQueue(queue_cells(fake_plan(tmp_path, specs).cells), present=())
    for number in range(len(specs)):
        cell = queue.take(str(number))
        for link in queue.missing(cell):
            queue.published(link)
        queue.end(str(number))
    assert queue.take("last") is Turn.FINISHED
