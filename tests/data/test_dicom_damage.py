"""DICOM files that cannot be read: one line that names the file and the reason, and nothing that the header says."""

from importlib.util import find_spec

import numpy as np
import pydicom
import pytest
from dicom_files import blobs, cine_header, example, header_of, jpeg, read, save, write_cine, write_codestreams
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.decoders import JPEGLosslessSV1Decoder
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

from uscl.data.ingest.dicom import dicom_frames
from uscl.errors import DataError

FRAMES = blobs(4)[..., 0].copy()


def refusal(path):
    """What is said of a file, by import and by prediction alike, less its name."""
    with pytest.raises(DataError) as told:
        read(path)
    with pytest.raises(DataError) as also:
        list(dicom_frames(path))
    assert str(told.value) == str(also.value)
    name, reason = str(told.value).split(".dcm: ")
    assert name.endswith("a") and "\n" not in reason and "SECRET" not in reason
    return reason


def plain(tmp_path, **tags):
    return write_cine(tmp_path / "a.dcm", FRAMES, **tags)


def still(tmp_path, syntax=JPEGBaseline8Bit, streams=None, **tags):
    return write_codestreams(tmp_path / "a.dcm", FRAMES, streams or [jpeg(f) for f in FRAMES], syntax, **tags)


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (0, "is no DICOM file: empty, encrypted or of another format"),
        (100, "is no DICOM file: empty, encrypted or of another format"),
        (-5000, "is truncated: it ends after 2 whole frames"),
        (-FRAMES.nbytes, "is truncated: it ends after 0 whole frames"),
        (-FRAMES.nbytes - 12, "holds no pixel data"),
    ],
)
def test_truncated_and_uncompressed(tmp_path, keep, reason):
    path = plain(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == reason


@pytest.mark.parametrize(
    ("cut", "reason"), [(200, "it ends within the pixel data"), (-1, "it ends after 3 whole frames")]
)
def test_truncated_and_compressed(tmp_path, cut, reason):
    streams = [jpeg(frame) for frame in FRAMES]
    path = still(tmp_path, streams=streams)
    whole = path.read_bytes()
    if cut < 0:  # at the start of the last item
        cut = len(whole) - whole.rindex(b"\xfe\xff\x00\xe0")
    path.write_bytes(whole[:-cut])
    assert refusal(path).startswith(f"is truncated: {reason}")


def test_a_missing_end_mark_is_no_loss(tmp_path):
    path = still(tmp_path)
    path.write_bytes(path.read_bytes()[:-8])
    assert len(read(path).frames) == 4


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("Rows", "has no valid Rows"),
        ("Columns", "has no valid Columns"),
        ("BitsAllocated", "has no valid BitsAllocated"),
        ("SamplesPerPixel", "has no valid SamplesPerPixel"),
        ("PhotometricInterpretation", "has pixels of a kind that uscl does not read"),
        ("PixelData", "holds no pixel data"),
    ],
)
def test_without_a_needed_element(tmp_path, missing, reason):
    header = header_of(plain(tmp_path))
    delattr(header, missing)
    assert reason in refusal(save(header, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "is no ultrasound (modality CT)"),
        ({"Modality": "SECRET", "SOPClassUID": "1.2"}, "is no ultrasound (modality another)"),
        ({"Modality": "", "SOPClassUID": "1.2"}, "is no ultrasound (modality missing)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.2"}, "its frames are slices of a volume, not moments of a clip"),
        ({"PhotometricInterpretation": "SECRET"}, "has pixels of a kind that uscl does not read; it reads MONOCHROME1"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "has pixels of a kind that uscl does not read"),
        ({"PhotometricInterpretation": "RGB"}, "has 1 samples per pixel, which RGB does not have"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "has a colour palette that is missing or damaged"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "stores 1 of 1 bits per sample; uscl reads 8, 16 or 32"),
        ({"BitsStored": 12}, "stores 12 of 8 bits per sample"),
        ({"Rows": 40_000, "Columns": 40_000}, "has frames of 40000 x 40000 px, more than the 67108864 px"),
        ({"Rows": 4_000, "Columns": 4_000}, "holds less pixel data than one frame"),
    ],
)
def test_what_the_header_cannot_mean(tmp_path, tags, reason):
    assert reason in refusal(plain(tmp_path, **tags))


def test_ultrasound_by_its_class_where_the_modality_is_missing(tmp_path):
    assert len(read(plain(tmp_path, Modality="")).frames) == 4


@pytest.mark.parametrize(
    ("uid", "reason"),
    [
        ("1.2.840.10008.1.2.4.102", "is compressed as MPEG-4 AVC/H.264 High Profile / Level 4.1, which uscl does not"),
        ("1.2.840.10008.1.2.4.201", "is compressed as High-Throughput JPEG 2000"),
        ("1.2.840.113619.5.2.9", "names a transfer syntax that is not DICOM's: encrypted, or a vendor's own"),
        ("1.2.840.10008.5.1.4.1.1.3.1", "names a transfer syntax that is not DICOM's"),
    ],
)
def test_unsupported_and_encrypted_codecs(tmp_path, uid, reason):
    assert refusal(with_syntax(still(tmp_path), uid)).startswith(reason)


def with_syntax(path, uid):
    """The same file, saying that its pixels are encoded otherwise."""
    meta = header_of(path).file_meta
    meta.TransferSyntaxUID = pydicom.uid.UID(uid)
    written = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(written, meta)
    raw = path.read_bytes()
    path.write_bytes(bytes(128) + b"DICM" + written.getvalue() + raw[raw.index(b"\x08\x00\x16\x00") :])
    return path


def test_deflated(tmp_path):
    header = header_of(plain(tmp_path))
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    assert refusal(save(header, tmp_path / "a.dcm")).startswith("is deflated as a whole, which uscl does not read")


def test_without_gdcm_the_package_to_install_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_available", {})
    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    told = refusal(still(tmp_path, JPEGLosslessSV1))
    assert told.endswith("; install python-gdcm to read it: pip install 'uscl[dicom]'")


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, RLELossless, JPEGLosslessSV1])
def test_a_damaged_codestream_names_the_frame(tmp_path, syntax):
    if syntax == JPEGLosslessSV1 and not find_spec("gdcm"):
        pytest.skip("python-gdcm is not installed")
    start = {JPEGBaseline8Bit: b"\xff\xd8\xff", JPEG2000Lossless: b"\xff\x4f\xff\x51"}.get(syntax, b"\xff\xd8\xff")
    path = still(tmp_path, syntax, streams=[start + bytes(200)] * 4)
    assert refusal(path).startswith("frame 0 cannot be decoded (")


def test_a_codestream_of_another_size(tmp_path):
    turned = [jpeg(np.ascontiguousarray(frame.T)) for frame in FRAMES]
    assert refusal(still(tmp_path, streams=turned)) == "frame 0 is 60 x 80 px, its header says 80 x 60"


def test_a_frame_that_is_far_too_long(tmp_path):
    streams = [jpeg(frame) for frame in FRAMES]
    streams[2] += bytes(200_000)
    assert refusal(still(tmp_path, streams=streams)) == "frame 2 is larger compressed than its pixels are"


def test_syntax_and_pixel_data_that_contradict_each_other(tmp_path):
    path = with_syntax(still(tmp_path), ExplicitVRLittleEndian)
    assert refusal(path) == "has compressed pixel data, while its header says uncompressed"
    path = with_syntax(plain(tmp_path), JPEGBaseline8Bit)
    assert refusal(path) == "has uncompressed pixel data, while its header says JPEG Baseline (Process 1)"


def test_fill_bytes_between_the_segments_of_a_jpeg(tmp_path):
    streams = [stream[:2] + b"\xff\xff" + stream[2:] for stream in (jpeg(frame) for frame in FRAMES)]
    assert len(read(still(tmp_path, streams=streams)).frames) == 4


def test_palette_indices_of_32_bits(tmp_path):
    tags = {"PhotometricInterpretation": "PALETTE COLOR", "BitsAllocated": 32, "BitsStored": 32}
    assert refusal(plain(tmp_path, **tags)) == "stores palette indices in 32 bits; 8 or 16 can be read"


@pytest.mark.parametrize("vector", ["abc", "1\\x", "1\\\\2\\"])
def test_values_that_are_no_numbers_are_not_used(tmp_path, vector):
    path = plain(tmp_path, FrameTimeVector=["1", "2", "3", "4"])
    raw = path.read_bytes()
    at = raw.index(b"\x18\0\x65\x10DS")
    length = int.from_bytes(raw[at + 6 : at + 8], "little")
    path.write_bytes(raw[: at + 8] + vector.encode().ljust(length)[:length] + raw[at + 8 + length :])
    assert read(path).times_ms is None


def test_a_dicomdir_is_an_index(tmp_path):
    source = example("DICOMDIR")
    (tmp_path / "a.dcm").write_bytes(source.read_bytes())
    assert refusal(tmp_path / "a.dcm") == "is a DICOMDIR: a list of files, without an image"


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    (tmp_path / "a.dcm").mkdir()
    assert refusal(tmp_path / "a.dcm") == "cannot be read: Is a directory"


KINDS = ("plain", "jpeg", "runs")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    write_cine(folder / "plain.dcm", FRAMES)
    write_codestreams(folder / "jpeg.dcm", FRAMES, [jpeg(frame) for frame in FRAMES], JPEGBaseline8Bit)
    header = cine_header(FRAMES)
    header.PixelData = FRAMES.tobytes()
    header.compress(RLELossless, generate_instance_uid=False)
    save(header, folder / "runs.dcm")
    return folder


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 400) | st.none(),
)
def test_any_damage_is_one_line_or_a_clip(samples, kind, changes, cut):
    raw = bytearray((samples / f"{kind}.dcm").read_bytes())
    for position, value in changes:
        raw[min(position, len(raw) - 1)] = value
    path = samples / "damaged"
    path.write_bytes(raw if cut is None else raw[: len(raw) - cut])
    try:
        clip = read(path, size=16)
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error) and "SECRET" not in str(error)
    else:
        assert clip.frames.shape[1:] == (16, 16)
        assert not any("SECRET" in note for note in clip.notes)


def test_pydicom_says_nothing_of_what_it_met(tmp_path, caplog):
    header = header_of(plain(tmp_path))
    raw = (tmp_path / "a.dcm").read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"SECRET.10008.1.2.1\0\0")
    assert header.Modality == "US" and b"SECRET.1" in raw
    (tmp_path / "a.dcm").write_bytes(raw)
    refusal(tmp_path / "a.dcm")
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]
