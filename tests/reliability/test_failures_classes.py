"""T9 and T10 without Ray: every kind of failure gets its class and its policy, and the sweep goes on."""

import errno
import math

import pytest
from sweep_fakes import fake_plan, grid_specs, journal
from test_dispatch import Recorder, play, start

from uscl.errors import StoreError
from uscl.records import CellFinished, Failed
from uscl.store.sweeps import SweepFolder
from uscl.sweep.failures import POLICIES, class_of, death_of, failure_of
from uscl.sweep.queue import CellState, Turn
from uscl.sweep.skipped import failed_links
from uscl.sweep.study import queue_of, study_of


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def caused(outer, inner):
    try:
        try:
            raise inner
        except type(inner) as error:
            raise outer from error
    except type(outer) as error:
        return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.77 GiB total capacity)"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate"), "oom"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
        (caused(RuntimeError("the loader failed"), MemoryError()), "oom"),
        (OSError(errno.ENOSPC, "No space left on device"), "full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "full"),
        (caused(RuntimeError("could not save"), OSError(errno.ENOSPC, "No space left on device")), "full"),
        (StoreError("cannot be read"), "store"),
        (KeyError("a bug"), "error"),
        (Unprintable(), "error"),
    ],
)
def test_an_exception_finds_its_class(error, name):
    event = failure_of(error)
    assert event.failure == class_of(error) == name
    assert len(event.message) <= 2_000 and len(event.traceback) <= 20_000


def test_a_death_for_want_of_memory_is_told_from_others():
    ray = "Task was killed due to the node running low on memory. Memory on the node was 7.7GB / 8GB"
    assert death_of(ray).failure == "oom"
    assert death_of("The actor died unexpectedly before finishing this task. exit code 137").failure == "lost"


@pytest.mark.parametrize("fault", ["oom", "host oom"])
def test_out_of_memory_is_not_tried_again_and_says_what_to_lower(tmp_path, fault):
    faults = {f"none {fraction}": f"{fault} in encoder" for fraction in (0.1, 0.5, 1.0)}
    plan = fake_plan(tmp_path, grid_specs(), faults=faults)
    dispatch = start(plan)
    play(dispatch)
    (failed,) = dispatch.failures.values()
    assert failed.failure == "oom"
    assert "lower encoder.clips, encoder.frames or image.size" in failed.message.split(";")[0]
    starts = [key for what, kind, key in journal(tmp_path) if (what, kind) == ("start", "encoder")]
    assert len(starts) == len(set(starts)) == 2, "the broken encoder was tried once, for three cells"
    assert len(dispatch.cells_in(CellState.HELD)) == len(dispatch.cells_in(CellState.FINISHED)) == 3


@pytest.mark.parametrize("fault", ["nan in finetune", "inf in evaluate/test", "no metric in evaluate/test"])
def test_odd_numbers_are_a_result_and_survive_the_history(tmp_path, fault):
    plan = fake_plan(tmp_path, grid_specs(), faults={"none 0.1": fault})
    recorder = Recorder()
    dispatch = start(plan, recorder)
    play(dispatch)
    assert not dispatch.failures and len(dispatch.cells_in(CellState.FINISHED)) == 6
    kept = {e["cell"]: e for e in SweepFolder(plan.store_root, "fake").read_events() if e["event"] == "CellFinished"}
    told = {e.cell: e.event.result for e in recorder.events if isinstance(e.event, CellFinished)}
    cell = plan.cells[0].plan.cell
    assert kept[cell]["result"]["metrics"] == told[cell].metrics
    test = told[cell].metrics.get("test/dsc")
    assert (test is None) == fault.startswith("no") and (not fault.startswith("inf") or math.isinf(test))


def test_a_message_of_a_megabyte_costs_the_history_kilobytes(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(), faults={"none 0.1": "long error in finetune"})
    dispatch = start(plan)
    play(dispatch)
    assert len(dispatch.cells_in(CellState.FINISHED)) == 5
    assert (SweepFolder(plan.store_root, "fake").path / "events.jsonl").stat().st_size < 100_000


def test_every_failure_says_how_many_deaths_are_left(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)))
    dispatch = start(plan)
    for number in range(3):
        dispatch.take(f"{number}")
        dispatch.started(f"{number}", node=f"node {number}")
        dispatch.gone(f"{number}", Failed("lost", "killed", ""))
    assert dispatch.take("last") is Turn.FINISHED
    kept = SweepFolder(plan.store_root, "fake").read_events()
    assert [line["event"] for line in kept] == ["Started", "Failed"] * 3
    failed = kept[1::2]
    assert [line["deaths_left"] for line in failed] == [2, 1, 0]
    assert [line["held"] for line in failed] == [False, False, True]
    assert [line["node"] for line in failed] == ["node 0", "node 1", "node 2"]


def again(plan, *, skip):
    """The queue of a second start."""
    study, lines = study_of([plan]), []
    queue = queue_of(study)
    if skip:
        queue.hold(failed_links(study, lines.append))
    return [queue.state(cell.key) for cell in study.cells], lines


def test_a_new_start_tries_again_what_failed_and_skip_failed_does_not(tmp_path):
    faults = {f"none {fraction}": "error in encoder" for fraction in (0.1, 0.5, 1.0)} | {
        "positive 0.1": "oom in finetune"
    }
    plan = fake_plan(tmp_path, grid_specs(), faults=faults)
    play(start(plan))
    done, waiting, held = CellState.FINISHED, CellState.WAITING, CellState.HELD
    assert again(plan, skip=False) == ([waiting] * 4 + [done] * 2, [])
    states, lines = again(plan, skip=True)
    assert states == [held] * 4 + [done] * 2, "three stand on the encoder that failed"
    assert lines == [
        "--skip-failed: 2 cells are not tried again after an earlier failure, nor what stands on the same stage"
    ]


def test_skip_failed_tries_again_what_died_once_or_was_fixed_since(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)))
    dispatch = start(plan)
    dispatch.take("1")
    dispatch.gone("1", Failed("lost", "killed", ""))
    assert again(plan, skip=True) == ([CellState.WAITING], [])
    dispatch.take("2")
    dispatch.gone("2", Failed("full", "no space", ""))
    assert again(plan, skip=True) == ([CellState.WAITING], [])
    broken = fake_plan(
        tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)), faults={"none 1.0": "error in encoder"}
    )
    play(start(broken))
    assert again(plan, skip=True)[0] == [CellState.HELD]
    play(start(fake_plan(tmp_path, grid_specs(polarities=("none",), fractions=(1.0,)))))
    assert again(plan, skip=True) == ([CellState.FINISHED], [])


def test_the_table_has_a_line_for_every_class_of_the_issue():
    assert {name: (line.deaths, line.pauses) for name, line in POLICIES.items()} == {
        "error": (1, False), "oom": (1, False), "lost": (3, False), "store": (3, False), "full": (0, True),
    }  # fmt: skip
