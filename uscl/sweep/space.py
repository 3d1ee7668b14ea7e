"""Whether the store has room for more: a low watermark, so that the sweep pauses before a write fails."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from uscl.errors import StoreError
from uscl.store.files import StoreFull, local_root
from uscl.store.roots import StoreRoot, open_files

LEAST_FREE_BYTES = 1024**3
LEAST_FREE_FRACTION = 0.02
"""Below the smaller of the two (of the file system) nothing new is handed out: a network's weights and its optimiser
state come to a few hundred MB per live trial."""

LOOK_S, PROBE_S = 2.0, 3.0
"""Seconds between two looks at the free space, and between two tries to write while the sweep is paused."""

CALM_S, LONGEST_WAIT_S = 120.0, 300.0

_PROBE = "space-probe"
_PROBE_BYTES = 256 * 1024


class SpaceWatch:
    """Looks at a store now and then. It never raises: what cannot be told counts as room enough."""

    def __init__(self, root: StoreRoot, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._next_s = 0.0
        self._paused = False
        self._wait_s = PROBE_S
        self._resumed_s = -CALM_S

    def shortage(self, *, paused: bool) -> str | None:
        """Why there is too little room; empty where there is enough, None where it is too early to look again.

        While the sweep is paused a file is written too: a quota that is used up does not show in the free space. A
        pause soon after the last one lasts twice as long: what a trial writes may be more than was free.
        """
        now = self._clock()
        if paused and not self._paused:
            again = now - self._resumed_s < CALM_S
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S) if again else PROBE_S
            self._next_s = now + self._wait_s
        self._paused = paused
        if now < self._next_s:
            return None
        self._next_s = now + (PROBE_S if paused else LOOK_S)
        found = low_space(self._root) or (_cannot_write(self._root) if paused else "")
        self._resumed_s = now if paused and not found else self._resumed_s
        return found


def low_space(root: StoreRoot) -> str:
    """`310 MB free of 250 GB`, where that is below the watermark; else empty. A bucket is never full."""
    try:
        usage = shutil.disk_usage(_existing(local_root(root)))
    except (OSError, StoreError):
        return ""
    if usage.free >= min(LEAST_FREE_BYTES, LEAST_FREE_FRACTION * usage.total):
        return ""
    return f"{_size(usage.free)} free of {_size(usage.total)}"


def _existing(path: Path) -> Path:
    return next((folder for folder in (path, *path.parents) if folder.exists()), path)


def _cannot_write(root: StoreRoot) -> str:
    files = open_files(root)
    try:
        files.write(_PROBE, bytes(_PROBE_BYTES))
        files.delete(_PROBE)
    except StoreFull as error:
        return str(error)
    except StoreError:  # another trouble, which has a policy of its own
        return ""
    return ""


def _size(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
