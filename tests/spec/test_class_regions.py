"""Nested classes as exclusive ones: unions, painting order, and what cannot be taken apart."""

import re

import pytest

from uscl.errors import SpecError
from uscl.spec.regions import containment, memberships, outer_first

KIDNEY = ("cortex", "capsule", "medulla", "cec")
INSIDE = {"capsule": ("cortex", "medulla", "cec")}


def test_a_containing_class_is_the_union_of_its_rim_and_what_it_contains():
    """Outputs: background, cortex, rim, medulla, CEC."""
    assert memberships(KIDNEY, containment(KIDNEY, INSIDE)) == (
        (False, True, False, False, False),
        (False, True, True, True, True),
        (False, False, False, True, False),
        (False, False, False, False, True),
    )


def test_containment_goes_to_the_last_level():
    chain = containment(("core", "shell", "whole"), {"whole": ("shell",), "shell": ("core",)})
    assert dict(chain) == {"shell": ("core",), "whole": ("core", "shell")}
    assert outer_first(("core", "shell", "whole"), chain) == (2, 1, 0)
    assert containment(("a", "b"), {}) == ()


@pytest.mark.parametrize(
    ("contains", "why"),
    [
        ({"a": ("c",), "b": ("c",)}, "'c' lies within 'a' and within 'b', which only overlap"),
        ({"a": ("b",), "b": ("a",)}, "'a' lies within itself"),
    ],
)
def test_partial_overlap_is_refused(contains, why):
    said = f"network.heads: softmax takes nested or separate classes, but {why}; use sigmoid"
    with pytest.raises(SpecError, match=f"^{re.escape(said)}$"):
        containment(("a", "b", "c"), contains)
