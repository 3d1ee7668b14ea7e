"""The mirror against a real MLflow (SQLite): what it leaves there, and that nothing is said twice."""

import shutil
import threading
import time

import pytest
from fake_sweep import (
    IDENTITY,
    curve,
    evaluation,
    finish,
    finished_event,
    make_cells,
    progress_event,
    publish,
    record,
    start,
)

from uscl.records import Failed, MetricPoint, Outcome, StagePublished, SweepEvent
from uscl.report.figures import draw_figures
from uscl.report.page import build_report, table_files
from uscl.spec.sweep import ReportSpec
from uscl.store.curves import encode_points
from uscl.tracking.mirror import Mirror, TrackerError, sync

pytestmark = pytest.mark.slow
REPORT = ReportSpec(rows=("contrast.loss", "temporal.stage"), columns="labels.fraction")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A migrated database: making one takes MLflow seconds, a copy takes none."""
    from uscl.tracking.client import Tracker, short_patience
    from uscl.tracking.location import find_location

    root = tmp_path_factory.mktemp("mlflow")
    with short_patience():
        Tracker(find_location(root, f"sqlite:///{root}/mlflow.db"), "made")
    return root / "mlflow.db"


@pytest.fixture
def cells():
    return make_cells(rows=[("infonce", "none", "both"), ("infonce", "positive", "encoder")], fractions=(0.1, 1.0))


@pytest.fixture
def store(tmp_path, cells, empty_database):
    store = start(tmp_path / "runs", cells)
    shutil.copy(empty_database, store.root / "mlflow.db")
    return store


def client_of(store, database="mlflow.db"):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store.root}/{database}")


def runs_of(store, database="mlflow.db", *, experiment=IDENTITY):
    client = client_of(store, database)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
    return {run.data.tags["uscl.number"]: run for run in found}


def described(store, database="mlflow.db"):
    """Everything that a mirror says, without MLflow's own ids and the moment of writing."""
    client, page = client_of(store, database), {}
    runs = runs_of(store, database)
    for number, run in runs.items():
        keys = sorted(run.data.metrics)
        history = {k: [(m.step, str(m.value)) for m in client.get_metric_history(run.info.run_id, k)] for k in keys}
        tags = {k: v for k, v in run.data.tags.items() if k.startswith(("uscl.", "mlflow.runName", "mlflow.note"))}
        parent = run.data.tags.get("mlflow.parentRunId")
        page[number] = {
            "status": run.info.status, "name": run.info.run_name, "start": run.info.start_time,
            "end": run.info.end_time, "params": run.data.params, "tags": tags, "metrics": history,
            "parent": parent and parent == runs["0000"].info.run_id, "files": sorted(files_of(client, run)),
            "inputs": [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
        }  # fmt: skip
    return page


def files_of(client, run, folder=None):
    for item in client.list_artifacts(run.info.run_id, folder):
        yield from files_of(client, run, item.path) if item.is_dir else (item.path,)


def copy(store, cells, **kwargs):
    return sync(store, IDENTITY, cells=cells, **files_of_report(store, cells), **kwargs)


def files_of_report(store, cells):
    """What the sweep command hands a mirror."""
    return {
        "table": lambda: table_files(build_report(store, cells, REPORT)),
        "figures": lambda: draw_figures(build_report(store, cells, REPORT)),
    }


def test_live_mirror_and_sync_into_an_empty_mlflow_say_the_same(store, cells, empty_database):
    report = files_of_report(store, cells)
    mirror = Mirror(store, IDENTITY, cells=cells, **report, every_s=0.05, warn=pytest.fail)
    live_through_a_sweep(store, cells, mirror)
    mirror.close()
    shutil.copy(empty_database, store.root / "other.db")
    copy(store, cells, tracking_uri=f"sqlite:///{store.root}/other.db")
    live, rebuilt = described(store), described(store, "other.db")
    assert live == rebuilt
    assert {number: run["status"] for number, run in live.items()} == {
        "0000": "FAILED", "0001": "FINISHED", "0002": "FINISHED", "0003": "FAILED", "0004": "KILLED",
    }  # fmt: skip
    assert live["0001"]["metrics"]["encoder/loss"] == [(s, str(1.0 / s)) for s in (50, 100, 150, 200)]


def live_through_a_sweep(store, cells, mirror):
    """Cell 1 with progress in between, 2 diverges, 3 fails, 4 is killed in its decoder."""

    def tell(event, *, kept=True):
        if kept:
            record(store, event)
        mirror.on_event(event)
        time.sleep(0.2)

    first, second, third, fourth = cells
    tell(progress_event(first, 10.0, attempt="a1"), kept=False)
    half = encode_points([MetricPoint(s, {"encoder/loss": 1.0 / s, "encoder/lr": 1e-3}) for s in (50, 100)])
    store.save_progress(first.stages["encoder"], attempt="a1", step=100, files={"metrics.parquet": half})
    tell(progress_event(first, 10.0, durable=100, attempt="a1"), kept=False)
    finish(store, first)
    for stage in ("encoder", "decoder", "finetune"):
        ref = first.stages[stage]
        tell(SweepEvent(10.0, first.cell, "a1", "n", StagePublished(ref.kind, ref.key, Outcome.DONE, 1.0)))
    tell(finished_event(first, 20.0, attempt="a1"))
    publish(store, second, "finetune", files={"metrics.parquet": curve("finetune")}, outcome=Outcome.DIVERGED)
    tell(finished_event(second, 30.0, attempt="a2"))
    tell(SweepEvent(40.0, third.cell, "a3", "n", Failed("error", "no\nluck", "Traceback")))
    publish(store, fourth, "encoder", files={"metrics.parquet": curve("encoder")})
    ref = fourth.stages["encoder"]
    tell(SweepEvent(50.0, fourth.cell, "a4", "n", StagePublished(ref.kind, ref.key, Outcome.DONE, 1.0)))


def test_what_a_finished_run_holds(store, cells):
    for at, cell in enumerate(cells):
        finish(store, cell)
        record(store, finished_event(cell, 100.0 + at))
    copy(store, cells)
    page = described(store)
    run, parent = page["0001"], page["0000"]
    assert (run["status"], run["name"], run["parent"]) == ("FINISHED", cells[0].label, True)
    assert [value for _, value in run["metrics"]["test/dsc/cortex"]] == [
        str(evaluation(cells[0], "test")["test/dsc/cortex"])
    ]
    assert {"config.yaml", "stages.json", "overlays/test/overlay-best-p01.png"} <= set(run["files"])
    assert run["inputs"] == parent["inputs"] == [("phantom-0123456789", ("0123456789" * 6)[:36])]
    assert parent["files"] == [
        "label_efficiency.png", "report.csv", "report.tex", "sweep.yaml", "table.md", "table.txt",
    ]  # fmt: skip
    assert (parent["status"], parent["tags"]["uscl.finished"]) == ("FINISHED", "4")
    assert "**test/dsc" in parent["tags"]["mlflow.note.content"]


def test_a_second_sync_changes_nothing(store, cells):
    for cell in cells:
        finish(store, cell)
    copy(store, cells)
    before = described(store)
    ids = {number: run.info.run_id for number, run in runs_of(store).items()}
    copy(store, cells)
    assert described(store) == before
    assert {number: run.info.run_id for number, run in runs_of(store).items()} == ids


def test_only_later_steps_are_sent_after_a_restart(store, cells):
    ref = cells[0].stages["encoder"]
    record(store, SweepEvent(1.0, cells[0].cell, "a1", "n", Failed("lost", "node gone", "")))
    for last in (100, 200):
        steps = range(50, last + 1, 50)
        points = encode_points([MetricPoint(s, {"encoder/loss": 1.0}) for s in steps])
        store.save_progress(ref, attempt="a1", step=last, files={"metrics.parquet": points})
        copy(store, cells)
    assert [step for step, _ in described(store)["0001"]["metrics"]["encoder/loss"]] == [50, 100, 150, 200]


def test_runs_that_a_killed_driver_left_running_are_closed(store, cells):
    finish(store, cells[0])
    client = client_of(store)
    copy(store, cells)
    page = runs_of(store)
    for number in ("0000", "0001"):
        client.update_run(page[number].info.run_id, status="RUNNING")
    # A cell of an older file, which the sweep has no more.
    experiment = page["0000"].info.experiment_id
    client.create_run(experiment, tags={"uscl.cell": "f" * 64, "uscl.number": "0099"})
    copy(store, cells)
    assert {n: run.info.status for n, run in runs_of(store).items()} == {
        "0000": "KILLED", "0001": "FINISHED", "0099": "KILLED",
    }  # fmt: skip


def test_a_deleted_experiment_is_restored_and_each_cell_is_there_once(store, cells):
    for cell in cells:
        finish(store, cell)
    copy(store, cells)
    client = client_of(store)
    experiment = client.get_experiment_by_name(IDENTITY).experiment_id
    client.delete_run(runs_of(store)["0001"].info.run_id)
    copy(store, cells)
    client.delete_experiment(experiment)
    copy(store, cells)
    found = client.search_runs([experiment], max_results=1000)
    numbers = sorted(run.data.tags["uscl.number"] for run in found)
    assert numbers == ["0000", "0001", "0002", "0003", "0004"]


def test_a_thousand_points_and_more_go_in_batches(store, cells):
    points = [MetricPoint(s, {"encoder/loss": 1.0, "encoder/lr": 0.1}) for s in range(1, 1301)]
    publish(store, cells[0], "encoder", files={"metrics.parquet": encode_points(points)})
    publish(store, cells[0], "finetune", outcome=Outcome.DIVERGED)
    copy(store, cells)
    run = runs_of(store)["0001"]
    history = client_of(store).get_metric_history(run.info.run_id, "encoder/loss")
    assert [m.step for m in history] == list(range(1, 1301))


def test_a_torn_curve_costs_that_curve_only(store, cells):
    finish(store, cells[0])
    (store.folder(cells[0].stages["encoder"]) / "metrics.parquet").write_bytes(b"torn")
    copy(store, cells)
    metrics = described(store)["0001"]["metrics"]
    assert "encoder/loss" not in metrics
    assert "decoder/loss" in metrics


def test_a_label_that_changed_renames_the_run_and_params_stay(store, cells):
    from dataclasses import replace

    finish(store, cells[0])
    copy(store, cells)
    renamed = replace(cells[0], label="another name", axes=cells[0].axes | {"finetune.lr": 0.001, "seed": 7})
    copy(store, [renamed, *cells[1:]])
    run = described(store)["0001"]
    assert run["name"] == "another name"
    assert (run["params"]["finetune.lr"], run["params"]["seed"], run["tags"]["uscl.seed"]) == ("0.001", "0", "7")


def test_a_sweep_with_another_set_shows_the_difference_as_a_column(store, cells):
    import json
    from dataclasses import replace

    def columns():
        copy_of = client_of(store).get_experiment_by_name(IDENTITY)
        return json.loads(copy_of.tags["mlflow.sharedViewState.uscl"])["selectedColumns"]

    finish(store, cells[0])
    copy(store, cells[:1])
    assert "params.`encoder.steps`" not in columns()
    stages = {name: replace(ref, key=ref.key[::-1]) for name, ref in cells[0].stages.items()}
    short = replace(cells[0], cell=cells[0].cell[::-1], axes=cells[0].axes | {"encoder.steps": 20}, stages=stages)
    finish(store, short)
    copy(store, [short])
    assert "params.`encoder.steps`" in columns()
    copy(store, cells[:1])
    assert "params.`encoder.steps`" in columns(), "the runs of 20 steps are still in the table"


def test_a_server_that_is_gone_is_one_line_for_sync_and_one_warning_for_the_mirror(store, cells):
    with pytest.raises(TrackerError, match=r"^MLflow at http://127.0.0.1:9 cannot be written: "):
        copy(store, cells, tracking_uri="http://127.0.0.1:9")
    warnings, others = [], threading.active_count()
    mirror = Mirror(store, IDENTITY, cells=cells, tracking_uri="http://127.0.0.1:9", every_s=0.05, warn=warnings.append)
    mirror.on_event(progress_event(cells[0], 1.0))
    mirror.close()
    assert len(warnings) == 1
    assert "`uscl sync temporal` catches up" in warnings[0]
    assert threading.active_count() == others


def test_a_database_half_made_when_its_driver_was_killed_is_made_anew(tmp_path):
    """SQLite's tables are made one by one; a file with some of them would never open again."""
    import sqlite3

    from uscl.tracking.client import Tracker, short_patience
    from uscl.tracking.location import find_location

    location = find_location(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    half = sqlite3.connect(tmp_path / "mlflow.db.new")
    half.execute("CREATE TABLE scheduler_leases (lease_key VARCHAR(255))")
    half.commit()
    half.close()
    with short_patience():
        tracker = Tracker(location, "made")
    assert tracker.runs == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
