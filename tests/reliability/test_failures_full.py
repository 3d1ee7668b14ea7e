"""T4: a full disk pauses the sweep. Nothing is handed out, counted or lost, and it goes on when there is room."""

import json
import shutil
import subprocess
from collections import namedtuple

import pytest
from sweep_fakes import fake_plan, grid_specs, journal
from sweep_processes import Driver
from test_dispatch import play, start

from uscl.records import Failed
from uscl.store.files import Files, StoreFull
from uscl.store.sweeps import SweepFolder
from uscl.sweep import space
from uscl.sweep.order import work
from uscl.sweep.queue import CellState, Turn
from uscl.sweep.space import SpaceWatch, low_space

FULL = {f"{p} {f}": "full while told so in finetune" for p in ("none", "positive") for f in (0.1, 0.5, 1.0)}


def run_out(dispatch, trial):
    """Play one trial until it fails for want of room."""
    for event in work(dispatch.take(trial)):
        dispatch.event(trial, event, node="here")
    return event


def test_a_trial_that_finds_no_room_pauses_the_sweep_and_counts_for_nothing(tmp_path):
    plan = fake_plan(tmp_path, grid_specs(), faults=FULL)
    dispatch = start(plan)
    (tmp_path / "dataset" / "full").touch()
    for number in range(5):
        assert run_out(dispatch, f"{number}").failure == "full"
        assert "no space left" in dispatch.paused
        assert dispatch.take("other") is Turn.WAIT, "also with nothing live: it is no end"
        dispatch.resume()
    assert not dispatch.failures and not dispatch.cells_in(CellState.HELD)
    (tmp_path / "dataset" / "full").unlink()
    play(dispatch)
    assert len(dispatch.cells_in(CellState.FINISHED)) == 6
    kept = [line["event"] for line in SweepFolder(plan.store_root, "fake").read_events()]
    assert kept.count("Paused") == kept.count("Resumed") == 5
    published = [line for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 22


def test_live_trials_go_on_while_the_sweep_is_paused_and_a_drain_ends_it(tmp_path):
    dispatch = start(fake_plan(tmp_path, grid_specs()))
    live = work(dispatch.take("1"))
    dispatch.pause("310 MB free of 250 GB")
    assert dispatch.take("2") is Turn.WAIT
    for event in live:
        dispatch.event("1", event, node="here")
    assert len(dispatch.cells_in(CellState.FINISHED)) == 1
    assert dispatch.take("2") is Turn.WAIT
    dispatch.drain()
    assert dispatch.take("2") is Turn.FINISHED


def test_a_pause_with_nothing_left_to_hand_out_keeps_nobody_waiting(tmp_path):
    dispatch = start(fake_plan(tmp_path, grid_specs()))
    play(dispatch)
    dispatch.pause("full")
    assert dispatch.take("last") is Turn.FINISHED


def test_the_history_waits_for_room_and_comes_in_order(tmp_path, monkeypatch):
    plan = fake_plan(tmp_path, grid_specs())
    dispatch = start(plan)
    append, full = SweepFolder.append_event, [True]

    def appending(folder, record):
        if full[0]:
            raise StoreFull("events.jsonl: no space left")
        append(folder, record)

    monkeypatch.setattr(SweepFolder, "append_event", appending)
    dispatch.take("1")
    dispatch.started("1", node="here")
    dispatch.gone("1", Failed("full", "no space left", ""))
    assert SweepFolder(plan.store_root, "fake").read_events() == []
    full[0] = False
    dispatch.resume()
    kept = SweepFolder(plan.store_root, "fake").read_events()
    assert [line["event"] for line in kept] == ["Started", "Paused", "Failed", "Resumed"]


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("total", "free", "low"),
    [(250e9, 0.9e9, True), (250e9, 1.2e9, False), (30e6, 0.5e6, True), (30e6, 1e6, False), (0, 0, False)],
)
def test_the_watermark_fits_the_disk(tmp_path, monkeypatch, total, free, low):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(total, total - free, free))
    assert bool(low_space(tmp_path / "not" / "there" / "yet")) is low


def test_a_bucket_is_never_full():
    assert low_space("s3://bucket/store") == ""


def test_the_watch_looks_now_and_then_and_waits_longer_where_a_pause_did_not_help(tmp_path, monkeypatch):
    now = [0.0]
    watch = SpaceWatch(tmp_path, clock=lambda: now[0])
    assert watch.shortage(paused=False) == ""
    assert watch.shortage(paused=False) is None, "too early"

    def pause_s():
        """How long a pause lasts though there is room."""
        began = now[0]
        while watch.shortage(paused=True) is None:
            now[0] += 0.1
        watch.shortage(paused=False)
        return round(now[0] - began)

    assert [pause_s() for _ in range(4)] == [3, 6, 12, 24]
    now[0] += 1_000
    assert pause_s() == 3, "that was long ago"
    assert list(tmp_path.iterdir()) == [], "the probe is removed"


def test_a_quota_shows_only_when_something_is_written(tmp_path, monkeypatch):
    def refused(files, name, content):
        raise StoreFull(f"{name}: no space left (Disk quota exceeded)")

    now = [0.0]
    watch = SpaceWatch(tmp_path, clock=lambda: now[0])
    monkeypatch.setattr(Files, "write", refused)
    watch.shortage(paused=True)
    now[0] += space.PROBE_S
    assert "quota" in watch.shortage(paused=True)


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 30 MB; where we may not mount, the test is skipped."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(path):
    """Take all the room there is."""
    with path.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(64 * 1024)):
                pass
        except OSError:
            pass


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_pauses_and_goes_on(small_disk):
    driver = Driver(small_disk, script={"steps": 10, "step_s": 0.1})
    driver.wait_for(lambda: len(journal(small_disk)) >= 4)
    fill(small_disk / "ballast")
    driver.wait_for(lambda: any("PAUSED" in line for line in driver.lines))
    driver.wait_for(lambda: True)
    (small_disk / "ballast").unlink()
    outcome = driver.end()
    assert (outcome["finished"], outcome["held"], outcome["failed"], outcome["exit_code"]) == (6, 0, {}, 0)
    said = [line for line in driver.lines if "PAUSED" in line or "space again" in line]
    assert len(said) == 2 and "goes on" in said[1], said
    kept = [line["event"] for line in SweepFolder(small_disk / "store", "fake").read_events()]
    assert kept.count("Paused") == kept.count("Resumed") == 1
    assert kept.count("CellFinished") == 6


@pytest.mark.slow
def test_a_signal_ends_a_paused_sweep_as_any_other(small_disk):
    driver = Driver(small_disk, script={"steps": 5, "step_s": 0.05})
    driver.wait_for(lambda: len(journal(small_disk)) >= 2)
    fill(small_disk / "ballast")
    driver.wait_for(lambda: any("PAUSED" in line for line in driver.lines))
    driver.signal(15)
    outcome = driver.end()
    assert (outcome["exit_code"], outcome["hard"], outcome["held"]) == (143, False, 0), json.dumps(outcome)
    (small_disk / "ballast").unlink()
    assert Driver(small_disk).end()["finished"] == 6
