"""Figures of a search are drawn from numbers alone."""

import pytest

from uscl.report.search_figures import FRONT, HISTORY, IMPORTANCE, SearchPicture, SearchPoint, draw_search

POINTS = tuple(SearchPoint(at, (0.1 * at, 1 - 0.1 * at), feasible=at != 3, best=at in (1, 5)) for at in range(6))
ONE, TWO = {"val/dsc": "maximize"}, {"val/dsc": "maximize", "val/delta_snr": "minimize"}
SHARES = {"val/dsc": {"speckle.weight": 0.9, "temporal.window": 0.1}}


@pytest.mark.parametrize(
    ("picture", "names"),
    [
        (SearchPicture(ONE, ()), set()),
        (SearchPicture(ONE, POINTS, {"val/dsc": [(0, float("nan")), (1, 0.1)]}), {HISTORY}),
        (SearchPicture(ONE, POINTS, importance=SHARES), {HISTORY, IMPORTANCE}),
        (SearchPicture(TWO, POINTS, importance=SHARES), {HISTORY, IMPORTANCE, FRONT}),
    ],
)
def test_what_there_is_something_to_draw_for_is_drawn_and_the_same_twice(picture, names):
    drawn = draw_search(picture)
    assert drawn.keys() == names
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
    assert drawn == draw_search(picture)
    assert not names or len(set(drawn.values())) == len(names)


def test_one_point_and_no_feasible_one_are_drawn():
    assert draw_search(SearchPicture(TWO, (SearchPoint(0, (0.5, 0.5), feasible=False),))).keys() == {HISTORY, FRONT}
