"""Tune itself needs room for its own files: one that a full disk ends is followed by another, and no cell is lost."""

from types import SimpleNamespace

import pytest
from sweep_fakes import fake_plan, grid_specs
from test_dispatch import play, start

from uscl.errors import ClusterError
from uscl.store.sweeps import SweepFolder
from uscl.sweep import fit as tuning
from uscl.sweep import space
from uscl.sweep.cluster import HeadWatch
from uscl.sweep.preflight import Placement
from uscl.sweep.queue import CellState
from uscl.sweep.signals import StopRequests

PLACEMENT = Placement("cpu", 0.0, 1.0, 2, False)


def fit(dispatch, tuners, monkeypatch, requests=None):
    """Run `fit` over these stand-ins for a Tuner, one after the other; what was said."""
    said, left = [], iter(tuners)
    monkeypatch.setattr(space, "PROBE_S", 0.05)
    monkeypatch.setattr(tuning, "_tuner", lambda *_: SimpleNamespace(fit=lambda: next(left)(dispatch)))
    watch = tuning.Watch(
        dispatch,
        space.SpaceWatch(dispatch.store_root),
        HeadWatch(None),
        dispatch._terms.session_path,
        requests or StopRequests(),
        said.append,
    )
    tuning.fit(dispatch, PLACEMENT, watch)
    return said


def out_of_room(dispatch):
    """A Tuner that ends with a trial under way."""
    dispatch.take("1")
    raise OSError(28, "No space left on device")


def test_tune_without_room_is_started_again(tmp_path, monkeypatch):
    plan = fake_plan(tmp_path, grid_specs())
    dispatch = start(plan)
    said = fit(dispatch, [out_of_room, out_of_room, play], monkeypatch)
    assert len(dispatch.cells_in(CellState.FINISHED)) == 6 and not dispatch.failures
    assert ["PAUSED" in line for line in said] == [True, False, True, False], said
    failed = [line for line in SweepFolder(plan.store_root, "fake").read_events() if line["event"] == "Failed"]
    assert [(line["failure"], line["deaths"], line["held"]) for line in failed] == [("full", 0, False)] * 2


def test_any_other_end_of_tune_is_told(tmp_path, monkeypatch):
    def broken(dispatch):
        raise RuntimeError("Tune has a bug")

    with pytest.raises(ClusterError, match="Ray Tune gave up: RuntimeError: Tune has a bug"):
        fit(start(fake_plan(tmp_path, grid_specs())), [broken], monkeypatch)


def test_a_signal_while_tune_waits_for_room_ends_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "low_space", lambda root: "1 MB free of 30 MB")
    monkeypatch.setattr(space, "low_space", lambda root: "1 MB free of 30 MB")
    requests = StopRequests()
    dispatch = start(fake_plan(tmp_path, grid_specs()))

    def asked_to_stop(dispatch):
        requests._take(15)
        out_of_room(dispatch)

    said = fit(dispatch, [asked_to_stop], monkeypatch, requests)
    assert requests.exit_code == 143 and len(dispatch.cells_in(CellState.WAITING)) == 6
    assert any("PAUSED" in line for line in said) and any("stopping" in line for line in said)
