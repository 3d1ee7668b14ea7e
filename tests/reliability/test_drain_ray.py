"""T3 where a real Ray, a real phantom and real processes have their own ideas about signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_fakes import fake_plan, grid_specs, journal
from sweep_processes import Driver
from test_dispatch import play, start

from uscl.store.sweeps import SweepFolder
from uscl.sweep.outlook import to_do
from uscl.sweep.stop_orders import stop_driver

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHEET = """\
name: slow-phantom
recipe: demo
data: phantom
phantom: {patients: 400, clips_per_patient: 2, frames_per_clip: 40, size: 96}
resources: {gpus_per_trial: 0}
grid: {seed: [0]}
"""


def assert_free_and_goes_on(root):
    """The lease is free, nothing of the driver is left, and the next start finishes what it stopped."""
    plan = fake_plan(root, grid_specs(), steps=4)
    folder = SweepFolder(plan.store_root, "fake")
    with folder.acquire_lease():
        names = {path.name for path in folder.path.iterdir()}
        assert not any(name.startswith(("session", "tune-", "live", "stop", ".")) for name in names)
    play(start(plan))
    assert all(cell.finished for cell in to_do(plan))
    published = [line[1:] for line in journal(root) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 22


def test_while_ray_starts(tmp_path):
    """TERM, for which Ray has a handler of its own."""
    driver = Driver(tmp_path, script={"steps": 4})
    driver.wait_for(lambda: "say starting Ray on this machine" in driver.lines)
    time.sleep(1.0)  # into ray.init, which takes several seconds
    driver.signal(signal.SIGTERM)
    outcome = driver.end()
    assert (outcome["exit_code"], outcome["left"], outcome["saved"]) == (143, 6, 0), driver.lines
    assert any("before any trial" in line for line in driver.lines)
    assert not journal(tmp_path)
    assert_free_and_goes_on(tmp_path)


def interrupt(driver, folder):
    """Ctrl-C, which goes to the whole group of the terminal."""
    driver.signal(signal.SIGINT, group=True)
    return 130, "stopping: trials"


def ask(driver, folder):
    """`uscl stop`, once live.json shows what it would stop."""
    driver.wait_for(lambda: (folder.read_live() or {}).get("trials"))
    trial = folder.read_live()["trials"][0]
    assert trial["stage"] and trial["node"], "what runs where is there to be read"
    assert not stop_driver(folder, by="ada@desk", timeout_s=0.1).stopped
    return 143, "stopping, as ada@desk asked: trials"


@pytest.mark.parametrize(("point", "stop"), [("mid-checkpoint-write", interrupt), ("during evaluation", ask)])
def test_while_a_trial_saves_or_scores(tmp_path, point, stop):
    driver = Driver(tmp_path, script={"steps": 4, "step_s": 0.05, "pause_at": point})
    driver.wait_for((tmp_path / "dataset" / f"hit-{point}").exists)
    code, said = stop(driver, SweepFolder(tmp_path / "store", "fake"))
    driver.wait_for(lambda: any(line.startswith(f"say {said}") for line in driver.lines))
    (tmp_path / "dataset" / f"go-{point}").touch()
    outcome = driver.end()
    assert (outcome["exit_code"], outcome["failed"], outcome["hard"]) == (code, {}, False), driver.lines
    assert outcome["saved"] > 0
    assert_free_and_goes_on(tmp_path)


# ---- a phantom under way


@pytest.fixture
def building(tmp_path):
    """`uscl sweep` in a session of its own, rendering a phantom that takes minutes."""
    (tmp_path / "sheet.yaml").write_text(SHEET)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "uscl.cli.main", "sweep", "sheet.yaml", "--no-mlflow"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/data/.*.partial/frames*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def of_session(session):
    """Processes of a session that still live."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            alive.append(int(stat.parent.name))
    return alive


def assert_nothing_lives(session):
    """The renderers look for their driver once a second."""
    deadline = time.monotonic() + 20
    while left := of_session(session):
        assert time.monotonic() < deadline, f"processes outlive their driver: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_while_a_phantom_is_built(tmp_path, building, number, group):
    (os.killpg if group else os.kill)(building.pid, number)
    said, _ = building.communicate(timeout=60)
    assert building.returncode == 128 + number, said
    assert "stopping before any trial" in said and "Traceback" not in said
    assert not list((tmp_path / "runs" / "data").iterdir()), "half a phantom is none"
    assert_nothing_lives(building.pid)
    with SweepFolder(tmp_path / "runs", "slow-phantom").acquire_lease():
        pass


def test_a_killed_driver_leaves_no_renderers(building):
    assert len(of_session(building.pid)) > 1, "there are processes that render"
    building.kill()
    building.wait()
    assert_nothing_lives(building.pid)
