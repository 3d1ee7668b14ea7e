"""The log of one attempt: a file in the sweep's folder, or, for a store in a bucket, one here that is put there."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from uscl.errors import StoreError
from uscl.store.roots import open_files, store_root

UPLOAD_S = 30.0
"""Between two uploads of a log under way: what a killed trial may miss of its last lines."""


class TrialLog(Protocol):
    """Takes the lines of an attempt."""

    def write(self, line: str) -> None:
        """Add a line, with the time of day."""

    def keep(self, *, last: bool) -> None:
        """See to it that others can read what there is, now and then or, `last`, now."""


class Printed:
    """Lines to stdout."""

    def write(self, line: str) -> None:
        """Print it."""
        print(line)

    def keep(self, *, last: bool) -> None:
        """Nothing to keep."""


class Written:
    """Lines of a file, uploaded where it lies elsewhere than where it is read."""

    def __init__(self, stream: TextIO, upload: Callable[[], None] | None = None) -> None:
        """`upload` puts the whole file where it is read; its StoreError is a warning."""
        self._stream, self._upload = stream, upload
        self._next_s = time.monotonic() + UPLOAD_S

    def write(self, line: str) -> None:
        """Add a line, with the time of day."""
        self._stream.write(f"{time.strftime('%H:%M:%S')} | {line}\n")

    def keep(self, *, last: bool) -> None:
        """Upload it, where that is due."""
        if self._upload is None or not (last or time.monotonic() >= self._next_s):
            return
        self._next_s = time.monotonic() + UPLOAD_S
        try:
            self._upload()
        except StoreError as error:
            self.write(f"this log could not be kept: {error}")


@contextmanager
def open_log(address: str, head: str) -> Iterator[TrialLog]:
    """The log at this address, begun with `head` and joined to `logging`; an empty address logs to stdout."""
    if not address:
        yield Printed()
        return
    where = store_root(address)
    if isinstance(where, Path):
        where.parent.mkdir(parents=True, exist_ok=True)
        with where.open("a", encoding="utf-8", buffering=1) as stream:
            yield from _joined(Written(stream), stream, head)
        return
    with tempfile.NamedTemporaryFile("w+", prefix="uscl-", suffix=".log", encoding="utf-8", buffering=1) as stream:
        there, here = open_files(where, patience_s=0.0), Path(stream.name)
        log = Written(stream, lambda: there.write("", here.read_bytes()))
        log.keep(last=True)
        yield from _joined(log, stream, head)


def _joined(log: Written, stream: TextIO, head: str) -> Iterator[Written]:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)s | %(message)s", "%H:%M:%S"))
    logging.getLogger("uscl").addHandler(handler)
    try:
        stream.write(f"{head}\n")
        yield log
    finally:
        logging.getLogger("uscl").removeHandler(handler)


def log_tail(address: str, *, lines: int, width: int = 500) -> list[str]:
    """The last lines of a log, each cut to `width`; none where it cannot be read."""
    try:
        content = open_files(address, patience_s=0.0).read_if_there("") or b""
    except StoreError:
        return []
    return [line[:width] for line in content.decode(errors="replace").splitlines()[-lines:]]
