"""The Open Kidney Ultrasound Data Set on a hand-written tree with its quirks; its real label files where they are."""

import os
from pathlib import Path

import numpy as np
import pytest
from annotation_files import HEADER, polygon, via_row, write_via
from clip_files import speckle
from PIL import Image

from uscl.cli.main import main
from uscl.data.dataset import open_dataset
from uscl.data.ingest.annotation import rasterise
from uscl.data.ingest.annotations import read_annotations
from uscl.data.ingest.kidneyus import import_kidneyus
from uscl.data.ingest.kidneyus_files import find_kidneyus, patients_of, picture_of, read_spacings
from uscl.errors import DataError

FIRST = "12_IM-0012-0001_anon.png"
COPIES = ("401_IM-0012-0001_anon.png", "413_IM-0012-0001_anon.png")
SEEN = "13_IM-0013-0002_anon.png"
SAME_NUMBER = "13_IM-0044-0009_anon.png"
RECT = "20_IM-0020-0001_anon.png"
BARE = "90_IM-0090-0003_anon.png"
FAIR = {"Quality": "Fair", "View": "Transverse", "Comments": "a name that must not be kept"}
POOR = {"Quality": "Poor", "View": "Other"}


def box(left, top, right, bottom):
    return polygon([left, right, right, left], [top, top, bottom, bottom])


def pixels(left, top, right, bottom, shape=(48, 64)):
    mask = np.zeros(shape, bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def kidney(image, **more):
    """Rows of an image with all four classes; JSON of the classes stands bare and quoted, as in the real files."""
    return [
        via_row(image, "Capsule", box(5, 5, 40, 40), count=4, attributes=FAIR, **more),
        via_row(image, "Central Echo Complex", box(15, 15, 25, 25), count=4, number=1, attributes=FAIR, bare=True),
        via_row(image, "Medulla", box(27, 15, 30, 25), count=4, number=2, attributes=FAIR, bare=True),
        via_row(image, "Cortex", box(32, 15, 38, 38), count=4, number=3, attributes=FAIR),
    ]


def rater_1():
    rect = {"name": "rect", "x": 10, "y": 12, "width": 6, "height": 4}
    return [
        *kidney(FIRST),
        via_row(SEEN, attributes=FAIR),
        via_row(SAME_NUMBER, "Capsule", box(2, 2, 50, 40), count=9, attributes=FAIR),
        via_row(SAME_NUMBER, "Cortex", box(4, 4, 20, 20), count=9, number=4, attributes=POOR),
        via_row(SAME_NUMBER, "Cortex", box(10, 10, 30, 30), count=9, number=6, attributes=POOR),
        via_row(RECT, "Capsule", rect, attributes=FAIR),
        *kidney(COPIES[0]),
        *kidney(COPIES[1]),
    ]


def rater_2():
    drawn = [row for image in (FIRST, SEEN, SAME_NUMBER, *COPIES) for row in kidney(image)]
    drawn[0] = via_row(FIRST, "Capsule", box(5, 5, 40, 44), count=4, attributes=POOR)
    return [*drawn, via_row(RECT)]


@pytest.fixture
def kidneys(tmp_path, rng):
    """A folder as delivered: labels, published masks of the images' names, images in a folder of their own."""
    folder = tmp_path / "kidneyUS"
    images = folder / "kidneyUS_images" / "flat"
    masks = folder / "labels" / "reviewed_masks_1" / "capsule"
    for path in (images, masks):
        path.mkdir(parents=True)
    for name in (FIRST, SEEN, SAME_NUMBER, RECT, BARE):
        Image.fromarray(speckle(rng, 48, 64)).save(images / name)
        Image.new("L", (64, 48)).save(masks / name)
    for name in COPIES:
        (images / name).write_bytes((images / FIRST).read_bytes())
    write_via(folder / "labels" / "reviewed_labels_1.csv", *rater_1())
    write_via(folder / "labels" / "reviewed_labels_2.csv", *rater_2())
    return folder


def case_of(dataset, image, rater):
    return dataset.case(f"{Path(image).stem}@{rater}")


def test_both_raters_are_kept_apart(kidneys, tmp_path):
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    dataset = open_dataset(tmp_path / "out")
    assert (summary.cases, summary.bad, summary.files) == (12, (), 6)
    assert dataset.classes == ("capsule", "cec", "medulla", "cortex")
    assert dataset.index.contains == {"capsule": ("cec", "medulla", "cortex")}
    assert dataset.licence == "CC BY-NC-SA"
    capsules = [case_of(dataset, FIRST, rater).masks[0] for rater in "12"]
    assert np.array_equal(capsules[0], pixels(5, 5, 40, 40))
    assert np.array_equal(capsules[1], pixels(5, 5, 40, 44))
    assert np.array_equal(case_of(dataset, FIRST, "1").masks[1], pixels(15, 15, 25, 25))
    image = np.asarray(Image.open(kidneys / "kidneyUS_images" / "flat" / FIRST))
    assert np.array_equal(case_of(dataset, FIRST, "2").image, image)
    assert "raters of 6 images: 1 6, 2 6; labels.rater chooses one" in summary.remarks


def test_quality_and_view_are_each_raters_own_and_of_the_first_row(kidneys, tmp_path):
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    rows = {row["case"]: row for row in open_dataset(tmp_path / "out").case_rows}
    found = [
        (rows[f"{Path(FIRST).stem}@{rater}"]["quality"], rows[f"{Path(FIRST).stem}@{rater}"]["view"]) for rater in "12"
    ]
    assert found == [("Fair", "Transverse"), ("Poor", "Other")]
    assert rows[f"{Path(SAME_NUMBER).stem}@1"]["quality"] == "Fair"  # its later rows say Poor
    assert "1 image (rater 1): rows disagree in file_attributes: the first counts" in summary.remarks
    assert "1 image (rater 1): region_count disagrees with the rows" in summary.remarks
    assert b"must not be kept" not in b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_an_empty_row_is_seen_with_nothing_drawn_and_no_row_is_not_labelled(kidneys, tmp_path):
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    dataset = open_dataset(tmp_path / "out")
    case = case_of(dataset, SEEN, "1")
    assert not case.masks.any() and case.known.all()
    assert not any(Path(BARE).stem in entry.case for entry in dataset.index.cases)
    said = [
        f"1 image without a row ({BARE}): not labelled, so left out",
        "images seen with nothing drawn: all classes are taken as not there, as this set means it "
        "(1 by rater 1, 1 by rater 2)",
        "images without some class: taken as not there, though its guideline says to trace what is sure "
        "(2 by rater 1, 0 by rater 2)",
    ]
    assert [text for text in said if text not in summary.remarks] == []


def test_a_rect_and_two_outlines_of_one_class_are_filled_as_the_published_masks(kidneys, tmp_path):
    import_kidneyus(kidneys, tmp_path / "out", size=32)
    dataset = open_dataset(tmp_path / "out")
    assert np.array_equal(case_of(dataset, RECT, "1").masks[0], pixels(10, 12, 16, 16))
    cortex = case_of(dataset, SAME_NUMBER, "1").masks[3]
    assert cortex[5, 5] and cortex[25, 25] and not cortex[15, 15]  # even-odd: where both lie, there is a hole
    assert np.array_equal(case_of(dataset, SAME_NUMBER, "1").masks[0], pixels(2, 2, 50, 40))


def test_renamed_copies_are_marked_and_of_one_patient(kidneys, tmp_path):
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    index = open_dataset(tmp_path / "out").index
    patients = {entry.case: entry.patient for entry in index.cases}
    assert {patients[f"{Path(name).stem}@1"] for name in (FIRST, *COPIES)} == {"kidneyus-012"}
    assert patients[f"{Path(SEEN).stem}@1"] == patients[f"{Path(SAME_NUMBER).stem}@2"] == "kidneyus-013"
    rows = {row["case"]: row for row in open_dataset(tmp_path / "out").case_rows}
    for name in COPIES:
        copies = [(rows[f"{Path(name).stem}@{rater}"]["copy_of"], rater) for rater in "12"]
        assert copies == [(f"{Path(FIRST).stem}@1", "1"), (f"{Path(FIRST).stem}@2", "2")]
    assert sum(entry.excluded for entry in index.cases) == 4
    assert "2 copies of other images: marked, used in no split" in summary.remarks
    assert [group for group in {entry.group for entry in index.cases} if group.startswith("like-")] == []


def test_patients_are_joined_by_number_and_by_picture():
    names = ["7_IM-1-1_anon.png", "600_IM-1-1_anon.png", "600_IM-9-9_anon.png", "7_IM-5-5.png", "9_IM-2-2.png", "x.png"]
    assert patients_of(names) == ["kidneyus-007"] * 4 + ["kidneyus-009", ""]
    assert picture_of("104_IM-0112-0078_anon.png") == "IM-0112-0078"


def test_the_number_of_a_copy_makes_no_patient_of_its_own_where_its_picture_lacks(kidneys, tmp_path):
    (kidneys / "kidneyUS_images" / "flat" / COPIES[0]).unlink()
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    assert summary.bad == ()
    said = f"1 annotated copy has no file of that name ({COPIES[0]}), but the picture is there under another"
    assert said in summary.remarks


def test_consensus_is_what_both_drew(kidneys, tmp_path):
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32, majority=True)
    dataset = open_dataset(tmp_path / "out")
    assert summary.cases == 18
    assert np.array_equal(case_of(dataset, FIRST, "consensus").masks[0], pixels(5, 5, 40, 40))


def test_pixel_sizes_come_from_a_csv_without_sign_and_without_the_uncalibrated(kidneys, tmp_path):
    table = kidneys / "OpenKidneyUltrasoundDataSet_TransducerInfo.csv"
    rows = [
        "Filename,Manufacturer,Physical Delta X,Physical Delta Y",
        "12_IM-0012-0001_anon.png,Toshiba,-0.025,0.02",
        "20_IM-0020-0001_anon.png,Acuson,1,1",
    ]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    dataset = open_dataset(tmp_path / "out")
    assert case_of(dataset, FIRST, "1").spacing_mm == pytest.approx((0.2, 0.25))
    assert case_of(dataset, COPIES[1], "2").spacing_mm == pytest.approx((0.2, 0.25))  # listed under its first name only
    assert case_of(dataset, RECT, "1").spacing_mm is None
    assert (
        "1 row gives no pixel size in OpenKidneyUltrasoundDataSet_TransducerInfo.csv (0, exactly 1 or none): unknown"
        in summary.remarks
    )
    assert "pixel size known for 3 of 6 images" in summary.remarks


def test_the_spreadsheet_itself_is_not_read_and_said_so(kidneys, tmp_path):
    (kidneys / "OpenKidneyUltrasoundDataSet_TransducerInfo.xlsx").write_bytes(b"PK")
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    said = "no TransducerInfo.csv: pixel sizes are unknown; the xlsx is not read: save it as TransducerInfo.csv"
    assert said in summary.remarks


COLUMNS = "Filename,Physical Delta X,Physical Delta Y"


@pytest.mark.parametrize(
    "rows, message",
    [
        (
            "Filename,Physical Delta X\na,1\n",
            f"1: has no column 'Physical Delta Y'; expected {COLUMNS.replace(',', ', ')}",
        ),
        (f"{COLUMNS}\na,.1,wide\n", "2: Physical Delta Y is no number; expected the size of a pixel in cm"),
    ],
)
def test_a_broken_table_of_pixel_sizes_is_named_with_its_line(tmp_path, rows, message):
    path = tmp_path / "TransducerInfo.csv"
    path.write_text(rows, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_spacings(path)
    assert str(caught.value) == f"{path}:{message}"


def run(capsys, monkeypatch, *words):
    """The command in this process: exit code, and what it said."""
    monkeypatch.setattr("sys.argv", ["uscl", "data", "import", "kidneyus", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, capsys.readouterr()


def test_labels_alone_say_how_to_get_the_images(kidneys, tmp_path, capsys, monkeypatch):
    for path in (kidneys / "kidneyUS_images" / "flat").iterdir():
        path.unlink()
    code, said = run(capsys, monkeypatch, kidneys, tmp_path / "out")
    assert code == 2
    assert (
        f"{kidneys}: holds label files, but none of the 6 annotated images ({FIRST}): its owners hand the" in said.err
    )
    assert not (tmp_path / "out").exists()


def test_missing_images_are_counted_and_the_rest_imported(kidneys, tmp_path, capsys, monkeypatch):
    (kidneys / "kidneyUS_images" / "flat" / RECT).unlink()
    code, said = run(capsys, monkeypatch, kidneys, tmp_path / "out", "--consensus", "majority")
    assert code == 1
    assert "1 of 6 images left out:" in said.err
    assert "1 image: no such image; its owners hand the images out after registration" in said.err
    assert RECT in said.err
    assert "15 labelled images (capsule, cec, medulla, cortex)" in said.out
    assert run(capsys, monkeypatch, kidneys, tmp_path / "again", "--skip-unreadable")[0] in (0, None)
    assert run(capsys, monkeypatch, kidneys, tmp_path / "strict", "--strict")[0] == 2
    assert run(capsys, monkeypatch, kidneys, tmp_path / "both", "--strict", "--skip-unreadable")[0] == 2
    assert not (tmp_path / "strict").exists()


def test_a_broken_row_an_odd_class_and_a_scaled_image_leave_out_what_they_concern(kidneys, tmp_path, rng):
    rows = rater_1()
    rows[0] = rows[0].replace("all_points_x", "all_points_z")
    rows[-1] = rows[-1].replace("Cortex", "cortex of somebody")
    write_via(kidneys / "labels" / "reviewed_labels_1.csv", *rows)
    Image.fromarray(speckle(rng, 24, 32)).save(kidneys / "kidneyUS_images" / "flat" / SAME_NUMBER)
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    bad = {entry.name.rsplit("/", 1)[-1]: entry.reason for entry in summary.bad}
    assert bad[FIRST].startswith("drawing of rater 1: labels/reviewed_labels_1.csv:2: ")
    assert bad[COPIES[1]] == (
        "drawing of rater 1: 1 region has a class not of the set; "
        "expected Capsule, Central Echo Complex, Medulla, Cortex"
    )
    assert bad[SAME_NUMBER] == "is 32 x 24 px (width x height), and rater 1 drew beyond that; was it scaled or cut?"
    cases = {entry.case for entry in open_dataset(tmp_path / "out").index.cases}
    assert f"{Path(FIRST).stem}@2" in cases and f"{Path(FIRST).stem}@1" not in cases
    rows_of = {row["case"]: row for row in open_dataset(tmp_path / "out").case_rows}
    copied = {row["copy_of"] for row in rows_of.values() if row["copy_of"]}
    assert copied and copied <= set(cases)


def test_one_label_file_is_one_rater(kidneys, tmp_path):
    (kidneys / "labels" / "reviewed_labels_2.csv").unlink()
    summary = import_kidneyus(kidneys, tmp_path / "out", size=32)
    assert (summary.cases, summary.remarks[1]) == (6, "labels of rater 1 alone: the other's file is not there")
    assert {entry.rater for entry in open_dataset(tmp_path / "out").index.cases} == {"1"}


@pytest.mark.parametrize("what", ["no folder", "no labels", "labels twice", "image twice"])
def test_folders_that_are_not_the_set_are_refused(kidneys, tmp_path, what):
    if what == "no labels":
        for path in (kidneys / "labels").glob("*.csv"):
            path.unlink()
    if what == "labels twice":
        write_via(kidneys / "reviewed_labels_1.csv", *rater_1())
    if what == "image twice":
        (kidneys / FIRST).write_bytes(b"another")
    messages = {
        "no folder": "no such folder",
        "no labels": "holds neither labels/reviewed_labels_1.csv nor labels/reviewed_labels_2.csv",
        "labels twice": "could each be meant",
        "image twice": "have one name; which is the image?",
    }
    with pytest.raises(DataError, match=messages[what]):
        find_kidneyus(kidneys if what != "no folder" else tmp_path / "none")


def _real():
    given = os.environ.get("USCL_KIDNEYUS")
    return Path(given) if given and Path(given).is_dir() else None


@pytest.mark.skipif(_real() is None, reason="USCL_KIDNEYUS names no copy of the label files")
def test_the_published_masks_are_made_from_the_real_label_files_but_for_the_rect():
    """2135 of 2136: capsule and regions of 534 images by two raters; one published mask has one pixel for its rect."""
    folder = next(path.parent for path in sorted(_real().rglob("reviewed_labels_1.csv")))
    exact, total = 0, 0
    for rater in "12":
        masks = folder / f"reviewed_masks_{rater}"
        for annotation in read_annotations(folder / f"reviewed_labels_{rater}.csv", class_key="Anatomy"):
            capsule, regions = (
                np.asarray(Image.open(masks / kind / annotation.image)) for kind in ("capsule", "regions")
            )
            ours = {
                name: rasterise([region for region in annotation.regions if region.name == name], capsule.shape)
                for name in ("Capsule", "Central Echo Complex", "Medulla", "Cortex")
            }
            painted = np.zeros(capsule.shape, np.uint8)
            for value, name in enumerate(("Central Echo Complex", "Medulla", "Cortex"), 1):
                painted[ours[name]] = value
            exact += int(np.array_equal(ours["Capsule"], capsule > 0)) + int(np.array_equal(painted, regions))
            total += 2
    assert (exact, total) == (2135, 2136)


@pytest.mark.skipif(_real() is None, reason="USCL_KIDNEYUS names no copy of the label files")
def test_the_real_names_are_514_pictures():
    folder = next(path.parent for path in sorted(_real().rglob("reviewed_labels_1.csv")))
    names = [annotation.image for annotation in read_annotations(folder / "reviewed_labels_1.csv", class_key="Anatomy")]
    assert (len(names), len({picture_of(name) for name in names})) == (534, 514)
    patients = dict(zip(names, patients_of(names), strict=True))
    for first in names:
        alike = [name for name in names if picture_of(name) == picture_of(first)]
        assert len({patients[name] for name in alike}) == 1


def test_the_header_of_the_hand_written_files_is_the_sets():
    columns = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    assert columns == HEADER
