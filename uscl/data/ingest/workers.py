"""Do many pieces of work in processes of their own, one at a time each; a process that dies costs its piece only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from uscl.data.ingest.worker import READY
from uscl.errors import DataError

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Crash:
    """A process died over its piece of work."""

    reason: str


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    position: int = -1
    """Of the piece it works on."""


class _Crew(Generic[_Result]):
    """The processes under way, as a context: none is left behind."""

    def __init__(self, function: Callable[..., _Result], pieces: Sequence[tuple[Any, ...]], size: int) -> None:
        self._function, self._pieces, self._size = function, pieces, size
        self._next = 0
        self._busy: dict[Connection, _Worker] = {}

    def __enter__(self) -> _Crew[_Result]:
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._busy.values():
            worker.process.kill()
            worker.connection.close()
            worker.process.wait()

    def results(self) -> Iterator[tuple[int, _Result | Crash]]:
        """Each piece's position and result, as they are done."""
        while self._next < len(self._pieces) and len(self._busy) < self._size:
            self._give(_start())
        while self._busy:
            for connection in wait(list(self._busy)):
                worker = self._busy[connection]
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    yield self._bury(worker)
                    continue
                if answer == READY:
                    worker.ready = True
                    continue
                position = worker.position
                self._give(worker)  # before the result is looked at: nobody waits for that
                yield position, _result(answer)

    def _give(self, worker: _Worker) -> None:
        """The next piece, or the way home."""
        self._busy.pop(worker.connection, None)
        if self._next == len(self._pieces):
            worker.connection.close()
            worker.process.wait()
            return
        worker.position, self._next = self._next, self._next + 1
        self._busy[worker.connection] = worker
        try:
            worker.connection.send((self._function, self._pieces[worker.position]))
        except BrokenPipeError:
            return  # told by the next `recv`

    def _bury(self, worker: _Worker) -> tuple[int, Crash]:
        """Who died, over which piece; another takes its place. DataError where it never came to life."""
        code = worker.process.wait()
        if not worker.ready:
            del self._busy[worker.connection]
            raise DataError(f"a reading process does not start (exit code {code}); see its message above")
        position = worker.position
        del self._busy[worker.connection]
        worker.connection.close()
        if self._next < len(self._pieces):
            self._give(_start())
        return position, Crash(_cause(code))


def run_each(
    function: Callable[..., _Result], pieces: Sequence[tuple[Any, ...]], *, workers: int
) -> Generator[tuple[int, _Result | Crash], None, None]:
    """(position, `function(*pieces[position])`) of every piece, in the order in which they are done.

    In this process where `workers` is 0, else in so many others (each with one thread for OpenCV), which end with this
    one; then `function` must be found by its module's name. What it raises is raised here. Close the iterator to stop.
    """
    if workers == 0:
        for position, piece in enumerate(pieces):
            yield position, function(*piece)
        return
    with _Crew(function, pieces, workers) as crew:
        yield from crew.results()


def _result(answer: tuple[bool, Any]) -> Any:
    done, value = answer
    if not done:
        raise value
    return value


def _start() -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-P", "-m", "uscl.data.ingest.worker", str(theirs.fileno())]
        paths = os.pathsep.join(filter(None, sys.path))
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = os.environ | single | {"PYTHONPATH": paths}
        process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the parent alone, which then ends it
        )
    return _Worker(process, Connection(ours.detach()))


def _cause(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the process that read it was killed, as happens when memory runs out"
    what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process that read it crashed ({what})"
