"""DICOM ultrasound written by the test, with the quirks of data-formats.md 2: region, time, count, privacy."""

import shutil

import numpy as np
import pytest
from dicom_files import blobs, example, header_of, jpeg, read, region, save, write_cine, write_codestreams
from pydicom.dataset import Dataset as Header
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from uscl.data.dataset import open_dataset
from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.dicom import dicom_frames
from uscl.data.ingest.dicom_region import select_region
from uscl.data.ingest.dicom_time import frame_times
from uscl.data.ingest.options import ClipOptions

WRONG_COUNT = "the header's number of frames is wrong: frames were counted"


@pytest.fixture
def frames(rng):
    return rng.integers(40, 256, (5, 60, 80), dtype=np.uint8)


def test_the_largest_b_mode_region_in_centimetres_is_cropped_and_scales(tmp_path, frames):
    boxes = [
        region(0, 0, 30, 20),
        region(10, 5, 69, 44),
        region(0, 0, 79, 59, form=4, kind=10),  # an ECG strip
        region(0, 0, 79, 59, form=0, kind=13),
        region(0, 0, 79, 59, units=1),
    ]
    clip = read(write_cine(tmp_path / "a.dcm", frames, SequenceOfUltrasoundRegions=Sequence(boxes)), size=60)
    assert clip.source_size == (40, 60)
    assert np.array_equal(clip.frames[:, 10:50], frames[:, 5:45, 10:70])
    assert clip.spacing_mm == pytest.approx((0.2, 0.2))
    assert "several B-mode regions in the header: the largest is kept" in clip.notes


def test_oblong_pixels_become_square(tmp_path, frames):
    boxes = Sequence([region(0, 0, 79, 59, delta=0.02, across=-0.03)])
    clip = read(write_cine(tmp_path / "a.dcm", frames, SequenceOfUltrasoundRegions=boxes), size=120)
    assert clip.source_size == (60, 120)
    assert clip.spacing_mm == pytest.approx((0.2, 0.2))


def header_with(*boxes, size=(60, 80)):
    header = Header()
    header.Rows, header.Columns = size
    header.SequenceOfUltrasoundRegions = Sequence(boxes)
    return header


@pytest.mark.parametrize(
    ("right", "crop", "note"),
    [(79, 80, ""), (80, 80, "clipped"), (81, None, "lies outside the image: whole image, scale unknown")],
)
def test_a_region_off_by_one_is_clipped_and_an_impossible_one_is_not_believed(right, crop, note):
    chosen = select_region(header_with(region(2, 0, right, 59)))
    columns = range(80)[chosen.columns]
    assert (columns[0], columns[-1], chosen.row_mm) == ((2, 79, 0.2) if crop else (0, 79, None))
    assert note in " ".join(chosen.notes) and bool(chosen.notes) == bool(note)


@pytest.mark.parametrize(("across", "down"), [(1.0, 1.0), (0.02, 1.0), (0.0, 0.02), (5.0, 5.0), (1e-6, 0.02)])
def test_deltas_that_are_no_calibration_leave_the_scale_unknown(across, down):
    chosen = select_region(header_with(region(0, 0, 70, 50, delta=down, across=across)))
    assert (chosen.row_mm, chosen.aspect, chosen.notes) == (None, 1.0, ("region without scale",))
    assert chosen.columns == slice(0, 71), "its place holds all the same"


@pytest.mark.parametrize("boxes", [[], [region(30, 20, 10, 50)], [Header()]], ids=["none", "inverted", "empty"])
def test_no_usable_region_is_the_whole_image(boxes):
    chosen = select_region(header_with(*boxes))
    assert (chosen.rows, chosen.columns) == (slice(0, 60), slice(0, 80))
    assert chosen.notes == ("no B-mode region in the header: whole image, scale unknown",)


def test_a_region_without_its_location_is_passed_over():
    broken = region(0, 0, 79, 59)
    del broken.RegionLocationMaxX1
    assert select_region(header_with(broken, region(1, 2, 50, 40))).rows == slice(2, 41)


def moving(left, right, *, size=(60, 80)):
    """Noise that changes in the columns left..right of all rows but the outer ten."""
    frames = np.full((12, *size), 50, np.uint8)
    frames[1::2, 10:-10, left:right] = 150
    return frames


@pytest.mark.parametrize(
    ("frames", "shrunk"),
    [
        (moving(10, 70), True),
        (moving(10, 79), False),  # beyond the shrunk region: the image was cut, not shrunk
        (moving(10, 70)[:1], False),  # a still cannot tell
        (moving(10, 10), False),
    ],
    ids=["inside", "beyond", "still", "nothing moves"],
)
def test_a_region_of_twice_the_size_is_believed_where_the_motion_agrees(tmp_path, frames, shrunk):
    boxes = Sequence([region(11, 9, 149, 111)])
    path = write_cine(tmp_path / "a.dcm", frames, SequenceOfUltrasoundRegions=boxes)
    clip = read(path, size=80)
    assert clip.source_size == ((51, 69) if shrunk else (60, 80))
    assert clip.spacing_mm == (pytest.approx((0.4 * 69 / 80,) * 2) if shrunk else None)
    assert ("shrunk 2 times" in clip.notes[0]) == shrunk and ("whole image" in clip.notes[0]) != shrunk
    frame = next(dicom_frames(path))
    assert (frame.rows, frame.row_mm) == ((slice(5, 56), pytest.approx(0.4)) if shrunk else (slice(0, 60), None))


def test_a_region_too_large_one_way_only_is_that_of_a_cut_image():
    assert select_region(header_with(region(10, 10, 70, 110))).shrink == 1
    assert select_region(header_with(region(10, 10, 700, 900))).shrink == 1


VECTOR = 0x00181065


@pytest.mark.parametrize(
    ("tags", "times", "remark"),
    [
        ({"FrameTime": "20"}, [0, 20, 40], ""),
        ({"FrameTimeVector": ["0", "10", "30"]}, [0, 10, 40], ""),
        ({"FrameTimeVector": ["7", "10", "30"]}, [0, 10, 40], ""),
        ({"FrameTime": "20", "FrameTimeVector": ["0", "10", "30"]}, [0, 20, 40], ""),
        ({"FrameTime": "20", "FrameTimeVector": ["0", "9", "3"], "FrameIncrementPointer": VECTOR}, [0, 9, 12], ""),
        ({"FrameTimeVector": ["0", "10"]}, None, "not as long as the clip"),
        ({"FrameTimeVector": ["0", "10"], "CineRate": "50"}, [0, 20, 40], "not as long as the clip"),
        ({"FrameTimeVector": "5", "CineRate": "50"}, [0, 20, 40], "not as long as the clip"),
        ({"FrameTimeVector": ["0", "0", "30"], "CineRate": "50"}, [0, 20, 40], "impossible steps"),
        ({"CineRate": "50"}, [0, 20, 40], ""),
        ({"RecommendedDisplayFrameRate": "25"}, [0, 40, 80], ""),
        ({"CineRate": "0", "RecommendedDisplayFrameRate": "25"}, [0, 40, 80], "CineRate in the header is impossible"),
        ({"FrameTime": "0", "CineRate": "50"}, [0, 20, 40], "FrameTime in the header is impossible"),
        ({"FrameTime": "-33"}, None, "FrameTime in the header is impossible"),
        ({"FrameTime": "1e9"}, None, "FrameTime in the header is impossible"),
        ({}, None, "no frame time in the header: unknown"),
    ],
)
def test_time_is_the_headers_or_unknown(tags, times, remark):
    header = Header()
    for name, value in tags.items():
        setattr(header, name, value)
    found, remarks = frame_times(header, 3)
    assert found is None if times is None else found.tolist() == times
    assert remark in " ".join(remarks) and bool(remark) == bool(remarks)
    assert ("no frame time in the header: unknown" in remarks) == (times is None)
    assert frame_times(header, 1) == (None, ())


def test_a_rate_given_by_the_user_comes_last(tmp_path, frames):
    silent = read(write_cine(tmp_path / "a.dcm", frames), frame_rate_hz=25)
    assert silent.times_ms.tolist() == [0, 40, 80, 120, 160]
    assert "no frame time in the header: rate as given" in silent.notes
    told = read(write_cine(tmp_path / "b.dcm", frames, FrameTime="10"), frame_rate_hz=25)
    assert told.times_ms.tolist() == [0, 10, 20, 30, 40] and "as given" not in " ".join(told.notes)


@pytest.mark.parametrize("told", [1, 3, 5, 8, 1_000_000_000, None, "", 0], ids=str)
def test_frames_are_counted_whatever_the_header_says(tmp_path, frames, told):
    plain = write_cine(tmp_path / "a.dcm", frames)
    stills = write_codestreams(tmp_path / "b.dcm", frames, [jpeg(frame) for frame in frames], JPEGBaseline8Bit)
    for path in (plain, stills):
        header = header_of(path)
        if told is None:
            del header.NumberOfFrames
        else:
            header.NumberOfFrames = told
        clip = read(save(header, path), size=80)
        assert len(clip.frames) == 5
        assert (WRONG_COUNT in clip.notes) == (told != 5)


def test_patients_are_told_apart_and_nothing_of_the_header_is_kept(tmp_path, frames):
    (tmp_path / "in").mkdir()
    for name, patient in (("IM1", "SECRETA"), ("IM2", "SECRETB"), ("IM3.dcm", "SECRETA")):
        write_cine(tmp_path / "in" / name, frames, PatientID=patient, FrameTime="25", StudyDescription="SECRETSTUDY")
    (tmp_path / "in" / "NOTES").write_text("no DICOM")
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=32)
    index = open_dataset(tmp_path / "out").index
    assert [clip.patient for clip in index.clips] == ["patient-0001", "patient-0002", "patient-0001"]
    assert index.clips[0].frame_time_ms == 25
    assert all(b"SECRET" not in file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert any("may show text that names the patient" in remark for remark in summary.remarks)


def test_dicom_and_video_mix_in_one_folder(tmp_path, frames):
    from clip_files import write_video

    (tmp_path / "in").mkdir()
    shutil.copy(example("examples_ybr_color.dcm"), tmp_path / "in" / "cine.dcm")
    write_video(tmp_path / "in" / "b.mkv", frames)
    import_clips(tmp_path / "in", tmp_path / "out", size=32, options=ClipOptions(32, keep_overlay=True))
    assert [clip.num_frames for clip in open_dataset(tmp_path / "out").index.clips] == [5, 30]


def test_copied_frames_are_marked(tmp_path):
    frames = blobs(6)[..., 0]
    frames[3] = frames[2]
    assert read(write_cine(tmp_path / "a.dcm", frames)).duplicate.nonzero()[0].tolist() == [3]
