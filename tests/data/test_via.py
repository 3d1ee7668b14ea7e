"""VIA files as people have them: mixed quotes, wrong counts, empty rows, broken rows; and both kinds of JSON."""

import json

import numpy as np
import pytest
from annotation_files import HEADER, SQUARE, polygon, quoted, via_row, write_via

from uscl.data.ingest.annotation import rasterise
from uscl.data.ingest.via import read_via_csv, read_via_json
from uscl.errors import DataError

SHAPES = "polygon, rect, circle, ellipse, polyline, point"
LEAVES = "filename leaves the folder of images (it is absolute, an address or holds ..); make it relative"
QUALITY = {"Quality": "Fair", "View": "Transverse", "Comments": "transplant, Mrs Smith"}


def names(annotation):
    return [region.name for region in annotation.regions]


def test_rows_become_regions_of_their_image(tmp_path):
    rows = [via_row("1_a.png", "Capsule", attributes=QUALITY, count=2), via_row("1_a.png", "Cortex", number=1, count=2)]
    rows[1] = rows[1].replace(quoted({}), quoted(QUALITY))
    first, second = read_via_csv(write_via(tmp_path / "a.csv", *rows, via_row("2_b.png")))
    assert (first.image, names(first), first.remarks, first.problems) == ("1_a.png", ["Capsule", "Cortex"], (), ())
    assert np.array_equal(first.regions[0].outline, np.array(SQUARE).T)
    assert first.attributes == {"Quality": "Fair", "View": "Transverse"}
    assert (second.image, second.regions, second.problems) == ("2_b.png", (), ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_quotes_vary_within_a_file(tmp_path, encoding, newline):
    rows = [via_row("a.png", "Cortex"), via_row("a.png", "Cortex", bare=True, number=1)]
    rows += [
        'a.png,100,{},3,2,{"name":"rect","x":1,"y":2,"width":3,"height":4},{"Anatomy":"Central, ""Echo"" Complex"}'
    ]
    rows[2] = rows[2].replace('""', "'")
    path = write_via(tmp_path / "a.csv", *rows, newline=newline, encoding=encoding)
    (annotation,) = read_via_csv(path)
    assert names(annotation) == ["Cortex", "Cortex", "Central, 'Echo' Complex"]
    assert annotation.regions[2].outline.tolist() == [[1, 2], [4, 2], [4, 6], [1, 6]]
    assert annotation.problems == ()


def test_numbers_that_do_not_fit_are_remarks(tmp_path):
    rows = [via_row("a.png", "Cortex", number=3, count=7), via_row("a.png", "Cortex", number=1, count=8)]
    rows += [via_row("a.png", "Medulla", attributes={"View": "Other"}, number=2, count=7)]
    (annotation,) = read_via_csv(write_via(tmp_path / "a.csv", *rows))
    assert len(annotation.regions) == 3 and annotation.problems == ()
    assert annotation.remarks == (
        "rows disagree in region_count",
        "rows disagree in file_attributes: the first counts",
        "region_count disagrees with the rows",
        "region_ids are not 0, 1, 2, ...",
    )


@pytest.mark.parametrize(
    "row, problem",
    [
        (f"a.png,1,{quoted({})},1,0,\"{{\"\"name\"\":\",{quoted({})}", "region_shape_attributes is broken JSON"),
        (f"a.png,1,{quoted({})},1,0,{quoted(polygon(*SQUARE))},{{\"Anatomy\":", "region_attributes is broken JSON"),
        (f"a.png,1,{quoted({})},1,0", "has not as many fields as the header; is its JSON broken or unquoted?"),
        (via_row("a.png", "x", polygon([1, 2], [1])), "has 2 x but 1 y"),
        (via_row("a.png", "x", polygon([1, "Smith"], [1, 2])), "holds something that is no number"),
        (via_row("a.png", "x", polygon([1, 1e300], [1, 2])), "holds a number that lies in no image (beyond 100000 px)"),
        (via_row("a.png", "x", polygon([], [])), "has 0 points; expected 1 to 100000"),
        (via_row("a.png", "x", {"name": "rect", "x": 1}), "holds something that is no number"),
        (via_row("a.png", "x", {"name": "circle", "cx": 1, "cy": 1, "r": -1}), "has a negative radius"),
        (via_row("a.png", "x", {"name": "star"}), f"region's shape is none that VIA knows: {SHAPES}"),
        (via_row("a.png", "x", {}).replace("{}", "{}"), "region has a class but no shape"),
        (via_row("a.png", " "), "region has no class: its attribute 'Anatomy' is empty"),
    ],
)  # fmt: skip
def test_a_broken_row_is_named_by_line_and_the_rest_goes_on(tmp_path, row, problem):
    path = write_via(tmp_path / "a.csv", via_row("a.png", "Cortex"), row, via_row("b.png", "Cortex"))
    first, second = read_via_csv(path)
    assert first.problems == (f"{path}:3: {problem}",)
    assert names(first) == names(second) == ["Cortex"] and second.problems == ()


def test_shapes_of_via(tmp_path):
    shapes = [
        {"name": "circle", "cx": 20, "cy": 20, "r": 5},
        {"name": "ellipse", "cx": 20, "cy": 20, "rx": 10, "ry": 2, "theta": np.pi / 2},
        {"name": "polyline", "all_points_x": [1, 5], "all_points_y": [1, 5]},
        {"name": "point", "cx": 3, "cy": 4},
    ]
    rows = [via_row("a.png", "x", shape) for shape in shapes]
    (annotation,) = read_via_csv(write_via(tmp_path / "a.csv", *rows))
    circle, ellipse, line, point = annotation.regions
    assert rasterise([circle], (40, 40)).sum() == pytest.approx(np.pi * 25, rel=0.15)
    rows, columns = np.nonzero(rasterise([ellipse], (40, 40)))
    assert np.ptp(rows) >= 19 and np.ptp(columns) <= 4  # turned by a right angle, it stands
    assert not line.enclosed and not point.enclosed and not rasterise([line, point], (40, 40)).any()
    assert point.outline.tolist() == [[3, 4]]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", ":1: is no VIA CSV: has no column filename"),
        ("file;size\n1;2\n", ":1: is no VIA CSV: has no column filename; save it with commas"),
        (f'{HEADER}\na.png,1,"{{,0,0\nb.png,1,2\n', ":2: a quote is never closed: the row runs over 2 lines"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_via_csv(path)
    assert str(caught.value) == f"{path}{message}"


@pytest.mark.parametrize("name", ["", "../a.png", "a/../../b.png", "/etc/a.png", "C:\\a.png", "http://x/a.png"])
def test_an_image_outside_the_folder_is_a_problem_of_no_image(tmp_path, name):
    path = write_via(tmp_path / "a.csv", via_row(name, "x"), via_row("./sub\\a.png", "x"))
    first, second = read_via_csv(path)
    problem = f"{path}:2: {LEAVES}" if name else f"{path}:2: filename names no image"
    assert (first.image, second.image, second.problems) == ("sub/a.png", "", (problem,))


@pytest.mark.parametrize("character", ["\0", "\x1e", "\x1b", "\u2028"])
def test_characters_that_would_break_a_message_are_refused(tmp_path, character):
    path = write_via(tmp_path / "a.csv", via_row(f"a{character}.png", "x"))
    (found,) = read_via_csv(path)
    assert found.problems == (f"{path}:2: filename holds characters that no file name should",)


def test_unreadable_text_is_named_by_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER.encode() + b"\na\xff.png\n")
    with pytest.raises(DataError, match=r"a\.csv:2: is not UTF-8 text; save the file as UTF-8"):
        read_via_csv(path)
    with pytest.raises(DataError, match="cannot be read: No such file or directory"):
        read_via_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is no file; expected an annotation file"):
        read_via_csv(tmp_path)


def test_the_attribute_that_names_the_class_is_asked_for(tmp_path):
    rows = [via_row("a.png", "Cortex").replace('{""Anatomy""', '{""Side"":""left"",""Anatomy""')]
    path = write_via(tmp_path / "a.csv", *rows)
    with pytest.raises(DataError, match=r"It has 'Side' \(1 region\), 'Anatomy' \(1 region\); say so with --class-key"):
        read_via_csv(path)
    assert names(read_via_csv(path, class_key="Anatomy")[0]) == ["Cortex"]


def via_json(tmp_path, images, project=False):
    path = tmp_path / "via.json"
    document = {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {}} if project else images
    path.write_text(json.dumps(document))
    return path


def image(name, regions):
    return {"filename": name, "size": 12, "regions": regions, "file_attributes": QUALITY}


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_json_of_both_versions(tmp_path, project, version):
    region = {"shape_attributes": polygon(*SQUARE), "region_attributes": {"class": "Cortex"}}
    regions = [region] if version == 2 else {"0": region}
    path = via_json(tmp_path, {"a.png12": image("sub\\a.png", regions), "b.png12": image("b.png", [])}, project)
    first, second = read_via_json(path)
    assert (first.image, names(first), second.regions) == ("sub/a.png", ["Cortex"], ())
    assert first.attributes == {"Quality": "Fair", "View": "Transverse"}


def test_a_checkbox_may_tick_several_classes(tmp_path):
    region = {"shape_attributes": polygon(*SQUARE), "region_attributes": {"class": {"a": True, "b": True, "c": False}}}
    (annotation,) = read_via_json(via_json(tmp_path, {"k": image("a.png", [region])}))
    assert names(annotation) == ["a", "b"]


def test_broken_parts_of_a_json_are_named_by_key(tmp_path):
    good = {"shape_attributes": polygon(*SQUARE), "region_attributes": {"class": "Cortex"}}
    images = {
        "a": image("a.png", [good, 3, {"shape_attributes": 1}]),
        "b": image("b.png", "none"),
        "c": image("a.png", [good]),
    }
    path = via_json(tmp_path, images)  # fmt: skip
    first, second = read_via_json(path)
    assert first.problems == (
        f"{path}: entry 1: regions[1]: is no region",
        f"{path}: entry 1: regions[2]: is no region",
    )
    assert second.problems == (f"{path}: entry 2: regions are neither a list nor an object",)
    assert len(first.regions) == 2 and first.remarks == ("two entries name this image: their regions are joined",)


@pytest.mark.parametrize("text", ["[]", "3", '{"a": 1}', "{", "[" * 100_000])
def test_json_that_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json"):
        read_via_json(tmp_path / "a.json")
