"""`uscl stop`, against drivers in processes of their own."""

import json
import re
import socket

import pytest
from click.testing import CliRunner
from drain_driver import Forked
from sweep_fakes import fake_plan, grid_specs

from uscl.cli.main import uscl
from uscl.store.lease import Holder
from uscl.store.sweeps import SweepFolder
from uscl.sweep import stop_orders


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_fsync):
    """A driver that looks more often."""
    original = stop_orders._look
    monkeypatch.setattr(stop_orders, "_look", lambda folders, requests, over, every_s: original(
        folders, requests, over, 0.05))  # fmt: skip


def call(root, *arguments, code=0):
    """What `uscl stop` says."""
    result = CliRunner().invoke(uscl, ["stop", *arguments, "--store", str(root / "store")], standalone_mode=False)
    assert result.exception is None, result.output
    assert result.return_value == code
    return result.output


def paused(root, point="in encoder"):
    """A driver with a trial that stands still there."""
    driver = Forked(root, pause_at=point)
    driver.hit(point)
    return driver


def test_it_drains_says_who_asked_and_the_same_command_goes_on(tmp_path):
    driver = paused(tmp_path)
    assert "still runs after" in call(tmp_path, "fake", "--timeout", "0.2", code=1)
    driver.wait_for(lambda: "stopping" in driver.said())
    driver.go("in encoder")
    said = call(tmp_path, "fake")
    assert re.search(r"fake: (stopped in \d+ s|nobody runs it); 0/4 cells finished", said)
    assert driver.end() == 143
    outcome = driver.outcome()
    assert outcome["by"].endswith(f"@{socket.gethostname()}") and not outcome["hard"] and outcome["left"] == 4
    assert f"stopping, as {outcome['by']} asked: trials save their progress" in driver.said()
    assert call(tmp_path, "fake") == "fake: nobody runs it; 0/4 cells finished\n", "again: nothing to do"
    again = Forked(tmp_path)
    assert again.end() == 0 and again.outcome()["finished"] == 4, "what stopped the last start stops no other"


def test_hard_does_not_wait_for_a_trial(tmp_path):
    driver = paused(tmp_path)
    said = json.loads(call(tmp_path, "fake", "--hard", "--json"))
    assert said["stopped"] and said["sweep"] == "fake"
    assert set(said) == {"sweep", "driver", "stopped", "seconds", "cells"}
    assert said["driver"]["pid"] == str(driver.pid) and set(said["driver"]) == {"pid", "host", "since", "command"}
    assert driver.end() == 143 and driver.outcome()["hard"]


def test_asked_again_and_harder(tmp_path):
    driver = paused(tmp_path)
    call(tmp_path, "fake", "--timeout", "0", code=1)
    driver.wait_for(lambda: "stopping" in driver.said())
    call(tmp_path, "fake", "--timeout", "0.6", code=1)
    assert not driver.ended(), "asked twice is not asked hard"
    call(tmp_path, "fake", "--hard")
    assert driver.end() == 143 and driver.outcome()["hard"]


def test_before_any_trial(tmp_path):
    driver = paused(tmp_path, "building data")
    call(tmp_path, "fake")
    assert driver.end() == 143 and "before any trial" in driver.said()


@pytest.mark.parametrize("to", [None, Holder("1", "elsewhere", "long ago", "uscl sweep")])
def test_a_request_left_over_stops_no_later_start(tmp_path, to):
    plan = fake_plan(tmp_path, grid_specs())
    SweepFolder(plan.store_root, "fake").ask_to_stop("ada@elsewhere", to)
    driver = Forked(tmp_path)
    assert driver.end() == 0 and not driver.outcome()["by"]


def test_a_request_to_another_driver_is_not_obeyed(tmp_path):
    driver = paused(tmp_path)
    folder = SweepFolder(tmp_path / "store", "fake")
    folder.ask_to_stop("ada@elsewhere", Holder("1", "elsewhere", "long ago", "uscl sweep"))
    driver.go("in encoder")
    assert driver.end() == 0


def test_without_a_look_at_requests_nothing_stops(tmp_path, monkeypatch):
    """The tests above can fail."""
    monkeypatch.setattr(stop_orders, "_look", lambda *_: None)
    driver = paused(tmp_path)
    call(tmp_path, "fake", "--timeout", "0.5", code=1)
    driver.go("in encoder")
    assert driver.end() == 0


def test_an_unknown_sweep_names_those_there_are(tmp_path):
    Forked(tmp_path).end()
    result = CliRunner().invoke(uscl, ["stop", "fak", "--store", str(tmp_path / "store")], standalone_mode=False)
    assert "fak: no such sweep in the store" in str(result.exception) and "it has fake" in str(result.exception)
