"""LabelMe: floats, boxes, masks in their boxes, paths from Windows; a picture inside the file is never looked at."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from uscl.data.ingest.annotation import rasterise
from uscl.data.ingest.labelme import read_labelme
from uscl.errors import DataError

SHAPE = (20, 30)
KINDS = "is of a shape_type that is not read: expected polygon, rectangle, circle or mask"
NO_PNG = "is a mask whose picture is no PNG of its box, 2 x 2 px"


def shape(points, kind="polygon", label="Cortex", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def png(mask):
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def write(tmp_path, shapes, **more):
    document = {"version": "5.4.1", "flags": {"good": True}, "shapes": shapes, "imagePath": "img\\a.png"}
    document |= {"imageData": "not base64 of Mr Smith", "imageHeight": 20, "imageWidth": 30} | more
    (tmp_path / "a.json").write_text(json.dumps(document))
    return tmp_path / "a.json"


def test_shapes(tmp_path):
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:6] = True
    shapes = [
        shape([[1.9, 1.2], [5.9, 1.0], [5.0, 4.99]]),
        shape([[9.2, 7.9], [4.5, 3.5]], "rectangle", group_id=3),
        shape([[15, 10], [15, 14]], "circle"),
        shape([[10.0, 5.0], [15.0, 8.0]], "mask", mask=png(mask)),
        shape([[1, 1], [5, 5]], "linestrip"),
        shape([[1, 1], [5, 1], [5, 5], [1, 5]], None),
    ]
    (found,) = read_labelme(write(tmp_path, shapes))
    assert (found.image, found.size, found.problems, found.attributes) == ("img/a.png", SHAPE, (), {})
    polygon, box, circle, pixels, line, old = found.regions
    assert rasterise([polygon], SHAPE)[1, 1:6].all() and not rasterise([polygon], SHAPE)[5:].any()
    assert np.argwhere(rasterise([box], SHAPE)).tolist() == [[y, x] for y in range(3, 8) for x in range(4, 10)]
    assert rasterise([circle], SHAPE).sum() == pytest.approx(np.pi * 16, rel=0.2)
    assert np.array_equal(rasterise([pixels], SHAPE)[5:9, 10:16], mask)
    assert rasterise([pixels], SHAPE).sum() == mask.sum()
    assert not line.enclosed and old.enclosed


@pytest.mark.parametrize(
    "bad, problem",
    [
        (shape([[1, 1]], "rectangle"), "is a rectangle of 1 points; expected 2"),
        (shape([[1, 1, 1]]), "lacks its list of points"),
        (shape([["Smith", 1]]), "holds something that is no number"),
        (shape([[1, 1]], label=" "), "has no label"),
        (3, "has no label"),
        (shape([[1, 1]], "heart"), KINDS),
        (shape([[1, 1], [2, 2]], ["polygon"]), KINDS),
        (shape([[1, 1], [2, 2]], "mask"), "is a mask without its box or its pixels"),
        (shape([[1, 1], [2, 2]], "mask", mask="@"), "is a mask whose picture cannot be read"),
        (shape([[1, 1], [2, 2]], "mask", mask="\u00e9"), "is a mask whose picture cannot be read"),
        (shape([[1, 1], [2, 2]], "mask", mask=png(np.ones((3, 3)))), NO_PNG),
        (shape([[0, 0], [99999, 99999]], "mask", mask=""), "is a mask of more than 67108864 pixels"),
        (shape([[1, 1], [3, 3]], "mask", mask=png(np.ones((3, 3)))[:48]), "is a mask whose picture cannot be read"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_read_is_a_problem(tmp_path, bad, problem):
    path = write(tmp_path, [bad, shape([[1, 1], [5, 1], [5, 5]])])
    (found,) = read_labelme(path)
    assert found.problems == (f"{path}: shapes[0]: {problem}",) and len(found.regions) == 1


@pytest.mark.parametrize("name", ["../a.png", "..\\a.png", "C:\\Users\\smith\\a.png", "/home/smith/a.png", "", None])
def test_a_path_that_leaves_the_folder_is_a_problem_that_does_not_repeat_it(tmp_path, name):
    path = write(tmp_path, [], imagePath=name)
    (found,) = read_labelme(path)
    assert found.image == "" and len(found.problems) == 1
    assert found.problems[0].startswith(f"{path}: imagePath ") and "smith" not in found.problems[0]


def test_a_size_that_is_none_is_a_problem(tmp_path):
    path = write(tmp_path, [], imageHeight="tall")
    (found,) = read_labelme(path)
    assert found.problems == (f"{path}: imageHeight or imageWidth holds something that is no number",)


def test_a_large_picture_inside_does_no_harm(tmp_path):
    path = write(tmp_path, [shape([[1, 1], [5, 1], [5, 5]])], imageData="A" * 20_000_000)
    (found,) = read_labelme(path)
    assert len(found.regions) == 1 and "AAAA" not in repr(found)


@pytest.mark.parametrize("text", ["[]", "{}", '{"shapes": 3}', '{"shapes": ['])
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json"):
        read_labelme(tmp_path / "a.json")
