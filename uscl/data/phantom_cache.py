"""The phantom in this machine's cache, for a store in a bucket: a function of its settings, so any copy will do."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from uscl.data.phantom import build_phantom, phantom_fingerprint
from uscl.spec.phantom import PhantomSpec
from uscl.store.roots import StoreRoot, cache_folder, data_folder

FINGERPRINT_DIGITS = 10


def phantom_folder(root: StoreRoot, fingerprint: str) -> Path:
    """Where the phantom of a store lies: in the store, or in this machine's cache where that is a bucket."""
    return data_folder(root) / f"phantom-{fingerprint[:FINGERPRINT_DIGITS]}"


def cached_phantom(spec: PhantomSpec, *, progress: Callable[[int, int], None] | None = None, workers: int = 1) -> Path:
    """The phantom in this machine's cache, built where it is missing; of several that want it at once one builds."""
    folder = cache_folder() / "data" / f"phantom-{phantom_fingerprint(spec)[:FINGERPRINT_DIGITS]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            build_phantom(spec, folder, progress=progress, workers=workers)
    finally:
        os.close(lock)
    return folder
