"""Mask images as labs have them: palettes, colours, soft edges, JPEG, several files of one image, other sizes."""

import struct
import zlib

import numpy as np
import pytest
from clip_files import speckle, write_pair
from PIL import Image

from uscl.data.dataset import open_dataset
from uscl.data.ingest.labels import import_labels
from uscl.data.ingest.mask_layout import MaskLayout, find_pictures
from uscl.data.ingest.mask_values import MaskFile, MaskRules, fit, read_mask
from uscl.data.ingest.masks import ClassMap, parse_class_map, read_class_map, read_grey
from uscl.data.ingest.table import find_table
from uscl.errors import DataError

NERVE = ClassMap({1: "nerve"})
RED_BLUE = ClassMap({}, colours={(255, 0, 0): "nerve", (0, 0, 255): "vessel"})
NO_RULES = MaskRules()
CUT = MaskRules(threshold=128)


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8), mode).save(path)
    return path


def planes(path, class_map, rules=NO_RULES, name=""):
    return read_mask(MaskFile(path, name), class_map, rules).masks[:, 0]


def square(value=1, size=20, side=8):
    mask = np.zeros((size, size), np.uint8)
    mask[4 : 4 + side, 4 : 4 + side] = value
    return mask


def import_all(folder, out, class_map=NERVE, **options):
    return import_labels(folder, out, class_map=class_map, size=32, **options)


# ---- values


def test_a_palette_mask_keeps_its_indices(tmp_path):
    """The colours of a palette are decoration: index 1 is drawn in the colour that another tool gives to index 2."""
    mask = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    mask.putpalette([0, 0, 0, 0, 128, 0, 128, 0, 0])
    mask.save(tmp_path / "m.png")
    assert planes(tmp_path / "m.png", ClassMap({1: "a", 2: "b"})).tolist() == [[[0, 1, 0]], [[0, 0, 1]]]


def test_a_palette_mask_is_read_by_colour_where_the_map_names_colours(tmp_path):
    mask = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    mask.save(tmp_path / "m.png")
    assert planes(tmp_path / "m.png", RED_BLUE).tolist() == [[[0, 1, 0]], [[0, 0, 1]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_the_pixel_format_does_not_matter(tmp_path, mode):
    values = square(1)
    picture = {
        "1": lambda: Image.fromarray(values.astype(bool)),
        "L": lambda: Image.fromarray(values),
        "LA": lambda: Image.fromarray(np.stack([values, np.full_like(values, 255)], -1)),
        "RGB": lambda: Image.fromarray(np.stack([values] * 3, -1)),
        "RGBA": lambda: Image.fromarray(np.stack([values] * 3 + [np.full_like(values, 255)], -1)),
        "I;16": lambda: Image.fromarray(values.astype(np.uint16)),
    }[mode]()
    assert picture.mode == mode
    picture.save(tmp_path / "m.png")
    assert np.array_equal(planes(tmp_path / "m.png", NERVE)[0], values == 1)


def test_unexpected_values_are_counted_and_many_hint_at_soft_edges(tmp_path, rng):
    with pytest.raises(DataError) as caught:
        planes(save(tmp_path / "m.png", [[0, 1, 3, 3, 7]]), NERVE)
    assert str(caught.value) == f"{tmp_path / 'm.png'}: holds value 3 (2 px), 7 (1 px), which --classes does not name"
    with pytest.raises(DataError, match=r"\.\.\., which --classes does not name; .*--threshold 128 cuts"):
        planes(save(tmp_path / "m.png", speckle(rng, 9, 9)), NERVE)


# ---- thresholds


@pytest.mark.parametrize("name", ["m.png", "m.jpg"])
def test_soft_edges_are_cut_and_the_pixels_in_between_counted(tmp_path, name):
    mask = square(255)
    mask[4, 4:12], mask[11, 4:12] = 127, 128
    path = save(tmp_path / name, mask)
    stored = np.asarray(Image.open(path))
    read = read_mask(MaskFile(path), ClassMap({255: "nerve"}), CUT)
    assert np.array_equal(read.masks[0, 0], stored >= 128)
    assert read.between == np.count_nonzero((stored > 0) & (stored < stored.max())) > 0


def test_an_import_says_what_a_threshold_decided(tmp_path, rng):
    mask = square(255)
    mask[4, 4:8] = 100
    write_pair(tmp_path / "in", "a", speckle(rng, 20, 20), mask)
    write_pair(tmp_path / "in", "b", speckle(rng, 20, 20), square(255))
    summary = import_all(tmp_path / "in", tmp_path / "out", rules=CUT)
    assert "4 pixels in between in the masks of 1 image: decided by a cut at 128" in summary.remarks
    assert open_dataset(tmp_path / "out").case("a").masks.sum() == 60


@pytest.mark.parametrize(
    ("class_map", "values", "message"),
    [
        (NERVE, [[0, 1]], "no pixel reaches the threshold 128; its largest value is 1"),
        (ClassMap({1: "a", 2: "b"}), [[0, 255]], "--threshold cuts masks of one class, and 2 are named: a, b"),
    ],
)
def test_a_threshold_that_cannot_be_meant_is_refused(tmp_path, class_map, values, message):
    with pytest.raises(DataError, match=message):
        planes(save(tmp_path / "m.png", values), class_map, CUT)


# ---- colours


def test_colours_are_classes(tmp_path):
    path = save(tmp_path / "m.png", [[[0, 0, 0], [255, 0, 0], [0, 0, 255]]])
    assert planes(path, RED_BLUE).tolist() == [[[0, 1, 0]], [[0, 0, 1]]]


def test_a_colour_map_file_with_nesting_and_a_colour_for_nobody_knows(tmp_path):
    file = tmp_path / "classes.yaml"
    colours = 'colours: {"#FF0000": cortex, "#0000ff": rest}'
    file.write_text(f'{colours}\ncontains: {{capsule: [cortex, rest]}}\nignore: "#ffffff"\n')
    class_map = read_class_map(file)
    assert class_map.classes == ("cortex", "rest", "capsule")
    write_pair(tmp_path / "in", "a", np.full((1, 4), 99, np.uint8), np.zeros((1, 4), np.uint8))
    save(tmp_path / "in" / "masks" / "a.png", [[[0, 0, 0], [255, 0, 0], [0, 0, 255], [255, 255, 255]]])
    import_all(tmp_path / "in", tmp_path / "out", class_map)
    case = open_dataset(tmp_path / "out").case("a")
    assert case.masks.tolist() == [[[0, 1, 0, 0]], [[0, 0, 1, 0]], [[0, 1, 1, 0]]]
    assert case.known.tolist() == [[1, 1, 1, 0]]


def test_colours_off_the_map_are_counted_and_taken_only_on_request(tmp_path):
    path = save(tmp_path / "m.png", [[[0, 0, 0], [255, 0, 0], [200, 0, 0], [200, 0, 0], [60, 0, 0], [0, 0, 255]]])
    with pytest.raises(DataError) as caught:
        planes(path, RED_BLUE)
    assert str(caught.value) == (
        f"{path}: holds colour #c80000 (2 px), #3c0000 (1 px), which the class map does not name; soft edges? "
        "--colour-tolerance 60 takes the nearest named colour"
    )
    read = read_mask(MaskFile(path), RED_BLUE, MaskRules(colour_tolerance=60))
    assert read.masks[:, 0].tolist() == [[[0, 1, 1, 1, 0, 0]], [[0, 0, 0, 0, 0, 1]]]
    assert read.between == 3
    with pytest.raises(DataError, match=r"#3c0000 \(1 px\)"):
        planes(path, RED_BLUE, MaskRules(colour_tolerance=59))


def test_a_colour_mask_without_a_colour_map_says_what_would_do(tmp_path):
    path = save(tmp_path / "m.png", [[[0, 0, 0], [255, 0, 0]]])
    with pytest.raises(DataError, match=r"is a colour picture.*or name its colours in a class map"):
        planes(path, NERVE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colours: {red: nerve}", "'red' is no colour; write it in quotes, like '#ff0000'"),
        ("colours: {'#ff00': nerve}", "is no colour"),
        ("classes: {1: nerve}\ncolors: {}", "unknown key 'colors'; known are classes, colours, contains, ignore"),
        ("contains: {a: [b]}", "names no class"),
        ("classes: {true: nerve}", "True is no mask value"),
        ("colours: {'#ff0000': a}\ncontains: {a: b}", "expected a list of names"),
    ],
)
def test_class_maps_that_say_nothing_are_refused(tmp_path, text, message):
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_map(tmp_path / "classes.yaml")


# ---- sizes


def test_a_mask_of_another_size_is_scaled_on_request(tmp_path, rng):
    write_pair(tmp_path / "in", "a", speckle(rng, 20, 20), np.kron(square(), np.ones((2, 2), np.uint8)))
    with pytest.raises(DataError, match=r"is 20 x 20 px .*is 40 x 40 px; --mask-size resize-nearest scales masks"):
        import_all(tmp_path / "in", tmp_path / "out")
    summary = import_all(tmp_path / "in", tmp_path / "out", rules=MaskRules(resize=True))
    assert "1 mask scaled to their images, nearest pixel" in summary.remarks
    assert np.array_equal(open_dataset(tmp_path / "out").case("a").masks[0], square() == 1)


def test_a_mask_of_another_shape_is_never_scaled(tmp_path):
    read = read_mask(MaskFile(save(tmp_path / "m.png", np.ones((20, 30)))), NERVE, NO_RULES)
    with pytest.raises(DataError, match="another shape, so it cannot be scaled to it"):
        fit(read, (1, 20, 20), image=tmp_path / "i.png", mask=tmp_path / "m.png", resize=True)


@pytest.mark.parametrize("size", [(40_000, 40_000), (40_000, 2)])
def test_an_enormous_image_is_refused_before_it_is_decoded(tmp_path, size):
    """A header of 25 bytes is enough to say so."""
    header = b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "big.png").write_bytes(start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    with pytest.raises(DataError, match=r"big\.png: (a frame of|is far too large)"):
        read_grey(tmp_path / "big.png")


# ---- which mask belongs to which image


def names(folder, layout):
    return {
        p.name: {who: [f.path.name for f in files] for who, files in p.masks.items()}
        for p in find_pictures(folder, layout).pictures
    }


def test_masks_lie_beside_their_images_with_further_ones_numbered(tmp_path, rng):
    """The layout of BUSI; `benign (1)` begins the name of no mask of `benign (10)`."""
    for stem in ("benign (1)", "benign (10)"):
        save(tmp_path / "benign" / f"{stem}.png", speckle(rng, 20, 20))
        save(tmp_path / "benign" / f"{stem}_mask.png", square(255))
    other = np.zeros((20, 20), np.uint8)
    other[14:18, 14:18] = 255
    save(tmp_path / "benign" / "benign (1)_mask_1.png", other)
    layout = MaskLayout("{stem}_mask*.png")
    assert names(tmp_path, layout) == {
        "benign/benign (1).png": {"": ["benign (1)_mask.png", "benign (1)_mask_1.png"]},
        "benign/benign (10).png": {"": ["benign (10)_mask.png"]},
    }
    import_all(tmp_path, tmp_path / "out", parse_class_map("255=lesion"), layout=layout)
    dataset = open_dataset(tmp_path / "out")
    assert [case.case for case in dataset.index.cases] == ["benign-benign_1_", "benign-benign_10_"]
    assert dataset.case("benign-benign_1_").masks.sum() == 64 + 16


def test_masks_named_after_their_images_in_the_folder_beside(tmp_path, rng):
    for stem in ("1_1", "1_2"):
        save(tmp_path / "images" / f"{stem}.tif", speckle(rng, 20, 20))
    save(tmp_path / "masks" / "1_1_mask.tif", square())
    layout = MaskLayout("{stem}_mask.tif")
    assert names(tmp_path, layout) == {"images/1_1.tif": {"": ["1_1_mask.tif"]}, "images/1_2.tif": {}}


@pytest.mark.parametrize("pattern", ["mask.png", "{stem}", "../{stem}.png", "{stem}{stem}.png"])
def test_a_pattern_that_names_no_image_is_refused(tmp_path, pattern):
    with pytest.raises(DataError, match="--mask-pattern: cannot read"):
        find_pictures(tmp_path, MaskLayout(pattern))


def test_a_folder_per_class_holds_masks_that_overlap(tmp_path, rng):
    image = speckle(rng, 20, 20)
    write_pair(tmp_path / "in", "a", image, square())
    (tmp_path / "in" / "masks" / "a.png").unlink()
    save(tmp_path / "in" / "masks" / "kidney" / "a.png", square(255))
    save(tmp_path / "in" / "masks" / "cyst" / "a.png", square(1, side=2))
    with pytest.raises(DataError, match=r"holds folders \(cyst, kidney\) and no masks; --subfolders class"):
        find_pictures(tmp_path / "in")
    class_map = parse_class_map("1=cyst,2=kidney")
    import_all(tmp_path / "in", tmp_path / "out", class_map, layout=MaskLayout(subfolders="class"))
    assert open_dataset(tmp_path / "out").case("a").masks.sum(axis=(1, 2)).tolist() == [4, 64]


def test_a_class_folder_with_soft_masks_asks_for_a_threshold(tmp_path):
    path = save(tmp_path / "m.png", [[0, 255, 128]])
    with pytest.raises(DataError, match=r"shows nerve alone, but holds values 128 \(1 px\), 255 \(1 px\); --threshold"):
        planes(path, NERVE, name="nerve")
    assert planes(path, NERVE, CUT, name="nerve").tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize(("missing", "cases"), [("absent", ["a", "b"]), ("skip-image", ["a"])])
def test_a_class_without_a_file_on_an_image_is_a_decision(tmp_path, rng, missing, cases):
    for stem, folders in (("a", ("cyst", "kidney")), ("b", ("kidney",))):
        save(tmp_path / "in" / "images" / f"{stem}.png", speckle(rng, 20, 20))
        for name in folders:
            save(tmp_path / "in" / "masks" / name / f"{stem}.png", square(255))
    options = {"class_map": parse_class_map("1=cyst,2=kidney"), "layout": MaskLayout(subfolders="class")}
    with pytest.raises(DataError) as caught:
        import_all(tmp_path / "in", tmp_path / "out", **options)
    assert str(caught.value) == (
        "1 image has masks of some classes only (images/b.png lacks cyst): is the class not there, or did nobody "
        "annotate it? --missing absent takes it as not there, --missing skip-image leaves such images out"
    )
    summary = import_all(tmp_path / "in", tmp_path / "out", rules=MaskRules(missing=missing), **options)
    assert [case.case for case in open_dataset(tmp_path / "out").index.cases] == cases
    assert any(f"as --missing {missing} says" in remark for remark in summary.remarks)


# ---- empty is not "not annotated"


@pytest.fixture
def sparse(tmp_path, rng):
    """Three images: one drawn on, one with an empty mask, one without a mask."""
    write_pair(tmp_path / "in", "drawn", speckle(rng, 20, 20), square())
    write_pair(tmp_path / "in", "empty", speckle(rng, 20, 20), square(0))
    write_pair(tmp_path / "in", "missing", speckle(rng, 20, 20), square())
    (tmp_path / "in" / "masks" / "missing.png").unlink()
    return tmp_path / "in"


def test_a_missing_mask_is_refused_until_somebody_says_what_it_means(sparse, tmp_path):
    with pytest.raises(DataError) as caught:
        import_all(sparse, tmp_path / "out")
    assert str(caught.value) == (
        f"{sparse / 'images' / 'missing.png'} has no mask; each image needs the mask of the same name "
        "(--unlisted skip leaves such images out, --unlisted absent takes them as showing none of the classes)"
    )


def test_an_empty_mask_is_refused_until_somebody_says_what_it_means(sparse, tmp_path):
    with pytest.raises(DataError) as caught:
        import_all(sparse, tmp_path / "out", rules=MaskRules(unlisted="skip"))
    assert str(caught.value) == (
        "1 mask holds no pixel of any class (images/empty.png): is nothing there, or did nobody annotate? --empty "
        "absent keeps them as images without the classes, --empty skip leaves them out"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("empty", "unlisted", "cases"),
    [
        ("absent", "skip", ["drawn", "empty"]),
        ("skip", "skip", ["drawn"]),
        ("skip", "absent", ["drawn", "missing"]),
        ("absent", "absent", ["drawn", "empty", "missing"]),
    ],
)
def test_the_decision_is_carried_out_and_told(sparse, tmp_path, empty, unlisted, cases):
    summary = import_all(sparse, tmp_path / "out", rules=MaskRules(empty=empty, unlisted=unlisted))
    index = open_dataset(tmp_path / "out").index
    assert [case.case for case in index.cases] == cases and summary.cases == len(cases)
    assert [case.case for case in index.cases if case.classes] == ["drawn"]
    said = {"absent": "kept, as showing none of the classes", "skip": "left out, as not annotated"}
    assert f"1 empty mask: {said[empty]}" in summary.remarks
    said = {"absent": "taken as showing none of the classes", "skip": "left out"}
    assert (
        f"1 image has no mask (images/missing.png): {said[unlisted]}, as --unlisted {unlisted} says" in summary.remarks
    )


def test_nothing_left_is_an_error(tmp_path, rng):
    write_pair(tmp_path / "in", "a", speckle(rng, 20, 20), square(0))
    with pytest.raises(DataError, match="nothing is left to import"):
        import_all(tmp_path / "in", tmp_path / "out", rules=MaskRules(empty="skip"))


# ---- raters


@pytest.fixture
def rated(tmp_path, rng):
    """Three images; rater `1` drew on all, `2` on two of them, one with an empty mask."""
    for number in range(3):
        save(tmp_path / "in" / "images" / f"{number}.png", speckle(rng, 20, 20))
        save(tmp_path / "in" / "masks" / "1" / f"{number}.png", square())
    save(tmp_path / "in" / "masks" / "2" / "0.png", np.roll(square(), 2, axis=1))
    save(tmp_path / "in" / "masks" / "2" / "1.png", square(0))
    (tmp_path / "in" / "who.csv").write_text(
        "image,patient,quality,view\n" + "".join(f"images/{n}.png,p{n},Fair,Other\n" for n in range(3))
    )
    return tmp_path / "in"


BY_RATER = MaskLayout(subfolders="rater")


def test_a_folder_per_rater_keeps_raters_apart(rated, tmp_path):
    table = find_table(rated, given=None)
    rules = MaskRules(empty="absent", consensus=True)
    summary = import_all(rated, tmp_path / "out", layout=BY_RATER, rules=rules, table=table)
    dataset = open_dataset(tmp_path / "out")
    assert [(case.case, case.image, case.patient) for case in dataset.index.cases] == [
        ("0@1", "0", "p0"), ("0@2", "0", "p0"), ("0@consensus", "0", "p0"),
        ("1@1", "1", "p1"), ("1@2", "1", "p1"), ("1@consensus", "1", "p1"),
        ("2@1", "2", "p2"),
    ]  # fmt: skip
    assert {case.quality for case in dataset.index.cases} == {"Fair"}
    assert {row["view"] for row in dataset.case_rows} == {"Other"}
    assert "raters of 3 images: 1 3, 2 2, consensus 2; labels.rater chooses one" in summary.remarks
    both = dataset.case("0@1").masks & dataset.case("0@2").masks
    assert both.sum() == 48 and np.array_equal(dataset.case("0@consensus").masks, both)
    assert not dataset.case("1@consensus").masks.any()


def test_an_empty_mask_that_is_no_annotation_has_no_vote(rated, tmp_path):
    rules = MaskRules(empty="skip", consensus=True)
    import_all(rated, tmp_path / "out", layout=BY_RATER, rules=rules)
    assert [case.case for case in open_dataset(tmp_path / "out").index.cases] == [
        "0@1", "0@2", "0@consensus", "1@1", "2@1",
    ]  # fmt: skip


def test_a_copy_is_left_out_for_every_rater(rated, tmp_path):
    for place in ("images", "masks/1", "masks/2"):
        (rated / place / "9.png").write_bytes((rated / place / "0.png").read_bytes())
    (rated / "who.csv").unlink()
    import_all(rated, tmp_path / "out", layout=BY_RATER, rules=MaskRules(empty="absent"))
    dataset = open_dataset(tmp_path / "out")
    assert {row["case"]: row["copy_of"] for row in dataset.case_rows if row["excluded"]} == {"9@1": "0@1", "9@2": "0@2"}
    assert len({case.group for case in dataset.index.cases if case.picture in ("0", "9")}) == 1


def test_a_missing_mask_of_nobody_in_particular_cannot_be_absent(rated, tmp_path):
    (rated / "masks" / "1" / "2.png").unlink()
    with pytest.raises(DataError, match="--unlisted absent cannot say by which rater"):
        import_all(rated, tmp_path / "out", layout=BY_RATER, rules=MaskRules(unlisted="absent"))
