"""A process that does one piece of work after another for `workers.run_each`; ends with its parent.

Started as `python -m uscl.data.ingest.worker DESCRIPTOR`, so that nothing of the parent's `__main__` runs again.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection

import cv2

READY = "ready"


def main() -> None:
    """Answer each (function, arguments) with (True, result) or (False, exception) until the parent is gone."""
    connection = Connection(int(sys.argv[1]))
    cv2.setNumThreads(1)
    _silence()
    try:
        connection.send(READY)
        while True:
            function, arguments = connection.recv()
            try:
                answer = (True, function(*arguments))
            except Exception as error:
                answer = (False, error)
            connection.send(answer)
    except (EOFError, OSError):
        return


def _silence() -> None:
    """What native decoders print goes nowhere; the terminal belongs to the progress line."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


if __name__ == "__main__":
    main()
