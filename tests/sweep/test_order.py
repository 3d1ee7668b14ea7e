"""One attempt: its log, its stop flag, its failures."""

import logging

import pytest
import sweep_fakes
from s3_server import Wire
from sweep_fakes import NAME, trial_spec

from uscl.data.dataset import open_dataset
from uscl.errors import StoreError, TrialError
from uscl.records import CellFinished, CellResult, Drained, Failed, Outcome, Progress, StagePublished, StageReused
from uscl.store import s3_files
from uscl.store.roots import open_files, read_file, store_root
from uscl.sweep import trial_log
from uscl.sweep.failures import failure_of
from uscl.sweep.order import DRAINING, RUNNING, TrialOrder, log_lines, stop_flag, work


def order(tmp_path, **changes):
    """An order for the fake trial; its script is written."""
    (tmp_path / "script.json").write_text(changes.pop("script", "{}"))
    fields = {
        "number": 17, "cell": "c" * 64, "spec": trial_spec().model_dump(mode="json"), "namespace": "",
        "store_root": str(tmp_path / "store"), "dataset_path": str(tmp_path), "attempt": "a", "present": (),
        "log_path": str(tmp_path / "logs" / "x.log"), "session_path": "", "device": "cpu", "cpus": 1.0, "amp": True,
        "progress_every_s": 60.0, "run_trial": NAME,
    }  # fmt: skip
    return TrialOrder(**(fields | changes))


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Progress("decoder", "k", 300, 1000, 2120.4, {"decoder/loss": 2.41, "decoder/chance": 2.4}),
            "trial 17 | decoder | step 300/1000 | loss 2.41 (chance 2.4) | 2120 frames/s",
        ),
        (
            Progress("encoder", "k", 3, 10, 5, {"encoder/loss": 3.0, "encoder/loss_over_chance": 0.75}),
            "trial 17 | encoder | step 3/10 | loss 3 (chance 4) | 5 frames/s",
        ),
        (Progress("finetune", "k", 1, 2, 7.0), "trial 17 | finetune | step 1/2 | 7 frames/s"),
        (Progress("finetune", "k", 39, 200, 0.0, {}, 39), "trial 17 | finetune | resumed at step 39/200"),
        (Progress("evaluate", "k2", 4, 9, 7.0), "trial 17 | evaluate test | step 4/9 | 7 frames/s"),
        (StageReused("encoder", "0123456789abc"), "trial 17 | encoder | reused 0123456789"),
        (
            StagePublished("encoder", "0123456789abc", Outcome.DONE, 4.25, ("collapsed",)),
            "trial 17 | encoder | done in 4.2 s | 0123456789 | collapsed",
        ),
        (Drained("decoder", "k", 5), "trial 17 | decoder | stopped at step 5, progress saved"),
        (
            CellFinished(CellResult("c", Outcome.DONE, {"val/dsc": 0.5, "val/dsc/cortex": 0.4, "test/dsc": 0.25})),
            "trial 17 | finished | done | val/dsc 0.500 | test/dsc 0.250",
        ),
        (Failed("oom", "no memory", ""), "trial 17 | failed (oom) | no memory"),
    ],
)
def test_log_lines(event, line):
    assert log_lines(event, number=17, names={"k2": "evaluate/test"}) == [line]


def test_an_order_travels_as_json(tmp_path):
    sent = order(tmp_path, present=("k1", "k2"))
    assert TrialOrder.from_json(sent.to_json()) == sent


def test_an_attempt_logs_its_events_and_the_warnings_of_the_package(tmp_path):
    events = []
    for event in work(order(tmp_path, script='{"steps": 2}')):
        events.append(event)
        logging.getLogger("uscl.store").warning("stage x is torn")
    assert isinstance(events[-1], CellFinished)
    lines = (tmp_path / "logs" / "x.log").read_text().splitlines()
    assert lines[0].startswith("trial 17 | cell cccccccccc | attempt a | ")
    assert lines[-2].endswith("| trial 17 | finished | done | val/dsc 0.500 | test/dsc 0.500")
    assert any(line.endswith("| WARNING | stage x is torn") for line in lines)


def test_a_trial_that_ends_without_a_result_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("sweep_fakes.run_trial", lambda *args, **options: iter(()))
    (event,) = work(order(tmp_path))
    assert event == Failed("error", "the trial ended without a result", "")


@pytest.mark.parametrize(
    ("device", "gpus", "bounded"), [("cuda", 0.5, [0.5]), ("cuda", 1.0, []), ("cuda", 2.0, []), ("cpu", 0.5, [])]
)
def test_a_share_of_a_gpu_bounds_its_memory(tmp_path, monkeypatch, device, gpus, bounded):
    """Ray counts fractions of a GPU but does not hold anybody to them."""
    import torch

    asked = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    monkeypatch.setattr("sweep_fakes.run_trial", lambda *args, **options: iter(()))
    list(work(order(tmp_path, device=device, gpus=gpus)))
    assert asked == bounded


def test_the_session_file_says_when_to_stop(tmp_path):
    session = tmp_path / "session"
    session.write_bytes(RUNNING)
    stop = stop_flag(str(session))
    assert not stop()
    with session.open("ab") as stream:
        stream.write(DRAINING)
    assert stop()
    session.unlink()
    assert stop(), "the driver has ended"
    assert not stop_flag("")()


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("a bug"), "error"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "oom"),
        (StoreError("no space left"), "store"),
        (TrialError("store not shared"), "store"),
    ],
)
def test_failure_classes(error, name):
    assert failure_of(error).failure == name


def test_a_long_message_is_cut_and_the_end_of_a_long_traceback_kept():
    try:
        raise ValueError("x" * 1_000_000)
    except ValueError as error:
        failed = failure_of(error)
    assert len(failed.message) == 2_000 and len(failed.traceback) == 20_000


# ---- a store in a bucket


def test_the_log_is_kept_in_the_bucket_at_the_end_and_now_and_then(tmp_path, bucket, monkeypatch):
    where = store_root(bucket) / "logs/x.log"
    attempt = work(order(tmp_path, store_root=bucket, log_path=str(where), parts=("val", "test")))
    next(attempt)
    monkeypatch.setattr(trial_log, "UPLOAD_S", 0.0)
    events = list(attempt)
    assert isinstance(events[-1], CellFinished)
    lines = read_file(where).decode().splitlines()
    assert lines[0].startswith("trial 17 | cell cccccccccc | attempt a | ")
    assert "finished | done" in lines[-1]
    assert trial_log.log_tail(str(where), lines=2) == lines[-2:]
    assert trial_log.log_tail(str(store_root(bucket) / "none"), lines=2) == []


def test_a_session_in_a_bucket_is_asked_once_a_second(bucket):
    where, now = store_root(bucket) / "session-1", [100.0]
    open_files(where).write("", RUNNING)
    stop_requested = stop_flag(str(where), clock=lambda: now[0])
    assert not stop_requested()
    open_files(where).write("", RUNNING + DRAINING)
    assert not stop_requested(), "asked a moment ago"
    now[0] += 1.1
    assert stop_requested()
    open_files(where).write("", RUNNING)
    now[0] += 1.1
    assert stop_requested(), "stays so"
    assert stop_flag(str(store_root(bucket) / "gone"))(), "a vanished session"


def test_a_bucket_that_does_not_answer_is_no_order_to_stop(s3_server, bucket, monkeypatch):
    monkeypatch.setattr(s3_files, "ATTEMPTS", 1)
    s3_files._connect.cache_clear()
    wire, now = Wire(s3_server.port), [100.0]
    where = bucket.replace(f":{s3_server.port}", f":{wire.port}")
    open_files(where).write("session", RUNNING + DRAINING)
    wire.cut()
    stop_requested = stop_flag(str(store_root(where) / "session"), clock=lambda: now[0])
    assert not stop_requested()
    wire.mend()
    now[0] += 5.0
    assert not stop_requested(), "asked less often while it does not answer"
    now[0] += 10.0
    assert stop_requested()
    wire.cut()


def test_a_machine_without_the_phantom_builds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen = []

    def trial(spec, store, *, dataset, **options):
        seen.append(dataset)
        yield CellFinished(CellResult("c", Outcome.DONE, {}))

    monkeypatch.setattr(sweep_fakes, "run_trial", trial)
    phantom = {"patients": 1, "clips_per_patient": 1, "frames_per_clip": 2, "labels_per_patient": 1, "size": 32}
    list(work(order(tmp_path, phantom=phantom, dataset_path="/home/of/the/driver/phantom")))
    assert seen[0].parent == tmp_path / "cache" / "uscl" / "data"
    assert open_dataset(seen[0]).index.name == "phantom"
