"""One label a pixel for nested classes: labels, regions, their way back, and what it cannot hold."""

import numpy as np
import pytest

from uscl.errors import DataError
from uscl.stages.nnunetv2.labels import LabelScheme, LossCount

KIDNEY = LabelScheme.of(("cortex", "capsule", "core", "stone"), {"capsule": ("cortex", "core"), "core": ("stone",)})
EVERYWHERE = np.ones((2, 3), bool)


def masks(**pixels):
    """Masks (4, 2, 3) of KIDNEY's classes; a class is 1 at the flat positions given."""
    planes = np.zeros((4, 6), bool)
    for name, positions in pixels.items():
        planes[KIDNEY.classes.index(name), positions] = True
    return planes.reshape(4, 2, 3)


NESTED = masks(capsule=[0, 1, 2, 3], cortex=[1], core=[2, 3], stone=[3])


def test_outer_classes_come_first_and_regions_hold_what_lies_within():
    assert KIDNEY.order == ("capsule", "cortex", "core", "stone")
    assert {name: KIDNEY.region(name) for name in KIDNEY.order} == {
        "capsule": (1, 2, 3, 4), "cortex": (2,), "core": (3, 4), "stone": (4,),
    }  # fmt: skip


def test_dataset_json_has_regions_and_their_order():
    assert KIDNEY.document(ignore=True) == {
        "labels": {"background": 0, "capsule": [1, 2, 3, 4], "cortex": 2, "core": [3, 4], "stone": 4, "ignore": 5},
        "regions_class_order": [1, 2, 3, 4],
    }


def test_classes_side_by_side_are_plain_labels():
    flat = LabelScheme.of(("b", "a"), {})
    assert not flat.nested and flat.document(ignore=False) == {"labels": {"background": 0, "b": 1, "a": 2}}


def test_nested_masks_survive_the_label_map():
    labels = KIDNEY.encode(NESTED, EVERYWHERE)
    assert labels.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert (KIDNEY.decode(labels) == NESTED).all()


def test_unknown_pixels_are_ignored_and_in_no_class():
    known = EVERYWHERE.copy()
    known[0, 0] = False
    labels = KIDNEY.encode(NESTED, known)
    assert labels[0, 0] == KIDNEY.ignore_label == 5 and not KIDNEY.decode(labels)[:, 0, 0].any()


def test_what_a_label_map_changes_is_counted():
    """cortex and core share one pixel: core, drawn later, wins; cortex loses 1 of its 2 pixels."""
    overlapping = masks(capsule=[0, 1, 2, 3], cortex=[1, 2], core=[2, 3])
    count = LossCount(KIDNEY)
    count.add(overlapping, KIDNEY.encode(overlapping, EVERYWHERE), EVERYWHERE)
    assert count.fractions == {"cortex": 0.5, "capsule": 0.0, "core": 0.0, "stone": 0.0}
    with pytest.raises(
        DataError, match=r"^nnU-Net gives each pixel one label, and that would change 50.0 % of class 'c"
    ):
        count.refuse_overlaps()


def test_an_inner_class_beyond_its_outer_one_widens_it():
    beyond = masks(capsule=[0, 1], cortex=[1, 4])
    count = LossCount(KIDNEY)
    count.add(beyond, KIDNEY.encode(beyond, EVERYWHERE), EVERYWHERE)
    assert count.fractions["capsule"] == 0.5 and count.fractions["cortex"] == 0.0


def test_a_few_pixels_are_forgiven_and_pixels_nobody_knows_do_not_count():
    count = LossCount(KIDNEY)
    beyond, known = masks(capsule=[0, 1], cortex=[1, 4]), EVERYWHERE.copy()
    known[1, 1] = False
    count.add(beyond, KIDNEY.encode(beyond, known), known)
    count.refuse_overlaps()
    assert max(count.fractions.values()) == 0.0


def test_a_class_within_itself_is_refused():
    with pytest.raises(DataError, match=r"^class 'a' lies within itself; correct what contains what$"):
        LabelScheme.of(("a", "b"), {"a": ("b",), "b": ("a",)})
