"""A file that only grows, where nothing can be appended: kept in memory by its one writer and rewritten whole.

Events hold states only, so at a thousand cells such a file has a few MB. It is written by a thread, at most once a
second, and less often the larger it is: what goes over the network stays below `BYTES_PER_S` however long the sweep.
"""

from __future__ import annotations

import logging
import threading
from typing import ClassVar, Protocol

from uscl.errors import StoreError

EVERY_S = 1.0
BYTES_PER_S = 512 * 1024
"""Bounds the cost of rewriting: a file of 2 MB is written every 4 s."""

log = logging.getLogger(__name__)


class Whole(Protocol):
    """Where whole files are read and written."""

    def write(self, name: str, content: bytes) -> None:
        """Replace the file."""

    def read_if_there(self, name: str) -> bytes | None:
        """The bytes of the file, or None."""


class AppendedFile:
    """Lines of one file. What cannot be written stays in memory and goes with the next try."""

    _open: ClassVar[dict[str, AppendedFile]] = {}
    _opening: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, files: Whole, name: str) -> None:
        """Reads what is there already. StoreError where that fails."""
        self._files, self._name = files, name
        content = files.read_if_there(name) or b""
        # a torn last line must not swallow the next record
        self._content = bytearray(content if not content or content.endswith(b"\n") else content + b"\n")
        self._written = len(content)
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._more, self._closed = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name=f"growing {name}", daemon=True).start()

    @classmethod
    def of(cls, address: str, files: Whole, name: str) -> AppendedFile:
        """The one of this address in this process."""
        with cls._opening:
            if address not in cls._open:
                cls._open[address] = cls(files, name)
            return cls._open[address]

    @classmethod
    def close(cls, address: str) -> None:
        """Write what is left and forget the file. Lines that cannot be written now are lost; that is logged."""
        with cls._opening:
            growing = cls._open.pop(address, None)
        if growing is not None:
            growing._closed.set()
            growing._more.set()
            try:
                growing.write()
            except StoreError as error:
                log.warning("the last lines of %s are lost: %s", growing._name, error)

    def add(self, line: bytes) -> None:
        """Keep a line; the thread writes it."""
        with self._lock:
            self._content += line + b"\n"
        self._more.set()

    def write(self) -> None:
        """Write now what is new. StoreError where that fails; nothing is forgotten."""
        with self._writing:
            with self._lock:
                content = bytes(self._content)
            if len(content) != self._written:
                self._files.write(self._name, content)
                self._written = len(content)

    def _run(self) -> None:
        warned = False
        while not self._closed.is_set():
            self._more.wait()
            if self._closed.wait(max(EVERY_S, len(self._content) / BYTES_PER_S)):
                return
            self._more.clear()
            try:
                self.write()
            except StoreError as error:
                self._more.set()
                if not warned:
                    log.warning("%s; what is new in %s is kept until it answers", error, self._name)
                warned = True
