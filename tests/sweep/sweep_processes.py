"""Starts `sweep_driver.py` in a process and session of its own, watches what it prints, and ends it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent


class Driver:
    """A running driver."""

    script = "sweep_driver.py"

    def __init__(self, root: Path, *, env=None, **options):
        paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        env = dict(env or os.environ, PYTHONPATH=os.pathsep.join(path for path in paths if path), OMP_NUM_THREADS="1")
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / self.script), str(root), json.dumps(options)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout as stream:
            self.lines += [""]
            for line in stream:
                self.lines.append(line.rstrip("\n"))

    def wait_for(self, condition, timeout_s=90.0):
        """Until the condition holds; the driver must not end before."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "\n".join(["timed out", *self.lines])
            assert self.process.poll() is None, "\n".join(["the driver ended", *self.lines])
            time.sleep(0.01)

    def wait_for_event(self, number=1):
        """Until so many events were printed."""
        self.wait_for(lambda: sum(line.startswith("event") for line in self.lines) >= number)

    def signal(self, number, *, group=False):
        """Send a signal, as a terminal would where `group`."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def kill(self):
        """kill -9 of the driver alone; its Ray is left to notice."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join(20)

    def end(self, timeout_s=120.0):
        """The outcome, once the process has ended."""
        self.process.wait(timeout_s)
        self._reader.join(20)
        try:
            return json.loads(self.lines[-1])
        except (json.JSONDecodeError, IndexError):
            raise AssertionError("\n".join(["no outcome", *self.lines])) from None
