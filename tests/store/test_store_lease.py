"""One driver per sweep, and the lease is free again however its holder ended (T6)."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from uscl.errors import LeaseHeld, StoreError
from uscl.store.lease import acquire_lease, find_holder
from uscl.store.strict_json import encode_json
from uscl.store.sweeps import SweepFolder

HOLD = """
import sys, time
from uscl.store.sweeps import SweepFolder
lease = SweepFolder(sys.argv[1], "temporal").acquire_lease()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_driver_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(LeaseHeld) as caught:
        SweepFolder(tmp_path, "temporal").acquire_lease()
    assert f"by process {holder.pid} on {socket.gethostname()} since 2" in str(caught.value)
    assert caught.value.exit_code == 4
    SweepFolder(tmp_path, "another").acquire_lease().release()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_free_after_its_holder_died(tmp_path, holder, end):
    holder.send_signal(end)
    holder.wait()
    with SweepFolder(tmp_path, "temporal").acquire_lease():
        pass


def test_it_is_held_within_and_free_after_the_with_block(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    with folder.acquire_lease() as lease:
        with pytest.raises(LeaseHeld, match=f"by process {os.getpid()} on"):
            folder.acquire_lease()
        lease.release()
        lease.release()
        folder.acquire_lease().release()
    assert (folder.path / "lease.json").read_bytes() == b""


def test_a_forked_child_does_not_keep_it(tmp_path, monkeypatch):
    folder, copies, flock = SweepFolder(tmp_path, "temporal"), [], fcntl.flock

    def forking(descriptor, operation):
        flock(descriptor, operation)
        if not copies:
            copies.append(os.dup(descriptor))  # what a fork leaves in the child

    monkeypatch.setattr(fcntl, "flock", forking)
    folder.acquire_lease().release()
    folder.acquire_lease().release()
    os.close(copies[0])


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "sweeps").write_text("")
    with pytest.raises(StoreError, match="cannot take the lease at: Not a directory"):
        SweepFolder(tmp_path, "temporal").acquire_lease()


# ---- without flock: a counter


@pytest.fixture
def without_flock(monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def take(path, stale_s=0.6):
    return acquire_lease(path, sweep="temporal", beat_s=0.05, stale_s=stale_s)


def test_a_moving_counter_holds_it(tmp_path, without_flock):
    path = tmp_path / "lease.json"
    with take(path), pytest.raises(LeaseHeld, match=f"by process {os.getpid()} on"):
        take(path, stale_s=5.0)
    start = time.monotonic()
    take(path, stale_s=30.0).release()
    assert time.monotonic() - start < 5.0  # given back: nobody need watch it


def test_a_counter_that_stands_still_is_taken_only_when_stale(tmp_path, without_flock):
    path = tmp_path / "lease.json"
    path.write_bytes(encode_json({"pid": 1, "host": "gone", "since": "then", "token": "x", "counter": 7}))
    start = time.monotonic()
    take(path).release()
    assert time.monotonic() - start >= 0.6


def test_of_two_that_take_a_stale_one_at_once_one_has_it(tmp_path, without_flock, monkeypatch):
    path = tmp_path / "lease.json"
    sleep = time.sleep

    def rival(seconds):
        path.write_bytes(encode_json({"pid": 1, "host": "rival", "since": "now", "token": "other", "counter": 0}))
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", rival)
    with pytest.raises(LeaseHeld, match="by process 1 on rival"):
        take(path)


def test_one_that_slept_does_not_touch_its_successors_lease(tmp_path, without_flock, caplog):
    path = tmp_path / "lease.json"
    slept = take(path)
    path.write_bytes(encode_json({"pid": 7, "host": "next", "since": "now", "token": "other", "counter": 0}))
    time.sleep(0.2)
    assert "the lease was taken over" in caplog.text
    slept.release()
    assert b"next" in path.read_bytes()


# ---- who holds it, asked without taking it


def test_looking_finds_the_holder_and_takes_nothing(tmp_path, holder):
    folder = SweepFolder(tmp_path, "temporal")
    found = folder.driver()
    assert (found.pid, found.host) == (str(holder.pid), socket.gethostname()) and found == folder.holder()
    assert str(found).startswith(f"process {holder.pid} on ")
    holder.kill()
    holder.wait()
    assert folder.driver() is None and folder.holder() == found, "its name stays; nobody lives behind it"
    assert SweepFolder(tmp_path, "never").driver() is None and not (tmp_path / "sweeps" / "never").exists()


def test_a_holder_whose_name_was_lost_is_one(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    with folder.acquire_lease():
        (folder.path / "lease.json").write_bytes(b"")
        assert folder.driver() is not None
    assert folder.driver() is None


def test_without_flock_a_moving_counter_is_a_holder_and_a_still_one_none(tmp_path, without_flock):
    path = tmp_path / "lease.json"
    with take(path):
        assert find_holder(path, beat_s=0.2).pid == str(os.getpid())
    assert find_holder(path, beat_s=0.2) is None
    path.write_bytes(encode_json({"pid": 1, "host": "gone", "since": "then", "token": "x", "counter": 7}))
    assert find_holder(path, beat_s=0.1) is None
