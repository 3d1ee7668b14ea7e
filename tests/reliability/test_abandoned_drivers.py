"""A driver is gone at any turn of its sweep, and the next start finishes it (T1); shared stages have one builder (T13).

The slow tests kill real processes; here the same is played through in one process at every turn there is. Each guard is
then taken away, to see that these tests would notice.
"""

from collections import Counter
from dataclasses import replace

import pytest
from abandoned import Start, check_each_stage_once, check_lost_steps
from sweep_fakes import fake_plan, grid_specs, journal

from uscl.store.stages import StageStore
from uscl.sweep import study
from uscl.sweep.outlook import Survey, queue_cells

SAVE_EVERY = 2
SCRIPT = {"steps": 5, "save_every": SAVE_EVERY}


def abandoned_again_and_again(root, *, every, seed=0):
    """A sweep of 4 cells whose driver is gone after every so many turns, until one start has nothing left to do."""
    plan = fake_plan(root, grid_specs(fractions=(0.5, 1.0)), **SCRIPT)
    starts = 0
    while True:
        start = Start(plan, seed=seed + starts)
        if start.run(every):
            return plan, starts
        start.abandon()
        starts += 1
        assert starts < 200, "no start gets further than the one before"


@pytest.mark.parametrize("every", [8, 13, 21, 34])
def test_every_cell_once_and_no_more_lost_than_since_the_last_save(tmp_path, every):
    plan, starts = abandoned_again_and_again(tmp_path, every=every)
    assert starts > 1
    check_each_stage_once(tmp_path, plan)
    check_lost_steps(tmp_path, at_most=starts * 2 * (SAVE_EVERY - 1))


@pytest.mark.parametrize("turn", range(1, 60, 5))
def test_gone_once_at_any_turn(tmp_path, turn):
    plan = fake_plan(tmp_path, grid_specs(fractions=(0.5, 1.0)), **SCRIPT)
    start = Start(plan)
    start.run(turn)
    start.abandon()
    assert Start(plan, seed=1).run()
    check_each_stage_once(tmp_path, plan)
    check_lost_steps(tmp_path, at_most=2 * (SAVE_EVERY - 1))


def _forget_what_is_published(monkeypatch):
    monkeypatch.setattr(StageStore, "has", lambda self, ref: False)
    monkeypatch.setattr(study, "survey", lambda cells, root: Survey(frozenset(), frozenset()))


def _forget_resume_points(monkeypatch):
    monkeypatch.setattr(StageStore, "load_progress", lambda self, ref: None)


def _two_winners(monkeypatch):
    """Both publish: the manifest of the first is written over."""
    monkeypatch.setattr(StageStore, "has", lambda self, ref: False)
    monkeypatch.setattr(StageStore, "manifest", lambda self, ref: None)


@pytest.mark.parametrize("remove", [_forget_what_is_published, _forget_resume_points, _two_winners])
def test_without_the_guard_it_would_be_noticed(tmp_path, monkeypatch, remove):
    remove(monkeypatch)
    with pytest.raises(AssertionError):
        test_every_cell_once_and_no_more_lost_than_since_the_last_save(tmp_path, 13)


# ---- shared stages


def racing(root, *, seed):
    """Eight slots over eight cells of one encoder; its builder is killed while it trains."""
    plan = fake_plan(root, grid_specs(polarities=("none",), fractions=[n / 10 for n in range(1, 9)]), **SCRIPT)
    start = Start(plan, slots=8, seed=seed)
    start.run(3)
    builders = list(start.live)
    start.kill_worker(builders[0])
    assert start.run()
    return plan, builders


@pytest.mark.parametrize("seed", range(4))
def test_eight_racers_have_one_builder_and_another_when_it_is_killed(tmp_path, seed):
    plan, builders = racing(tmp_path, seed=seed)
    assert len(builders) == 1, "one builds, seven wait"
    check_each_stage_once(tmp_path, plan)
    begun = Counter(kind for what, kind, _ in journal(tmp_path) if what == "start")
    assert begun == {"encoder": 2, "decoder": 1, "finetune": 8, "evaluate": 16}, "the killed encoder was begun twice"


def test_without_claims_it_would_be_noticed(tmp_path, monkeypatch):
    """Each cell's stages under names of its own: the queue no longer sees that they are one."""

    def apart(queued):
        """A queue's cell with its own name in every link."""
        trained, evaluated = (
            [f"{queued.cell}/{link}" for link in links] for links in (queued.trained, queued.evaluated)
        )
        return replace(queued, trained=tuple(trained), evaluated=tuple(evaluated))

    monkeypatch.setattr(study, "queue_cells", lambda cells: [apart(queued) for queued in queue_cells(cells)])
    with pytest.raises(AssertionError):
        test_eight_racers_have_one_builder_and_another_when_it_is_killed(tmp_path, 0)
