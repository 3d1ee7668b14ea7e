"""What is written is read back, damage is told, and nothing is left behind by a failed build."""

import json

import numpy as np
import pytest
from clip_files import make_dataset, speckle

from uscl.data import arrow_files
from uscl.data.dataset import open_dataset
from uscl.data.writer import DatasetWriter, find_duplicates
from uscl.errors import DataError


def test_frames_come_back_from_any_row_of_any_file(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(arrow_files, "FILE_BYTES", 10_000)
    monkeypatch.setattr(arrow_files, "BATCH_FRAMES", 3)
    clips = [speckle(rng, length, 32, 32) for length in (5, 1, 8)]
    with DatasetWriter(tmp_path / "d", name="n", classes=(), size=32) as writer:
        for number, frames in enumerate(clips):
            writer.add_clip(frames, clip=f"c{number}", patient="p")
    dataset = open_dataset(tmp_path / "d")
    assert len(list((tmp_path / "d").glob("frames-*.arrow"))) > 1
    assert [dataset.clip_table[f"c{n}"].first_row for n in range(3)] == [0, 5, 6]
    rows = rng.permutation(14)
    assert np.array_equal(dataset.frames(rows), np.concatenate(clips)[rows])
    assert dataset.frames(np.array([], np.int64)).shape == (0, 32, 32)
    with pytest.raises(IndexError):
        dataset.frames(np.array([14]))


def test_a_case_comes_back_whole(tmp_path, rng):
    image, masks = speckle(rng, 21, 33), rng.random((3, 21, 33)) > 0.6
    masks[2] = False
    known, sector = rng.random((2, 21, 33)) > 0.1
    with DatasetWriter(tmp_path / "d", name="n", classes="abc", size=32, contains={"a": ["b"]}) as writer:
        planes = {"known": known, "sector": sector, "spacing_mm": (0.1, 0.2)}
        writer.add_case(image, masks, case="x", patient="p", group="g", split="test", **planes)
        writer.add_case(image, masks, case="y", patient="q", excluded=True, copy_of="x")
    dataset = open_dataset(tmp_path / "d")
    case = dataset.case("x")
    for read, written in zip(
        (case.image, case.masks, case.known, case.sector), (image, masks, known, sector), strict=True
    ):
        assert read.dtype == written.dtype and np.array_equal(read, written)
    assert case.spacing_mm == (0.1, 0.2) and dataset.case("y").spacing_mm is None
    assert dataset.case("y").known.all()
    first, second = dataset.index.cases
    assert (first.classes, first.group, first.split, first.excluded) == (frozenset("ab"), "g", "test", False)
    assert (second.group, second.excluded) == ("q", True)
    assert dataset.index.leaf_classes == ("b", "c")
    with pytest.raises(DataError, match="has no case 'z'"):
        dataset.case("z")


def test_eight_nested_classes_keep_apart(tmp_path, rng):
    masks = rng.random((8, 9, 9)) > 0.5
    with DatasetWriter(tmp_path / "d", name="n", classes="abcdefgh", size=32) as writer:
        writer.add_case(speckle(rng, 9, 9), masks, case="x", patient="p")
    assert np.array_equal(open_dataset(tmp_path / "d").case("x").masks, masks)


def test_nine_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match="9 classes; a dataset holds at most 8"):
        DatasetWriter(tmp_path / "d", name="n", classes="abcdefghi", size=32)


def test_times_and_duplicates(tmp_path, rng):
    frames = speckle(rng, 6, 32, 32)
    frames[2] = frames[1]
    frames[4] = frames[3]
    frames[4, 0, :5] ^= 16  # 80 levels over 1024 pixels: 0.08
    frames[5] = frames[4]
    frames[5, :8] ^= 1  # 0.25
    with DatasetWriter(tmp_path / "d", name="n", classes=(), size=32) as writer:
        writer.add_clip(frames, clip="timed", patient="p", times_ms=np.array([0, 40, 80, 120, 200, 280.0]))
        writer.add_clip(frames, clip="untimed", patient="p")
    dataset = open_dataset(tmp_path / "d")
    assert dataset.clip_table["timed"].duplicate.tolist() == [False, False, True, False, True, False]
    assert dataset.clip_table["timed"].times_ms[-1] == 280
    assert np.isnan(dataset.clip_table["untimed"].times_ms).all()
    timed, untimed = dataset.index.clips
    assert (timed.has_times, timed.frame_time_ms, untimed.has_times) == (True, 40.0, False)
    assert np.isnan(untimed.frame_time_ms)
    assert timed.content != untimed.content


def test_duplicates_do_not_wrap_around():
    frames = np.stack([np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)])
    assert find_duplicates(frames).tolist() == [False, False]
    assert find_duplicates(frames[::-1]).tolist() == [False, False]


def test_fingerprint_is_of_the_content(tmp_path):
    prints = {
        name: open_dataset(make_dataset(tmp_path / name, **changes)).index.fingerprint
        for name, changes in {
            "one": {},
            "same": {},
            "seed": {"seed": 1},
            "contains": {"contains": {"a": ["b"]}},
        }.items()
    }
    assert prints["one"] == prints["same"]
    assert len(set(prints.values())) == 3


def test_given_fingerprint_and_contents_win(tmp_path, rng):
    with DatasetWriter(tmp_path / "d", name="n", classes=(), size=32, fingerprint="ab" * 32) as writer:
        writer.add_clip(speckle(rng, 2, 32, 32), clip="c", patient="p", content="mine")
    index = open_dataset(tmp_path / "d").index
    assert (index.fingerprint, index.clips[0].content) == ("ab" * 32, "mine")


def test_nothing_is_left_of_a_failed_build(tmp_path, rng):
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "d", name="n", classes=(), size=32) as writer:
        writer.add_clip(speckle(rng, 2, 32, 32), clip="c", patient="p")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": "a/b"}, "'a/b' cannot name a clip"),
        ({"clip": "twice"}, "two clips are called 'twice'"),
        ({"frames": np.zeros((0, 32, 32), np.uint8)}, "clip c: expected uint8 frames of shape"),
        ({"frames": np.zeros((2, 32, 31), np.uint8)}, "clip c: expected uint8 frames of shape"),
        ({"times_ms": np.array([0.0, 0.0])}, "clip c: expected 2 rising frame times"),
    ],
)
def test_bad_clips_are_refused(tmp_path, change, message):
    with DatasetWriter(tmp_path / "d", name="n", classes=(), size=32) as writer:
        frames = np.zeros((2, 32, 32), np.uint8)
        writer.add_clip(frames, clip="twice", patient="p")
        with pytest.raises(DataError, match=message):
            writer.add_clip(**({"frames": frames, "clip": "c", "patient": "p"} | change))


def test_bad_cases_are_refused(tmp_path):
    with DatasetWriter(tmp_path / "d", name="n", classes=("a",), size=32) as writer:
        image = np.zeros((5, 6), np.uint8)
        with pytest.raises(DataError, match="the image is 5 x 6 px with 1 classes, but its masks are 1 x 6 x 5"):
            writer.add_case(image, np.zeros((1, 6, 5), bool), case="c", patient="p")
        with pytest.raises(DataError, match="unknown split 'dev'"):
            writer.add_case(image, np.zeros((1, 5, 6), bool), case="d", patient="p", split="dev")


def test_an_existing_place_is_never_overwritten(tmp_path):
    make_dataset(tmp_path / "d")
    with pytest.raises(DataError, match="exists already"):
        make_dataset(tmp_path / "d")
    open_dataset(tmp_path / "d")


def test_no_dataset_is_told(tmp_path):
    with pytest.raises(DataError, match=r"is not a dataset: it has no dataset\.json"):
        open_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["clips.parquet", "labels.parquet", "frames-000.arrow", "labels-000.arrow"])
def test_a_missing_or_short_file_is_told(tmp_path, name):
    file = make_dataset(tmp_path / "d") / name
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"file {name} has {len(content) - 1} bytes, not {len(content)}"):
        open_dataset(tmp_path / "d")
    file.unlink()
    with pytest.raises(DataError, match=f"file {name} is missing"):
        open_dataset(tmp_path / "d")


def test_another_version_is_told(tmp_path):
    file = make_dataset(tmp_path / "d") / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))
    with pytest.raises(DataError, match="dataset of version 99, this uscl reads version 1"):
        open_dataset(tmp_path / "d")


def test_further_files_are_part_of_the_fingerprint(tmp_path):
    prints = []
    for content in (b"one", b"two"):
        with DatasetWriter(tmp_path / content.decode(), name="n", classes=(), size=32) as writer:
            writer.add_file("truth.parquet", content)
        prints.append(open_dataset(tmp_path / content.decode()).index.fingerprint)
    assert prints[0] != prints[1]
    assert (tmp_path / "one" / "truth.parquet").read_bytes() == b"one"
