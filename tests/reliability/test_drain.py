"""T3: a signal, whenever it comes, drains: progress saved, lease released, right exit code, nothing torn.

And the next start goes on from the saved step. The last tests take the guards away, one by one: the first then fails.
"""

import re
import signal
import sys
import time
from contextlib import nullcontext

import pytest
from drain_driver import GRID, SCRIPT, Forked
from sweep_fakes import fake_plan, grid_specs, journal
from test_dispatch import Recorder, play, start

from uscl.records import Progress, StageRef
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.sweep import cluster, order, runner
from uscl.sweep import fit as tuning
from uscl.sweep.outlook import to_do
from uscl.sweep.signals import StopRequests

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
IDLE = ("building data", "starting Ray")
TRAINING = ("in encoder", "in decoder", "in finetune", "mid-checkpoint-write", "during evaluation")


pytestmark = pytest.mark.usefixtures("no_fsync")


def cases(pairs, *marks):
    """(point, signal) as named parameters."""
    return [pytest.param(point, number, marks=marks, id=f"{point}-{number.name}") for point, number in pairs]


EACH_ONCE = cases(
    [
        *((point, signal.SIGTERM) for point in (*IDLE, *TRAINING)),
        *zip(("starting Ray", "in encoder", "mid-checkpoint-write"), SIGNALS[1:], strict=True),
    ]
)
EVERY = {(point, number) for point in (*IDLE, *TRAINING) for number in SIGNALS}
THE_REST = cases(sorted(EVERY - {tuple(case.values) for case in EACH_ONCE}), pytest.mark.slow)


def stop_at(root, point, number, **options):
    """A driver that got the signal at that point, and has ended."""
    driver = Forked(root, pause_at=point, **options)
    driver.hit(point)
    driver.signal(number)
    driver.wait_for(lambda: "stopping" in driver.said() or point in IDLE or driver.ended() or "unguarded" in options)
    driver.go(point)
    driver.end()
    return driver


def assert_drained(driver, number, *, trained):
    """Its exit code and words; what it left in the store; and that the next start goes on from there."""
    assert driver.code == 128 + number, driver.said()
    outcome = driver.outcome()
    assert outcome["left"] + outcome["finished"] == 4 and outcome["left"] > 0 and outcome["held"] == 0
    assert "stopping" in driver.said() and not outcome["hard"]
    plan = fake_plan(driver.root, grid_specs(**GRID), **SCRIPT)
    folder = SweepFolder(plan.store_root, "fake")
    with folder.acquire_lease():
        litter = [path.name for path in folder.path.glob("*") if re.match(r"session|tune-|stop|live|\.", path.name)]
        assert not litter, "all that belongs to a running driver is gone"
    assert_nothing_torn(driver.root)
    assert_next_start_goes_on(plan, driver.root, trained=trained)


def assert_nothing_torn(root):
    """Every file in the store is whole, and every resume point but what a kill would leave."""
    store = StageStore(root / "store")
    assert not list((root / "store").rglob(".*")) and not (root / "store" / "torn").exists()
    for kind in ("encoder", "decoder", "finetune", "evaluate"):
        for ref in store.refs(kind):
            for name in store.manifest(ref).files:
                store.read(ref, name)
    for point in (root / "store").glob("stages/*/*/progress/*/*"):
        assert (point / "progress.json").exists(), f"{point} has no list"


def assert_next_start_goes_on(plan, root, *, trained):
    """Drained stages are taken up at the step behind the saved one, and nothing is published twice."""
    events = SweepFolder(plan.store_root, "fake").read_events()
    drained = {(e["kind"], e["key"]): e["step"] for e in events if e["event"] == "Drained"}
    assert bool(drained) == trained, "a trial under way says that it saved"
    for stage, step in drained.items():
        saved = StageStore(root / "store").load_progress(StageRef(*stage))
        assert (saved.step if saved else 0) >= step
    recorder = Recorder()
    play(start(plan, recorder))
    assert all(cell.finished for cell in to_do(plan))
    first = {}
    for event in (e.event for e in recorder.events if isinstance(e.event, Progress)):
        first.setdefault((event.kind, event.key), event.step)
    for stage, step in drained.items():
        assert first.get(stage, SCRIPT["steps"]) == min(step + 1, SCRIPT["steps"]), "goes on from the saved step"
    published = [line[1:] for line in journal(root) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 16


@pytest.mark.parametrize(("point", "number"), [*EACH_ONCE, *THE_REST])
def test_a_signal_drains(tmp_path, point, number):
    driver = stop_at(tmp_path, point, number)
    assert_drained(driver, number, trained=point in TRAINING)
    if point == "building data":
        assert not (tmp_path / "dataset" / "ray").exists(), "Ray was never started"
    else:
        assert (tmp_path / "dataset" / "ray").exists(), "Ray was shut down"


def test_a_cell_that_waits_for_anothers_stage_is_left_and_saves_nothing(tmp_path):
    grid = {"polarities": ("none",), "fractions": (0.1, 1.0)}
    driver = stop_at(tmp_path, "in encoder", signal.SIGTERM, grid=grid)
    assert driver.code == 143
    assert (driver.outcome()["left"], driver.outcome()["saved"]) == (2, 1)


def test_a_second_signal_ends_it_though_a_trial_hangs(tmp_path):
    driver = Forked(tmp_path, pause_at="in encoder")
    driver.hit("in encoder")
    driver.signal(signal.SIGINT)
    driver.wait_for(lambda: "stopping" in driver.said())
    time.sleep(0.3)  # nearer ones count as one
    driver.signal(signal.SIGTERM)
    assert driver.end(timeout_s=8) == 130, "the first names the code"
    assert driver.outcome()["hard"] and "stopped at once" in driver.said()
    SweepFolder(tmp_path / "store", "fake").acquire_lease().release()


def hanging(*_, **__):
    """A step of the driver that never comes back, and minds no flag."""
    print("hangs", flush=True)
    while True:
        time.sleep(0.1)


def test_a_second_signal_ends_it_though_the_driver_hangs(tmp_path):
    def hang():
        runner.fit = hanging
        sys.modules["uscl.sweep.signals"].HARD_WITHIN_S = 0.2

    driver = Forked(tmp_path, unguarded=hang)
    driver.wait_for(lambda: "hangs" in driver.said())
    driver.signal(signal.SIGTERM)
    time.sleep(0.3)
    assert not driver.ended(), "one signal waits"
    driver.signal(signal.SIGTERM)
    assert driver.end(timeout_s=8) == 143


# ---- each guard taken away: the test above then fails


def without_handlers():
    """Signals do what they do to any process."""
    StopRequests.install = lambda self: None


def with_rays_handler():
    """TERM while Ray starts is Ray's."""
    cluster._without_its_handler = nullcontext


def without_a_drain():
    """The driver takes note of the signal and lets everything go on."""
    tuning._why_stop = lambda *_: ""


def without_telling_trials():
    """Nothing new is handed out, but trials under way are not told."""
    order.stop_flag = lambda path: lambda: False


@pytest.mark.parametrize(
    ("point", "guard"),
    [
        ("in encoder", without_handlers),
        ("starting Ray", without_handlers),
        ("starting Ray", with_rays_handler),
        ("in finetune", without_a_drain),
        ("during evaluation", without_telling_trials),
        ("mid-checkpoint-write", without_telling_trials),
    ],
)
def test_without_its_guard_the_test_of_a_signal_fails(tmp_path, point, guard):
    driver = stop_at(tmp_path, point, signal.SIGTERM, unguarded=guard)
    with pytest.raises(AssertionError):
        assert_drained(driver, signal.SIGTERM, trained=point in TRAINING)


def test_with_trials_that_ignore_the_flag_the_test_of_a_signal_fails(tmp_path):
    driver = stop_at(tmp_path, "in finetune", signal.SIGTERM, deaf=True)
    with pytest.raises(AssertionError, match="says that it saved"):
        assert_drained(driver, signal.SIGTERM, trained=True)
