"""Whatever a file holds, a reader of annotations answers or refuses it in one line: never a traceback, never a hang."""

import base64
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from annotation_files import SQUARE, polygon, via_row, write_via
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uscl.data.ingest.annotations import FORMATS, read_annotations
from uscl.data.ingest.case_masks import outline_faults, to_case
from uscl.data.ingest.class_names import ClassNames
from uscl.errors import DataError

_KEYS = (
    "filename regions shape_attributes region_attributes name polygon rect circle ellipse cx cy r rx ry theta x y "
    "width height all_points_x all_points_y images annotations categories id image_id category_id segmentation counts "
    "size file_name iscrowd shapes label points shape_type mask rectangle imagePath imageHeight imageWidth"
)
WORDS = st.sampled_from(_KEYS.split(" "))
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=6),
    max_leaves=25,
)


def png():
    stream = io.BytesIO()
    Image.fromarray(np.ones((3, 3), np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def valid(form):
    """A file of the format with one of everything, as text."""
    shapes = [polygon(*SQUARE), {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}]
    shapes += [{"name": "ellipse", "cx": 4, "cy": 4, "rx": 2, "ry": 1, "theta": 0.5}]
    if form == "via-csv":
        with tempfile.TemporaryDirectory() as folder:
            rows = [via_row("a.png", "x", shape, bare=True, attributes={"View": "Other"}) for shape in shapes]
            return write_via(Path(folder) / "v", *rows, via_row("b.png")).read_text()
    if form == "via-json":
        regions = [{"shape_attributes": shape, "region_attributes": {"c": "x"}} for shape in shapes]
        return json.dumps({"a1": {"filename": "a.png", "regions": regions, "file_attributes": {"View": "Other"}}})
    if form == "coco":
        segmentations = [[[1, 1, 5, 1, 5, 5]], {"size": [3, 2], "counts": [1, 2, 3]}, {"size": [3, 2], "counts": "123"}]
        entries = [{"id": 1, "image_id": 0, "category_id": 1, "segmentation": part} for part in segmentations]
        images = [{"id": 0, "file_name": "a.png", "width": 2, "height": 3}]
        return json.dumps({"images": images, "annotations": entries, "categories": [{"id": 1, "name": "x"}]})
    if form == "labelme":
        shapes = [{"label": "x", "shape_type": kind, "points": [[1, 1], [3, 3]]} for kind in ("rectangle", "circle")]
        shapes += [{"label": "x", "shape_type": "mask", "points": [[1, 1], [3, 3]], "mask": png()}]
        return json.dumps({"shapes": shapes, "imagePath": "a.png", "imageHeight": 9, "imageWidth": 9})
    outline = 'label="x" points="1,1;5,1;5,5"'
    tracks = f'<track label="x"><polygon frame="0" {outline}/><polygon frame="4" outside="1" {outline}/></track>'
    mask = '<mask label="x" rle="1,2,1" left="1" top="1" width="2" height="2"/>'
    box = '<box label="x" xtl="1" ytl="1" xbr="4" ybr="4" rotation="5"/>'
    image = f'<image id="0" name="a.png" width="9" height="9"><polygon {outline}/>{mask}{box}</image>'
    return f"<annotations>{image}{tracks}</annotations>"


def read_to_the_end(content, form):
    """Read, rasterise and check; DataError of one line is the only error there may be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            found = read_annotations(path, format=form)
        except DataError as error:
            assert len(str(error).splitlines()) == 1, str(error)
            return 0
        for annotation in found:
            assert annotation.image or annotation.problems
            assert ".." not in annotation.image.split("/") and not annotation.image.startswith("/")
            names = {region.name: "class" for region in annotation.regions if region.enclosed}
            kept = [region for region in annotation.regions if region.enclosed]
            if names:
                masks, _ = to_case([annotation.__class__("a", tuple(kept))], ClassNames(names), (20, 30))
                assert masks.shape == (1, 20, 30)
            for region in annotation.regions:
                outline_faults(region, (20, 30))
        return len(found)


@pytest.mark.parametrize("form", FORMATS)
def test_the_valid_file_is_read(form):
    assert read_to_the_end(valid(form).encode(), "auto") >= 1


@settings(max_examples=60, deadline=None)
@given(document=JSON, form=st.sampled_from(["auto", "via-json", "coco", "labelme"]))
def test_any_json(document, form):
    read_to_the_end(json.dumps(document).encode(), form)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200), form=st.sampled_from(["auto", *FORMATS]))
def test_any_bytes(content, form):
    read_to_the_end(content, form)


@settings(max_examples=150, deadline=None)
@given(form=st.sampled_from(FORMATS), auto=st.booleans(), choices=st.data())
def test_valid_files_with_a_few_bytes_changed(form, auto, choices):
    content = bytearray(valid(form).encode())
    for _ in range(choices.draw(st.integers(1, 4))):
        position = choices.draw(st.integers(0, len(content) - 1))
        length = choices.draw(st.integers(0, 6))
        content[position : position + length] = choices.draw(st.binary(max_size=4) | st.sampled_from(PIECES))
    read_to_the_end(bytes(content), "auto" if auto else form)


PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"-",
    b"9" * 12,
    b"1e999",
    b"null",
    b"\n",
    b"\r\n",
    b"<",
    b"&x;",
    b"NaN",
    b"../",
]


def leaves(value, path=()):
    """Paths to everything in a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


@settings(max_examples=150, deadline=None)
@given(form=st.sampled_from(["via-json", "coco", "labelme"]), choices=st.data())
def test_valid_json_with_one_value_replaced(form, choices):
    document = json.loads(valid(form))
    path = choices.draw(st.sampled_from([path for path in leaves(document) if path]))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = choices.draw(JSON)
    read_to_the_end(json.dumps(document).encode(), form)


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(st.lists(JSON | st.just("a.png"), min_size=7, max_size=7), max_size=3), quoting=st.booleans())
def test_any_cells_of_a_csv(cells, quoting):
    def cell(value):
        text = value if isinstance(value, str) else json.dumps(value)
        return '"' + text.replace('"', '""') + '"' if quoting else text

    header = valid("via-csv").partition("\n")[0]
    rows = [",".join(map(cell, row)) for row in cells]
    read_to_the_end("\n".join([header, *rows]).encode("utf-8", "surrogatepass"), "via-csv")
