"""A secret in every field of every header: none gets into a dataset or a message, and all are told by kind."""

import json
import struct

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from clip_files import speckle, write_pair, write_video
from dicom_files import region, write_cine
from PIL import Image, PngImagePlugin
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset as Header
from pydicom.sequence import Sequence
from test_naming import whole

from uscl.cli.data import data
from uscl.data.dataset import open_dataset
from uscl.data.ingest.allowed import ALLOWED, LOOKED_AT, PIXELS, SCALE, TIME, keep_allowed
from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.labels import import_labels
from uscl.data.ingest.masks import parse_class_map
from uscl.data.ingest.naming import Naming
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.privacy import check_folder
from uscl.errors import DataError

SALT = Naming(b"0123456789abcdef")
NEEDED = {*PIXELS, "Modality", "PatientIdentityRemoved", "SpecificCharacterSet"}
TEXT_VR = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "CS", "AE"}


def quiet(what, done, total):
    """No progress."""


def plant(header, secret):
    """Put `secret` and a number into every text element that is not needed to decode; and one of every kind besides."""
    count = 0
    for element in header.iterall():
        keyword = pydicom.datadict.keyword_for_tag(element.tag)
        if element.VR in TEXT_VR and keyword not in NEEDED:
            count += 1
            element.value = f"{secret}{count}"
    for number, tag in enumerate((0x00081070, 0x0008103E, 0x00104000, 0x00080080, 0x00185010, 0x00324000)):
        header.add(DataElement(tag, pydicom.datadict.dictionary_VR(tag), f"{secret}A{number}"))
    block = header.private_block(0x0029, f"{secret}CREATOR", create=True)
    block.add_new(1, "LO", f"{secret}PRIVATE")
    block.add_new(2, "OB", f"{secret}BYTES!".encode())
    inner = Header()
    inner.PatientName = f"{secret}INNER"
    inner.PerformingPhysicianName = f"{secret}DOCTOR"
    header.RequestAttributesSequence = Sequence([inner])
    header.StudyDate, header.StudyTime, header.PatientBirthDate = "19610203", "140506", "19610203"
    header.file_meta.SourceApplicationEntityTitle = f"{secret}AE"
    return count


@pytest.fixture
def secret_cine(tmp_path, rng):
    """A folder with one cine, a secret in all of its header."""
    (tmp_path / "in").mkdir()
    frames = rng.integers(40, 256, (5, 60, 80), dtype=np.uint8)
    box = region(0, 0, 79, 59)
    box.add_new(0x00184000, "LT", "XQSECRETREGION")
    path = write_cine(tmp_path / "in" / "a.dcm", frames, FrameTime="25", SequenceOfUltrasoundRegions=Sequence([box]))
    header = pydicom.dcmread(path)
    plant(header, "XQSECRET")
    header.save_as(path)
    assert path.read_bytes().count(b"XQSECRET") > 12
    return tmp_path / "in"


def test_nothing_of_a_dicom_header_gets_in(secret_cine, tmp_path):
    summary = import_clips(secret_cine, tmp_path / "out", size=64, naming=SALT)
    content = whole(tmp_path / "out") + repr(summary).encode()
    assert b"XQSECRET" not in content and b"19610203" not in content and b"140506" not in content
    clip = open_dataset(tmp_path / "out").index.clips[0]
    assert clip.frame_time_ms == 25 and clip.patient.startswith("patient-")


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "examples_palette.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"])
def test_real_headers_leave_no_value(name, tmp_path):
    source = get_testdata_file(name, download=False)
    if source is None:
        pytest.skip("needs pydicom-data")
    header = pydicom.dcmread(source)
    plant(header, "XQSECRET")
    header.PatientIdentityRemoved = "YES"
    (tmp_path / "in").mkdir()
    header.save_as(tmp_path / "in" / "a.dcm")
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=64, naming=SALT)
    assert b"XQSECRET" not in whole(tmp_path / "out") + repr(summary).encode()


def test_messages_about_bad_files_quote_no_header(secret_cine, tmp_path):
    path = secret_cine / "a.dcm"
    header = pydicom.dcmread(path)
    header.PatientIdentityRemoved = "NO"
    header.save_as(path)
    with pytest.raises(DataError, match="scanner whose burned-in text is unknown") as caught:
        import_clips(secret_cine, tmp_path / "out", size=64, options=ClipOptions(64), naming=SALT)
    assert "XQSECRET" not in str(caught.value)


def test_what_pydicom_logs_of_odd_headers_is_not_heard(secret_cine, tmp_path, caplog, capfd):
    path = secret_cine / "a.dcm"
    header = pydicom.dcmread(path)
    header.SpecificCharacterSet = "ISO_IR 100"
    header.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"XQSECRET99"))
    import_clips(secret_cine, tmp_path / "out", size=64, naming=SALT)
    check_folder(secret_cine, progress=quiet)
    assert "XQSECRET" not in caplog.text + "".join(capfd.readouterr())


def test_only_listed_elements_survive(secret_cine):
    header = keep_allowed(pydicom.dcmread(secret_cine / "a.dcm"))
    left = {element.keyword for element in header.iterall()}
    assert left <= ALLOWED and "PixelData" in left and "PhysicalDeltaX" in left
    assert not any(element.tag.is_private for element in header.iterall())
    assert set(LOOKED_AT).isdisjoint({*PIXELS, *TIME, *SCALE})
    assert not [word for word in ALLOWED if "Date" in word or ("Name" in word and word != "ManufacturerModelName")]


def test_two_imports_with_one_salt_agree_on_patients(secret_cine, tmp_path):
    names = []
    for out, naming in (("x", SALT), ("y", SALT), ("z", Naming(b"another salt of 16+"))):
        import_clips(secret_cine, tmp_path / out, size=64, naming=naming)
        names.append(open_dataset(tmp_path / out).index.clips[0].patient)
    assert names[0] == names[1] != names[2]


def secret_picture(folder, rng, kind):
    """An image with a mask; a secret in EXIF, text chunks or ImageJ's tags."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = np.zeros((40, 40), np.uint8)
    mask[5:20, 5:20] = 1
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    picture, extra = Image.fromarray(speckle(rng, 40, 40)), {}
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = "XQSECRETWHAT", "XQSECRETWHO"
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("XQSECRETKEY is a patient's name and more", "XQSECRETTEXT")
        chunks.add_itxt("Comment", "XQSECRETINTERNATIONAL")
        extra = {"pnginfo": chunks, "exif": exif}
    elif kind == "jpg":
        extra = {"exif": exif, "comment": b"XQSECRETCOMMENT"}
    else:
        extra = {"tiffinfo": {270: "XQSECRETIMAGEJ", 315: "XQSECRETARTIST", 50839: b"XQSECRETMETADATA"}}
    picture.save(folder / "images" / f"a.{kind}", **extra)
    assert (folder / "images" / f"a.{kind}").read_bytes().count(b"XQSECRET") >= 2


@pytest.mark.parametrize(
    ("kind", "kinds"), [("png", {"EXIF", "text chunks"}), ("jpg", {"EXIF", "text chunks"}), ("tif", {"TIFF tags"})]
)
def test_nothing_but_pixels_of_a_picture_gets_in(kind, kinds, tmp_path, rng):
    secret_picture(tmp_path / "in", rng, kind)
    summary = import_labels(tmp_path / "in", tmp_path / "out", class_map=parse_class_map("1=nerve"), size=32)
    assert b"XQSECRET" not in whole(tmp_path / "out") + repr(summary).encode()
    report = check_folder(tmp_path / "in", progress=quiet)
    assert set(report.kinds) == kinds
    assert "XQSECRET" not in json.dumps(report.as_json())


def test_nothing_but_frames_of_a_video_gets_in(tmp_path, rng):
    (tmp_path / "in").mkdir()
    tags = {key: f"XQSECRET{key}" for key in ("title", "artist", "comment", "description", "date")}
    path = write_video(tmp_path / "in" / "a.mkv", speckle(rng, 4, 64, 64), metadata=tags)
    assert path.read_bytes().count(b"XQSECRET") >= 4
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=64, naming=SALT)
    assert b"XQSECRET" not in whole(tmp_path / "out") + repr(summary).encode()
    (found,) = check_folder(tmp_path / "in", progress=quiet).files
    assert found.traces[0].kind == "container tags"
    assert {key.lower() for key in found.traces[0].entries} >= {"title", "artist", "comment", "date"}


def test_nothing_but_pixels_of_numbered_images_gets_in(tmp_path, rng):
    (tmp_path / "in" / "SMITH_JOHN").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = "XQSECRETWHAT", "XQSECRETWHO"
    for number in range(3):
        Image.fromarray(speckle(rng, 64, 64)).save(tmp_path / "in" / "SMITH_JOHN" / f"x{number}.jpg", exif=exif)
    assert b"XQSECRET" in (tmp_path / "in" / "SMITH_JOHN" / "x0.jpg").read_bytes()
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=64, naming=SALT)
    content = whole(tmp_path / "out") + repr(summary).encode()
    assert summary.frames == 3 and b"XQSECRET" not in content and b"SMITH" not in content
    assert "SMITH_JOHN" in (tmp_path / "out.names.csv").read_text()


def test_nothing_but_voxels_of_a_volume_gets_in(tmp_path, rng):
    simple_itk = pytest.importorskip("SimpleITK")
    (tmp_path / "in").mkdir()
    volume = simple_itk.GetImageFromArray(speckle(rng, 4, 64, 64))
    for key in ("descrip", "intent_name", "aux_file", "PatientName"):
        volume.SetMetaData(key, "XQSECRET")
    simple_itk.WriteImage(volume, str(tmp_path / "in" / "a.nii"))
    simple_itk.WriteImage(volume, str(tmp_path / "in" / "b.mha"))
    assert all(b"XQSECRET" in path.read_bytes() for path in (tmp_path / "in").iterdir())
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=64, naming=SALT)
    assert summary.clips == 2 and b"XQSECRET" not in whole(tmp_path / "out") + repr(summary).encode()


def test_names_of_files_stay_out_of_every_import(tmp_path, rng):
    folder = tmp_path / "in"
    write_pair(folder, "SMITH_JOHN", speckle(rng, 40, 40), np.eye(40, dtype=np.uint8))
    shapes = [{"label": "k", "points": [[5, 5], [30, 5], [30, 30]], "shape_type": "polygon"}]
    document = {"version": "5", "imagePath": "SMITH_JOHN.png", "imageData": "XQSECRET", "shapes": shapes}
    (tmp_path / "a.json").write_text(json.dumps(document | {"imageHeight": 40, "imageWidth": 40}))
    (folder / "manifest.csv").write_text("image,label,patient\nimages/SMITH_JOHN.png,masks/SMITH_JOHN.png,p1\n")
    for words in (
        ["labels", folder, "labels", "--classes", "1=k"],
        ["outlines", tmp_path / "a.json", "outlines", "--images", folder / "images", "--classes", "k=k"],
        ["manifest", folder / "manifest.csv", "manifest", "--classes", "1=k"],
    ):
        words[2] = tmp_path / words[2]
        said = CliRunner().invoke(data, ["import", *map(str, words)], catch_exceptions=False)
        assert said.exit_code == 0, said.output
        content = whole(words[2])
        assert b"SMITH" not in content and b"XQSECRET" not in content
        assert "SMITH_JOHN" in words[2].with_name(f"{words[2].name}.names.csv").read_text()


def test_burned_in_text_of_a_video_is_told(tmp_path, rng):
    import cv2

    frames = speckle(rng, 10, 120, 160)
    frames[:, :30] = 0
    for frame in frames:
        cv2.putText(frame, "JANE SMITH", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    write_video(tmp_path / "a.mkv", frames)
    assert check_folder(tmp_path, progress=quiet).kinds == {"burned-in text": 1}


def test_embedded_pictures_and_volume_headers_are_told(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps({"shapes": [], "imageData": "XQSECRET"}))
    (tmp_path / "two.json").write_text(json.dumps({"shapes": [], "imageData": None}))
    (tmp_path / "bad.json").write_text("{XQSECRET")
    head = bytearray(352)
    head[:4] = struct.pack("<i", 348)
    head[148:156], head[328:336] = b"XQSECRET", b"XQSECRET"
    (tmp_path / "v.nii").write_bytes(bytes(head))
    (tmp_path / "w.mhd").write_text("ObjectType = Image\nNDims = 3\nPatientName = XQSECRET\nElementDataFile = w.raw\n")
    report = check_folder(tmp_path, progress=quiet)
    assert "XQSECRET" not in repr(report)
    told = {file.name: [str(trace) for trace in file.traces] for file in report.files}
    assert told == {
        "one.json": ["embedded picture (imageData): dropped"],
        "bad.json": [],
        "v.nii": ["NIfTI header text (descrip, intent_name): dropped"],
        "w.mhd": ["MetaImage header entries (PatientName): dropped"],
    }
    assert next(file.problem for file in report.files if file.name == "bad.json").startswith("cannot be read as JSON")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("SMITH_JOHN_1961.txt", {"what looks like a person's name"}),
        ("scan 2021-03-15.txt", {"a date"}),
        ("20210315/a.txt", {"a date"}),
        ("15.03.2021.txt", {"a date"}),
        ("Smith, J.txt", {"what looks like a person's name"}),
        ("SMITH^JOHN.txt", {"what looks like a person's name"}),
        ("IM-0112-0078_anon.txt", None),
        ("Reg_Image_181206_crop.txt", None),
        ("TEST_IMAGE.txt", None),
        ("123456789012.txt", None),
    ],
)
def test_names_of_files_are_looked_at(name, kinds, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    files = check_folder(tmp_path, progress=quiet).files
    assert (set(files[0].traces[0].entries) if files else None) == kinds


def test_the_command_tells_kinds_and_counts_and_exits_with_1(secret_cine):
    result = CliRunner().invoke(data, ["check-privacy", str(secret_cine)])
    assert result.exit_code == 1 and "XQSECRET" not in result.output
    assert (
        "a.dcm: DICOM elements (" in result.output
        and "private DICOM elements (group 0029 x 3): dropped" in result.output
    )
    assert "PatientID becomes a pseudonym" in result.output
    result = CliRunner().invoke(data, ["check-privacy", str(secret_cine), "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 1 and document["files_looked_at"] == 1
    assert document["files_by_kind"] == {"DICOM elements": 1, "private DICOM elements": 1}
    elements = document["files"][0]["traces"][0]["entries"]
    assert elements["PatientName"] == 2 and elements["StudyDate"] == 1 and "FrameTime" not in elements


def test_a_clean_folder_is_clean(tmp_path, rng):
    write_video(tmp_path / "a.mkv", speckle(rng, 3, 64, 64))
    Image.fromarray(speckle(rng, 64, 64)).save(tmp_path / "b.png")
    result = CliRunner().invoke(data, ["check-privacy", str(tmp_path)])
    assert result.exit_code == 0 and "2 files: nothing found that identifies anybody" in result.output
    with pytest.raises(DataError, match="no such folder"):
        check_folder(tmp_path / "nowhere", progress=quiet)


@pytest.mark.parametrize("name", ["a.dcm", "a.mkv", "a.png", "a.nii", "a.nii.gz"])
def test_a_file_that_cannot_be_looked_at_is_told(name, tmp_path):
    (tmp_path / name).write_bytes(b"XQSECRET nothing")
    (file,) = check_folder(tmp_path, progress=quiet).files
    assert file.problem and "XQSECRET" not in file.problem and str(tmp_path) not in file.problem


def test_the_import_says_where_names_and_salt_are(secret_cine, tmp_path):
    words = ["import", "clips", str(secret_cine), str(tmp_path / "out"), "--size", "64", "--blank-top", "10%"]
    said = CliRunner().invoke(data, words, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert f"salt of the pseudonyms made: {tmp_path / 'uscl-import.salt'}" in said.output
    assert f"{tmp_path / 'out.names.csv'} alone says which is which" in said.output
    assert b"XQSECRET" not in whole(tmp_path / "out") + said.output.encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out.names.csv", "uscl-import.salt"]
    words[3] = str(tmp_path / "second")
    again = CliRunner().invoke(data, [*words, "--keep-names"], catch_exceptions=False)
    assert "salt of the pseudonyms read" in again.output and not (tmp_path / "second.names.csv").exists()
    clips = [open_dataset(tmp_path / name).index.clips[0] for name in ("out", "second")]
    assert clips[0].patient == clips[1].patient and clips[1].clip == "a"


@pytest.mark.parametrize("share", ["120%", "-1%", "1", "ten"])
def test_a_share_that_is_none_is_refused(share, secret_cine, tmp_path):
    words = ["import", "clips", str(secret_cine), str(tmp_path / "out"), "--blank-top", share]
    result = CliRunner().invoke(data, words)
    assert result.exit_code == 2 and "is no share of the picture; expected one like 10%" in result.output
