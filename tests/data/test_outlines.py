"""Outlines and images become cases; what was not drawn is asked for, what is wrong is left out and named."""

import json
from dataclasses import replace

import numpy as np
import pytest
from annotation_files import polygon, via_row, write_via
from clip_files import speckle, write_video
from PIL import Image

from uscl.cli.main import main
from uscl.data.dataset import open_dataset
from uscl.data.ingest.annotation import Annotation, Region
from uscl.data.ingest.annotations import FORMATS, read_annotation_files, read_annotations
from uscl.data.ingest.class_names import parse_class_names
from uscl.data.ingest.outline_choices import Choices
from uscl.data.ingest.outlines import OutlineOptions, import_outlines
from uscl.errors import DataError

NAMES = "Capsule=capsule,Cortex=cortex"
ALL = OutlineOptions(parse_class_names(NAMES, ["capsule=cortex"]), Choices("absent", "absent"))


def square(left, top, side=8, name="Cortex", **more):
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    return Region(name, outline=np.array(corners, float), **more)


@pytest.fixture
def images(tmp_path, rng):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png", "d.png"):
        Image.fromarray(speckle(rng, 40, 50)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def both(image, **more):
    return Annotation(image, (square(2, 2, 20, "Capsule"), square(5, 5)), **more)


def test_drawn_images_become_cases(images, tmp_path):
    annotations = [both("a.png"), both("c.png"), Annotation("b.png", (square(3, 4),))]
    summary = import_outlines(annotations, images, tmp_path / "out", options=ALL, size=32)
    dataset = open_dataset(tmp_path / "out")
    assert (summary.cases, dataset.classes, summary.problems) == (3, ("capsule", "cortex"), ())
    assert [case.case for case in dataset.index.cases] == ["a", "sub-c", "b"]
    case = dataset.case("b")
    assert np.array_equal(case.image, np.asarray(Image.open(images / "b.png")))
    assert case.masks[1].sum() == 81 and np.array_equal(*case.masks)  # an outer class holds its inner one
    assert case.known.all()
    assert summary.remarks[0] == "1 file without annotation: not annotated, so left out"
    assert "patient unknown for 3 of 3 images: only groups keep them together" in summary.remarks


def test_overlaps_are_joined_or_make_holes(images, tmp_path):
    drawn = [Annotation("a.png", (square(2, 2, 20), square(5, 5)))]
    sums = []
    for even_odd in (False, True):
        out = tmp_path / f"{even_odd}"
        import_outlines(drawn, images, out, options=replace(ALL, even_odd=even_odd), size=32)
        sums.append(int(open_dataset(out).case("a").masks[1].sum()))
    assert sums[0] == 21 * 21 and sums[0] - 90 < sums[1] < sums[0] - 40


def test_what_was_not_drawn_is_asked_for(images, tmp_path):
    separate = OutlineOptions(parse_class_names(NAMES), Choices())
    annotations = [both("a.png"), Annotation("b.png"), Annotation("c.png", (square(3, 4),))]
    with pytest.raises(DataError) as caught:
        import_outlines(annotations, images, tmp_path / "out", options=separate, size=32)
    assert str(caught.value) == (
        "what was not drawn is absent or not annotated, which only you know. 1 image is listed without any region "
        "(b.png): --empty absent takes them as looked at with nothing there, --empty skip leaves them out; 1 image "
        "lacks a class while having others (capsule on 1): --missing absent takes it as not there, --missing "
        "skip-image leaves them out"
    )
    for choices, cases in (
        (Choices("absent", "absent"), ["a", "b", "sub-c"]),
        (Choices("skip", "absent"), ["a", "sub-c"]),
        (Choices("absent", "skip-image"), ["a", "b"]),
    ):
        out = tmp_path / f"{choices.empty}-{choices.missing}"
        summary = import_outlines(annotations, images, out, options=replace(separate, choices=choices), size=32)
        assert [case.case for case in open_dataset(out).index.cases] == cases
        said = "taken as seen, with nothing there" if choices.empty == "absent" else "left out"
        assert f"1 image listed without a region: {said}" in summary.remarks
    assert not open_dataset(tmp_path / "absent-absent").case("b").masks.any()


def test_what_is_wrong_is_left_out_and_named(images, tmp_path):
    (images / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    annotations = [
        both("a.png"),
        both("b.png", size=(50, 40)),
        both("c.png", problems=("v.csv:7: region_shape_attributes is broken JSON",)),
        both("d.png"),
        both("e.png"),
        Annotation("", problems=("v.csv:9: filename names no image",)),
    ]
    summary = import_outlines(annotations, images, tmp_path / "out", options=ALL, size=32)
    assert summary.cases == 1
    assert summary.problems[:3] == (
        "1 annotated image not found below the folder of images: e.png",
        "v.csv:7: region_shape_attributes is broken JSON",
        "v.csv:9: filename names no image",
    )
    assert summary.problems[3] == f"{images / 'b.png'}: is 50 x 40 px (width x height), but was annotated at 40 x 50 px"
    assert f"{images / 'd.png'}: cannot be read as an image" in summary.problems[4]
    with pytest.raises(DataError, match="1 annotated image not found"):
        import_outlines(annotations, images, tmp_path / "strict", options=ALL, size=32, strict=True)
    with pytest.raises(DataError, match=r"no annotated image is left; v\.csv:7"):
        import_outlines(annotations[2:3], images, tmp_path / "none", options=ALL, size=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_names_that_fit_two_files_or_twice_are_not_guessed(images, tmp_path):
    (images / "other").mkdir()
    Image.new("L", (50, 40)).save(images / "other" / "c.png")
    annotations = [both("a.png"), both("x/c.png"), both("b.png"), both("b.png"), both("d.png"), both("y/d.png")]
    summary = import_outlines(annotations, images, tmp_path / "out", options=ALL, size=32)
    assert [case.case for case in open_dataset(tmp_path / "out").index.cases] == ["a"]
    assert summary.problems == (
        "1 annotated image could be one of several files: x/c.png",
        "3 annotated images annotated twice (two raters are two imports): b.png, d.png, y/d.png",
    )


def test_files_that_differ_in_the_suffix_are_two_cases(images, tmp_path):
    Image.open(images / "b.png").convert("L").save(images / "a.bmp")
    import_outlines([both("a.png"), both("a.bmp")], images, tmp_path / "out", options=ALL, size=32)
    assert [case.case for case in open_dataset(tmp_path / "out").index.cases] == ["a-png", "a-bmp"]


def test_odd_geometry_is_said(images, tmp_path):
    bow = Region("Cortex", outline=np.array([(2, 2), (9, 9), (9, 2), (2, 9)], float), origin="model")
    annotations = [Annotation("a.png", (bow, square(45, 3))), Annotation("b.png", (bow,), remarks=("odd",))]
    summary = import_outlines(annotations, images, tmp_path / "out", options=ALL, size=32)
    for remark in ("2 images: an outline crosses itself", "1 image: an outline lies partly outside the image"):
        assert remark in summary.remarks
    assert "1 image: odd" in summary.remarks and "2 images: a model drew regions, or helped" in summary.remarks


def test_copies_are_marked(images, tmp_path):
    Image.open(images / "a.png").save(images / "z.png")
    summary = import_outlines([both("a.png"), both("z.png")], images, tmp_path / "out", options=ALL, size=32)
    assert "1 copy of other images: marked, used in no split" in summary.remarks
    assert [case.excluded for case in open_dataset(tmp_path / "out").index.cases] == [False, True]


def test_frames_of_a_video_are_cases(images, tmp_path, rng):
    frames = speckle(rng, 6, 40, 48)
    write_video(images / "v.mkv", frames)
    drawn = [both("v.mkv", frame=k) for k in (1, 4)]
    between = Annotation("v.mkv", (square(3, 3, origin="interpolated"),), frame=2)
    late = both("v.mkv", frame=9)
    summary = import_outlines([*drawn, between, late], images, tmp_path / "out", options=ALL, size=32)
    assert [case.case for case in open_dataset(tmp_path / "out").index.cases] == ["v-00001", "v-00004"]
    assert np.array_equal(open_dataset(tmp_path / "out").case("v-00004").image, frames[4])
    assert "1 frame between keyframes, which nobody drew: left out" in summary.remarks
    assert summary.problems == (f"{images / 'v.mkv'}: frame 9 is annotated, but it has 6 frames",)


def test_an_image_is_no_video(images, tmp_path):
    summary = import_outlines([both("a.png"), both("b.png", frame=0)], images, tmp_path / "out", options=ALL, size=32)
    assert summary.problems == (f"{images / 'b.png'}: is an image, but its annotation names a frame",)


THIRD = "is a project of VIA 3, which is not read; export it as COCO or from VIA 2"
CONTENTS = {
    "via-csv": write_via,
    "via-json": json.dumps({"k": {"filename": "a.png", "regions": [], "file_attributes": {}}}),
    "coco": json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}),
    "labelme": json.dumps({"version": "5", "shapes": [], "imagePath": "a.png"}),
    "cvat": '\ufeff<annotations><image name="a.png"/></annotations>',
}


@pytest.mark.parametrize("form", FORMATS)
def test_formats_are_known_by_their_content(tmp_path, form):
    path = tmp_path / "some.txt"
    if form == "via-csv":
        write_via(path, via_row("a.png"))
    else:
        path.write_text(CONTENTS[form])
    for asked in ("auto", form):
        assert read_annotations(path, format=asked, rater="1") == [
            Annotation("a.png", rater="1", size=None, attributes={}, remarks=(), problems=())
        ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is no annotation file that is read; expected VIA (CSV, JSON), COCO, LabelMe or CVAT 1.1"),
        ("a,b\n", "is no annotation file that is read; expected VIA (CSV, JSON), COCO, LabelMe or CVAT 1.1"),
        ("[]", "is JSON, but none that is read; expected VIA 1 or 2, COCO (with images) or LabelMe"),
        ('{"project": 1, "file": 1, "metadata": 1}', THIRD),
        ('{"a": 01}', "is broken JSON (line 1, column 8: Expecting ',' delimiter)"),
        ('{"a": ' + "9" * 5000 + "}", "is JSON with a number too long to read"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_annotations(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_folder_of_labelme_files(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("one/a", "two/b"):
        (tmp_path / name).parent.mkdir()
        text = json.dumps({"version": "5", "shapes": [], "imagePath": f"{name[-1]}.png"})
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "two" / "c.json").write_text("{")
    first, second, third = read_annotation_files([tmp_path])
    assert (first.image, second.image, third.image) == ("one/a.png", "two/b.png", "")
    assert "broken JSON" in third.problems[0]
    with pytest.raises(DataError, match="holds no annotation file"):
        read_annotation_files([tmp_path / "empty"])
    with pytest.raises(DataError, match="unknown format 'x' of annotations"):
        read_annotations(tmp_path / "one" / "a.json", format="x")


def run(capsys, monkeypatch, *words):
    """The command in this process: exit code, and what it said."""
    monkeypatch.setattr("sys.argv", ["uscl", "data", "import", "outlines", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, capsys.readouterr()


def test_the_command(images, tmp_path, capsys, monkeypatch):
    rows = [via_row("a.png", "Capsule", polygon([2, 20, 20, 2], [2, 2, 20, 20]), count=2)]
    rows += [via_row("a.png", "Cortex", number=1, count=2), via_row("b.png"), "b.png,1,2"]
    path = write_via(tmp_path / "v.csv", *rows)
    words = [path, tmp_path / "out", "--images", images, "--classes", "Capsule=capsule,Cortex=cortex"]
    code, said = run(capsys, monkeypatch, *words)
    assert code == 1
    assert "1 labelled image (capsule, cortex)" in said.out
    assert f"left out: {path}:5: has not as many fields as the header" in said.err
    write_via(path, *rows[:3])
    code, said = run(capsys, monkeypatch, path, tmp_path / "out2", *words[2:])
    assert code == 2 and "--empty absent takes them as" in said.err and not (tmp_path / "out2").exists()
    code, said = run(capsys, monkeypatch, path, tmp_path / "out2", *words[2:], "--empty", "absent")
    assert code == 0 and "2 labelled images" in said.out and said.err == ""


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "what do names of regions mean?"),
        (["--classes", "a", "--class-file", "x.yaml"], "what do names of regions mean?"),
        (["--class-file", "x.yaml", "--ignore", "a"], "--ignore and --unknown are written in the --class-file"),
        (["--classes", "a", "--group-column", "g"], "a column needs a CSV; give one with --csv"),
        (["--classes", "Capsul=c"], "--classes does not map: 'Capsule' (1; did you mean 'Capsul'?)"),
    ],
)  # fmt: skip
def test_the_command_refuses(images, tmp_path, capsys, monkeypatch, words, message):
    path = write_via(tmp_path / "v.csv", via_row("a.png", "Capsule"))
    code, said = run(capsys, monkeypatch, path, tmp_path / "out", "--images", images, *words)
    assert code == 2 and message in said.err and len(said.err.splitlines()) == 1


def test_a_table_and_a_file_of_classes(images, tmp_path, capsys, monkeypatch):
    path = write_via(tmp_path / "v.csv", via_row("a.png", "Capsule"), via_row("b.png", "Capsule"))
    (tmp_path / "k.yaml").write_text("classes: {Capsule: kidney}\n")
    (tmp_path / "who.csv").write_text("file,patient,part\na.png,p1,train\nb.png,p2,test\n")
    words = ["--class-file", tmp_path / "k.yaml", "--csv", tmp_path / "who.csv", "--split-column", "part"]
    assert run(capsys, monkeypatch, path, tmp_path / "out", "--images", images, *words)[0] == 0
    cases = open_dataset(tmp_path / "out").index.cases
    assert [(case.patient, case.split) for case in cases] == [("p1", "train"), ("p2", "test")]
