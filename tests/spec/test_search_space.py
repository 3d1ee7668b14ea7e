"""Ranges and spaces as data: how many points they hold, and that points lie in them."""

from __future__ import annotations

from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uscl.spec.points import every_point, random_point
from uscl.spec.ranges import in_words, takes
from uscl.spec.space import Bound, Choice, Dimension, FloatRange, IntRange, SearchSpec


@pytest.mark.parametrize(
    ("values", "size", "words"),
    [
        (IntRange(1, 20), 20, "whole numbers 1 to 20"),
        (IntRange(1, 20, step=2), 10, "whole numbers 1 to 20 by 2"),
        (IntRange(4, 4), 1, "whole numbers 4 to 4"),
        (IntRange(1, 100, log=True), 100, "whole numbers 1 to 100 (log)"),
        (FloatRange(0.1, 0.5, step=0.1), 5, "0.1 to 0.5 by 0.1"),
        (FloatRange(0, 1, step=1), 2, "0 to 1 by 1"),
        (FloatRange(0.0, 1.0, step=0.3), 4, "0 to 1 by 0.3"),
        (FloatRange(0.001, 1, log=True), inf, "0.001 to 1 (log)"),
        (Choice(("a", True, None)), 3, "one of a, true, null"),
        (Choice((0.5,)), 1, "0.5"),
    ],
)
def test_a_range_knows_its_size_and_says_itself(values, size, words):
    assert values.size == size
    assert in_words(values) == words


def test_values_between_steps_are_not_taken():
    assert takes(FloatRange(0.1, 0.5, step=0.1), 0.3) and not takes(FloatRange(0.1, 0.5, step=0.1), 0.35)
    assert takes(IntRange(1, 9, step=2), 5.0) and not takes(IntRange(1, 9, step=2), 4)
    assert not takes(IntRange(1, 9), "5") and not takes(IntRange(0, 1), True) and not takes(IntRange(1, 9), 11)


def search_over(*space: Dimension) -> SearchSpec:
    return SearchSpec("tpe", 10, {"val/dsc": "maximize"}, space)


def test_conditions_make_a_space_smaller():
    polarity = Dimension("polarity", Choice(("none", "near", "far")))
    window = Dimension("window", IntRange(1, 5), when={"polarity": ("near", "far")})
    guard = Dimension("guard", IntRange(0, 1), when={"polarity": ("far",), "window": (1, 2)})
    assert search_over(polarity, window, guard).size == 1 + 5 + 5 + 2
    points = list(every_point((polarity, window, guard)))
    assert points[0] == {"polarity": "none"} and len(points) == 13
    assert {"polarity": "far", "window": 2, "guard": 1} in points
    assert {"polarity": "near", "window": 2} in points


def test_a_dimension_whose_condition_was_not_asked_for_is_not_asked_for_either():
    first = Dimension("a", Choice((1, 2)))
    second = Dimension("b", Choice((3, 4)), when={"a": (1,)})
    third = Dimension("c", Choice((5, 6)), when={"b": (3, 4)})
    assert not third.is_asked({"a": 2}) and third.is_asked({"a": 1, "b": 3})
    assert list(every_point((first, second, third)))[-1] == {"a": 2}
    assert search_over(first, second, third).size == 5


def test_one_continuous_dimension_makes_a_space_endless():
    switch = Dimension("a", Choice(("on", "off")))
    weight = Dimension("w", FloatRange(0, 1), when={"a": ("on",)})
    assert search_over(switch, weight).size == inf
    assert search_over(switch, Dimension("n", IntRange(1, 3))).size == 6


@st.composite
def spaces(draw: st.DrawFn) -> tuple[Dimension, ...]:
    """Small finite spaces; some dimensions are conditioned on earlier ones."""
    space: list[Dimension] = []
    for name in "abcd"[: draw(st.integers(1, 4))]:
        values = draw(
            st.one_of(
                st.integers(1, 4).map(lambda n: Choice(tuple(range(n)))),
                st.builds(
                    lambda low, span, step: IntRange(low, low + span, step),
                    st.integers(-3, 3),
                    st.integers(0, 4),
                    st.integers(1, 3),
                ),
                st.builds(lambda n: FloatRange(0.1, 0.1 + 0.2 * n, step=0.2), st.integers(0, 3)),
            )
        )
        when = {}
        for earlier in space:
            points = [point[earlier.name] for point in every_point((Dimension(earlier.name, earlier.values),))]
            if draw(st.booleans()):
                when[earlier.name] = tuple(draw(st.lists(st.sampled_from(points), min_size=1, unique=True)))
        space.append(Dimension(name, values, when))
    return tuple(space)


@settings(max_examples=80, deadline=None)
@given(space=spaces(), seed=st.integers(0, 99))
def test_the_size_is_the_number_of_different_points_and_random_ones_are_among_them(space, seed):
    points = [tuple(point.items()) for point in every_point(space)]
    assert len(points) == len(set(points)) == search_over(*space).size
    assert tuple(random_point(space, Random(seed)).items()) in points
    for point in points:
        asked = dict(point)
        assert all(takes(dimension.values, asked[dimension.name]) for dimension in space if dimension.name in asked)


def test_random_points_of_a_log_range_are_alike_in_ratio():
    rng = Random(0)
    space = (Dimension("w", FloatRange(1e-4, 1, log=True)), Dimension("n", IntRange(1, 10_000, log=True)))
    points = [random_point(space, rng) for _ in range(2000)]
    assert sum(point["w"] < 1e-2 for point in points) / 2000 == pytest.approx(0.5, abs=0.05)
    assert sum(point["n"] <= 100 for point in points) / 2000 == pytest.approx(0.5, abs=0.05)
    assert all(takes(dimension.values, point[dimension.name]) for point in points for dimension in space)


def test_a_search_is_plain_json_with_open_bounds_left_out():
    search = SearchSpec(
        "gp", 5, {"val/dsc": "maximize"}, (Dimension("a", IntRange(1, 9, step=2)),), constraints={"val/dsc": Bound(0.5)}
    )
    assert search.to_json() == {
        "sampler": "gp",
        "trials": 5,
        "repeats": 1,
        "seed": 0,
        "objectives": {"val/dsc": "maximize"},
        "constraints": {"val/dsc": {"min": 0.5}},
        "space": {"a": {"int": [1, 9], "step": 2}},
    }
