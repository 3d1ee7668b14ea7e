"""A whole small sweep file for tests, and one changed in one place."""

from __future__ import annotations

from pathlib import Path

from uscl.spec.reader import load_sweep
from uscl.spec.sweep import SweepSpec

GOOD = """\
name: small
recipe: demo
data: phantom
rows:
  - {contrast.loss: infonce, temporal.polarity: positive}
grid:
  seed: [0]
"""


def load_text(folder: Path, text: str, *, sets: tuple[str, ...] = (), **options: str) -> SweepSpec:
    """The sweep of a file `x.yaml` with this text."""
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return load_sweep(path, sets=sets, **options)
