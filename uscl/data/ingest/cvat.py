"""CVAT XML 1.1: images with their shapes, or a video with tracks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from uscl.data.ingest.annotation import Annotation, Region
from uscl.data.ingest.annotation_text import BadEntry, box, count, cropped, ellipse, image_path, lost, number, points
from uscl.data.ingest.cvat_tracks import Shape, Track, frames_of, read_video_name
from uscl.data.ingest.rle import from_counts
from uscl.data.ingest.xml_elements import child_elements
from uscl.data.wording import counted
from uscl.errors import DataError

_SHAPES = ("polygon", "box", "mask", "ellipse", "polyline", "points")
_LINES = ("polyline", "points")
_UNREAD = ("cuboid", "skeleton")
MAX_SHAPES = 300_000
"""On all frames of a video, those between keyframes too: bounds what a few numbers in a file can make of the memory."""


def read_cvat(path: Path) -> list[Annotation]:
    """Every image that the file lists, also those without shapes; of a video, every frame on which a track is seen.

    Coordinates count from the image's corner: a point belongs to the pixel it lies in. A shape whose `source` is
    `auto` or `semi-auto` is a model's; one between the keyframes of a track is interpolated. Image tags and attributes
    are not read. A frame of a video that no track names is in no annotation: it may be empty, or nobody looked.
    A shape that cannot be read becomes a problem. DataError where the file is no CVAT XML, or a track is endless.
    """
    found: list[Annotation] = []
    tracks: list[Track] = []
    video, size = "", None
    for position, element in enumerate(child_elements(path, root="annotations"), 1):
        if element.tag == "meta":
            video, size = read_video_name(element)
        elif element.tag == "image":
            found.append(_image(element, f"{path}: image {_number(element, position)}"))
        elif element.tag == "track":
            tracks.append(_track(element, f"{path}: track {_number(element, position)}"))
    return found + (_video(path, tracks, video or path.with_suffix("").name, size) if tracks else [])


def _number(element: Element, position: int) -> str:
    """What an element goes by in messages: its id where that is a number, else its place in the file."""
    identity = element.get("id", "")
    return identity if identity.isdecimal() and len(identity) < 10 else f"at place {position}"


def _image(element: Element, where: str) -> Annotation:
    try:
        name = image_path(element.get("name"))
        size = _size(element.attrib)
    except BadEntry as error:
        return lost(f"{where}: {error}")
    regions, problems = [], []
    for child in element:
        try:
            regions += [_region(child)] if child.tag in (*_SHAPES, *_UNREAD) else []
        except BadEntry as error:
            problems.append(f"{where}: {child.tag} {error}")
    num_tags = sum(child.tag == "tag" for child in element)
    remarks = (f"{counted(num_tags, 'image tag')} not read",) if num_tags else ()
    return Annotation(name, tuple(regions), size=size, remarks=remarks, problems=tuple(problems))


def _size(attributes: Mapping[str, str]) -> tuple[int, int] | None:
    if not (attributes.get("height") and attributes.get("width")):
        return None
    return count(attributes["height"]), count(attributes["width"])


def _region(element: Element) -> Region:
    label = element.get("label", "").strip()
    if not label:
        raise BadEntry("has no label")
    origin = "model" if element.get("source") in ("auto", "semi-auto") else "human"
    if element.tag == "mask":
        left, top, width, height = (count(element.get(key)) for key in ("left", "top", "width", "height"))
        runs = [run for run in element.get("rle", "").split(",") if run.strip()]
        mask = from_counts(runs, (height, width), by_columns=False)
        return cropped(label, mask, left=left, top=top, origin=origin)
    return Region(label, outline=_outline(element), origin=origin, enclosed=element.tag not in _LINES)


def _outline(element: Element) -> np.ndarray:
    """(P, 2) of a shape that is no mask."""
    if element.tag in ("polygon", *_LINES):
        pairs = [pair.split(",") for pair in element.get("points", "").split(";") if pair.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise BadEntry("has points that are no pairs of x and y")
        return points([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    turn = np.deg2rad(number(element.get("rotation", "0")))
    if element.tag == "box":
        return _turned(box(*(element.get(key) for key in ("xtl", "ytl", "xbr", "ybr"))), turn)
    if element.tag == "ellipse":
        return ellipse(*(element.get(key) for key in ("cx", "cy", "rx", "ry")), angle=turn)
    raise BadEntry(f"is of a kind that is not read; expected {', '.join(_SHAPES)}")


def _turned(outline: np.ndarray, turn: float) -> np.ndarray:
    """Turned clockwise about its centre, as CVAT's boxes are."""
    centre, (sine, cosine) = outline.mean(axis=0), (np.sin(turn), np.cos(turn))
    return np.asarray((outline - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre)


def _track(element: Element, where: str) -> Track:
    """A track's shapes by frame; what cannot be read of it becomes a problem of the frame it is on."""
    track = Track(where)
    for child in element:
        if child.tag not in (*_SHAPES, *_UNREAD):
            continue
        try:
            frame = count(child.get("frame"))
        except BadEntry as error:
            track.problems[None] = f"{where}: frame of a {child.tag} {error}"
            continue
        try:
            child.set("label", child.get("label") or element.get("label") or "")
            child.set("source", child.get("source") or element.get("source") or "")
            keyframe, outside = child.get("keyframe") != "0", child.get("outside") == "1"
            track.shapes[frame] = Shape(_region(child), keyframe=keyframe, outside=outside)
        except BadEntry as error:
            track.problems[frame] = f"{where}: {child.tag} on frame {frame} {error}"
    return track


def _video(path: Path, tracks: list[Track], video: str, size: tuple[int, int] | None) -> list[Annotation]:
    """One annotation per frame, in order."""
    try:
        name = image_path(video)
    except BadEntry as error:
        return [lost(f"{path}: source {error}")]
    regions: dict[int, list[Region]] = {}
    problems: dict[int, list[str]] = {}
    remarks: dict[int, dict[str, None]] = {}
    num_shapes = 0
    without = [lost(track.problems[None]) for track in tracks if None in track.problems]
    for track in tracks:
        for frame, region, remark in frames_of(track):
            num_shapes += 1
            if num_shapes > MAX_SHAPES:
                raise DataError(f"{path}: more than {MAX_SHAPES} shapes on the frames of one video; split the file")
            regions.setdefault(frame, []).append(region)
            remarks.setdefault(frame, {}).update({remark: None} if remark else {})
        for place, problem in track.problems.items():
            if place is not None:
                problems.setdefault(place, []).append(problem)
    return [
        Annotation(
            name,
            tuple(regions.get(frame, ())),
            size=size,
            frame=frame,
            remarks=tuple(remarks.get(frame, ())),
            problems=tuple(problems.get(frame, ())),
        )
        for frame in sorted({*regions, *problems})
    ] + without
