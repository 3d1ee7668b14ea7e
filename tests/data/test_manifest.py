"""A table of files is read as clips, labelled images and labelled frames; what is wrong is said with its line."""

import csv

import numpy as np
import pytest
from clip_files import speckle, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from uscl.cli.main import main
from uscl.data.dataset import open_dataset
from uscl.data.ingest.manifest import ManifestOptions, import_manifest
from uscl.data.ingest.manifest_table import read_manifest
from uscl.data.ingest.mask_values import MaskRules
from uscl.data.ingest.masks import parse_class_map
from uscl.data.ingest.naming import Naming, names_path
from uscl.errors import DataError

CLASSES = parse_class_map("1=nerve,2=vessel")
OPTIONS = ManifestOptions(32, CLASSES)


def square(value, left, shape=(40, 50)):
    mask = np.zeros(shape, np.uint8)
    mask[5:15, left : left + 10] = value
    return mask


@pytest.fixture
def files(tmp_path, rng):
    """Two videos, two images, masks for frames and images, by two raters for one of them."""
    folder = tmp_path / "in"
    for name in ("videos", "stills", "masks"):
        (folder / name).mkdir(parents=True)
    for name in ("a", "b"):
        write_video(folder / "videos" / f"{name}.avi", np.stack([speckle(rng, 40, 50) for _ in range(6)]))
    for name in ("s", "t"):
        Image.fromarray(speckle(rng, 40, 50)).save(folder / "stills" / f"{name}.png")
    for name, mask in {
        "a-2": square(1, 5), "a-4": square(2, 9), "s-x": square(1, 20), "s-y": square(1, 22),
        "t": square(2, 30), "empty": square(0, 0), "odd": square(7, 0), "small": square(1, 1, (20, 25)),
    }.items():  # fmt: skip
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return folder


def write(files, *rows, name="manifest.csv"):
    path = files / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


HEADER = "clip,image,frame,label,patient,split,rater,quality,fps"
ALL = (
    HEADER,
    "videos/a.avi,,,,p1,train,,,",
    "videos/a.avi,,2,masks/a-2.png,p1,train,,Good,",
    "videos/a.avi,,4,masks/a-4.png,p1,train,,,",
    "videos/b.avi,,,,p2,,,,",
    ",stills/t.png,,masks/t.png,p3,test,,Poor,",
)


def test_clips_labelled_frames_and_images_become_one_dataset(files, tmp_path):
    summary = import_manifest(write(files, *ALL), tmp_path / "out", options=OPTIONS, name="mine")
    dataset = open_dataset(tmp_path / "out")
    assert (summary.clips, summary.frames, summary.cases, summary.bad) == (2, 12, 3, ())
    assert (dataset.name, dataset.classes) == ("mine", ("nerve", "vessel"))
    assert {clip.clip: clip.patient for clip in dataset.index.clips} == {"videos-a": "p1", "videos-b": "p2"}
    rows = {row["case"]: row for row in dataset.case_rows}
    assert {name: (row["clip"], row["frame"]) for name, row in rows.items()} == {
        "videos-a-f0002": ("videos-a", 2), "videos-a-f0004": ("videos-a", 4), "stills-t": ("", -1),
    }  # fmt: skip
    assert [rows[name]["split"] for name in sorted(rows)] == ["test", "train", "train"]
    assert [rows[name]["quality"] for name in sorted(rows)] == ["Poor", "Good", ""]
    assert np.array_equal(dataset.case("videos-a-f0004").masks[1], square(2, 9) > 0)
    still = np.asarray(Image.open(files / "stills" / "t.png"))
    assert np.array_equal(dataset.case("stills-t").image, still)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_labelled_frame_is_the_one_that_its_number_names(files, tmp_path, rng):
    frames = np.stack([speckle(rng, 40, 50) for _ in range(6)])
    write_video(files / "videos" / "a.avi", frames)
    import_manifest(write(files, *ALL), tmp_path / "out", options=OPTIONS)
    dataset = open_dataset(tmp_path / "out")
    assert np.array_equal(dataset.case("videos-a-f0002").image, frames[2])
    assert np.array_equal(dataset.case("videos-a-f0004").image, frames[4])


def test_clips_alone_need_no_classes_and_take_the_rate_of_the_table_where_files_say_none(files, tmp_path):
    folder = files / "sequence"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(square(9 * number, 3)).save(folder / f"frame_{number}.png")
    path = write(files, "clip,patient,fps", "sequence,p1,20")
    import_manifest(path, tmp_path / "out", options=ManifestOptions(32))
    dataset = open_dataset(tmp_path / "out")
    assert [clip.clip for clip in dataset.index.clips] == ["sequence"]
    assert dataset.index.clips[0].frame_time_ms == pytest.approx(50)


def test_a_split_of_clips_that_nobody_labelled_is_said_not_to_be_kept(files, tmp_path):
    path = write(files, *ALL[:-2], "videos/b.avi,,,,p2,test,,,")
    summary = import_manifest(path, tmp_path / "out", options=OPTIONS)
    said = "1 clip has a split but no label (videos/b.avi): not kept, since only labelled images are split"
    assert said in summary.remarks


def test_raters_of_one_image_are_kept_apart_with_their_own_quality(files, tmp_path):
    rows = [",stills/s.png,,masks/s-x.png,p,,X,Good,", ",stills/s.png,,masks/s-y.png,p,,Y,Poor,"]
    options = ManifestOptions(32, CLASSES, MaskRules(consensus=True))
    import_manifest(write(files, HEADER, *rows), tmp_path / "out", options=options)
    dataset = open_dataset(tmp_path / "out")
    found = {row["rater"]: row["quality"] for row in dataset.case_rows}
    assert found == {"X": "Good", "Y": "Poor", "consensus": "Good"}
    assert np.array_equal(dataset.case("stills-s@Y").masks[0], square(1, 22) > 0)
    both = (square(1, 20) > 0) & (square(1, 22) > 0)
    assert np.array_equal(dataset.case("stills-s@consensus").masks[0], both)


def test_raters_of_one_frame_are_kept_apart(files, tmp_path):
    rows = ["videos/a.avi,,1,masks/s-x.png,p,,X,Good,", "videos/a.avi,,1,masks/s-y.png,p,,Y,,"]
    options = ManifestOptions(32, CLASSES, MaskRules(consensus=True))
    import_manifest(write(files, HEADER, *rows), tmp_path / "out", options=options)
    assert sorted(case.case for case in open_dataset(tmp_path / "out").index.cases) == [
        "videos-a-f0001@X", "videos-a-f0001@Y", "videos-a-f0001@consensus",
    ]  # fmt: skip


def test_a_clip_and_its_frames_of_nobody_in_particular_share_a_group(files, tmp_path):
    rows = ["videos/a.avi,,1,masks/a-2.png,,,,,", "videos/b.avi,,,,,,,,"]
    import_manifest(write(files, HEADER, *rows), tmp_path / "out", options=OPTIONS)
    index = open_dataset(tmp_path / "out").index
    groups = {clip.clip: clip.group for clip in index.clips}
    assert index.cases[0].group == groups["videos-a"] != groups["videos-b"]


def test_an_empty_mask_is_asked_about(files, tmp_path):
    path = write(files, HEADER, "videos/a.avi,,1,masks/empty.png,p,,,,", ",stills/t.png,,masks/t.png,q,,,,")
    with pytest.raises(DataError, match=r"a mask of videos/a\.avi holds no pixel of any class"):
        import_manifest(path, tmp_path / "out", options=OPTIONS)
    for decided, cases in {"absent": 2, "skip": 1}.items():
        options = ManifestOptions(32, CLASSES, MaskRules(empty=decided))
        summary = import_manifest(path, tmp_path / decided, options=options)
        assert summary.cases == cases
    assert "1 empty mask: left out, as not annotated" in summary.remarks


def test_files_that_lack_or_do_not_fit_are_left_out_and_named(files, tmp_path):
    rows = [
        ",stills/none.png,,masks/t.png,p,,,,",
        ",stills/s.png,,masks/small.png,p,,,,",
        "videos/a.avi,,9,masks/a-2.png,p,,,,",
        ",stills/t.png,,masks/t.png,p,,,,",
    ]
    summary = import_manifest(write(files, HEADER, *rows), tmp_path / "out", options=OPTIONS)
    reasons = {entry.name.rsplit("/", 1)[-1]: entry.reason for entry in summary.bad}
    assert reasons["none.png"] == "no such file below the manifest's folder (line 2)"
    assert reasons["a.avi"] == "frame 9 is labelled, but it has 6 frames, counted from 0"
    assert any("25 x 20 px" in reason for reason in reasons.values())
    assert (summary.cases, len(summary.bad)) == (1, 3)
    strict = ManifestOptions(32, CLASSES, strict=True)
    with pytest.raises(DataError, match=r"stills/none\.png: no such file"):
        import_manifest(files / "manifest.csv", tmp_path / "strict", options=strict)


A = "videos/a.avi,,,,p,,,,"
S = ",stills/s.png,,masks/s-x.png,p,,,,"


@pytest.mark.parametrize(
    "rows, line, message",
    [
        (["clip,pateint"], 1, "has a column 'pateint'; did you mean 'patient'? (known: clip, image, frame, label, "),
        (["clip,mask,patient"], 1, "has a column 'mask'; did you mean 'label'?"),
        (["clip,clip,patient"], 1, "has two columns 'clip'"),
        (["label,patient"], 1, "has neither a column clip nor a column image"),
        (["clip,label"], 1, "has neither a patient nor a group column"),
        ([HEADER, "videos/a.avi,stills/s.png,,,p,,,,"], 2, "names both a clip and an image"),
        ([HEADER, ",,,masks/t.png,p,,,,"], 2, "names neither a clip nor an image"),
        ([HEADER, "", ",stills/s.png,,,p,,,,"], 3, "an image without label; give its mask, or leave the row out"),
        ([HEADER, "videos/a.avi,,3,,p,,,,"], 2, "has a frame; a frame needs its clip and a label"),
        ([HEADER, "videos/a.avi,,-1,masks/t.png,p,,,,"], 2, "holds something that is no whole number from 0 to"),
        ([HEADER, "videos/a.avi,,1,via.json,p,,,,"], 2, "label is an annotation file; draw it as a mask first, or"),
        ([HEADER, "../a.avi,,,,p,,,,"], 2, "leaves the folder of images"),
        ([HEADER, f"{A},more"], 2, "has more fields than the header"),
        ([HEADER, "videos/a.avi,,,p"], 2, "has fewer fields than the header"),
        ([HEADER, f"{A}fast"], 2, "fps is no number above 0"),
        ([HEADER, f"{A}0"], 2, "fps is no number above 0"),
        ([HEADER, f"{A}20", "videos/b.avi,,,,p,,,,30"], 3, "fps 30 after 20; one manifest has one"),
        ([HEADER, A, "videos/a.avi,,1,masks/t.png,q,,,,"], 3, "videos/a.avi has another patient than in line 2"),
        ([HEADER, S, S], 3, "stills/s.png is labelled in line 2 already"),
        ([HEADER], 1, "holds no row"),
    ],
)
def test_what_is_wrong_with_the_table_is_said_with_its_line(files, rows, line, message):
    path = write(files, *rows)
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:{line}: {message}")


def test_a_file_of_no_clip_format_and_a_label_without_classes_are_said_with_their_line(files, tmp_path):
    (files / "notes.txt").write_text("no clip")
    path = write(files, "clip,patient", "videos/a.avi,p", "notes.txt,p")
    with pytest.raises(DataError) as caught:
        import_manifest(path, tmp_path / "out", options=ManifestOptions(32))
    assert str(caught.value) == f"{path}:3: notes.txt is no clip of a format that is read"
    with pytest.raises(DataError) as caught:
        import_manifest(write(files, *ALL), tmp_path / "out", options=ManifestOptions(32))
    assert str(caught.value) == f"{path}:3: has a label; say what mask values mean: --classes 1=NAME,..."


def test_a_link_out_of_the_folder_is_not_followed(files, tmp_path, rng):
    Image.fromarray(speckle(rng, 40, 50)).save(tmp_path / "away.png")
    (files / "stills" / "link.png").symlink_to(tmp_path / "away.png")
    with pytest.raises(DataError, match=r"no row is left; stills/link\.png: no such file below"):
        read_manifest(write(files, HEADER, ",stills/link.png,,masks/t.png,p,,,,"))


def test_a_label_without_frame_is_for_images_and_volumes(files, tmp_path):
    path = write(files, HEADER, "videos/a.avi,,,masks/t.png,p,,,,")
    with pytest.raises(DataError, match="its label names no frame; only a volume has one label for all frames"):
        import_manifest(path, tmp_path / "out", options=OPTIONS)
    path = write(files, HEADER, "videos/a.avi,,,masks/t.png,p,,,,", "videos/a.avi,,2,masks/t.png,p,,,,")
    with pytest.raises(DataError, match="has a label for the whole file and others for frames of it"):
        import_manifest(path, tmp_path / "out", options=OPTIONS)


def test_a_volume_and_its_mask_volume(files, tmp_path, rng):
    sitk = pytest.importorskip("SimpleITK")
    frames = np.stack([speckle(rng, 40, 50) for _ in range(3)])
    masks = np.stack([square(1, 3), square(2, 6), square(1, 9)])
    for name, values in {"half": frames, "half_gt": masks}.items():
        sitk.WriteImage(sitk.GetImageFromArray(values), str(files / f"{name}.nii.gz"))
    path = write(files, "clip,label,patient", "half.nii.gz,half_gt.nii.gz,p1")
    summary = import_manifest(path, tmp_path / "out", options=OPTIONS)
    dataset = open_dataset(tmp_path / "out")
    assert (summary.clips, summary.frames, summary.cases) == (1, 3, 3)
    case = dataset.case(f"{dataset.index.clips[0].clip}-f0001")
    assert np.array_equal(case.image, frames[1]) and np.array_equal(case.masks[1], masks[1] > 0)


def test_file_names_stay_out_where_they_are_hidden(files, tmp_path):
    options = ManifestOptions(32, CLASSES, naming=Naming(b"0123456789abcdef"))
    rows = ("videos/a.avi,,2,masks/a-2.png,,,,,", ",stills/t.png,,masks/t.png,,,,,")
    import_manifest(write(files, HEADER, *rows), tmp_path / "out", options=options)
    dataset = open_dataset(tmp_path / "out")
    clip = dataset.index.clips[0].clip
    assert clip.startswith("clip-") and {row["clip"] for row in dataset.case_rows} == {clip, ""}
    names = [text for row in (*dataset.clip_rows, *dataset.case_rows) for text in row.values() if isinstance(text, str)]
    assert not [text for text in names if "videos" in text or "stills" in text]
    with names_path(tmp_path / "out").open(newline="") as stream:
        listed = {row["file"]: row["name"] for row in csv.DictReader(stream)}
    assert listed["videos/a.avi"] == clip and set(listed) == {"videos/a.avi", "stills/t.png"}


def test_the_command(files, tmp_path, capsys, monkeypatch):
    path = write(files, *ALL, ",stills/none.png,,masks/t.png,p,,,,")
    words = ["uscl", "data", "import", "manifest", str(path), str(tmp_path / "out"), "--classes", "1=nerve,2=vessel"]
    monkeypatch.setattr("sys.argv", [*words, "--size", "32", "--keep-names"])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert caught.value.code == 1
    assert "2 clips, 12 frames; 3 labelled images (nerve, vessel)" in said.out
    assert "no such file below the manifest's folder (line 7) (stills/none.png)" in said.err


CELLS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["videos/a.avi", "masks/t.png", "1", "p", '"', ""]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=10), max_size=4), headed=st.booleans())
def test_whatever_a_table_holds_is_read_or_refused_in_one_line(files, rows, headed):
    lines = [",".join(cells) for cells in rows]
    path = write(files, *([HEADER] if headed else []), *lines, name="any.csv")
    try:
        manifest = read_manifest(path)
    except DataError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert manifest.rows
