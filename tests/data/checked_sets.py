"""Datasets with one thing wrong, for the tests of `uscl data check`; no two of their pictures are alike by chance."""

import cv2
import numpy as np

from uscl.data.checks.check_dataset import check_dataset
from uscl.data.dataset import open_dataset
from uscl.data.writer import DatasetWriter

SPLIT = {"seed": 0, "validation_fraction": 0.2, "test_fraction": 0.2}


def scene(rng, height=96, width=96):
    """Blobs as large as organs and speckle over them, uint8, never black."""
    blobs = cv2.resize(rng.random((6, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(30 + 170 * blobs + 30 * rng.random((height, width)), 3, 250).astype(np.uint8)


def film(rng, frames=20, size=64):
    """(T, S, S) uint8: a scene that drifts unevenly and turns into another one."""
    first, last = (scene(rng, 3 * size, 3 * size).astype(float) for _ in range(2))
    steps = 2 * size - np.abs(rng.integers(1, 4, (frames, 2)).cumsum(axis=0) % (4 * size) - 2 * size)
    places = [(slice(down, down + size), slice(right, right + size)) for down, right in steps]
    mixed = [first[p] + n / frames * (last[p] - first[p]) for n, p in enumerate(places)]
    return np.stack(mixed).astype(np.uint8)


def box(height=96, width=96, *, top=20, left=20, side=30):
    """(1, H, W) bool: a square."""
    mask = np.zeros((1, height, width), bool)
    mask[0, top : top + side, left : left + side] = True
    return mask


def write_cases(writer, rng, *, count=10, masks=None, images=None, **settings):
    """Cases `c0`, `c1`, ... of patients `p0`, `p1`, ...; what `settings` name is called with the number."""
    for number in range(count):
        image = (images or {}).get(number, scene(rng))
        planes = (masks or {}).get(number, box(*image.shape, side=28 + number % 5))
        options = {"spacing_mm": (0.2, 0.2), "sector": image > 40} | {n: of(number) for n, of in settings.items()}
        options["sector"] = options["sector"] | planes.any(axis=0) if "sector" not in settings else options["sector"]
        writer.add_case(image, planes, case=f"c{number}", **({"patient": f"p{number}"} | options))


def make_set(path, rng, fill=write_cases, *, classes=("organ",), size=64, **settings):
    """A dataset that `fill(writer, rng)` fills, open."""
    with DatasetWriter(path, name="set", classes=classes, size=size, **settings) as writer:
        fill(writer, rng)
    return open_dataset(path)


def findings_of(dataset, **split):
    """What the check finds, by kind."""
    return {finding.check: finding for finding in check_dataset(dataset, **(SPLIT | split))}
