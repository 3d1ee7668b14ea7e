"""CVAT 1.1: images and videos, keyframes and what lies between; XML that is out to do harm."""

import numpy as np
import pytest

from uscl.data.ingest import cvat
from uscl.data.ingest.annotation import rasterise
from uscl.data.ingest.cvat import read_cvat
from uscl.errors import DataError

FAR = "holds a number that lies in no image (beyond 100000 px)"
KINDS = "is of a kind that is not read; expected polygon, box, mask, ellipse, polyline, points"
SHORT = "mask's runs cover 3 pixels, but it is 2 x 2 px"
META = (
    "<meta><task><name>Mr Smith</name><original_size><width>30</width><height>20</height></original_size>"
    "<source>clip.mp4</source><owner><username>u</username><email>e</email></owner></task></meta>"
)


def write(tmp_path, body, head='<?xml version="1.0" encoding="utf-8"?>', encoding="utf-8"):
    (tmp_path / "c.xml").write_bytes(
        f"{head}\n<annotations><version>1.1</version>{body}</annotations>".encode(encoding)
    )
    return tmp_path / "c.xml"


def image(*shapes, name="sub/a.png"):
    return f'<image id="0" name="{name}" width="30" height="20">{"".join(shapes)}</image>'


POLYGON = '<polygon label="Cortex" source="manual" occluded="0" points="2.0,3.0;9.5,3.0;9.0,8.0" z_order="0"></polygon>'


def test_shapes_of_images(tmp_path):
    shapes = [
        POLYGON,
        '<box label="Cortex" xtl="4" ytl="3" xbr="9" ybr="7" source="auto"/>',
        '<mask label="m" rle="1, 2, 4, 1" left="5" top="6" width="4" height="2"/>',
        '<ellipse label="e" cx="15" cy="10" rx="8" ry="2" rotation="90"/>',
        '<polyline label="l" points="1,1;5,5"/>',
        '<box label="turned" xtl="10" ytl="8" xbr="20" ybr="12" rotation="90"/>',
        '<tag label="view"><attribute name="comment">Mr Smith</attribute></tag>',
    ]
    first, second = read_cvat(write(tmp_path, META + image(*shapes) + image(name="b.png")))
    assert (first.image, first.size, first.problems) == ("sub/a.png", (20, 30), ())
    assert first.remarks == ("1 image tag not read",) and "Smith" not in repr(first)
    polygon, box, mask, ellipse, line, turned = first.regions
    assert polygon.outline.tolist() == [[2, 3], [9.5, 3], [9, 8]] and polygon.origin == "human"
    assert box.origin == "model" and rasterise([box], (20, 30)).sum() == 30
    assert np.argwhere(rasterise([mask], (20, 30))).tolist() == [[6, 6], [6, 7], [7, 8]]
    assert np.ptp(np.nonzero(rasterise([ellipse], (20, 30)))[0]) >= 14
    assert not line.enclosed
    rows, columns = np.nonzero(rasterise([turned], (20, 30)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 15, 13, 17)
    assert (second.image, second.regions) == ("b.png", ())


@pytest.mark.parametrize(
    "shape, problem",
    [
        ('<polygon label="x" points="1,2;3"/>', "polygon has points that are no pairs of x and y"),
        ('<polygon label="x" points="1,Smith"/>', "polygon holds something that is no number"),
        ('<polygon label="x"/>', "polygon has 0 points; expected 1 to 100000"),
        ('<polygon points="1,2;3,4"/>', "polygon has no label"),
        ('<box label="x" xtl="nan" ytl="1" xbr="2" ybr="3"/>', f"box {FAR}"),
        ('<cuboid label="x"/>', f"cuboid {KINDS}"),
        ('<mask label="x" rle="3" left="0" top="0" width="2" height="2"/>', f"mask {SHORT}"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_read_is_a_problem(tmp_path, shape, problem):
    path = write(tmp_path, image(shape, POLYGON))
    (found,) = read_cvat(path)
    assert found.problems == (f"{path}: image 0: {problem}",) and len(found.regions) == 1


def test_an_image_that_leaves_the_folder_is_a_problem_of_no_image(tmp_path):
    first, second = read_cvat(write(tmp_path, image(name="../smith.png") + image(name="b.png")))
    assert first.image == "" and "leaves the folder" in first.problems[0] and "smith" not in first.problems[0]
    assert second.image == "b.png"


def shape(frame, points, *, keyframe=1, outside=0, tag="polygon"):
    return f'<{tag} frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" points="{points}"/>'


def track(*shapes, label="Cortex"):
    return f'<track id="3" label="{label}" source="manual">{"".join(shapes)}</track>'


def test_between_keyframes_outlines_are_interpolated_until_the_track_ends(tmp_path):
    body = track(shape(2, "0,0;4,0;4,4"), shape(4, "10,0;14,0;14,8"), shape(5, "10,0;14,0;14,8", outside=1))
    body += track(shape(0, "1,1;2,1;2,2"), shape(1, "1,1;2,1;2,2", keyframe=0), shape(9, "1,1;2,1;2,2", outside=1))
    found = read_cvat(write(tmp_path, META + body))
    assert [(a.image, a.frame, a.size) for a in found] == [("clip.mp4", k, (20, 30)) for k in range(9)]
    assert [[region.origin[0] for region in a.regions] for a in found[:5]] == [
        ["h"], ["i"], ["h", "i"], ["i", "i"], ["h", "i"],
    ]  # fmt: skip
    assert found[3].regions[0].outline.tolist() == [[5, 0], [9, 0], [9, 6]]
    assert len(found[5].regions) == 1


def test_outlines_that_do_not_pair_up_are_not_interpolated(tmp_path):
    found = read_cvat(write(tmp_path, META + track(shape(0, "0,0;4,0;4,4"), shape(3, "0,0;4,0;4,4;0,4"))))
    assert [a.frame for a in found] == [0, 3]
    assert found[0].remarks == ("frames up to the next keyframe left out: outlines differ in points",)


def test_a_broken_shape_of_a_track_is_a_problem_of_its_frame(tmp_path):
    path = write(tmp_path, META + track(shape(0, "0,0;4,0;4,4"), shape(1, "0,0;x"), shape("one", "1,1;2,2")))
    first, second, third = read_cvat(path)
    assert (first.frame, first.problems) == (0, ())
    assert second.problems == (f"{path}: track 3: polygon on frame 1 has points that are no pairs of x and y",)
    assert third.problems == (f"{path}: track 3: frame of a polygon holds something that is no number",)


def test_endless_tracks_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="track 3: 99999 frames between two shapes; at most 10000 are filled"):
        read_cvat(write(tmp_path, META + track(shape(0, "0,0;4,0;4,4"), shape(100_000, "0,0;4,0;4,4"))))
    monkeypatch.setattr(cvat, "MAX_SHAPES", 1000)
    many = track(shape(0, "0,0;4,0;4,4"), shape(100, "0,0;4,0;4,4")) * 11
    with pytest.raises(DataError, match="more than 1000 shapes on the frames of one video; split the file"):
        read_cvat(write(tmp_path, META + many))


def test_a_video_without_header_goes_by_the_name_of_the_file(tmp_path):
    (found,) = read_cvat(write(tmp_path, track(shape(0, "0,0;4,0;4,4"))))
    assert (found.image, found.size) == ("c", None)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;">]>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
ENTITIES = r"c\.xml:1: declares a document type, which no annotation file needs and an attack does; take the line out"


@pytest.mark.parametrize("head", [BOMB, FILE, '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">'])
def test_document_types_are_refused(tmp_path, head):
    with pytest.raises(DataError, match=ENTITIES):
        read_cvat(write(tmp_path, image(name="&d;"), head=head))


@pytest.mark.parametrize(
    "head, encoding, message",
    [
        ('<?xml version="1.0" encoding="klingon"?>', "utf-8", "encoding"),
        ('<?xml version="1.0" encoding="gbk"?>', "utf-8", "is of an encoding that is not read; save it as UTF-8"),
        ('<?xml version="1.0" encoding="utf-8"?>', "utf-16", ":1: is broken XML: "),
        ("<a>", "utf-8", ": is no such XML; expected the root element <annotations>"),
    ],
)
def test_encodings_and_roots_that_are_not_read(tmp_path, head, encoding, message):
    path = write(tmp_path, image(), head=head, encoding=encoding)
    with pytest.raises(DataError) as caught:
        read_cvat(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_encodings_that_are_read(tmp_path):
    (found,) = read_cvat(write(tmp_path, image(name="ä.png"), '<?xml version="1.0" encoding="latin-1"?>', "latin-1"))
    assert found.image == "ä.png"
    (found,) = read_cvat(write(tmp_path, image(name="ä.png"), "", "utf-8-sig"))
    assert found.image == "ä.png"


@pytest.mark.parametrize("body", ["<image>", "<image></b>", "\0", "<a>" * 60, "&lt", "&unknown;"])
def test_broken_xml_is_named_by_line(tmp_path, body):
    with pytest.raises(DataError, match=r"c\.xml:2: is (broken XML|nested more than 50 deep)"):
        read_cvat(write(tmp_path, body))
