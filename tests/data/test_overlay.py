"""Overlays: outlines where masks end, in the colour of their class."""

import io

import numpy as np
from PIL import Image

from uscl.data.overlay import COLOURS, compare_masks, draw_contours, encode_png

IMAGE = np.full((64, 80), 90, np.uint8)


def square(start, stop):
    mask = np.zeros(IMAGE.shape, bool)
    mask[start:stop, start:stop] = True
    return mask


def test_small_frames_are_enlarged_by_a_whole_factor():
    assert draw_contours(IMAGE, np.zeros((0, 64, 80), bool)).shape == (256, 320, 3)


def test_a_mask_is_outlined_in_the_colour_of_its_class():
    picture = draw_contours(IMAGE, np.stack([square(10, 50), square(20, 40)]))
    coloured = [np.argwhere((picture == colour).all(axis=2)) for colour in COLOURS[:2]]
    assert coloured[0].min() in range(38, 43) and coloured[0].max() in range(197, 203)
    assert coloured[1].min() in range(78, 83) and coloured[1].max() in range(157, 163)
    assert (picture[120, 120] == 90).all()


def test_a_comparison_is_a_readable_png():
    truth = np.stack([square(10, 50)])
    png = encode_png(compare_masks(IMAGE, truth, truth, classes=("capsule",), title="test best p1 DSC 1.00"))
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape == (256 + 44, 3 * 320, 3)
    body = picture[44:]
    assert (body[:, 320:640] == body[:, 640:]).all() and (body[:, :320] != body[:, 320:640]).any()
