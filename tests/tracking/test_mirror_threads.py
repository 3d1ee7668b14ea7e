"""The mirror's manners towards the sweep, without MLflow: the tracker is a stand-in that fails or obeys."""

import threading
import time

import pytest
from fake_sweep import IDENTITY, finished_event, make_cells, progress_event, record, start
from tracker_standin import Copies

from uscl.errors import StoreError
from uscl.records import Outcome, StagePublished, SweepEvent
from uscl.tracking.mirror import Mirror


@pytest.fixture
def copies(monkeypatch):
    return Copies(monkeypatch)


@pytest.fixture
def cells():
    return make_cells(rows=[("infonce", "none", "both")])


@pytest.fixture
def store(tmp_path, cells):
    return start(tmp_path, cells)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 s"
        time.sleep(0.005)


def open_mirror(store, cells, **kwargs):
    kwargs = {"every_s": 0.01, "warn": pytest.fail} | kwargs
    return Mirror(store, IDENTITY, cells=cells, **kwargs)


def begun_mirror(store, cells, copies):
    """Cell 1 is running, and copied."""
    mirror = open_mirror(store, cells)
    mirror.on_event(progress_event(cells[0], 5.0))
    wait_for(lambda: ("strays", ("run1",)) in copies.calls)
    copies.calls.clear()
    return mirror


def test_nothing_is_shown_before_the_first_event(store, cells, copies):
    """A run says when it began, and MLflow never changes that: what sync says later must be what was said then."""
    mirror = open_mirror(store, cells)
    wait_for(lambda: copies.opened == 1)
    time.sleep(0.05)
    assert copies.calls == []
    mirror.on_event(progress_event(cells[0], 5.0))
    wait_for(lambda: copies.calls[:2] == [("parent", True), (1, "running")])
    mirror.close()


def test_at_the_start_what_a_killed_driver_left_running_is_killed(store, cells, copies):
    published = StagePublished("encoder", "k", Outcome.DONE, 1.0)
    record(store, SweepEvent(5.0, cells[0].cell, "a", "n", published))
    mirror = open_mirror(store, cells)
    wait_for(lambda: any(call[0] == "strays" for call in copies.calls))
    assert copies.calls[:4] == [("parent", True), (1, "drained"), (2, ""), (3, "")]
    mirror.close()


def test_events_bring_only_their_cells_up_to_date(store, cells, copies):
    mirror = begun_mirror(store, cells, copies)
    mirror.on_event(progress_event(cells[1], 6.0))
    wait_for(lambda: copies.calls == [(2, "running")])
    mirror.on_event(progress_event(cells[1], 7.0))  # saved nothing new
    mirror.on_event(progress_event(cells[1], 8.0, durable=10))
    wait_for(lambda: len(copies.calls) == 2)
    time.sleep(0.05)
    assert copies.calls == [(2, "running")] * 2
    mirror.close()


def test_a_published_stage_concerns_every_cell_that_shares_it(store, cells, copies):
    mirror = begun_mirror(store, cells, copies)
    ref = cells[0].stages["encoder"]
    mirror.on_event(SweepEvent(6.0, cells[0].cell, "a", "n", StagePublished(ref.kind, ref.key, Outcome.DONE, 1.0)))
    wait_for(lambda: len(copies.calls) == 3)
    assert copies.calls == [(1, "running"), (2, ""), (3, "")]
    mirror.close()


def test_close_says_the_end_of_everything(store, cells, copies):
    mirror = open_mirror(store, cells)
    mirror.on_event(progress_event(cells[0], 6.0))
    mirror.on_event(finished_event(cells[1], 7.0))
    mirror.close()
    assert copies.calls[-5:] == [
        ("parent", False),
        (1, "drained"),
        (2, "finished"),
        (3, ""),
        ("strays", ("run1", "run2")),
    ]


def test_a_tracker_that_is_down_is_one_warning_and_nothing_else(store, cells, copies):
    copies.down, warnings = True, []
    mirror = open_mirror(store, cells, warn=warnings.append)
    for at in range(50):
        mirror.on_event(progress_event(cells[0], float(at), durable=at))
    wait_for(lambda: copies.opened >= 3)
    mirror.close()
    (line,) = warnings
    assert line == (
        f"MLflow at sqlite:///{store.root}/mlflow.db does not answer (refused); the sweep goes on without it, "
        "`uscl sync temporal` catches up"
    )


def test_mirrors_of_several_sweeps_take_turns(store, cells, copies, monkeypatch):
    """They share a database file, and the environment that holds MLflow's patience."""
    inside, most = [], []

    def slow(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()

    monkeypatch.setattr(Copies, "copy_parent", slow)
    mirrors = [open_mirror(store, cells) for _ in range(3)]
    for mirror in mirrors:
        mirror.on_event(progress_event(cells[0], 5.0))
    wait_for(lambda: len(most) >= 3)
    for mirror in mirrors:
        mirror.close()
    assert len(most) >= 6 and max(most) == 1


def test_it_catches_up_when_the_tracker_comes_back(store, cells, copies):
    copies.down, warnings = True, []
    mirror = open_mirror(store, cells, warn=warnings.append)
    mirror.on_event(progress_event(cells[2], 6.0, durable=10))
    wait_for(lambda: copies.opened >= 2)
    copies.down = False
    wait_for(lambda: (3, "running") in copies.calls)
    mirror.close()
    assert len(warnings) == 1


def test_an_event_returns_at_once_while_the_tracker_hangs(store, cells, copies, monkeypatch):
    release, warnings = threading.Event(), []
    monkeypatch.setattr(Copies, "copy_parent", lambda *args, **kwargs: release.wait(10))
    mirror = open_mirror(store, cells, warn=warnings.append, close_s=0.05)
    mirror.on_event(progress_event(cells[0], 5.0))
    before = time.monotonic()
    for _ in range(1000):
        mirror.on_event(progress_event(cells[0], 6.0))
    mirror.close()
    assert time.monotonic() - before < 5
    release.set()
    assert "is slow" in warnings[0]


def test_a_wrong_address_is_the_users_mistake_and_said_at_once(store, cells):
    with pytest.raises(StoreError, match="keeps no runs in a folder"):
        open_mirror(store, cells, tracking_uri="file:///tmp/mlruns")
