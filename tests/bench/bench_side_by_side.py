"""`uscl` against plain Ray Tune + OptunaSearch + MLflowLoggerCallback on the same fake grid, in one run.

`python tests/bench/bench_side_by_side.py`: 24 points on 8 pretrainings, stages of 0.1 s, two workers, MLflow in SQLite.
Once undisturbed, once with `kill -9` of the driver half way and the restart that each offers.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "sweep"), str(TESTS.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

from sweep_fakes import journal  # noqa: E402
from sweep_processes import Driver  # noqa: E402

CELLS, STEP_S, STEPS = 24, 0.02, 5
GRID = {"seeds": [0, 1, 2, 3]}
REPORTS = 200
"""Per stage, in the run that measures the cost of one."""
HALF = 40
"""Stages begun when the driver is killed."""


def runs_of(database: Path) -> Counter:
    """MLflow runs of trials by status; parents not counted."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, max_results=1000)
    return Counter(run.info.status for run in runs if "uscl.parent" not in run.data.tags)


class Plain:
    """The script of plain_ray.py."""

    name = "plain Ray + Optuna + MLflow"

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def begun(self) -> list[tuple[str, ...]]:
        """Stages begun, each with its point."""
        path = self.root / "trained.log"
        return [tuple(line.split(maxsplit=1)) for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, what: str = "run", *, reports: int = 0) -> subprocess.Popen:
        """The script, started; with `reports` a single trial that reports so often per stage and does nothing else."""
        work = [str(CELLS), str(STEP_S)] if not reports else ["1", "0", str(reports)]
        command = [sys.executable, str(TESTS / "bench" / "plain_ray.py"), str(self.root), what, *work]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def outcome(self, process: subprocess.Popen) -> str:
        """How it ended, in words."""
        output, _ = process.communicate(timeout=600)
        return "ended" if process.returncode == 0 else output.strip().splitlines()[-1][:90]

    def distinct(self) -> int:
        """Points whose last stage was begun."""
        return len({point for kind, point in self.begun() if kind == "evaluate/test"})

    def runs(self) -> Counter:
        """MLflow runs by status."""
        return runs_of(self.root / "mlflow.db")


class Uscl(Plain):
    """A fake sweep under `uscl`, with its mirror."""

    name = "uscl"

    def begun(self) -> list[tuple[str, ...]]:
        """Stages begun, each with its key."""
        return [(kind, key) for what, kind, key in journal(self.root) if what == "start"]

    def start(self, what: str = "run", *, reports: int = 0) -> subprocess.Popen:
        """The driver, started; the same command again is its restart."""
        script = {"steps": reports or STEPS, "step_s": 0 if reports else STEP_S, "save_every": reports or STEPS}
        grid = {"polarities": ["none"], "fractions": [1.0]} if reports else GRID
        self._driver = Driver(self.root, mirror=True, workers=2, grid=grid, script=script)
        return self._driver.process

    def outcome(self, process: subprocess.Popen) -> str:
        """How it ended, in words."""
        return "ended" if self._driver.end(600)["exit_code"] == 0 else "failed"

    def distinct(self) -> int:
        """Cells with both evaluations."""
        published = [kind for what, kind, _ in journal(self.root) if what == "publish"]
        return published.count("evaluate") // 2

    def runs(self) -> Counter:
        """MLflow runs by status."""
        return runs_of(self.root / "store" / "mlflow.db")


def timed(one: Plain, *, reports: int = 0) -> dict[str, float]:
    """An undisturbed run: from the first stage to the last, and all of it."""
    started = time.monotonic()
    process = one.start(reports=reports)
    while not one.begun():
        time.sleep(0.01)
    first = time.monotonic()
    assert one.outcome(process) == "ended"
    ended = time.monotonic()
    return {"in all": ended - started, "from the first stage": ended - first}


def killed(one: Plain) -> str:
    """Killed half way and started again: how that ended."""
    process = one.start()
    while len(one.begun()) < HALF:
        time.sleep(0.005)
    process.kill()
    process.wait()
    time.sleep(4)  # Ray's workers outlive the driver
    return one.outcome(one.start("restore"))


def row(name: str, show: Callable[[Plain], str], both: list[Plain]) -> None:
    """One line of the table."""
    print(f"{name:44}" + "".join(f"{show(one):>34}" for one in both), flush=True)


def main() -> None:
    """Both, undisturbed and killed; print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        quiet = [Plain(Path(scratch) / "plain"), Uscl(Path(scratch) / "uscl")]
        took = {one.name: timed(one) for one in quiet}
        row("", lambda one: one.name, quiet)
        row("seconds in all", lambda one: f"{took[one.name]['in all']:.1f}", quiet)
        row("stages trained", lambda one: str(len(one.begun())), quiet)
        row("different cells among them (of 24)", lambda one: str(one.distinct()), quiet)
        work = {one.name: len(one.begun()) * STEPS * STEP_S / 2 for one in quiet}
        over = {name: took[name]["from the first stage"] - work[name] for name in work}
        row("s beyond their own work, per trial", lambda one: f"{over[one.name] / CELLS:.3f}", quiet)
        row("s per different cell, in all", lambda one: f"{took[one.name]['in all'] / one.distinct():.2f}", quiet)
        talkative = [Plain(Path(scratch) / "plain-reports"), Uscl(Path(scratch) / "uscl-reports")]
        each = {one.name: timed(one, reports=REPORTS)["from the first stage"] / (5 * REPORTS) for one in talkative}
        row("ms per report, Ray's end in it", lambda one: f"{1000 * each[one.name]:.1f}", talkative)
        torn = [Plain(Path(scratch) / "plain-killed"), Uscl(Path(scratch) / "uscl-killed")]
        after = {one.name: killed(one) for one in torn}
        row("after kill -9 and restart", lambda one: after[one.name], torn)
        before = {one.name: len(one.begun()) for one in quiet}
        row("stages begun more than undisturbed", lambda one: str(len(one.begun()) - before[one.name]), torn)
        row("different cells at the end (of 24)", lambda one: str(one.distinct()), torn)
        row("MLflow runs by status", lambda one: json.dumps(dict(one.runs())), torn)


if __name__ == "__main__":
    main()
