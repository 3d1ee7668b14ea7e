"""A driver in a forked process, over fake plans, with a Ray and a Tuner of our own: real signals, files and leases in
a tenth of a second. What Ray itself does about signals is met in test_runner.py and in the slow tests here.
"""

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

from sweep_fakes import NAME, PAUSE_S, fake_plan, grid_specs

from uscl.sweep import fit as tuning
from uscl.sweep import runner
from uscl.sweep.order import work
from uscl.sweep.queue import Turn
from uscl.sweep.study import study_of

GRID = {"polarities": ("none", "positive"), "fractions": (0.1, 1.0)}
"""4 cells on 2 encoders and 2 decoders."""
SCRIPT = {"steps": 4, "step_s": 0.01}


class Threads:
    """Plays Tune: a thread per slot."""

    def __init__(self, dispatch, slots):
        self.dispatch, self.slots = dispatch, slots

    def fit(self):
        threads = [threading.Thread(target=self.slot, args=(n,), daemon=True) for n in range(self.slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def slot(self, number):
        for count in range(10**6):
            trial = f"{number}-{count}"
            order = self.dispatch.take(trial)
            if order is Turn.FINISHED:
                return
            if order is Turn.WAIT:
                time.sleep(0.01)
                continue
            for event in work(order):
                self.dispatch.event(trial, event, node="here")


def pause(root, point, wanted):
    """As a trial's script does: stop there until told to go, or until a signal raises."""
    if point == wanted:
        (root / "dataset" / f"hit-{point}").touch()
        until = time.monotonic() + PAUSE_S
        while time.monotonic() < until and not (root / "dataset" / f"go-{point}").exists():
            time.sleep(0.01)


def fake_ray(root, pause_at):
    """As much of Ray as a driver touches, its handler of TERM included."""
    utils = SimpleNamespace(set_sigterm_handler=lambda handler: __import__("signal").signal(15, handler))
    private = SimpleNamespace(services=SimpleNamespace(ConsolePopen=object), utils=utils)

    def init(**_):
        utils.set_sigterm_handler(lambda number, frame: sys.exit(number))
        pause(root, "starting Ray", pause_at)

    (root / "dataset" / "ray").unlink(missing_ok=True)
    ray = SimpleNamespace(init=init, shutdown=lambda: (root / "dataset" / "ray").touch(), _private=private)
    sys.modules |= {"ray": ray, "ray._private": private}


def run(root, *, pause_at="", grid=GRID, name="fake", unguarded=None, **script):
    """Body of the process: run the sweep, and print how it ended."""
    plan = fake_plan(root, grid_specs(**grid), name=name, **(SCRIPT | script | {"pause_at": pause_at}))
    fake_ray(root, pause_at)
    runner.have_data = lambda plan, say: pause(root, "building data", pause_at)
    tuning._tuner = lambda dispatch, placement, scratch: Threads(dispatch, placement.workers)
    if unguarded:
        unguarded()
    options = runner.RunOptions(workers=2, run_trial=NAME)
    outcome = runner.run_study(study_of([plan]), lambda: [], options=options, say=lambda line: print(line, flush=True))
    (sweep,) = outcome.sweeps
    said = {what: len(getattr(sweep, what)) for what in ("finished", "held", "left", "saved")}
    said |= {"hard": outcome.hard, "by": outcome.stopped_by, "exit_code": outcome.exit_code}
    print(json.dumps(said), flush=True)
    return outcome.exit_code


class Forked:
    """The process."""

    def __init__(self, root: Path, **options):
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.output = root, root / f"output-{time.monotonic_ns()}"
        self.pid = os.fork()
        if self.pid:
            return
        code = 70
        try:
            os.setsid()
            sys.stdout = sys.stderr = self.output.open("w", buffering=1)
            code = run(root, **options)
        except SystemExit as error:
            code = error.code
        except BaseException as error:
            traceback.print_exc()
            code = getattr(error, "exit_code", 70)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def wait_for(self, condition, timeout_s=30.0):
        """Until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"timed out; it said:\n{self.said()}"
            time.sleep(0.005)

    def hit(self, point):
        """Until it stands at the point to pause at."""
        self.wait_for((self.root / "dataset" / f"hit-{point}").exists)

    def go(self, point):
        """Let it go on from there."""
        (self.root / "dataset" / f"go-{point}").touch()

    def signal(self, number):
        """Send a signal."""
        os.kill(self.pid, number)

    def ended(self):
        """Whether it has; `code` is then its exit code, or minus the signal that killed it."""
        if not hasattr(self, "code"):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return hasattr(self, "code")

    def end(self, timeout_s=30.0):
        """Its exit code, once it has ended."""
        self.wait_for(self.ended, timeout_s)
        return self.code

    def said(self):
        """All it printed."""
        return self.output.read_text() if self.output.exists() else ""

    def outcome(self):
        """What it printed last."""
        return json.loads(self.said().splitlines()[-1])
