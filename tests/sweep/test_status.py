"""How stored sweeps stand, and the story of a cell: from folder and store alone, over sweeps run in this process."""

import json
from dataclasses import asdict, replace

import pytest
from sweep_fakes import fake_plan, grid_specs
from test_dispatch import play, start

from uscl.store.lease import Holder
from uscl.store.sweeps import SweepFolder, find_cell, list_sweeps
from uscl.sweep.attempts import attempts, stage_at_end
from uscl.sweep.live import LiveTrial
from uscl.sweep.snapshot import cell_states, failed_stages, look
from uscl.sweep.status import status, summary
from uscl.sweep.why import why

pytestmark = pytest.mark.usefixtures("no_fsync")

POSITIVE_FAILS = {f"positive {fraction}": "error in decoder" for fraction in (0.1, 0.5, 1.0)}

DRIVER = Holder("17", "node", "2026-01-01", "uscl sweep fake.yaml")


def stored(plan, *, resources=None):
    """The folder as a start writes it."""
    folder = SweepFolder(plan.store_root, plan.identity)
    folder.write_sweep({"name": plan.identity, "resources": resources or {"gpus_per_trial": 1, "cpus_per_trial": 2}})
    folder.write_cells([planned.plan for planned in plan.cells])
    return folder


def ran(root, *, drain_after=None, **options):
    """A snapshot of a sweep that was run to its end, or drained."""
    plan = fake_plan(root, grid_specs(), **options)
    folder = stored(plan)
    play(start(plan), drain_after=drain_after)
    return look(folder, plan.store_root)


def with_trial(snapshot, number, **fields):
    """The snapshot while a driver runs that cell."""
    plan = find_cell(snapshot.cells, str(number))
    trial = LiveTrial(plan.cell, "now", "node", "finetune", "finetune", plan.stages["finetune"].key, 0, 0, 0.0,
                      100.0, 100.0, 100.0)  # fmt: skip
    return replace(snapshot, driver=DRIVER, live={plan.cell: replace(trial, **fields)}, workers=2)


def test_a_finished_sweep(tmp_path):
    stands = status(ran(tmp_path), now_s=0.0)
    assert stands.summary.cells == {"finished": 6, "running": 0, "waiting": 0, "failed": 0, "held": 0}
    assert stands.stages == {"encoder": (2, 2), "decoder": (2, 2), "finetune": (6, 6), "evaluate": (12, 12)}
    assert stands.hours.cpu == pytest.approx(22 * 2 / 3600), "a second each on two cores"
    assert stands.hours.gpu == stands.hours.reused_cpu == stands.hours.unfinished == 0
    assert (stands.saved.saved_runs, stands.saved.saved_seconds) == (8, 8.0)
    assert (stands.left.seconds, stands.left.unknown, stands.last_error) == (0.0, (), None)
    assert stands.summary.driver is None and not stands.trials


def test_a_failure_holds_what_needs_its_stage_and_is_named(tmp_path):
    snapshot = ran(tmp_path, faults=POSITIVE_FAILS)
    stands = status(snapshot, now_s=0.0)
    assert stands.numbers["failed"] == (4,) and stands.numbers["held"] == (5, 6)
    assert stands.numbers["finished"] == (1, 2, 3)
    error = stands.last_error
    assert (error.cell, error.failure, error.message) == (4, "error", "ValueError: a bug in the decoder")
    assert not error.finished_since
    told = why(snapshot, find_cell(snapshot.cells, "5"))
    assert told.state == "held" and not told.attempts
    assert (told.held_by.stage, told.held_by.cell, told.held_by.failure) == ("decoder", 4, "error")
    assert [stage.state for stage in told.stages] == ["done", "missing", "missing", "missing", "missing"]
    assert told.stages[0].maker == "cell 4"


def test_a_later_success_takes_the_failure_back(tmp_path):
    ran(tmp_path, faults=POSITIVE_FAILS)
    snapshot = ran(tmp_path)
    stands = status(snapshot, now_s=0.0)
    assert stands.summary.cells["finished"] == 6 and stands.last_error.finished_since
    told = why(snapshot, find_cell(snapshot.cells, "4"))
    assert [attempt.end for attempt in told.attempts] == ["failed", "finished"]
    assert told.attempts[0].stage == "decoder" and told.attempts[0].trained == ("encoder",)
    assert "sweep_fakes.py" in told.attempts[0].traceback and told.attempts[0].log_tail
    assert told.attempts[1].reused == ("encoder",)
    assert {stage.maker for stage in told.stages} == {"this cell"}


def test_lost_processes_hold_nothing_until_the_third(tmp_path):
    snapshot = ran(tmp_path, drain_after=0)
    plan = find_cell(snapshot.cells, "1")
    record = {"time_s": 5.0, "cell": plan.cell, "node": "n", "event": "Failed", "failure": "lost", "message": "gone"}
    for deaths in (1, 2, 3):
        lost = attempts([record | {"attempt": f"a{number}"} for number in range(deaths)])
        found = replace(snapshot, attempts=tuple(lost))
        assert len(failed_stages(found)) == (deaths == 3)
        states = [cell_states(found)[cell.cell] for cell in snapshot.cells]
        assert states == ["failed", *2 * ["held" if deaths == 3 else "waiting"], *3 * ["waiting"]]


def test_drained_and_killed_attempts_are_told_apart(tmp_path):
    snapshot = ran(tmp_path, drain_after=2)
    drained = [attempt for attempt in snapshot.attempts if attempt.end == "drained"]
    plan = next(plan for plan in snapshot.cells if plan.cell == drained[0].cell)
    (story,) = why(snapshot, plan).attempts
    assert (story.end, story.stage) == ("drained", "encoder") and story.step == drained[0].step > 0
    cut = replace(snapshot, attempts=tuple(attempts([
        {"time_s": 1.0, "cell": plan.cell, "attempt": "a", "node": "n", "event": "Started", "what": "a later release"},
        {"time_s": 2.0, "cell": plan.cell, "attempt": "a", "event": "StageReused", "kind": "encoder",
         "key": plan.stages["encoder"].key},
        {"no": "cell"}, {"time_s": "x", "cell": 1, "attempt": None},
    ])))  # fmt: skip
    (story,) = why(cut, plan).attempts
    assert (story.end, story.stage, story.node) == ("cut off", "decoder", "n")
    assert (story.started_s, story.ended_s) == (1.0, 2.0), "from a record that this release does not know"
    (live,) = why(with_trial(cut, plan.number, attempt="a", step=3), plan).attempts
    assert (live.end, live.stage, live.step, live.ended_s) == ("running", "finetune", 3, None)


def test_the_stage_at_the_end_is_the_first_that_was_not_there(tmp_path):
    plan = fake_plan(tmp_path, grid_specs()).cells[0].plan
    record = {"time_s": 1.0, "cell": plan.cell, "attempt": "a"}
    seen = {"event": "StageReused", "kind": "finetune", "key": plan.stages["finetune"].key}
    failed = {"event": "Failed", "failure": "error", "message": "a bug"}
    (attempt,) = attempts([record | seen, record | failed])
    assert stage_at_end(attempt, plan) == "evaluate/val", "though its encoder was never looked at"
    (attempt,) = attempts([record | failed])
    assert stage_at_end(attempt, plan) == "encoder"
    (attempt,) = attempts([record | failed | {"key": plan.stages["decoder"].key}])
    assert stage_at_end(attempt, plan) == "decoder", "where a release says it"


def test_live_trials_stragglers_and_time_left(tmp_path):
    ran(tmp_path, drain_after=55)
    plan = fake_plan(tmp_path, grid_specs())
    snapshot = look(SweepFolder(plan.store_root, "fake"), plan.store_root)
    waiting = [cell.number for cell in snapshot.cells if cell_states(snapshot)[cell.cell] == "waiting"]
    assert waiting and status(snapshot, now_s=0.0).left.seconds, "the test needs a history and something to do"
    at_work = with_trial(snapshot, waiting[0], step=1, steps=4, frames_per_s=7.0)
    soon, late = status(at_work, now_s=129.0), status(at_work, now_s=131.0)
    assert soon.summary.cells["running"] == 1 and not soon.trials[0].straggler
    assert late.trials[0].straggler and late.trials[0].median_seconds == 1.0 and late.trials[0].stage_seconds == 31.0
    assert late.left.workers == 2 and late.left.seconds < status(snapshot, now_s=0.0).left.seconds / 2 + 1e-9
    unknown = with_trial(ran(tmp_path / "new", drain_after=0), 1)
    left = status(unknown, now_s=1e6)
    assert left.left.seconds is None and left.left.unknown == ("encoder", "decoder", "finetune", "evaluate")
    assert left.trials[0].median_seconds is None and not left.trials[0].straggler
    assert summary(unknown).last_activity_s == 100.0


def test_gpu_hours_and_what_other_sweeps_trained(tmp_path):
    snapshot = ran(tmp_path)
    card = {
        name: replace(manifest, provenance={"seconds": 3600.0, "device": "Tesla V100", "host": "gpu1"})
        for name, manifest in snapshot.manifests.items()
    }
    half = replace(snapshot, manifests=card, resources={"gpus_per_trial": 0.5})
    hours = status(half, now_s=0.0).hours
    assert (hours.gpu, hours.cpu) == (11.0, 0.0)
    hours = status(replace(half, attempts=()), now_s=0.0).hours
    assert (hours.gpu, hours.reused_gpu) == (0.0, 11.0)


def test_a_stage_of_another_sweep_is_traced_to_it(tmp_path):
    ran(tmp_path, name="first")
    plan = fake_plan(tmp_path, grid_specs(polarities=("none",)), name="second")
    folder = stored(plan)
    snapshot = look(folder, plan.store_root)
    told = why(snapshot, snapshot.cells[1], list_sweeps(plan.store_root))
    assert told.state == "finished" and not told.attempts
    makers = [stage.maker for stage in told.stages]
    assert makers[0].startswith("cell ") and makers[2:] == 3 * ["cell 2 of first"]
    assert {stage.maker for stage in why(snapshot, snapshot.cells[1]).stages} == {"unknown"}


def test_a_live_file_of_another_release_is_passed_over(tmp_path):
    plan = fake_plan(tmp_path, grid_specs())
    folder = stored(plan)
    folder.write_live({"trials": [{"cell": "x", "colour": "blue"}], "workers": 4})
    assert not look(folder, plan.store_root).live, "nobody runs it"
    with folder.acquire_lease():
        folder.ask_to_stop("ada@desk", None)
        found = look(folder, plan.store_root)
        assert found.driver and not found.live and found.workers == 4
        assert summary(found).stopping == "ada@desk"
    assert summary(look(folder, plan.store_root)).stopping == ""


def test_all_of_it_is_json(tmp_path):
    snapshot = with_trial(ran(tmp_path, faults=POSITIVE_FAILS), 4)
    document = json.loads(json.dumps(asdict(status(snapshot, now_s=200.0))))
    assert set(document) == {"summary", "numbers", "stages", "trials", "hours", "saved", "left", "last_error"}
    told = json.loads(json.dumps(asdict(why(snapshot, snapshot.cells[3]))))
    assert set(told) == {"sweep", "number", "cell", "label", "state", "held_by", "stages", "attempts"}


def test_an_attempt_begins_when_it_was_handed_out_not_at_its_first_record():
    record = {"cell": "c", "node": "n", "event": "Drained", "kind": "encoder", "key": "k", "step": 3}
    name = "20260101T000000.000000Z-host-1-aa"
    (attempt,) = attempts([record | {"attempt": name, "time_s": 1767225660.0}])
    assert attempt.last_s - attempt.started_s == 60.0
    (attempt,) = attempts([record | {"attempt": "a", "time_s": 7.0}])
    assert attempt.started_s == 7.0
