"""COCO as tools write it: polygons in parts, both run-length forms, ids as text, images without annotations."""

import json

import numpy as np
import pytest

from uscl.data.ingest.annotation import rasterise
from uscl.data.ingest.annotation_text import BadEntry
from uscl.data.ingest.coco import read_coco
from uscl.data.ingest.rle import from_counts, unpack_counts
from uscl.errors import DataError

SHAPE = (5, 4)
MASK = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 1]], bool)
RUNS = [4, 3, 3, 1, 7, 2]
"""Of MASK, column by column, the first of zeros."""


def pack(runs):
    """As the COCO API writes a string: differences to the run before the last, 5 bits a character, low ones first."""
    text = ""
    for position, run in enumerate(runs):
        value = run - runs[position - 2] if position > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 if more else bits))
    return text


def write(tmp_path, annotations, images=None, categories=None):
    document = {
        "info": {"contributor": "Dr Smith"},
        "images": [{"id": 0, "file_name": "a.png", "height": 5, "width": 4}] if images is None else images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}] if categories is None else categories,
    }
    (tmp_path / "c.json").write_text(json.dumps(document))
    return tmp_path / "c.json"


def entry(segmentation, **more):
    return {"id": "1", "image_id": 0, "category_id": 1, "segmentation": segmentation, "bbox": [0, 0, 1, 1]} | more


@pytest.mark.parametrize("counts", [RUNS, pack(RUNS)])
def test_run_lengths_go_down_the_columns(tmp_path, counts):
    (annotation,) = read_coco(write(tmp_path, [entry({"size": list(SHAPE), "counts": counts}, iscrowd=1)]))
    (region,) = annotation.regions
    assert region.name == "object" and np.array_equal(rasterise([region], SHAPE), MASK)
    assert annotation.size == SHAPE and annotation.remarks == ("a crowd (iscrowd) counts as one region",)


def test_the_decoder_agrees_with_the_coco_api(rng):
    mask_api = pytest.importorskip("pycocotools.mask")
    for _ in range(50):
        shape = tuple(map(int, rng.integers(1, 90, 2)))
        mask = rng.random(shape) < rng.random()
        packed = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        runs = unpack_counts(packed)
        assert pack(runs) == packed and np.array_equal(from_counts(runs, shape, by_columns=True), mask)


def test_parts_are_regions_and_ids_may_be_text(tmp_path):
    images = [{"id": "7", "file_name": "b.png"}, {"id": 8, "file_name": "sub\\c.png", "height": 0, "width": 0}]
    parts = [[1, 1, 3, 1, 3, 3], [5.5, 5, 8, 5, 8, 8, 5, 8]]
    found = read_coco(write(tmp_path, [entry(parts, image_id=7.0, category_id="1")], images))
    assert [(a.image, len(a.regions), a.size) for a in found] == [("b.png", 2, None), ("sub/c.png", 0, None)]
    assert found[0].regions[1].outline.tolist() == [[5.5, 5], [8, 5], [8, 8], [5, 8]]
    (flat,) = read_coco(write(tmp_path, [entry([1, 1, 3, 1, 3, 3])]))
    assert flat.regions[0].outline.tolist() == [[1, 1], [3, 1], [3, 3]]


@pytest.mark.parametrize(
    "annotation, problem",
    [
        (entry([]), "has no outline or mask (a box alone says not which pixels)"),
        (entry(None), "has no outline or mask (a box alone says not which pixels)"),
        (entry([[1, 2, 3]]), "has 2 x but 1 y"),
        (entry([["Smith", 2]]), "holds something that is no number"),
        (entry({"counts": RUNS}), "mask lacks its size"),
        (entry({"size": [4, 5], "counts": RUNS}), "mask is 5 x 4 px, but its image 4 x 5 px"),
        (entry({"size": [5, 4], "counts": [1, 2]}), "mask's runs cover 3 pixels, but it is 4 x 5 px"),
        (entry({"size": [5, 4], "counts": [-1, 21]}), "holds something that is no whole number from 0 to 67108864"),
        (entry({"size": [5, 4], "counts": "\u00e9"}), "mask's run lengths are no COCO string"),
        (entry({"size": [5, 4], "counts": "o"}), "mask's run lengths end too early"),
        (entry({"size": [5, 4]}), "mask lacks its run lengths"),
        (entry([[1, 1, 2, 2, 3, 3]], category_id=9), "is of a category that the file does not list"),
    ],
)
def test_what_cannot_be_read_is_a_problem_of_its_image(tmp_path, annotation, problem):
    path = write(tmp_path, [annotation, entry([[1, 1, 3, 1, 3, 3]])])
    (found,) = read_coco(path)
    assert found.problems == (f"{path}: annotations[0]: {problem}",) and len(found.regions) == 1


def test_annotations_and_images_that_lead_nowhere(tmp_path):
    images = [{"id": 0, "file_name": "../a.png"}, {"file_name": "b.png"}, {"id": 2, "file_name": "c.png"}, 5]
    path = write(tmp_path, [entry([1, 1, 2, 2, 3, 3]), 7, entry([[1, 1, 3, 1, 3, 3]], image_id=2)], images)
    found = read_coco(path)
    assert [(a.image, len(a.regions)) for a in found] == [("c.png", 1), ("", 0), ("", 0), ("", 0), ("", 0)]
    assert [problem.removeprefix(f"{path}: ") for a in found for problem in a.problems] == [
        "images[0]: leaves the folder of images (it is absolute, an address or holds ..); make it relative",
        "images[1]: has no id",
        "images[3]: has no id",
        "2 annotations of images that the file does not list",
    ]


def test_two_entries_of_one_image_are_joined(tmp_path):
    images = [{"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "a.png"}]
    annotations = [entry([1, 1, 3, 1, 3, 3]), entry([1, 1, 3, 1, 3, 3], image_id=1)]
    (found,) = read_coco(write(tmp_path, annotations, images))
    assert len(found.regions) == 2
    assert found.remarks == ("two entries name this image: their regions are joined",)


@pytest.mark.parametrize(
    "images, categories, message",
    [
        (
            [{"id": 0, "file_name": "a"}, {"id": "0", "file_name": "b"}],
            None,
            "images[1]: its id occurs twice; which image",
        ),
        (None, [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "categories[1]: expected an id of its own and a name"),
        (None, [{"id": 1}], "categories[0]: expected an id of its own and a name"),
        ({}, None, "is no COCO JSON; expected an object with lists images, annotations and categories"),
    ],
)
def test_files_that_mean_nothing_are_refused(tmp_path, images, categories, message):
    with pytest.raises(DataError) as caught:
        read_coco(write(tmp_path, [], images, categories))
    assert message in str(caught.value)


def test_a_mask_larger_than_memory_is_refused_before_it_is_made():
    with pytest.raises(BadEntry, match="mask is 100000 x 100000 px; expected 1 to 67108864 pixels"):
        from_counts([10**10], (100_000, 100_000), by_columns=True)


def test_runs_may_be_longer_than_any_side():
    mask = from_counts([200_000, 1, 99_999], (500, 600), by_columns=True)
    assert mask.sum() == 1 and mask[0, 400]
