"""DICOM ultrasound: pydicom's own real cine, and headers with the quirks of data-formats.md 2."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset as Header
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from uscl.data.dataset import open_dataset
from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.dicom import frame_times, read_dicom, select_region
from uscl.data.ingest.options import ClipOptions
from uscl.errors import DataError


def example(name):
    return Path(get_testdata_file(name, download=False))


def region(left, top, right, bottom, *, kind=1, form=1, units=3, delta=0.02, across=None):
    item = Header()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.RegionSpatialFormat, item.RegionDataType = form, kind
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = across or delta, delta
    return item


def write_cine(path, frames, **tags):
    header = Header()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3"
    header.Modality, header.PatientName, header.PatientID = "US", "SECRETNAME", "SECRETID"
    header.PatientIdentityRemoved = "YES"
    header.Rows, header.Columns = frames.shape[1:]
    header.NumberOfFrames, header.SamplesPerPixel, header.PhotometricInterpretation = len(frames), 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = frames.dtype.itemsize * 8
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, 0
    header.PixelData = frames.tobytes()
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def frames(rng):
    return rng.integers(40, 256, (5, 60, 80), dtype=np.uint8)


def test_the_real_cine_of_pydicom():
    read = read_dicom(example("examples_ybr_color.dcm"), size=320)
    assert read.frames.shape == (30, 320, 320)
    assert read.duplicate.nonzero()[0].tolist() == [11, 28]
    assert np.allclose(np.diff(read.times_ms), 33.333)
    assert read.spacing_mm is None
    assert "lies outside the 320 x 240 px image: whole image, scale unknown" in read.notes[0]
    rgb = pixel_array(example("examples_ybr_color.dcm"))[7].astype(float)
    grey = rgb @ [0.299, 0.587, 0.114]
    assert np.abs(read.frames[7, 40:280] - grey).mean() < 0.6  # converted once, not twice


def test_palette_indices_are_looked_up():
    read = read_dicom(example("examples_palette.dcm"), size=800)
    assert read.frames.shape == (1, 800, 800)
    assert read.frames.max() > 200 and read.times_ms is None


def test_ct_is_refused():
    with pytest.raises(DataError, match=r"is no ultrasound \(modality CT\)"):
        read_dicom(example("CT_small.dcm"), size=64)


def test_the_region_is_cropped_and_scales(tmp_path, frames):
    boxes = [
        region(0, 0, 30, 20),
        region(10, 5, 69, 44),
        region(0, 0, 79, 59, form=4, kind=10),
        region(0, 0, 79, 59, units=1),
    ]
    read = read_dicom(write_cine(tmp_path / "a.dcm", frames, SequenceOfUltrasoundRegions=Sequence(boxes)), size=60)
    assert read.source_size == (40, 60)
    assert np.array_equal(read.frames[:, 10:50], frames[:, 5:45, 10:70])
    assert read.spacing_mm == pytest.approx((0.2, 0.2))


def test_oblong_pixels_become_square(tmp_path, frames):
    boxes = Sequence([region(0, 0, 79, 59, delta=0.02, across=0.03)])
    read = read_dicom(write_cine(tmp_path / "a.dcm", frames, SequenceOfUltrasoundRegions=boxes), size=120)
    assert read.source_size == (60, 120)
    assert read.spacing_mm == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize(("right", "crop"), [(79, 80), (80, 80), (81, None)])
def test_a_region_off_by_one_is_clipped_and_an_impossible_one_is_not_believed(right, crop):
    header = Header()
    header.Rows, header.Columns = 60, 80
    header.SequenceOfUltrasoundRegions = Sequence([region(2, 0, right, 59)])
    chosen = select_region(header)
    columns = range(80)[chosen.columns]
    assert (columns[0], columns[-1], bool(chosen.note)) == ((2, 79, False) if crop else (0, 79, True))


@pytest.mark.parametrize(
    ("tags", "times"),
    [
        ({"FrameTime": "20"}, [0, 20, 40]),
        ({"FrameTimeVector": ["0", "10", "30"]}, [0, 10, 40]),
        ({"FrameTimeVector": ["0", "10"]}, None),
        ({"CineRate": "50"}, [0, 20, 40]),
        ({"RecommendedDisplayFrameRate": "25"}, [0, 40, 80]),
        ({"FrameTime": "0", "CineRate": "50"}, [0, 20, 40]),
        ({}, None),
    ],
)
def test_time_is_the_headers_or_unknown(tags, times):
    header = Header()
    for name, value in tags.items():
        setattr(header, name, value)
    found = frame_times(header, 3)
    assert found is None if times is None else found.tolist() == times


def test_sixteen_bits_and_inverted_grey(tmp_path):
    deep = np.full((1, 20, 20), 0x8000, np.uint16)
    assert read_dicom(write_cine(tmp_path / "a.dcm", deep), size=20).frames.max() == 128
    light = np.full((1, 20, 20), 55, np.uint8)
    read = read_dicom(write_cine(tmp_path / "b.dcm", light, PhotometricInterpretation="MONOCHROME1"), size=20)
    assert (read.frames == 200).all()


def test_patients_are_told_apart_and_nothing_of_the_header_is_kept(tmp_path, frames):
    (tmp_path / "in").mkdir()
    for name, patient in (("IM1", "SECRETA"), ("IM2", "SECRETB"), ("IM3.dcm", "SECRETA")):
        write_cine(tmp_path / "in" / name, frames, PatientID=patient, FrameTime="25")
    (tmp_path / "in" / "NOTES").write_text("no DICOM")
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=32)
    index = open_dataset(tmp_path / "out").index
    assert [clip.patient for clip in index.clips] == ["patient-0001", "patient-0002", "patient-0001"]
    assert index.clips[0].frame_time_ms == 25
    assert all(b"SECRET" not in file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert any("may show text that names the patient" in remark for remark in summary.remarks)


def test_a_damaged_file_is_told(tmp_path, frames):
    path = write_cine(tmp_path / "a.dcm", frames)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"a\.dcm: cannot be read as DICOM ultrasound"):
        read_dicom(path, size=32)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.dcm: cannot be read as DICOM ultrasound"):
        read_dicom(path, size=32)


def test_dicom_and_video_mix_in_one_folder(tmp_path, frames):
    from clip_files import write_video

    (tmp_path / "in").mkdir()
    shutil.copy(example("examples_ybr_color.dcm"), tmp_path / "in" / "cine.dcm")
    write_video(tmp_path / "in" / "b.mkv", frames)
    import_clips(tmp_path / "in", tmp_path / "out", size=32, options=ClipOptions(32, keep_overlay=True))
    assert [clip.num_frames for clip in open_dataset(tmp_path / "out").index.clips] == [5, 30]
