"""One attempt: its log, its stop flag, its failures."""

import logging

import pytest
from sweep_fakes import NAME, trial_spec

from uscl.errors import StoreError, TrialError
from uscl.records import CellFinished, CellResult, Drained, Failed, Outcome, Progress, StagePublished, StageReused
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
