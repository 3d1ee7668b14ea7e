"""Real stages on a small phantom: shared = unshared, one worker = two, Ray = no Ray, bit for bit on a CPU."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

TEXT = """\
name: bits
recipe: demo
data: phantom
phantom: {patients: 8, clips_per_patient: 1, frames_per_clip: 8, labels_per_patient: 3, size: 32}
resources: {gpus_per_trial: 0}
fixed:
  image.size: 32
  encoder: {steps: 6, clips: 3}
  decoder: {steps: 4, clips: 3}
  finetune: {steps: 6, select_every: 3}
rows:
  - {label: baseline, temporal.polarity: none}
  - {temporal.polarity: positive, temporal.window: 3, temporal.stage: decoder}
grid:
  labels.fraction: [0.5, 1.0]
report: {rows: [temporal.polarity], columns: labels.fraction, values: [test/dsc, test/delta_snr]}
"""


def start(folder, *arguments):
    """`uscl ARGUMENTS`, started in a folder with bits.yaml."""
    folder.mkdir(exist_ok=True)
    (folder / "bits.yaml").write_text(TEXT)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "uscl.cli.main", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": path, "MLFLOW_TRACKING_URI": ""},
    )  # fmt: skip


def run(folder, *arguments):
    """`uscl ARGUMENTS`, run to its end; its output."""
    process = start(folder, *arguments)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


def outputs(store):
    """Stage -> hash of its weights, or of its rows; unshared copies must agree."""
    found = {}
    for path in sorted([*store.rglob("stages/*/*/*/weights.safetensors"), *store.rglob("stages/*/*/*/cases.parquet")]):
        if "progress" not in path.parts:
            found.setdefault(path.parts[-4:-2], set()).add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert all(len(hashes) == 1 for hashes in found.values()), "copies of one stage differ"
    return {stage: hashes.pop() for stage, hashes in found.items()}


def table(folder):
    """The report of a run."""
    return (folder / "runs" / "sweeps" / "bits" / "report" / "table.txt").read_text()


def test_shared_unshared_one_worker_two_workers_and_no_ray(tmp_path):
    one, two, unshared, alone = (tmp_path / name for name in ("one", "two", "unshared", "alone"))
    run(two, "sweep", "bits.yaml", "--workers", "2", "--no-mlflow")
    reference = outputs(two / "runs")
    assert len(reference) == 1 + 2 + 4 + 8
    run(one, "sweep", "bits.yaml", "--workers", "1", "--no-mlflow")
    assert outputs(one / "runs") == reference
    run(unshared, "sweep", "bits.yaml", "--no-share", "--no-mlflow")
    assert outputs(unshared / "runs") == reference
    assert len(list((unshared / "runs").rglob("stages/encoder/*"))) == 4, "each cell trained its own"
    run(alone, "trial", "bits.yaml", "4")
    own = outputs(alone / "runs")
    assert len(own) == 5 and own.items() <= reference.items()
    assert table(one) == table(two) == table(unshared)
