"""Clip-structured batches, and grey levels as network input."""

from types import SimpleNamespace

import numpy as np
import pytest

from uscl.data.batches import ClipSampler, PairSampling, grey_percentiles, normalise, resize


def dataset_of(*lengths, duplicate=(), step_ms=40.0):
    """A dataset of clips of these lengths, all of patient p0, p1, ...; `duplicate` frames in each."""
    table, first = {}, 0
    for number, length in enumerate(lengths):
        flags = np.isin(np.arange(length), duplicate)
        times = np.arange(length) * step_ms
        table[f"c{number}"] = SimpleNamespace(first_row=first, num_frames=length, times_ms=times, duplicate=flags)
        first += length
    clips = [SimpleNamespace(clip=clip, patient=f"p{number}") for number, clip in enumerate(table)]
    return SimpleNamespace(clip_table=table, index=SimpleNamespace(clips=clips))


def sampler(dataset, sampling, *, num_clips=2, num_frames=4, seed=0):
    clips = list(dataset.clip_table)
    return ClipSampler(dataset, clips, num_clips=num_clips, num_frames=num_frames, sampling=sampling, seed=seed)


def gaps(batch, num_frames=4):
    """Distances of each frame from its clip's anchor, clip by clip."""
    position = batch.position.reshape(-1, num_frames)
    return np.abs(position - position[:, :1])


def test_a_batch_holds_an_anchor_a_near_frame_and_far_frames():
    batches = sampler(dataset_of(40, 30, 25), PairSampling(window=3, guard=2))
    for step in range(50):
        found = gaps(batches.batch(step))
        assert (found[:, 1] >= 1).all() and (found[:, 1] <= 3).all()
        assert (found[:, 2:] >= 5).all()


def test_clips_of_a_batch_differ_and_rows_belong_to_them():
    dataset = dataset_of(40, 30, 25)
    for step in range(20):
        batch = sampler(dataset, PairSampling(window=3)).batch(step)
        first, second = batch.clip.reshape(2, 4)
        assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]
        starts = np.array([0, 40, 70])[batch.clip]
        assert (batch.rows == starts + batch.position).all()
        assert (batch.patient == batch.clip).all()


def test_a_batch_is_a_function_of_seed_and_step():
    dataset = dataset_of(40, 30, 25)
    one, other = (sampler(dataset, PairSampling(window=3)) for _ in range(2))
    other.batch(0)
    assert (one.batch(7).rows == other.batch(7).rows).all()
    assert (one.batch(7).rows != one.batch(8).rows).any()
    assert (one.batch(7).rows != sampler(dataset, PairSampling(window=3), seed=1).batch(7).rows).any()


def test_without_a_window_frames_are_drawn_uniformly():
    drawn = np.concatenate(
        [sampler(dataset_of(20, 20), PairSampling()).batch(step).position for step in range(400)]
    )  # fmt: skip
    counts = np.bincount(drawn.astype(int), minlength=20)
    assert counts.sum() == 3200 and counts.min() > 100 and counts.max() < 230


def test_a_clip_too_short_for_the_window_is_drawn_uniformly_and_counted():
    batch = sampler(dataset_of(4, 40), PairSampling(window=5)).batch(0)
    assert batch.short_clips == 1


def test_duplicates_are_never_drawn():
    batches = sampler(dataset_of(12, 12, duplicate=(3, 7)), PairSampling(window=2))
    positions = np.concatenate([batches.batch(step).position for step in range(60)])
    assert not set(positions) & {3.0, 7.0}


def test_windows_in_milliseconds_and_fractions():
    ms = sampler(dataset_of(40, 40), PairSampling(window=100, unit="ms")).batch(3)
    assert (gaps(ms)[:, 1] <= 100).all() and (gaps(ms)[:, 2:] > 100).all()
    fraction = sampler(dataset_of(40, 40), PairSampling(window=0.26, unit="fraction")).batch(3)
    assert (gaps(fraction)[:, 1] <= 0.26).all() and (gaps(fraction)[:, 2:] > 0.26).all()


def test_shuffled_time_permutes_positions_within_the_clip():
    dataset = dataset_of(30, 30)
    batches = sampler(dataset, PairSampling(window=3, shuffled=True))
    seen = {}
    for step in range(200):
        batch = batches.batch(step)
        for row, position in zip(batch.rows, batch.position, strict=True):
            assert seen.setdefault(row, position) == position
    rows = np.array(sorted(seen))
    first = np.array([seen[row] for row in rows if row < 30])
    assert sorted(first) == list(range(30)) and (first != np.arange(30)).any()


def test_percentiles_are_those_of_the_definition():
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    low, high = grey_percentiles(frames)
    flat = frames.reshape(5, -1)
    assert low.ravel() * 255 == pytest.approx(np.percentile(flat, 1, axis=1, method="inverted_cdf"))
    assert high.ravel() * 255 == pytest.approx(np.percentile(flat, 99, axis=1, method="inverted_cdf"))


@pytest.mark.parametrize("norm", ["minmax", "zscore", "none"])
def test_a_black_frame_gives_zeros(norm):
    assert (normalise(np.zeros((1, 16, 16), np.uint8), size=16, norm=norm) == 0).all()


def test_minmax_is_not_clipped_and_spans_the_percentiles():
    frame = np.full((1, 20, 20), 100, np.uint8)
    frame[0, 0, :2], frame[0, 10:] = (0, 255), 200
    normalised = normalise(frame, size=20, norm="minmax")
    assert normalised[0, 5, 5] == 0 and normalised[0, 15, 5] == pytest.approx(1)
    assert normalised.min() < 0 and normalised.max() > 1


def test_frames_are_reduced_by_area():
    frame = np.zeros((1, 8, 8), np.uint8)
    frame[0, ::2] = 200
    assert (resize(frame, 4) == 100).all()


def test_an_anchor_with_both_kinds_of_frames_is_found_wherever_there_is_one():
    """8 frames, d = 5: only frames near the ends have far ones."""
    batches = sampler(dataset_of(8, 8), PairSampling(window=5))
    for step in range(30):
        batch = batches.batch(step)
        assert batch.short_clips == 0
        assert (gaps(batch)[:, 1] <= 5).all() and (gaps(batch)[:, 2:] > 5).all()


@pytest.mark.parametrize(("window", "guard"), [(2, 0), (2, 9), (1, 0), (6, 3)])
def test_anchors_are_all_frames_with_a_near_and_a_far_frame(window, guard):
    """Frames 0, 3, 4, 5, 9, 10 and 12 are left of 13: some have nothing near, some nothing far."""
    position = np.array([0, 3, 4, 5, 9, 10, 12])
    batches = sampler(
        dataset_of(13, duplicate=(1, 2, 6, 7, 8, 11)), PairSampling(window=window, guard=guard), num_clips=1
    )
    drawn = {int(batches.batch(step).position[0]) for step in range(60)}
    gap = np.abs(position[:, None] - position)
    near = (gap <= window) & (gap > 0)
    far = (gap > window) & (gap >= window + guard)
    assert drawn == set(position[near.any(axis=1) & far.any(axis=1)].tolist())
