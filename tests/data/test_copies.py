"""The same picture twice is found, also cropped and moved; another picture is not."""

import hashlib

import cv2
import numpy as np
import pytest

from uscl.data.ingest.copies import aligned_correlation, copies_to_exclude, find_likenesses, make_thumbnail


def texture(rng, height=300, width=330):
    coarse = rng.normal(size=(height // 6 + 1, width // 6 + 1)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 40 + 120
    grain = cv2.GaussianBlur(rng.normal(size=image.shape).astype(np.float32), (0, 0), 1.2) * 20  # as fine as speckle
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def with_mask(image):
    mask = np.zeros((1, *image.shape), bool)
    mask[0, 100:180, 120:200] = True
    return image, mask


def find(pairs, channels=None):
    thumbnails = [
        make_thumbnail(
            image, mask, exact=hashlib.sha256(image.tobytes()).hexdigest(), channels=(channels or {}).get(n, 3)
        )
        for n, (image, mask) in enumerate(pairs)
    ]
    likenesses = find_likenesses(thumbnails, lambda position: pairs[position][0])
    return likenesses, copies_to_exclude(thumbnails, likenesses)


def moved(image, mask):
    """As in usgra: columns 2 to the end, up 4 rows, black below."""
    shifted = np.zeros_like(image)
    shifted[:-4] = image[4:]
    below = np.zeros_like(mask)
    below[:, :-4] = mask[:, 4:]
    return shifted[:, 2:], below[:, :, 2:]


def test_a_moved_crop_is_a_copy_and_the_grey_one_goes(rng):
    pairs = [with_mask(texture(rng)) for _ in range(4)]
    pairs.append(moved(*pairs[1]))
    likenesses, copies = find(pairs, {1: 1})
    assert [(pair.first, pair.second, pair.copy) for pair in likenesses] == [(1, 4, True)]
    assert copies == {1: 4}


def test_among_many_too(rng):
    pairs = [with_mask(texture(rng)) for _ in range(70)]
    pairs.append(moved(*pairs[30]))
    pairs.append(pairs[11])
    _, copies = find(pairs)
    assert copies == {70: 30, 71: 11}


def test_the_same_pixels_are_a_copy_whatever_the_mask(rng):
    image, mask = with_mask(texture(rng))
    _, copies = find([(image, mask), (image, np.roll(mask, 40, axis=2)), with_mask(texture(rng))])
    assert copies == {1: 0}


def test_a_neighbouring_frame_with_another_mask_is_near_and_stays(rng):
    image, mask = with_mask(texture(rng))
    likenesses, copies = find([(image, mask), (moved(image, mask)[0], np.roll(mask, 40, axis=1)[:, :, 2:])])
    assert [pair.copy for pair in likenesses] == [False] and not copies


def test_three_of_one_keep_one(rng):
    image, mask = with_mask(texture(rng))
    _, copies = find([(image, mask)] * 3)
    assert copies == {1: 0, 2: 0}


def test_correlation_is_that_of_the_overlap(rng):
    image = texture(rng, 128, 140).astype(np.float32)
    other = image[5:, 3:] * 0.5 + 30
    correlation, down, right = aligned_correlation(image, other)
    assert (down, right) == (5, 3)
    assert correlation == pytest.approx(1, abs=1e-4)
    direct = np.corrcoef(image[:100].ravel(), texture(rng, 128, 140)[:100].ravel())[0, 1]
    assert abs(direct) < 0.5
