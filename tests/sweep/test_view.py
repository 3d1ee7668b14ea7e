"""The board's figures, and what a reader without a terminal is told."""

import io
import logging
import sys

import pytest
from rich.console import Console
from sweep_fakes import fake_plan, grid_specs

from uscl.records import CellFinished, CellResult, Drained, Failed, Outcome, Progress, StagePublished, SweepEvent
from uscl.sweep.board import Board, duration
from uscl.sweep.outlook import Survey
from uscl.sweep.study import study_of
from uscl.sweep.view import SweepView, bar


@pytest.fixture
def plan(tmp_path):
    """Six cells; each three share an encoder and a decoder."""
    return fake_plan(tmp_path, grid_specs())


def happen(sink, plan, number, *events, time_s=0.0):
    """Events of a cell, by number."""
    for event in events:
        sink.on_event(SweepEvent(time_s, plan.cells[number - 1].plan.cell, "a", "host gpu 0", event))


def published(plan, number, name, seconds=10.0):
    """That event."""
    ref = plan.cells[number - 1].plan.stages[name]
    return StagePublished(ref.kind, ref.key, Outcome.DONE, seconds)


def finished(plan, number, outcome=Outcome.DONE):
    """That event."""
    return CellFinished(CellResult(plan.cells[number - 1].plan.cell, outcome, {"test/dsc": 0.5}))


def test_counts_stages_and_time_left(plan):
    board = Board(study_of([plan]).cells, Survey(frozenset(), frozenset()))
    assert board.counts() == {"finished": 0, "running": 0, "waiting": 6, "failed": 0}
    assert board.seconds_left() is None
    happen(board, plan, 1, published(plan, 1, "encoder", 100.0), Progress("decoder", "k", 1, 4, 50.0))
    happen(board, plan, 4, Progress("encoder", "k", 2, 4, 70.0, {"encoder/loss": 1.5}))
    assert board.counts() == {"finished": 0, "running": 2, "waiting": 4, "failed": 0}
    tallies = {tally.kind: (tally.done, tally.total, tally.uses) for tally in board.tallies()}
    assert tallies == {"encoder": (1, 2, 6), "decoder": (0, 2, 6), "finetune": (0, 6, 6), "evaluate": (0, 12, 12)}
    assert board.frames_per_s() == 120.0
    # 21 outputs are missing, each taken for 100 s until its kind is known, on two slots
    assert board.seconds_left() == 21 * 100.0 / 2
    assert board.running[plan.cells[3].plan.cell].loss == 1.5


def test_ends_of_cells(plan):
    board = Board(study_of([plan]).cells, Survey(frozenset(), frozenset()))
    happen(board, plan, 1, published(plan, 1, "finetune"), finished(plan, 1))
    happen(board, plan, 2, Progress("finetune", "k", 1, 2, 1.0), Failed("lost", "killed", ""))
    happen(board, plan, 3, published(plan, 3, "encoder"), finished(plan, 3, Outcome.DIVERGED))
    assert board.counts() == {"finished": 2, "running": 0, "waiting": 3, "failed": 1}
    happen(board, plan, 2, Progress("finetune", "k", 1, 2, 1.0))
    assert board.counts() == {"finished": 2, "running": 1, "waiting": 3, "failed": 0}, "tried again"


def test_plain_lines_without_a_terminal(plan):
    out = io.StringIO()
    view = SweepView(study_of([plan]), Console(file=out, width=200))
    happen(view, plan, 1, Progress("encoder", "k", 1, 4, 50.0), time_s=100.0)
    happen(view, plan, 1, Progress("encoder", "k", 2, 4, 50.0), time_s=101.0)
    happen(view, plan, 1, published(plan, 1, "encoder"), Failed("oom", "CUDA out of memory\nmore", "trace"))
    happen(view, plan, 2, finished(plan, 2), time_s=102.0)
    view.emit(logging.LogRecord("uscl", logging.WARNING, "", 0, "a %s warning", ("plain",), None))
    view.close()
    view.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "trial 1 | encoder | step 1/4 | 50 frames/s"
    assert lines[1].startswith("trial 1 | encoder | done in 10.0 s"), "the second progress came too soon"
    assert lines[2] == "trial 1 | failed (oom) | CUDA out of memory"
    assert lines[3].startswith("trial 2 | finished | done | test/dsc 0.500 | 1/6 cells finished, 4 waiting, 1 failed")
    assert lines[4] == "a plain warning"


@pytest.mark.parametrize("terminal", [False, True])
def test_resuming_and_stopping_are_told(plan, terminal):
    out = io.StringIO()
    view = SweepView(study_of([plan]), Console(file=out, width=200, force_terminal=terminal, color_system=None))
    happen(view, plan, 1, Progress("finetune", "k", 1, 200, 9.0), time_s=100.0)
    happen(view, plan, 2, Progress("finetune", "k", 39, 200, 0.0, {}, 39), Drained("finetune", "k", 44), time_s=101.0)
    view.close()
    assert "trial 2 | finetune | resumed at step 39/200" in out.getvalue(), "within 15 s of another line, too"
    assert "trial 2 | finetune | stopped at step 44, progress saved" in out.getvalue()


def test_the_two_evaluations_have_names(plan):
    out = io.StringIO()
    view = SweepView(study_of([plan]), Console(file=out, width=200))
    happen(view, plan, 1, published(plan, 1, "evaluate/val"), published(plan, 1, "evaluate/test"))
    view.close()
    assert [line.split(" | ")[1] for line in out.getvalue().splitlines()] == ["evaluate val", "evaluate test"]


def test_the_picture_in_a_terminal(plan):
    out = io.StringIO()
    view = SweepView(study_of([plan]), Console(file=out, force_terminal=True, width=120, color_system=None))
    happen(view, plan, 1, published(plan, 1, "encoder"), Progress("decoder", "k", 2, 4, 50.0, {"decoder/loss": 2.41}))
    view.close()
    shown = out.getvalue()
    assert "fake: 0/6 cells finished, 1 running, 5 waiting, about 4 min left" in shown
    assert "encoder 1/2 for 6 cells" in shown
    assert "host gpu 0" in shown and "########-------- 2/4" in shown and "2.41" in shown


def test_with_several_sweeps_a_trial_goes_by_its_sweep_and_each_sweep_has_a_count(tmp_path):
    """Both declare `none 1.0`: cell 3 of first, 1 of second."""
    first = fake_plan(tmp_path, grid_specs(polarities=("none",)), name="first")
    second = fake_plan(tmp_path, grid_specs(fractions=(1.0,)), name="second")
    study = study_of([first, second])
    for terminal in (False, True):
        out = io.StringIO()
        view = SweepView(study, Console(file=out, force_terminal=terminal, width=120, color_system=None))
        happen(view, first, 3, finished(first, 3))
        happen(view, second, 2, Failed("lost", "killed", ""), Progress("encoder", "k", 2, 4, 50.0), time_s=100.0)
        view.close()
        said = out.getvalue()
        assert "second 2 | failed (lost) | killed" in said
        if terminal:
            assert "first + second: 1/4 cells finished" in said and "sweeps: first 1/3, second 1/2" in said
            (row,) = [line for line in said.splitlines() if "2/4" in line][-1:]
            assert row.split()[:4] == ["second", "2", "cell", "2"]
        else:
            assert "first 3 | finished | done | test/dsc 0.500 | 1/4 cells finished, 3 waiting" in said
            assert "second 2 | encoder | step 2/4" in said


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (725, "12 min"), (12000, "3 h 20 min"), (0.4, "0 s"), (5370, "1 h 30 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_bar():
    assert bar(0, 0) == "" and bar(4, 4) == "#" * 16 + " 4/4" and bar(0, 8) == "-" * 16 + " 0/8"
    assert "ray" not in sys.modules, "the view needs no Ray"
