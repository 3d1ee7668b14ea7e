"""A resume point is damaged while no driver runs: the one before it is used, and the trial's log says so (T7)."""

import hashlib

import pytest
from abandoned import Start, check_each_stage_once
from sweep_fakes import fake_plan, grid_specs, steps_taken

from uscl.store import stages
from uscl.store.sweeps import SweepFolder

DAMAGES = {
    "truncated": lambda content: content[:-1],
    "zeroed": lambda content: bytes(len(content)),
    "flipped": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "empty": lambda content: b"",
}
FILES = ("metrics.parquet", "progress.json")
STEPS = 6


def interrupted(root):
    """A sweep of one cell, gone within its encoder; the plan and its resume points, oldest first."""
    plan = fake_plan(root, grid_specs(polarities=("none",), fractions=(1.0,)), steps=STEPS)
    start = Start(plan, slots=1)
    start.run(4)
    start.abandon()
    points = sorted((root / "store" / "stages" / "encoder").glob("*/progress/*/*"))
    assert [int(point.name) for point in points] == [3, 4]
    return plan, points


def resumed_after(root, plan):
    """The step after which the next start went on, and what the trial's log says of it."""
    before = len(steps_taken(root))
    assert Start(plan, slots=1).run()
    kind, _, step, _ = steps_taken(root)[before]
    assert kind == "encoder"
    logs = SweepFolder(plan.store_root, plan.identity).logs(plan.cells[0].plan.cell)
    return step - 1, logs[-1].read_text()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_previous_generation_is_used_and_the_log_says_so(tmp_path, damage, name):
    plan, points = interrupted(tmp_path)
    path = points[-1] / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    step, log = resumed_after(tmp_path, plan)
    assert step == 3
    assert f"resume point {points[-1]} is torn" in log
    check_each_stage_once(tmp_path, plan)


def test_both_generations_torn_begins_anew(tmp_path):
    plan, points = interrupted(tmp_path)
    for point in points:
        (point / "metrics.parquet").write_bytes(b"")
    step, log = resumed_after(tmp_path, plan)
    assert (step, log.count("is torn")) == (0, 2)
    check_each_stage_once(tmp_path, plan)


def test_an_untouched_one_is_used(tmp_path):
    plan, _ = interrupted(tmp_path)
    step, log = resumed_after(tmp_path, plan)
    assert step == 4 and "is torn" not in log


def test_without_its_sha256_it_would_be_noticed(tmp_path, monkeypatch):
    """All bytes have one hash: a torn file is taken for the one that was saved."""
    monkeypatch.setattr(stages, "_sha256", lambda content: hashlib.sha256(b"").hexdigest())
    with pytest.raises(AssertionError):
        test_the_previous_generation_is_used_and_the_log_says_so(tmp_path, "truncated", "metrics.parquet")
