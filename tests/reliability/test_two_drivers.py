"""T6: two drivers at once, real processes, with flock and without it."""

import errno
import fcntl
import functools
import os
import signal
import socket

import pytest
from drain_driver import Forked
from sweep_fakes import journal

from uscl.errors import LeaseHeld
from uscl.store import lease, sweeps
from uscl.store.sweeps import SweepFolder

ALONE = {"polarities": ("none",), "fractions": (0.1, 1.0)}
"""2 cells on one encoder and decoder: one trial stands still, the other cell waits."""


@pytest.fixture(params=["flock", "counter"])
def kind(request, monkeypatch, no_fsync):
    """With flock as the file system has it, and as one without it; here and in the processes that are forked."""
    if request.param == "counter":

        def refuse(descriptor, operation):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        acquire = functools.partial(lease.acquire_lease, beat_s=0.05, stale_s=1.0)
        monkeypatch.setattr(sweeps, "acquire_lease", acquire)
        monkeypatch.setattr(sweeps, "find_holder", functools.partial(lease.find_holder, beat_s=0.3))
    return request.param


def test_the_second_is_told_who_runs_it_and_exits_4(tmp_path, kind):
    first = Forked(tmp_path, pause_at="in encoder", grid=ALONE)
    first.hit("in encoder")
    folder = SweepFolder(tmp_path / "store", "fake")
    before = journal(tmp_path)
    second = Forked(tmp_path, grid=ALONE)
    assert second.end() == LeaseHeld.exit_code == 4
    (told,) = [line for line in second.said().splitlines() if "LeaseHeld" in line]
    assert f"by process {first.pid} on {socket.gethostname()} since 2" in told and "pytest" in told
    assert journal(tmp_path) == before, "the second has touched nothing"
    assert (folder.driver().pid, folder.driver().host) == (str(first.pid), socket.gethostname())
    first.signal(signal.SIGTERM)
    first.wait_for(lambda: "stopping" in first.said())
    first.go("in encoder")
    assert first.end() == 143 and folder.driver() is None
    third = Forked(tmp_path, grid=ALONE)
    assert third.end() == 0 and third.outcome()["finished"] == 2


def test_what_a_killed_driver_leaves_is_taken_over(tmp_path, kind):
    first = Forked(tmp_path, pause_at="in encoder")
    first.hit("in encoder")
    first.signal(signal.SIGKILL)
    assert first.end() == -9
    folder = SweepFolder(tmp_path / "store", "fake")
    assert folder.holder().pid == str(first.pid), "its name is still there"
    assert folder.driver() is None, "and nobody drives"
    assert Forked(tmp_path).end() == 0
    published = [line[1:] for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 16


def test_of_two_that_start_at_once_one_runs_it(tmp_path, kind):
    both = [Forked(tmp_path), Forked(tmp_path)]
    codes = sorted(driver.end() for driver in both)
    assert codes in ([0, 4], [0, 0]), "0, 0 where one had ended before the other began"
    published = [line[1:] for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 16


def test_looking_who_runs_it_refuses_nobody(tmp_path):
    """A start is not turned away by a `uscl status` in the same moment."""
    folder = SweepFolder(tmp_path, "fake")
    folder.acquire_lease().release()
    descriptor = os.open(folder.path / "lease.json", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    with pytest.raises(LeaseHeld):
        folder.acquire_lease()
    times, sleep = [], lease.time.sleep

    def looked(seconds):
        times.append(seconds)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        sleep(0)

    lease.time.sleep = looked
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        folder.acquire_lease().release()
    finally:
        lease.time.sleep = sleep
        os.close(descriptor)
    assert len(times) == 1
