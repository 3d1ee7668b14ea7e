"""The start commands of cluster.yaml, executed on loopback: a head with MLflow, and workers.

Rule of what is replaced: `ray stop` is left out (it would end every Ray of this machine, also those of others), and
the USCL_... variables are set, whose defaults the file itself names. `ray` and `python` are found on PATH, as on a
node. All that was started carries a folder of its own in its environment, and is ended by its process id.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
HEAD, FIRST_WORKER = "127.0.0.2", 3
"""Loopback addresses, but not 127.0.0.1: Ray replaces that one by the machine's address in the network."""


def cluster_file() -> dict:
    """cluster.yaml as written."""
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Launched:
    """What `ray up` would have started; a context manager that ends all of it."""

    def __init__(self, workers: int = 1, **env: str):
        # short: Ray's sockets lie below, and their paths have 107 characters
        self.folder = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
        self.ray_port, self.mlflow_port = free_port(), free_port()
        self.num_workers = workers
        self.env = self._environment() | env

    def _environment(self) -> dict[str, str]:
        home, programs = self.folder / "home", self.folder / "bin"
        (home / ".ray").mkdir(parents=True)
        programs.mkdir()
        (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
        for name, module in (("ray", "-m ray.scripts.scripts"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            (programs / name).chmod(0o755)
        paths = [str(ROOT / "tests" / "sweep"), str(ROOT)]
        return os.environ | {
            "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(paths),
            "RAY_TMPDIR": str(self.folder), "RAY_HEAD_IP": HEAD, "USCL_RAY_PORT": str(self.ray_port),
            "USCL_MLFLOW": str(self.folder / "mlflow"), "USCL_MLFLOW_PORT": str(self.mlflow_port),
            "USCL_AUTOSCALING": "", "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def __enter__(self):
        try:
            document = cluster_file()
            self._run(document["head_start_ray_commands"], HEAD, "head", f"--ray-client-server-port={free_port()}")
            for number in range(self.num_workers):
                self.add_worker(number)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exception):
        self.end()

    def add_worker(self, number: int) -> None:
        """Execute the worker's start commands, with one CPU."""
        commands = cluster_file()["worker_start_ray_commands"]
        self._run(commands, f"127.0.0.{FIRST_WORKER + number}", f"worker-{number}", "--num-cpus=1")

    def _run(self, commands, address, name, *more) -> None:
        started = f"--node-ip-address={address} --object-store-memory=100000000 --disable-usage-stats"
        env = self.env | {"USCL_RAY_START": " ".join([started, *more]), "USCL_NODE_NAME": name}
        for command in commands:
            if command == "ray stop":
                continue
            # as Ray's command runner: a bash of its own for each command
            with (self.folder / f"{name}.log").open("ab") as log:
                subprocess.run(["bash", "-c", command], env=env, stdout=log, stderr=log, check=True, timeout=90)

    def said(self, name: str) -> str:
        """What a node's start commands printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def pids(self, name: str | None = None) -> list[int]:
        """Processes started here, or those of one node."""
        marks = [f"RAY_TMPDIR={self.folder}".encode()] + ([f"USCL_NODE_NAME={name}".encode()] if name else [])
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    environment = (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if all(mark in environment for mark in marks):
                    found.append(int(entry.name))
        return found

    def kill(self, name: str | None = None) -> None:
        """kill -9 of a node, or of everything."""
        for _ in range(50):
            pids = self.pids(name)
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)

    def end(self) -> None:
        """Everything, and its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
