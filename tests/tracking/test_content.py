"""What a run says, without MLflow."""

import json
import math

import pytest
from fake_sweep import IDENTITY, curve, evaluation, finish, finished_event, make_cells, progress_event, publish, start

from uscl.records import Drained, Failed, MetricPoint, Outcome, SweepEvent, event_to_json
from uscl.store.curves import encode_points
from uscl.tracking.content import (
    CellHistory,
    config_yaml,
    event_of,
    fold,
    interrupted,
    manifests_of,
    measurements,
    run_content,
    told_apart,
    varying,
)


@pytest.fixture
def cells():
    return make_cells(fractions=(0.1, 0.5))


@pytest.fixture
def store(tmp_path, cells):
    return start(tmp_path, cells)


def content(store, cell, history=None):
    return run_content(IDENTITY, cell, manifests_of(store, cell), history or CellHistory())


def test_a_cell_that_has_not_begun_has_no_run(store, cells):
    assert content(store, cells[0]) is None
    publish(store, cells[0], "encoder")  # shared with others: not this cell's doing
    assert content(store, cells[0]) is None


def test_a_finished_cell(store, cells):
    finish(store, cells[0])
    history = fold([progress_event(cells[0], 100.0), finished_event(cells[0], 130.5)])[cells[0].cell]
    run = content(store, cells[0], history)
    assert (run.name, run.status, run.start_ms, run.end_ms) == (cells[0].label, "FINISHED", 100_000, 130_500)
    assert run.params == {
        "method": "contrastive", "contrast.loss": "infonce", "temporal.polarity": "none", "temporal.stage": "both",
        "labels.fraction": "0.1", "seed": "0", "cell": cells[0].cell[:10],
    }  # fmt: skip
    assert run.tags["uscl.cell"] == cells[0].cell
    assert run.tags["uscl.labels.fraction"] == "0.1"
    assert run.tags["uscl.encoder"] == cells[0].stages["encoder"].key
    assert (run.tags["uscl.outcome"], run.tags["uscl.number"]) == ("done", "0001")


def test_a_diverged_cell_is_finished_and_tagged(store, cells):
    publish(store, cells[0], "encoder", outcome=Outcome.DIVERGED, flags=("collapsed",))
    run = content(store, cells[0])
    assert (run.status, run.tags["uscl.outcome"], run.tags["uscl.flags"]) == ("FINISHED", "diverged", "collapsed")


@pytest.mark.parametrize(
    ("event", "status", "outcome"),
    [
        (Failed("oom", "out of memory", "..."), "FAILED", "failed"),
        (Drained("encoder", "k", 10), "KILLED", "drained"),
    ],
)
def test_how_an_attempt_ended(store, cells, event, status, outcome):
    history = fold([SweepEvent(5.0, cells[0].cell, "a", "n", event)])[cells[0].cell]
    run = content(store, cells[0], history)
    assert (run.status, run.tags["uscl.outcome"], run.end_ms) == (status, outcome, 5000)
    assert run.tags["uscl.failure"] == ("out of memory" if status == "FAILED" else "")


def test_running_becomes_killed_once_the_driver_is_gone(store, cells):
    history = fold([progress_event(cells[0], 5.0)])[cells[0].cell]
    assert content(store, cells[0], history).status == "RUNNING"
    assert content(store, cells[0], interrupted(history)).status == "KILLED"


def test_an_attempt_begins_when_its_name_says(cells):
    events = [finished_event(cells[0], 1_795_438_800.0, attempt="20261123T125906.500000Z-host-1-ab")]
    assert fold(events)[cells[0].cell].first_s == 1_795_438_746.5


def test_events_are_read_flat_nested_and_with_a_log_tail(cells):
    event = SweepEvent(1.0, cells[0].cell, "a", "n", Failed("error", "m", "t"))
    head = {"time_s": 1.0, "cell": cells[0].cell, "attempt": "a", "node": "n"}
    assert event_of(head | event_to_json(event.event) | {"log_tail": ["x"]}) == event
    assert event_of(head | {"event": event_to_json(event.event)}) == event
    with pytest.raises(KeyError):
        event_of(head)


def test_a_published_stage_gives_its_curve_and_the_final_values_that_no_curve_has(store, cells):
    metrics = {"encoder/loss": 9.0, "embedding_std": 0.4}
    manifest = publish(store, cells[0], "encoder", files={"metrics.parquet": curve("encoder", (1, 2))}, metrics=metrics)
    found = {(m.name, m.step): m.value for m in measurements(store, cells[0], "encoder", manifest)}
    assert found == {
        ("encoder/loss", 1): 1.0, ("encoder/loss", 2): 0.5, ("encoder/lr", 1): 1e-3, ("encoder/lr", 2): 1e-3,
        ("encoder/embedding_std", 0): 0.4,
    }  # fmt: skip


def test_evaluations_keep_their_names(store, cells):
    manifest = publish(store, cells[0], "evaluate/test", metrics=evaluation(cells[0], "test"))
    names = {m.name: m.step for m in measurements(store, cells[0], "evaluate/test", manifest)}
    assert names["test/dsc/cortex"] == 0
    assert all(name.startswith("test/") for name in names)


def test_a_point_counts_once_it_is_durable(store, cells):
    cell = cells[0]
    assert measurements(store, cell, "encoder", None) == []
    points = encode_points([MetricPoint(10, {"loss": math.nan})])
    store.save_progress(cell.stages["encoder"], attempt="a1", step=10, files={"metrics.parquet": points})
    (only,) = measurements(store, cell, "encoder", None)
    assert (only.name, only.step, math.isnan(only.value)) == ("encoder/loss", 10, True)


def test_config_is_nested_yaml():
    assert config_yaml({"data": "phantom", "finetune.lr": 0.001, "speckle.classes": ()}) == (
        "data: phantom\nfinetune:\n  lr: 0.001\nspeckle:\n  classes: []\n"
    )


def test_only_axes_that_vary_make_columns(cells):
    assert varying(cells) == ["contrast.loss", "temporal.polarity", "temporal.stage", "labels.fraction"]


def test_params_tell_what_the_file_fixes_and_what_set_changed(store, cells):
    from dataclasses import replace

    finish(store, cells[0])
    cell = replace(cells[0], fixed={"finetune.lr": 0.5}, axes=cells[0].axes | {"encoder.steps": 20})
    params = content(store, cell).params
    assert (params["finetune.lr"], params["encoder.steps"]) == ("0.5", "20")
    assert "finetune.steps" not in params
    supervised = replace(cell, settings=cell.settings | {"method": "supervised"})
    assert content(store, supervised).params.keys() == {"method", "finetune.lr", "labels.fraction", "seed", "cell"}


def test_columns_are_the_params_in_which_any_runs_differ():
    old = {"method": "contrastive", "seed": "0", "cell": "a"}
    new = old | {"encoder.steps": "20", "cell": "b"}
    assert told_apart([old, new, new | {"seed": "1"}]) == ["seed", "encoder.steps"]
    assert told_apart([new, new | {"cell": "c"}]) == []


def test_records_are_json(cells):
    assert json.loads(json.dumps(event_to_json(finished_event(cells[0], 1.0).event)))["event"] == "CellFinished"
