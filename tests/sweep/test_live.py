"""live.json: what other processes see of the trials under way."""

import time

import pytest
from sweep_fakes import fake_plan, grid_specs

from uscl.errors import StoreError
from uscl.records import CellFinished, CellResult, Failed, Outcome, Progress, StagePublished, StageReused, SweepEvent
from uscl.store.sweeps import SweepFolder
from uscl.sweep.live import LiveFile, live_sinks
from uscl.sweep.preflight import Placement
from uscl.sweep.study import study_of

PLACEMENT = Placement("cpu", 0.0, 1.0, 3, False)


@pytest.fixture
def plan(tmp_path):
    return fake_plan(tmp_path, grid_specs())


@pytest.fixture
def live(plan):
    """A live file written at every news."""
    cells = {planned.plan.cell: planned.plan for planned in plan.cells}
    file = LiveFile(SweepFolder(plan.store_root, "fake"), cells, placement=PLACEMENT, every_s=0.01)
    yield file
    file.close()


def written(plan, condition):
    """The file, once it is so."""
    folder = SweepFolder(plan.store_root, "fake")
    deadline = time.monotonic() + 10
    while not (document := folder.read_live()) or not condition(document):
        assert time.monotonic() < deadline, document
        time.sleep(0.005)
    return document


def test_it_says_who_is_at_which_stage_since_when(plan, live):
    cell = plan.cells[0].plan
    encoder, decoder = cell.stages["encoder"], cell.stages["decoder"]

    def tell(time_s, event):
        live.on_event(SweepEvent(time_s, cell.cell, "a1", "node gpu 0", event))

    tell(100.0, StageReused("encoder", encoder.key))
    (trial,) = written(plan, lambda document: document["trials"])["trials"]
    assert (trial["stage"], trial["steps"], trial["since_s"], trial["stage_since_s"]) == ("decoder", 0, 100.0, 100.0)
    tell(103.0, Progress("decoder", decoder.key, 5, 20, 321.04))
    (trial,) = written(plan, lambda document: document["trials"][0]["step"] == 5)["trials"]
    assert trial == {
        "cell": cell.cell, "attempt": "a1", "node": "node gpu 0", "stage": "decoder", "kind": "decoder",
        "key": decoder.key, "step": 5, "steps": 20, "frames_per_s": 321.0, "since_s": 100.0, "stage_since_s": 100.0,
        "time_s": 103.0,
    }  # fmt: skip
    tell(110.0, StagePublished("decoder", decoder.key, Outcome.DONE, 10.0))
    (trial,) = written(plan, lambda document: document["trials"][0]["stage"] == "finetune")["trials"]
    assert (trial["step"], trial["since_s"], trial["stage_since_s"]) == (0, 100.0, 110.0)
    tell(111.0, CellFinished(CellResult(cell.cell, Outcome.DONE, {})))
    document = written(plan, lambda document: not document["trials"])
    assert (document["workers"], document["device"], document["gpus_per_trial"]) == (3, "cpu", 0.0)


def test_a_failed_trial_leaves_and_a_new_attempt_starts_its_clock_anew(plan, live):
    cell = plan.cells[0].plan
    for attempt, time_s in (("a1", 5.0), ("a2", 9.0)):
        live.on_event(SweepEvent(time_s, cell.cell, attempt, "n", Progress("encoder", "unknown", 1, 2, 1.0)))
        trial = written(plan, lambda document, a=attempt: [t for t in document["trials"] if t["attempt"] == a])
        assert trial["trials"][0]["since_s"] == time_s
        live.on_event(SweepEvent(time_s, cell.cell, attempt, "n", Failed("error", "a bug", "")))
    written(plan, lambda document: not document["trials"])


def test_at_the_end_the_file_is_gone_and_a_store_that_fails_stops_nothing(plan, live, monkeypatch):
    written(plan, lambda document: True)
    live.close()
    assert SweepFolder(plan.store_root, "fake").read_live() is None

    def full(self, document):
        raise StoreError("no space left")

    monkeypatch.setattr(SweepFolder, "write_live", full)
    (sink,) = live_sinks(study_of([plan]), PLACEMENT)
    cell = plan.cells[0].plan.cell
    sink.on_event(SweepEvent(1.0, cell, "a", "n", Failed("error", "", "")))
    sink.close()
