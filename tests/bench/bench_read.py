"""How fast random batches of frames come from a warm memory-mapped dataset, and how much memory that takes.

    python tests/bench/bench_read.py [--gigabytes 2] [--folder FOLDER]

Builds a dataset of noise (kept in FOLDER where given), reads it once to warm the page cache, then random batches
of 64 frames of 192 x 192. Target: 10,000 frames/s or more, anonymous memory flat.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from uscl.data.dataset import Dataset, open_dataset
from uscl.data.writer import DatasetWriter

SIZE_PX, BATCH, CLIP_FRAMES, BATCHES = 192, 64, 200, 2000
TARGET_FRAMES_PER_S = 10_000


def build(path: Path, gigabytes: float) -> None:
    """A dataset of `gigabytes` of noise in clips of 200 frames."""
    rng = np.random.default_rng(0)
    clips = max(1, round(gigabytes * 1e9 / (SIZE_PX * SIZE_PX * CLIP_FRAMES)))
    duplicate = np.zeros(CLIP_FRAMES, bool)
    with DatasetWriter(path, name="bench", classes=(), size=SIZE_PX) as writer:
        for number in range(clips):
            frames = rng.integers(0, 256, (CLIP_FRAMES, SIZE_PX, SIZE_PX), dtype=np.uint8)
            writer.add_clip(frames, clip=f"c{number:04}", patient=f"p{number:04}", duplicate=duplicate)


def anonymous_mb() -> float:
    """Anonymous memory of this process, MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def measure(dataset: Dataset) -> None:
    """Print rate, and anonymous memory before and after."""
    rows = sum(clip.num_frames for clip in dataset.index.clips)
    for start in range(0, rows, 1024):
        dataset.frames(np.arange(start, min(start + 1024, rows)))
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, rows, BATCH) for _ in range(BATCHES)]
    before, begin = anonymous_mb(), time.perf_counter()
    for draw in draws:
        dataset.frames(draw)
    rate = BATCHES * BATCH / (time.perf_counter() - begin)
    ratio = rate / TARGET_FRAMES_PER_S
    print(f"{rows} frames of {SIZE_PX} px, batches of {BATCH}: {rate:,.0f} frames/s = {ratio:.1f} x target")
    print(f"anonymous memory {before:.1f} MB before, {anonymous_mb():.1f} MB after {BATCHES} batches")


def main() -> None:
    """Build where needed, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = (options.folder or Path(scratch)) / "bench-read"
        if not path.exists():
            build(path, options.gigabytes)
        measure(open_dataset(path))


if __name__ == "__main__":
    main()
