"""Image and mask pairs become cases: values to classes, sizes, names, groups, problems told at once."""

import numpy as np
import pytest
from clip_files import speckle, write_pair
from PIL import Image

from uscl.data.dataset import open_dataset
from uscl.data.ingest.drawn import read_picture
from uscl.data.ingest.grouping import join_groups
from uscl.data.ingest.labels import import_labels
from uscl.data.ingest.mask_layout import Picture, find_pictures
from uscl.data.ingest.mask_values import MaskFile, MaskRules
from uscl.data.ingest.masks import ClassMap, parse_class_map, read_class_map, read_grey
from uscl.data.ingest.table import find_table
from uscl.data.splits import cases_of, split_units
from uscl.errors import DataError

TWO = ClassMap({1: "nerve", 2: "vessel"})


ABSENT = MaskRules(empty="absent")


def read_pair(folder, class_map, rules=ABSENT):
    """The one drawing of image and mask `a`."""
    files = {"": (MaskFile(folder / "masks" / "a.png"),)}
    (frame,) = read_picture(Picture(folder / "images" / "a.png", "a", "a", files), class_map, rules).frames
    return frame.drawings[0]


def blobs(rng, shape=(40, 50)):
    mask = np.zeros(shape, np.uint8)
    top, left = rng.integers(2, 15, 2)
    mask[top : top + 10, left : left + 12] = 1
    mask[top + 12 : top + 20, left : left + 12] = 2
    return mask


@pytest.fixture
def folder(tmp_path, rng):
    for n in range(5):
        write_pair(tmp_path / "in", f"{n}", speckle(rng, 40, 50), blobs(rng), palette=n % 2 == 0)
    write_pair(tmp_path / "in" / "test", "9", speckle(rng, 30, 60, 3), blobs(rng, (30, 60)))
    return tmp_path / "in"


def test_pairs_come_in_with_their_classes(folder, tmp_path):
    summary = import_labels(folder, tmp_path / "out", class_map=TWO, size=64)
    dataset = open_dataset(tmp_path / "out")
    assert (summary.cases, dataset.classes, dataset.size) == (6, ("nerve", "vessel"), 64)
    assert [case.case for case in dataset.index.cases] == ["0", "1", "2", "3", "4", "test-9"]
    for name, path in (("0", folder / "masks" / "0.png"), ("1", folder / "masks" / "1.png")):
        values = np.asarray(Image.open(path))
        assert np.array_equal(dataset.case(name).masks, [values == 1, values == 2])
    assert np.array_equal(dataset.case("1").image, np.asarray(Image.open(folder / "images" / "1.png")))
    assert dataset.case("test-9").image.shape == (30, 60)
    assert len({case.patient for case in dataset.index.cases}) == 6


def test_inner_classes_fill_the_outer_one(tmp_path):
    values = np.array([[0, 1, 2], [3, 3, 255]], np.uint8)
    write_pair(tmp_path, "a", np.zeros((2, 3), np.uint8), values)
    chosen = parse_class_map("1=capsule,2=cortex,3=medulla", ["capsule=cortex,medulla"], 255)
    read = read_pair(tmp_path, chosen)
    capsule, cortex, medulla = read.masks
    assert np.array_equal(capsule, (values > 0) & (values < 255))
    assert np.array_equal(cortex, values == 2) and np.array_equal(medulla, values == 3)
    assert np.array_equal(read.known, values != 255)


def test_an_outer_class_needs_no_value_of_its_own(tmp_path):
    chosen = parse_class_map("2=cortex,3=medulla", ["capsule=kidney", "kidney=cortex,medulla"])
    assert chosen.classes == ("cortex", "medulla", "capsule", "kidney")
    write_pair(tmp_path, "a", np.zeros((1, 3), np.uint8), np.array([[0, 2, 3]], np.uint8))
    read = read_pair(tmp_path, chosen)
    assert read.masks[2].tolist() == read.masks[3].tolist() == [[False, True, True]]


def test_zero_and_255_masks(tmp_path):
    write_pair(tmp_path, "a", np.zeros((2, 2), np.uint8), np.array([[0, 255], [0, 0]], np.uint8))
    read = read_pair(tmp_path, parse_class_map("255=x"))
    assert read.masks.sum() == 1


def test_jpeg_masks_are_cut_for_one_class_and_refused_for_two(tmp_path, rng):
    mask = np.zeros((40, 40), np.uint8)
    mask[8:24, 8:24] = 255
    write_pair(tmp_path / "in", "a", speckle(rng, 40, 40), mask, suffix=".jpg")
    summary = import_labels(tmp_path / "in", tmp_path / "out", class_map=ClassMap({255: "x"}), size=32)
    assert "1 JPEG mask: cut at 128; save masks as PNG" in summary.remarks
    assert open_dataset(tmp_path / "out").case("a").masks[0].sum() == 16 * 16
    with pytest.raises(DataError, match="JPEG does not keep the values of several classes"):
        import_labels(tmp_path / "in", tmp_path / "other", class_map=TWO, size=32)


def test_sizes_that_differ_are_told_with_both_sizes(tmp_path, rng):
    write_pair(tmp_path, "a", speckle(rng, 40, 50), np.zeros((20, 25), np.uint8))
    image = tmp_path / "images" / "a.png"
    with pytest.raises(DataError) as caught:
        import_labels(tmp_path, tmp_path / "out", class_map=TWO, size=32)
    assert str(caught.value) == (
        f"{image}: is 50 x 40 px (width x height), but its mask masks/a.png is 25 x 20 px; "
        "--mask-size resize-nearest scales masks to their images"
    )


def test_unnamed_values_are_told_and_nothing_is_written(folder, tmp_path):
    with pytest.raises(DataError) as caught:
        import_labels(folder, tmp_path / "out", class_map=ClassMap({1: "nerve"}), size=32)
    first = f"{folder / 'masks' / '0.png'}: holds value 2 (96 px), which --classes does not name; "
    assert str(caught.value).startswith(first) and str(caught.value).endswith("and 3 more")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_partners_are_needed_by_name(folder, tmp_path):
    (folder / "masks" / "1.png").unlink()
    (folder / "images" / "3.png").unlink()
    with pytest.raises(DataError, match=r"images/1\.png has no mask; .*--unlisted skip"):
        import_labels(folder, tmp_path / "out", class_map=TWO, size=32)
    seen = MaskRules(unlisted="skip")
    summary = import_labels(folder, tmp_path / "out", class_map=TWO, size=32, rules=seen)
    assert [str(entry) for entry in summary.bad] == ["masks/3.png: has no image of the same name"]
    assert [case.case for case in open_dataset(tmp_path / "out").index.cases] == ["0", "2", "4", "test-9"]
    with pytest.raises(DataError, match=r"masks/3\.png: has no image of the same name"):
        import_labels(folder, tmp_path / "strict", class_map=TWO, size=32, rules=seen, strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_bad_pair_is_left_out_and_named(folder, tmp_path):
    (folder / "images" / "1.png").write_bytes(b"PNG?")
    write_pair(folder, "zz", np.full((9, 9), 50, np.uint8), np.full((9, 9), 7, np.uint8))
    summary = import_labels(folder, tmp_path / "out", class_map=TWO, size=32)
    assert [entry.name for entry in summary.bad] == ["images/1.png", "masks/zz.png"]
    assert summary.bad[1].reason == "holds value 7 (81 px), which --classes does not name"
    assert summary.files == summary.cases + 2
    with pytest.raises(DataError, match=r"images/1\.png: cannot be read as an image"):
        import_labels(folder, tmp_path / "strict", class_map=TWO, size=32, strict=True)


def test_no_pair_at_all_is_an_error(tmp_path, rng):
    write_pair(tmp_path, "a", speckle(rng, 9, 9), np.zeros((9, 9), np.uint8))
    (tmp_path / "images" / "a.png").write_bytes(b"PNG?")
    with pytest.raises(DataError, match=r"images/a\.png: cannot be read as an image"):
        import_labels(tmp_path, tmp_path / "out", class_map=TWO, size=32)


def test_a_colour_mask_and_a_broken_image_are_told(tmp_path, rng):
    write_pair(tmp_path / "in", "a", speckle(rng, 9, 9), speckle(rng, 9, 9, 3))
    write_pair(tmp_path / "in", "b", speckle(rng, 9, 9), np.zeros((9, 9), np.uint8))
    (tmp_path / "in" / "images" / "b.png").write_bytes(b"PNG?")
    with pytest.raises(DataError, match=r"a\.png: is a colour picture.*; .*b\.png: cannot be read as an image"):
        import_labels(tmp_path / "in", tmp_path / "out", class_map=TWO, size=32)


def test_no_images_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no folder `images`"):
        find_pictures(tmp_path)


def test_sixteen_bit_images_are_scaled(tmp_path):
    Image.fromarray(np.array([[0, 256, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_grey(tmp_path / "a.png")[0].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("classes", "contains", "message"),
    [
        ("nerve", [], "cannot read 'nerve'; expected VALUE=NAME"),
        ("", [], "names no class"),
        ("1=a,1=b", [], "value 1 is named twice"),
        ("1=a", ["a=b"], "'a' contains 'b', which is no class"),
        ("1=a,2=b", ["a=b", "b=a"], "contain each other"),
        ("1=a", ["a"], "expected OUTER=INNER,INNER"),
    ],
)
def test_class_maps_that_say_nothing_are_refused(classes, contains, message):
    with pytest.raises(DataError, match=message):
        parse_class_map(classes, contains)


def test_a_class_map_may_be_a_file(tmp_path):
    file = tmp_path / "classes.yaml"
    file.write_text("classes: {1: capsule, 2: cortex}\ncontains: {capsule: [cortex]}\nignore: 255\n")
    assert read_class_map(file) == parse_class_map("1=capsule,2=cortex", ["capsule=cortex"], 255)
    file.write_text("classes: [a]")
    with pytest.raises(DataError, match="expected `classes:"):
        read_class_map(file)
    with pytest.raises(DataError, match="give --classes 1=NAME,2=NAME or a file"):
        read_class_map(tmp_path / "none.yaml")


def test_copies_are_marked_and_groups_joined(folder, tmp_path):
    colour = np.repeat(np.asarray(Image.open(folder / "images" / "0.png"))[..., None], 3, axis=2)
    write_pair(folder, "7", colour, np.asarray(Image.open(folder / "masks" / "0.png")))
    (folder / "pairs.csv").write_text(
        "image,near_duplicate_group\nimages/0.png,\nimages/1.png,near1\nimages/2.png,near1\nimages/3.png,\n"
        "images/4.png,\nimages/7.png,other\ntest/images/9.png,\n"
    )
    table = find_table(folder, given=None)
    import_labels(folder, tmp_path / "out", class_map=TWO, size=32, table=table)
    dataset = open_dataset(tmp_path / "out")
    cases = {case.case: case for case in dataset.index.cases}
    assert [name for name, case in cases.items() if case.excluded] == ["0"]  # the grey one goes, the colour one stays
    assert cases["0"].group == cases["7"].group == "other"
    assert cases["1"].group == cases["2"].group == "near1"
    assert cases["3"].group != cases["4"].group
    assert {row["case"]: row["copy_of"] for row in dataset.case_rows}["0"] == "7"


def test_a_given_split_with_a_group_on_both_sides_is_an_error(folder, tmp_path):
    lines = ["image,near_duplicate_group,split", *(f"images/{n}.png,,train" for n in range(4))]
    (folder / "pairs.csv").write_text("\n".join([*lines, "images/4.png,near,val", "test/images/9.png,near,test"]))
    given = find_table(folder, given=None, split_column="split")
    with pytest.raises(DataError, match="'near' is in two splits: case test-9 in test, case 4 in validation"):
        import_labels(folder, tmp_path / "given", class_map=TWO, size=32, table=given)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    ours = find_table(folder, given=None)
    import_labels(folder, tmp_path / "ours", class_map=TWO, size=32, table=ours)
    index = open_dataset(tmp_path / "ours").index
    split = split_units(index, seed=0, validation_fraction=0.2, test_fraction=0.2)
    homes = [part for part in ("train", "validation", "test") if {"4", "test-9"} & set(cases_of(index, split, part))]
    assert len(homes) == 1


def test_a_patient_in_two_given_splits_is_refused_in_the_words_of_info(folder, tmp_path):
    lines = ["image,patient,split", *(f"images/{n}.png,p{n},train" for n in range(4))]
    (folder / "pairs.csv").write_text("\n".join([*lines, "images/4.png,p4,val", "test/images/9.png,p0,test"]))
    table = find_table(folder, given=None, split_column="split")
    with pytest.raises(DataError) as caught:
        import_labels(folder, tmp_path / "out", class_map=TWO, size=32, table=table)
    assert str(caught.value) == (
        "dataset out: patient or group 'p0' is in two splits: case test-9 in test, case 0 in train; "
        "give it one split, or import without the split column"
    )
    assert not (tmp_path / "out").exists()


def test_the_same_picture_with_another_mask_is_told_with_the_mask_kept(folder, tmp_path):
    image = np.asarray(Image.open(folder / "images" / "0.png"))
    values = np.asarray(Image.open(folder / "masks" / "0.png"))
    write_pair(folder, "7", image, np.where(values == 2, 0, values))
    write_pair(folder, "8", np.asarray(Image.open(folder / "images" / "1.png")), _mask_of(folder, "1"))
    summary = import_labels(folder, tmp_path / "out", class_map=TWO, size=32)
    assert "2 copies of other images: marked, used in no split" in summary.remarks
    disputed = [remark for remark in summary.remarks if "another mask" in remark]
    assert disputed == [
        "1 copy has another mask than the same picture kept: images/7.png and images/0.png "
        "(Dice 0.00 on the class that differs most); the mask of images/0.png is kept"
    ]
    copies = {row["case"]: row["copy_of"] for row in open_dataset(tmp_path / "out").case_rows if row["excluded"]}
    assert copies == {"7": "0", "8": "1"}


def _mask_of(folder, stem):
    return np.asarray(Image.open(folder / "masks" / f"{stem}.png"))


def test_classes_that_share_values_or_never_occur_are_told(folder, tmp_path):
    given = parse_class_map("1=nerve,2=nerve,3=vessel")
    remarks = import_labels(folder, tmp_path / "out", class_map=given, size=32).remarks
    assert "mask values 1 and 2 are one class: nerve" in remarks
    assert "class vessel (mask value 3) occurs in no mask: leave it out, or look" in remarks
    assert not any(
        "class" in remark for remark in import_labels(folder, tmp_path / "b", class_map=TWO, size=32).remarks
    )


def test_rows_may_give_bare_names_where_these_are_unique(folder, tmp_path):
    rows = [f"{n}.png,p{n}" for n in range(5)]
    (folder / "who.csv").write_text("\n".join(["image,patient", *rows, "9.png,p9", "gone.png,p9"]))
    table = find_table(folder, given=None)
    summary = import_labels(folder, tmp_path / "out", class_map=TWO, size=32, table=table)
    assert "1 row of the CSV names no file: gone.png" in summary.remarks
    assert [case.patient for case in open_dataset(tmp_path / "out").index.cases] == ["p0", "p1", "p2", "p3", "p4", "p9"]
    write_pair(folder / "test", "1", np.asarray(Image.open(folder / "images" / "2.png")), _mask_of(folder, "2"))
    with pytest.raises(DataError) as caught:
        import_labels(folder, tmp_path / "other", class_map=TWO, size=32, table=table)
    assert str(caught.value) == (
        f"{folder / 'who.csv'}: has no row for images/1.png and 1 other file; row '1.png' could be it or another of "
        f"that name; rows are paths below {folder}: add one, or take the file away"
    )


def test_groups_join_through_likeness():
    names = join_groups(["a", "b", "c", "d", "e", "f"], ["g2", "g1", "g1", "", "", ""], [(0, 2), (3, 4)])
    assert names == ["g1", "g1", "g1", "like-d", "like-d", ""]
