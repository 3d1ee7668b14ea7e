"""Into the square and back: aspect, padding, masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uscl.data.letterbox import Letterbox


def test_a_wide_image_is_centred_with_black_above_and_below():
    box = Letterbox(20, 40, 64)
    square = box.to_square(np.full((20, 40), 200, np.uint8))
    assert (box.scale, box.inner, box.top, box.left) == (1.6, (32, 64), 16, 0)
    assert (square[:16] == 0).all() and (square[48:] == 0).all() and (square[16:48] == 200).all()


def test_the_same_size_is_not_touched():
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert np.array_equal(Letterbox(64, 64, 64).to_square(image), image)


def test_shrinking_is_by_area():
    image = np.kron([[10, 30], [50, 70]], np.ones((1, 1))).astype(np.uint8)
    assert Letterbox(2, 2, 1).to_square(image).item() == 40


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 90), st.integers(8, 90), st.integers(16, 96))
def test_shapes_and_types_are_kept(height, width, size):
    box = Letterbox(height, width, size)
    masks = np.ones((2, height, width), bool)
    square = box.to_square(masks)
    assert square.shape == (2, size, size) and square.dtype == bool
    assert square[0].sum() == box.inner[0] * box.inner[1]
    assert max(box.inner) == size
    native = box.to_native(square.astype(np.float32))
    assert native.shape == masks.shape and (native == 1).all()


def test_a_disc_survives_the_round_trip():
    rows, columns = np.mgrid[:120, :200]
    disc = (rows - 50) ** 2 + (columns - 130) ** 2 < 30**2
    box = Letterbox(120, 200, 160)
    back = box.to_native(box.to_square(disc[None]).astype(np.float32))[0] > 0.5
    dice = 2 * (back & disc).sum() / (back.sum() + disc.sum())
    assert dice > 0.98


@pytest.mark.parametrize("shape", [(0, 30, 20)])
def test_no_planes_stay_no_planes(shape):
    box = Letterbox(30, 20, 32)
    assert box.to_square(np.zeros(shape, bool)).shape == (0, 32, 32)
    assert box.to_native(np.zeros((0, 32, 32))).shape == (0, 30, 20)


def test_shrunk_and_enlarged_keep_a_disc_and_never_enlarge_a_small_frame():
    rows, columns = np.mgrid[:120, :200]
    disc = (rows - 50) ** 2 + (columns - 130) ** 2 < 30**2
    box = Letterbox(120, 200, 100)
    small = box.shrunk(disc, "nearest")
    assert small.shape == (60, 100)
    back = box.enlarged(small[None])[0]
    assert 2 * (back & disc).sum() / (back.sum() + disc.sum()) > 0.96
    whole = Letterbox(120, 200, 400)
    assert whole.shrunk(disc) is disc and whole.enlarged(disc[None])[0] is not None
    assert (whole.enlarged(disc[None])[0] == disc).all()
