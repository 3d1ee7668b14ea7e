"""Density of near frames and curriculum of far ones: what is drawn, in any unit, in shuffled time, past duplicates."""

import numpy as np
import pytest
from test_batches import dataset_of, gaps, sampler

from uscl.data.batches import PairSampling
from uscl.data.curriculum import negative_range

LAST = PairSampling(window=2, curriculum="steps", steps=10)


def near_shares(density, *, batches=400, **options):
    """How often the near frame of a mid-clip anchor is 1, 2 and 3 frames away, window 3."""
    drawn = sampler(dataset_of(40, 40, **options), PairSampling(window=3, density=density), num_frames=3)
    found = []
    for step in range(batches):
        position = drawn.batch(step).position.reshape(-1, 3)
        inside = (position[:, 0] >= 6) & (position[:, 0] <= 33)
        found.append(np.abs(position[inside, 1] - position[inside, 0]))
    return np.bincount(np.concatenate(found).astype(int), minlength=4)[1:] / sum(map(len, found))


def test_decreasing_density_draws_gap_t_in_proportion_to_one_minus_t_over_t_max():
    """T = 4, the first distance past window 3: weights 3/4, 2/4, 1/4."""
    assert near_shares("decreasing") == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.06)
    assert near_shares("uniform") == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=0.06)


def test_the_clips_and_anchors_of_a_batch_do_not_depend_on_the_density():
    dataset = dataset_of(40, 30, 25)
    plain, dense = (
        sampler(dataset, PairSampling(window=3, density=density)).batch(5) for density in ("uniform", "decreasing")
    )
    assert (plain.clip == dense.clip).all()
    assert plain.rows[0] == dense.rows[0]  # the anchor of the first clip


@pytest.mark.parametrize("options", [{"density": "decreasing"}, {"curriculum": "steps"}, {"curriculum": "cosine"}])
@pytest.mark.parametrize("shuffled", [False, True])
def test_duplicates_are_never_drawn_and_shuffled_time_is_time(options, shuffled):
    dataset = dataset_of(30, 30, duplicate=(3, 4, 17))
    batches = sampler(dataset, PairSampling(window=3, shuffled=shuffled, steps=30, **options))
    rows, moved = [], 0
    for step in range(30):
        batch = batches.batch(step)
        found = gaps(batch)
        assert (found[:, 1] >= 1).all() and (found[:, 1] <= 3).all() and (found[:, 2:] > 3).all()
        rows.extend(batch.rows % 30)
        moved += int((batch.rows % 30 != batch.position).any())
    assert not {3, 4, 17} & set(rows)
    assert (moved > 0) == shuffled


@pytest.mark.parametrize(("step", "low", "high"), [(0, 20, 40), (3, 20, 40), (4, 10, 15), (7, 10, 15), (8, 3, 7)])
def test_far_frames_close_in_on_the_anchor(step, low, high):
    batches = sampler(dataset_of(100, 100, 100), LAST)
    found = gaps(batches.batch(step))[:, 2:]
    assert (found >= low).all() and (found <= high).all()
    assert batches.batch(step).far_range == pytest.approx(np.tile([low, high], (8, 1)))


@pytest.mark.parametrize(("unit", "window", "length"), [("ms", 80.0, 4000.0), ("fraction", 0.02, 1.0)])
def test_the_curriculum_is_in_fractions_of_the_clip_whatever_the_unit(unit, window, length):
    batches = sampler(dataset_of(100, 100), PairSampling(window=window, unit=unit, curriculum="cosine", steps=10))
    for step in range(10):
        low, high = negative_range("cosine", step / 10)
        found = gaps(batches.batch(step))[:, 2:] / length
        assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()


def test_where_the_window_covers_the_range_the_nearest_far_frames_are_drawn():
    """32 frames: the last range is 0.96 to 2.24 frames, inside a window of 5."""
    batches = sampler(dataset_of(32, 32), PairSampling(window=5, curriculum="steps", steps=10))
    batch = batches.batch(9)
    assert batch.short_clips == 0
    assert (gaps(batch)[:, 2:] == 6).all()


def test_a_batch_under_a_curriculum_is_a_function_of_seed_step_and_steps():
    dataset = dataset_of(100, 100)
    one, other = sampler(dataset, LAST), sampler(dataset, LAST)
    other.batch(3)
    assert (one.batch(8).rows == other.batch(8).rows).all()
    longer = sampler(dataset, PairSampling(window=2, curriculum="steps", steps=100))
    assert (longer.batch(8).far_range != one.batch(8).far_range).any()


def test_without_a_curriculum_a_batch_has_no_range():
    assert sampler(dataset_of(30, 30), PairSampling(window=3)).batch(0).far_range is None
    assert sampler(dataset_of(4, 4), LAST).batch(0).far_range is not None
