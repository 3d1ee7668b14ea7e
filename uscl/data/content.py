"""Hashes of what a dataset holds: of a clip or case as stages read it, and of finished files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np


def clip_content(frames: np.ndarray, *, times_ms: np.ndarray | None, duplicate: np.ndarray, sector: np.ndarray) -> str:
    """sha256 of everything a stage may read of a clip."""
    return digest(frames, b"" if times_ms is None else times_ms, duplicate, sector)


def digest(*parts: np.ndarray | bytes) -> str:
    """sha256 over arrays, with type and shape, and bytes, with their lengths."""
    total = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        shape = b"" if isinstance(part, bytes) else f"{part.dtype}{part.shape}".encode()
        total.update(f"{len(content)}:".encode() + shape)
        total.update(content)
    return total.hexdigest()


def sync_and_hash(path: Path) -> dict[str, Any]:
    """The entry of a finished file in dataset.json: sha256 and bytes, once all of it is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())  # before the folder gets its name: a power cut leaves all of it or none
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}
