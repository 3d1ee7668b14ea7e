"""T5 without MLflow: a tracker that fails or hangs changes no event of any trial. And with the guards taken away."""

import threading
import tracemalloc

import pytest
from fake_sweep import make_cells, progress_event
from tracked_sweep import TrackedSweep, untracked_events
from tracker_standin import Copies

from uscl.records import Progress
from uscl.sweep.dispatch import Dispatch
from uscl.tracking.backlog import Backlog
from uscl.tracking.mirror import Mirror

FAULTS = {"positive 0.5": "error in finetune"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The events of a sweep without a tracker."""
    return untracked_events(tmp_path_factory.mktemp("alone"), faults=FAULTS)


@pytest.fixture
def copies(monkeypatch):
    return Copies(monkeypatch)


def check_that_no_event_changes(tmp_path, alone, *, warned=1, **kwargs):
    """A sweep whose tracker is as `copies` says, against one without."""
    sweep = TrackedSweep(tmp_path / "tracked", faults=FAULTS)
    sweep.mirror_to(f"sqlite:///{tmp_path}/mlflow.db", **kwargs)
    try:
        sweep.run()
    finally:
        sweep.close()
    assert sweep.events() == alone
    assert len(sweep.warnings) == warned, sweep.warnings
    return sweep


def test_a_tracker_that_obeys(tmp_path, alone, copies):
    sweep = check_that_no_event_changes(tmp_path, alone, warned=0)
    assert ("parent", False) in copies.calls and sweep.done == 5


def test_a_tracker_that_fails(tmp_path, alone, copies):
    copies.down = True
    check_that_no_event_changes(tmp_path, alone)


def test_a_tracker_that_hangs(tmp_path, alone, copies, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(Copies, "copy_parent", lambda *args, **kwargs: release.wait(30))
    check_that_no_event_changes(tmp_path, alone, close_s=0.05)
    release.set()


def test_a_tracker_that_cannot_be_imported(tmp_path, alone, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "uscl.tracking.client", None)
    sweep = check_that_no_event_changes(tmp_path, alone)
    assert "import of uscl.tracking.client halted" in sweep.warnings[0]


def test_a_terminal_that_is_gone(tmp_path, alone, copies):
    def closed(line):
        raise BrokenPipeError

    copies.down = True
    check_that_no_event_changes(tmp_path, alone, warned=0, warn=closed)


def test_one_cell_that_is_refused_costs_the_others_nothing(tmp_path, alone, copies, monkeypatch):
    obey = Copies.copy_cell

    def picky(self, cell, history_of):
        if cell.number == 2:
            raise ValueError("the run was deleted")
        return obey(self, cell, history_of)

    monkeypatch.setattr(Copies, "copy_cell", picky)
    sweep = check_that_no_event_changes(tmp_path, alone)
    assert "refuses a run (cell 2: the run was deleted)" in sweep.warnings[0]
    last = copies.calls[copies.calls.index(("parent", False)) :]
    assert [number for number, _ in last[1:]] == [1, *range(3, 7)]


def test_guards_removed_a_tracker_that_fails_ends_the_sweep(tmp_path, alone, copies, monkeypatch):
    """Without the mirror's own thread, and without the books' deafness to sinks."""

    def in_the_sweeps_own_thread(self, event):
        self._backlog.note(event)
        self._copy(final=False)

    def unguarded(self, happened, *, log_tail=None):
        if not isinstance(happened.event, Progress):
            self._keep(happened, {"log_tail": log_tail} if log_tail is not None else {})
        for sink in self._sinks:
            sink.on_event(happened)

    copies.down = True
    monkeypatch.setattr(Mirror, "on_event", in_the_sweeps_own_thread)
    monkeypatch.setattr(Dispatch, "_send", unguarded)
    with pytest.raises(ConnectionError, match="refused"):
        check_that_no_event_changes(tmp_path, alone)


# ---- memory


def grown_bytes(note, cells, num_events):
    """What a sink holds more after so many reports of progress."""
    note(progress_event(cells[0], 0.0))
    tracemalloc.start()
    try:
        for at in range(num_events):
            note(progress_event(cells[at % len(cells)], float(at), step=at, durable=at))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_events_of_days_without_a_tracker_take_the_room_of_one():
    cells = make_cells()[:6]
    assert grown_bytes(Backlog().note, cells, 20_000) < 20_000


def test_guard_removed_a_list_of_events_grows():
    assert grown_bytes([].append, make_cells()[:6], 20_000) > 1_000_000
