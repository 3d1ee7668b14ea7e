"""Videos become clips: every frame, true times, square pixels, whose they are; nothing of the container."""

import shutil

import cv2
import numpy as np
import pytest
from clip_files import speckle, write_video

from uscl.data.dataset import open_dataset
from uscl.data.describe import describe, to_text
from uscl.data.ingest.clips import find_clips, import_clips
from uscl.data.ingest.frames import find_sector
from uscl.data.ingest.naming import file_id
from uscl.data.ingest.table import find_table
from uscl.data.ingest.video import read_video, rising_times
from uscl.data.splits import unit_names
from uscl.errors import DataError


def test_frames_are_those_of_the_file(tmp_path, rng):
    frames = speckle(rng, 7, 48, 48)
    read = read_video(write_video(tmp_path / "a.mkv", frames), size=48)
    assert np.array_equal(read.frames, frames)
    assert np.allclose(np.diff(read.times_ms), 40)
    assert read.sector.all()


def test_uneven_times_are_kept(tmp_path, rng):
    stamps = [100, 140, 190, 200, 400]
    path = write_video(tmp_path / "a.mkv", speckle(rng, 5, 48, 48), stamps=stamps)
    assert read_video(path, size=48).times_ms.tolist() == [0, 40, 90, 100, 300]


def test_times_that_do_not_rise_are_unknown():
    assert rising_times([0.0, 40.0, 40.0]) is None
    assert rising_times([0.0, None, 80.0]) is None
    assert rising_times([5.0]).tolist() == [0.0]


def test_pixels_become_square(tmp_path, rng):
    path = write_video(tmp_path / "a.mp4", speckle(rng, 3, 40, 40), aspect="3/2", codec="mpeg4")
    read = read_video(path, size=60)
    assert read.source_size == (40, 60)
    assert (read.frames[:, :10] == 0).all() and (read.frames[:, 10:50] > 0).all()


def test_duplicates_are_found_at_native_size(tmp_path, rng):
    frames = speckle(rng, 5, 64, 64)
    frames[3] = frames[2]
    read = read_video(write_video(tmp_path / "a.mkv", frames), size=16)
    assert read.duplicate.tolist() == [False, False, False, True, False]


def test_black_around_the_sector_is_not_sector(tmp_path, rng):
    frames = speckle(rng, 4, 80, 80)
    frames[:, :, 50:] = 0
    frames[:, 20:24, 70:74] = 255  # a burned-in mark
    frames[0, 30:34, 20:24] = 0  # dark in one frame only
    sector = read_video(write_video(tmp_path / "a.mkv", frames), size=80).sector
    assert sector[:, :50].all() and not sector[:, 52:].any()


def test_a_fan_keeps_its_outline_and_its_dark_inside():
    rows, columns = np.mgrid[:200, :200]
    angle, depth = np.arctan2(columns - 100, rows + 20), np.hypot(columns - 100, rows + 20)
    fan = (np.abs(angle) < 0.5) & (depth > 60) & (depth < 200)
    image = np.where(fan, 90, 0).astype(np.uint8)
    image[120:140, 90:110] = 0
    found = find_sector(image, max_black=8)
    assert (found & fan).sum() / (found | fan).sum() > 0.95
    assert found[130, 100]


def test_a_dark_image_is_not_masked():
    assert find_sector(np.zeros((30, 30), np.uint8), max_black=8).all()


def test_nothing_of_the_container_is_kept(tmp_path, rng):
    (tmp_path / "in").mkdir()
    tags = {"title": "SECRETNAME", "comment": "SECRETNAME 2011-04-07"}
    write_video(tmp_path / "in" / "a.mkv", speckle(rng, 3, 32, 32), metadata=tags)
    assert b"SECRETNAME" in (tmp_path / "in" / "a.mkv").read_bytes()
    import_clips(tmp_path / "in", tmp_path / "out", size=32)
    assert all(b"SECRETNAME" not in file.read_bytes() for file in (tmp_path / "out").iterdir())


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.mkv", "b.mkv", "deep/a.mkv"):
        write_video(tmp_path / "in" / name, speckle(rng, 4, 32, 32))
    (tmp_path / "in" / "README.md").write_text("no clip")
    return tmp_path / "in"


def test_without_a_table_each_clip_is_its_own_patient(folder, tmp_path):
    summary = import_clips(folder, tmp_path / "out", size=32)
    assert (summary.clips, summary.frames) == (3, 12)
    assert "3 of 3 clips: patient unknown: each such clip counts as a patient of its own" in summary.remarks
    clips = open_dataset(tmp_path / "out").index.clips
    assert [clip.clip for clip in clips] == ["a", "b", "deep-a"]
    assert len({clip.patient for clip in clips}) == 3


def test_the_table_gives_patient_group_and_sources(folder, tmp_path):
    (folder / "clips.csv").write_text(
        "file,patient_id,split_group,licence,attribution,fps\n"
        "a.mkv,7,g1,CC BY 4.0,Someone,25\nb.mkv,8,g1,CC BY 4.0,Someone,25\ndeep/a.mkv,9,g2,CC0,,25\n"
    )
    import_clips(folder, tmp_path / "out", size=32, table=find_table(folder, given=None))
    dataset = open_dataset(tmp_path / "out")
    assert [(clip.patient, clip.group) for clip in dataset.index.clips] == [("7", "g1"), ("8", "g1"), ("9", "g2")]
    assert dataset.licence == "CC BY 4.0 (2 files), CC0 (1 file)"
    assert {"licence": "CC BY 4.0", "attribution": "Someone", "source_url": "", "files": 2} in dataset.sources


def test_copied_clips_are_one_group_and_it_is_said(folder, tmp_path):
    shutil.copy(folder / "a.mkv", folder / "c.mkv")
    shutil.copy(folder / "a.mkv", folder / "deep" / "d.mkv")
    summary = import_clips(folder, tmp_path / "out", size=32)
    said = "2 of 5 clips: exact copy of another (c of a): kept in one group, so in one split"
    assert said in summary.remarks
    dataset = open_dataset(tmp_path / "out")
    groups = {clip.clip: clip.group for clip in dataset.index.clips}
    assert groups["a"] == groups["c"] == groups["deep-d"] and len(set(groups.values())) == 3
    notes = {row["clip"]: row["note"] for row in dataset.clip_rows}
    assert [name for name, note in notes.items() if "same frames as a" in note.split("; ")] == ["c", "deep-d"]
    text = to_text(describe(dataset, seed=0, validation_fraction=0.2, test_fraction=0.2))
    assert "clips       5, 2 of them copies of another, 20 frames" in text
    assert "note        2 clips: same frames as another" in text


def test_a_copy_filed_under_two_patients_ties_them(folder, tmp_path):
    shutil.copy(folder / "a.mkv", folder / "c.mkv")
    (folder / "clips.csv").write_text("file,patient\na.mkv,x\nb.mkv,x\nc.mkv,y\ndeep/a.mkv,z\n")
    import_clips(folder, tmp_path / "out", size=32, table=find_table(folder, given=None))
    index = open_dataset(tmp_path / "out").index
    names = unit_names(index)
    units = {clip.clip: names[clip.patient, clip.group] for clip in index.clips}
    assert units["a"] == units["b"] == units["c"] != units["deep-a"]


def moving(rng, count=20, side=64):
    """A texture that drifts at an uneven pace, with a little noise."""
    field = cv2.GaussianBlur(rng.normal(size=(side, 8 * side)).astype(np.float32), (0, 0), 3) * 300 + 120
    places = np.cumsum(rng.integers(0, 9, count))
    return np.stack([np.clip(field[:, at : at + side], 1, 255) for at in places]).astype(np.uint8)


def test_another_crop_of_a_recording_is_found_and_another_recording_is_not(tmp_path, rng):
    (tmp_path / "in").mkdir()
    frames = moving(rng)
    write_video(tmp_path / "in" / "a.mkv", frames)
    write_video(tmp_path / "in" / "b.mkv", np.ascontiguousarray(frames[:, 2:-1, 1:-2]))
    write_video(tmp_path / "in" / "c.mkv", frames[::-1])  # the same pictures, another course
    write_video(tmp_path / "in" / "d.mkv", moving(rng))
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=64)
    said = "1 of 4 clips: another crop or encoding of one recording (b of a): kept in one group, so in one split"
    assert said in summary.remarks
    groups = [clip.group for clip in open_dataset(tmp_path / "out").index.clips]
    assert groups[0] == groups[1] and len(set(groups)) == 3


def test_other_columns_may_be_chosen(folder, tmp_path):
    table = tmp_path / "who.csv"
    table.write_text("path,subject\na.mkv,x\nb.mkv,x\ndeep/a.mkv,y\n")
    chosen = find_table(folder, given=table, file_column="path", patient_column="subject")
    import_clips(folder, tmp_path / "out", size=32, table=chosen)
    assert [clip.patient for clip in open_dataset(tmp_path / "out").index.clips] == ["x", "x", "y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,patient\na.mkv,1\n",
            r"clips\.csv: has no row for b\.mkv and 1 other file; rows are paths below .*in: add one, or take",
        ),
        ("file,pateint\na.mkv,1\n", r"clips\.csv:1: has a column 'pateint'; did you mean 'patient'\?"),
        ("file,Patient,group\na.mkv,1,g\n", r"has a column 'Patient'; did you mean 'patient'\?"),
        ("file,patient,splitgroup\na.mkv,1,g\n", r"has a column 'splitgroup'; did you mean 'split_group'\?"),
        ("file,subject\na.mkv,1\n", r"clips\.csv:1: has neither a patient nor a group column, .* are file, subject\."),
        ("file,patient\na.mkv,1\na.mkv,2\n", r"clips\.csv:3: 'a\.mkv' occurs twice; one row per file"),
        ("name,patient\na.mkv,1\n", r"clips\.csv:1: no column names the files; expected one of file, image, filename"),
    ],
)
def test_a_table_that_leaves_a_file_open_is_refused(folder, tmp_path, text, message):
    (folder / "clips.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        import_clips(folder, tmp_path / "out", size=32, table=find_table(folder, given=folder / "clips.csv"))
    assert not (tmp_path / "out").exists()


def test_a_named_column_must_exist(folder):
    (folder / "clips.csv").write_text("file,patient\na.mkv,1\n")
    with pytest.raises(DataError, match=r"clips\.csv:1: has no column 'who'; its columns are file, patient"):
        find_table(folder, given=None, group_column="who")


def test_two_tables_are_a_question(folder):
    for name in ("one.csv", "two.csv"):
        (folder / name).write_text("file,patient\n")
    with pytest.raises(DataError, match=r"one\.csv, two\.csv could each describe the files; choose one with --csv"):
        find_table(folder, given=None)


def test_unreadable_clips_are_named_and_left_out(folder, tmp_path):
    (folder / "b.mkv").write_bytes(b"")
    (folder / "c.avi").write_bytes(b"no video at all" * 100)
    summary = import_clips(folder, tmp_path / "out", size=32)
    assert (summary.clips, summary.files) == (2, 4)
    assert [entry.name for entry in summary.bad] == ["b.mkv", "c.avi"]
    assert all(entry.reason.startswith("cannot be read as a video") for entry in summary.bad)
    with pytest.raises(DataError) as caught:
        import_clips(folder, tmp_path / "strict", size=32, strict=True)
    assert str(caught.value).startswith(f"{folder / 'b.mkv'}: cannot be read as a video")
    assert not (tmp_path / "strict").exists()


def test_no_readable_file_is_an_error_and_nothing_is_left(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.avi", "b.avi"):
        (tmp_path / "in" / name).write_bytes(b"no video at all" * 100)
    with pytest.raises(DataError, match=r"no file can be read; 2 files: cannot be read as a video.*\(a.avi, b.avi\)"):
        import_clips(tmp_path / "in", tmp_path / "out", size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_truncated_video_gives_the_frames_it_has(tmp_path, rng):
    path = write_video(tmp_path / "a.mkv", speckle(rng, 40, 64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert 5 < len(read_video(path, size=32).frames) < 40


def test_sound_alone_is_no_clip(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(DataError, match="holds no video stream"):
        read_video(tmp_path / "a.mkv", size=32)


def test_a_folder_without_clips_is_told(tmp_path):
    with pytest.raises(DataError, match=r"holds no clip \(DICOM, video"):
        find_clips(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_clips(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("path", "word"), [("a b.mp4", "a_b"), ("x/ü 1.avi", "x-ü_1"), (".hidden.avi", "hidden"), ("IM0001", "IM0001")]
)
def test_file_ids_are_plain_words(path, word):
    from pathlib import Path

    assert file_id(Path(path)) == word
