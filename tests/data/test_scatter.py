"""The scatter picture: where points land, in which colours, and that a long legend wraps."""

import numpy as np

from uscl.data.scatter import HEIGHT_PX, LEGEND_ROW_PX, WIDTH_PX, draw_scatter

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (130, 130, 130)


def draw(points, labels, names=("a", "b")):
    return draw_scatter(
        np.array(points, float).reshape(-1, 2), np.array(list(labels), int), names=names,
        colours=(RED, BLUE, GREY, GREY, GREY, GREY, GREY, GREY)[: len(names)], title="val | 2 pixels", axes=("x", "y"),
    )  # fmt: skip


def centre(picture, colour):
    """Mean row and column of a colour below the legend."""
    rows, columns = np.nonzero((picture[60:] == colour).all(axis=-1))
    return rows.mean() + 60, columns.mean()


def test_points_are_drawn_right_and_up_in_the_colour_of_their_class():
    picture = draw([[0.0, 0.0], [1.0, 5.0]], [0, 1])
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3) and picture.dtype == np.uint8
    (low_row, left), (high_row, right) = centre(picture, RED), centre(picture, BLUE)
    assert low_row > high_row + 250 and right > left + 350


def test_no_points_and_one_point_are_pictures_too():
    assert draw([], []).shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert (draw([[3.0, 3.0]], [1])[60:] == BLUE).all(axis=-1).any()


def test_a_class_without_points_is_not_in_the_legend():
    one, both = draw([[0, 0], [1, 1]], [1, 1]), draw([[0, 0], [1, 1]], [0, 1])
    heads = [(picture[26:44] == RED).all(axis=-1).any() for picture in (one, both)]
    assert heads == [False, True]


def test_a_long_legend_takes_another_row():
    names = [f"a structure with a name {number}" for number in range(6)]
    few, many = (draw([[n, n] for n in range(count)], range(count), names) for count in (2, 6))
    frame = [int(np.nonzero((picture[:, 250] == (90, 90, 90)).all(axis=-1))[0][0]) for picture in (few, many)]
    assert frame[1] == frame[0] + LEGEND_ROW_PX
