"""Frames of a clip as they come, stacked: in memory while they are few, on disk once they are many."""

from __future__ import annotations

import tempfile
import weakref
from typing import IO

import numpy as np

_BLOCK = 64
SPILL_BYTES = 64 << 20
"""Frames kept in memory; a longer clip goes through an unnamed temporary file, so that memory stays flat."""


class FrameStack:
    """Grows by one (S, S) uint8 frame at a time."""

    def __init__(self, size: int) -> None:
        self._block = np.empty((_BLOCK, size, size), np.uint8)
        self._full: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, frame: np.ndarray) -> None:
        """Copy one frame (S, S). OSError where the temporary file cannot grow."""
        place = self._count % _BLOCK
        self._block[place] = frame
        self._count += 1
        if place == _BLOCK - 1:
            self._flush()

    def stacked(self) -> np.ndarray:
        """(T, S, S) uint8, to be changed at will; nothing can be appended afterwards."""
        rest = self._block[: self._count % _BLOCK]
        if self._file is None:
            return np.concatenate([*self._full, rest])
        self._file.write(np.ascontiguousarray(rest).data)
        self._file.flush()
        frames = np.memmap(self._file, np.uint8, "r+", shape=(self._count, *self._block.shape[1:]))
        self._file.close()  # the map keeps the pages
        return frames

    def _flush(self) -> None:
        """Put the full block away."""
        if self._file is None and self._count * self._block[0].nbytes <= SPILL_BYTES:
            self._full.append(self._block.copy())
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the stack)
            weakref.finalize(self, self._file.close)
            for block in self._full:
                self._file.write(block.data)
            self._full = []
        self._file.write(self._block.data)
