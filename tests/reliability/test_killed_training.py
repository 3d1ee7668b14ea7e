"""Real stages on a small phantom: 2N steps at once equal N steps, `kill -9` and the rest, bit for bit (T14)."""

import time

import pytest
from test_same_bits import TEXT, outputs, run, start

pytestmark = pytest.mark.slow

STEPS = ("encoder.steps=24", "decoder.steps=24", "finetune.steps=24", "resources.progress_every_s=0.01")
CELL = ("trial", "bits.yaml", "4", *(word for step in STEPS for word in ("--set", step)))


def killed_within(folder, kind):
    """A trial, killed once a stage of this kind has saved its progress; whether it was within that stage."""
    process = start(folder, *CELL)
    deadline = time.monotonic() + 200
    try:
        while not list((folder / "runs").glob(f"stages/{kind}/*/progress/*/*/progress.json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    return not list((folder / "runs").glob(f"stages/{kind}/*/manifest.json"))


def test_killed_in_each_stage_and_gone_on_to_the_same_bits(tmp_path):
    assert "progress_every_s" not in TEXT
    run(tmp_path / "whole", *CELL)
    for kind in ("encoder", "decoder", "finetune"):
        assert killed_within(tmp_path / "killed", kind), f"{kind} was over before the kill"
    run(tmp_path / "killed", *CELL)
    assert outputs(tmp_path / "killed" / "runs") == outputs(tmp_path / "whole" / "runs")
