"""Regions become masks by names and nesting; what is wrong with an outline is said."""

import numpy as np
import pytest

from uscl.data.ingest.annotation import Annotation, Region, rasterise
from uscl.data.ingest.case_masks import count_crossings, outline_faults, to_case
from uscl.data.ingest.class_names import ClassNames, check_named, parse_class_names, read_class_names
from uscl.errors import DataError

SHAPE = (20, 30)


def rect(left, top, right, bottom, name="A"):
    return Region(name, outline=np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float))


def test_masks_in_order_of_the_classes_with_the_inner_in_the_outer():
    named = parse_class_names("Capsule=capsule,Cortex=cortex,Hole=cortex", ["capsule=cortex"], ignore=["Note"])
    drawn = Annotation("a", (rect(2, 2, 9, 9, "Capsule"), rect(8, 8, 12, 12, "Cortex"), rect(20, 2, 25, 5, "Note")))
    masks, known = to_case([drawn], named, SHAPE)
    assert named.classes == ("capsule", "cortex") and masks.shape == (2, *SHAPE) and masks.dtype == bool
    assert masks[1].sum() == 25 and masks[0].sum() == 64 + 25 - 4 and known.all()


def test_two_outlines_of_a_class_are_even_odd_and_points_beyond_the_border_cut():
    inner = rasterise([rect(2, 2, 12, 12), rect(5, 5, 9, 9)], SHAPE)
    assert not inner[7, 7] and inner[3, 3]
    cut = rasterise([rect(-5000, -7, 4, 99999)], SHAPE)
    assert cut[:, :5].all() and not cut[:, 5:].any()


def test_unknown_regions_are_not_known():
    named = ClassNames({"A": "a"}, unknown=("Shadow",))
    masks, known = to_case([Annotation("x", (rect(0, 0, 3, 3, "Shadow"),))], named, SHAPE)
    assert not masks.any() and (~known).sum() == 16 and not known[0, 0]


def test_lines_and_strange_names_are_refused():
    line = Region("A", outline=np.zeros((2, 2)), enclosed=False)
    with pytest.raises(DataError, match="'A' is drawn as line or points, which enclose nothing: close or ignore it"):
        to_case([Annotation("x", (line,))], ClassNames({"A": "a"}), SHAPE)
    with pytest.raises(DataError, match="a region is called 'B', which --classes does not map"):
        to_case([Annotation("x", (rect(0, 0, 1, 1, "B"),))], ClassNames({"A": "a"}), SHAPE)
    assert not to_case([Annotation("x", (line,))], ClassNames({"B": "b"}, ignore=("A",)), SHAPE)[0].any()


@pytest.mark.parametrize(
    "points, faults",
    [
        ([(2, 2), (9, 2), (9, 9), (2, 9)], ()),
        ([(2, 2), (2, 2), (9, 2), (9, 9), (2, 9), (2, 2)], ()),
        ([(0, 0), (30, 0), (30, 20), (0, 20)], ()),
        ([(2, 2), (9, 9), (9, 2), (2, 9)], ("crosses itself: 1 pair of its sides meets",)),
        ([(2, 2), (9, 9)], ("has fewer than 3 points",)),
        ([(2, 2), (5, 5), (9, 9), (7, 7)], ("has no area",)),
        ([(-3, 2), (9, 2), (9, 9)], ("lies partly outside the image",)),
        ([(40, 2), (50, 2), (50, 9)], ("lies outside the image",)),
    ],
)
def test_faults_of_outlines(points, faults):
    assert outline_faults(Region("A", outline=np.array(points, float)), SHAPE) == faults


def test_faults_of_masks_and_lines():
    assert outline_faults(Region("A", mask=np.ones((3, 3), bool), left=2, top=2), SHAPE) == ()
    assert outline_faults(Region("A", mask=np.zeros((3, 3), bool)), SHAPE) == ("has no area",)
    assert outline_faults(Region("A", mask=np.ones((3, 3), bool), left=-1), SHAPE) == ("lies partly outside the image",)
    assert outline_faults(Region("A", mask=np.ones((3, 3), bool), left=30), SHAPE) == ("lies outside the image",)
    assert outline_faults(Region("A", outline=np.zeros((1, 2)), enclosed=False), SHAPE) == ()


def test_crossings_of_a_star_and_of_a_long_outline(rng):
    turn = np.arange(5) * 4 * np.pi / 5
    assert count_crossings(np.stack([np.cos(turn), np.sin(turn)], axis=1)) == 5
    turn = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    assert count_crossings(1000 * np.stack([np.cos(turn), np.sin(turn)], axis=1)) == 0
    many = Region("A", outline=rng.uniform(0, 19, (10_001, 2)))
    assert outline_faults(many, SHAPE) == ("has 10001 points, too many to look for crossings",)


def test_names_that_mean_nothing_are_counted():
    drawn = [Annotation("x", (rect(0, 0, 1, 1, "capsul"), rect(0, 0, 1, 1, "capsul"), rect(0, 0, 1, 1, "Q")))]
    with pytest.raises(DataError) as caught:
        check_named(drawn, ClassNames({"Capsule": "capsule"}))
    assert str(caught.value) == (
        "3 regions have names that --classes does not map: 'capsul' (2; did you mean 'Capsule'?), 'Q' (1); "
        "map each to a class, or leave it out with --ignore NAME"
    )
    check_named(drawn, ClassNames({"capsul": "capsule"}, ignore=("Q",)))


def test_a_file_of_names(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text(
        "classes: {Central Echo Complex: cec, Capsule: capsule}\ncontains: {capsule: [cec]}\nignore: [Note]\n"
    )
    assert read_class_names(path) == ClassNames(
        {"Central Echo Complex": "cec", "Capsule": "capsule"}, {"capsule": ["cec"]}, ("Note",)
    )
    assert parse_class_names("cec, Cortex = cortex").names == {"cec": "cec", "Cortex": "cortex"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("classes: [a]", "expected `classes: {REGION: CLASS}` and the like"),
        ("classes: {a: b}\nignored: [c]", "unknown key 'ignored'; known are classes, contains, ignore, unknown"),
        ("classes: {a: b}\nignore: c", "expected a list of names"),
        ("classes: {}", "names no class"),
        ("classes: {a: b}\nignore: [a]", "'a' cannot be a class and left out or unknown as well"),
        ("classes: {a: b}\ncontains: {b: [c]}", "'b' contains 'c', which is no class"),
        ("classes: {a: b, c: d}\ncontains: {b: [d], d: [b]}", "'b' lies within itself"),
        ("{", "expected `classes: {REGION: CLASS}` and the like"),
    ],
)
def test_files_of_names_that_are_refused(tmp_path, text, message):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_class_names(path)
    assert message in str(caught.value) and "classes.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "classes, contains", [("=a", []), ("a=", []), ("a=b,a=c", []), ("", []), ("a=b", ["b="]), ("a=b", ["=b"])]
)
def test_words_of_names_that_are_refused(classes, contains):  # fmt: skip
    with pytest.raises(DataError, match=r"^--c"):
        parse_class_names(classes, contains)
