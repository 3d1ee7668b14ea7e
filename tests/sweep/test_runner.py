"""The runner with a real Ray, over trials of milliseconds."""

import signal
import time

import pytest
from sweep_fakes import journal
from sweep_processes import Driver

from uscl.store.sweeps import SweepFolder

pytestmark = pytest.mark.slow

ALL = {"encoder": 2, "decoder": 2, "finetune": 6, "evaluate": 12}


def publications(root):
    return [line[1:] for line in journal(root) if line[0] == "publish"]


def test_a_sweep_under_ray_then_nothing_to_do_without_ray(tmp_path):
    first = Driver(tmp_path, broken=True).end()
    assert first["trained"] == ALL and first["finished"] == 6 and first["exit_code"] == 0
    assert first["ray"] and not first["torch"], "the driver needs no torch on a machine without a GPU"
    starts = [line[1:] for line in journal(tmp_path) if line[0] == "start"]
    assert len(starts) == len(set(starts)) == 22
    again = Driver(tmp_path)
    started = time.monotonic()
    assert again.end() == first | {"trained": {}, "ray": False}
    assert time.monotonic() - started < 30, "an idle run waits for nothing"
    logs = SweepFolder(tmp_path / "store", "fake").path / "logs"
    assert len(list(logs.iterdir())) == 6


def test_dead_processes_are_tried_again_and_bugs_are_not(tmp_path):
    faults = {
        "none 0.1": "kill once in finetune",
        "none 0.5": "exit once in evaluate/val",
        "none 1.0": "error in finetune",
    }
    faults |= {f"positive {fraction}": "kill always in encoder" for fraction in (0.1, 0.5, 1.0)}
    outcome = Driver(tmp_path, script={"faults": faults}).end()
    assert (outcome["finished"], outcome["held"], outcome["exit_code"]) == (2, 4, 1)
    assert sorted(outcome["failed"].values()) == ["error", "lost"]
    kept = [line for line in SweepFolder(tmp_path / "store", "fake").read_events() if line["event"] == "Failed"]
    assert sorted(line["failure"] for line in kept) == ["error"] + 5 * ["lost"], "three deaths of the shared encoder"
    assert len(publications(tmp_path)) == len(set(publications(tmp_path)))


@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGHUP, True, 129),
        (signal.SIGUSR1, False, 138),
    ],
)
def test_a_signal_drains_and_the_same_command_goes_on(tmp_path, number, group, code):
    script = {"steps": 40, "step_s": 0.1}
    driver = Driver(tmp_path, script=script)
    driver.wait_for(lambda: len(journal(tmp_path)) >= 2)
    driver.signal(number, group=group)
    outcome = driver.end()
    assert (outcome["exit_code"], outcome["left"], outcome["hard"], outcome["failed"]) == (code, 6, False, {})
    folder = SweepFolder(tmp_path / "store", "fake")
    assert "Drained" in {line["event"] for line in folder.read_events()}
    with folder.acquire_lease():
        assert not list(folder.path.glob("session-*"))
    resumed = Driver(tmp_path, script={"steps": 40}).end()
    assert resumed["finished"] == 6 and len(publications(tmp_path)) == 22


def test_a_second_signal_ends_at_once_and_the_next_start_knows(tmp_path):
    driver = Driver(tmp_path, script={"steps": 2, "step_s": 15.0})
    driver.wait_for(lambda: len(journal(tmp_path)) >= 2)
    driver.signal(signal.SIGINT)
    driver.wait_for(lambda: any("stopping" in line for line in driver.lines))
    time.sleep(0.5)  # nearer ones count as one
    driver.signal(signal.SIGINT)
    started = time.monotonic()
    outcome = driver.end()
    assert outcome["hard"] and outcome["exit_code"] == 130
    assert time.monotonic() - started < 12, "did not wait for a step of 15 s"
    after = driver.lines[next(n for n, line in enumerate(driver.lines) if "stopping" in line) + 1 :]
    assert after[0] == "say stopped at once; what is in the store stays, run again to go on"
    assert len(after) == 2, "Ray has no word after that, and looks for no other Ray"
    assert Driver(tmp_path).end()["finished"] == 6


def test_a_second_driver_is_refused_and_told_who_holds_the_sweep(tmp_path):
    first = Driver(tmp_path, script={"steps": 50, "step_s": 0.1})
    first.wait_for(lambda: len(journal(tmp_path)) >= 1)
    second = Driver(tmp_path, script={"steps": 50, "step_s": 0.1})
    second.process.wait(60)
    second._reader.join(10)
    assert "LeaseHeld" in second.lines[-1] and str(first.process.pid) in second.lines[-1]
    first.signal(signal.SIGINT)
    first.end()


def test_timeout_sends_its_signal_to_ray_too_and_the_trials_still_save(tmp_path):
    driver = Driver(tmp_path, script={"steps": 200, "step_s": 0.1})
    driver.wait_for(lambda: len(journal(tmp_path)) >= 2)
    driver.signal(signal.SIGTERM)
    driver.signal(signal.SIGTERM, group=True)  # timeout(1) does both
    outcome = driver.end()
    assert not outcome["hard"] and outcome["exit_code"] == 143
    assert outcome["saved"] == 2 and outcome["left"] == 6, "as two trials were under way"
    assert not any("rpc" in line or "raylet" in line for line in driver.lines)


def test_a_machine_or_an_address_that_will_not_do_leaves_nothing_behind(tmp_path):
    for options in ({"require_gpu": True}, {"address": "127.0.0.1:1"}):
        driver = Driver(tmp_path, **options)
        driver.process.wait(60)
        driver._reader.join(10)
        assert "ClusterError" in driver.lines[-1] and not (tmp_path / "store").exists()
