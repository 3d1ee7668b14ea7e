"""How far an import is, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


class FrameMeter:
    """Counts files and frames of an import, and passes on how many frames it reads a second."""

    def __init__(self, progress: Progress, *, done: int, total: int) -> None:
        self._progress, self._done, self._total = progress, done, total
        self._frames, self._begun = 0, time.monotonic()
        progress("clips", done, total)

    def add(self, num_frames: int) -> None:
        """One more file, with so many frames."""
        self._done += 1
        self._frames += num_frames
        rate = self._frames / max(1e-6, time.monotonic() - self._begun)
        self._progress(f"clips ({rate:,.0f} frames/s)", self._done, self._total)
