"""Tracks of a CVAT video: shapes at keyframes, straight lines between them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from uscl.data.ingest.annotation import Region
from uscl.data.ingest.annotation_text import BadEntry, count
from uscl.errors import DataError

MAX_GAP_FRAMES = 10_000
"""Between two keyframes: some minutes. A larger number would fill the memory with what nobody drew."""


@dataclass(frozen=True)
class Shape:
    """A track on one frame."""

    region: Region
    keyframe: bool
    """Drawn or corrected by hand, where not CVAT's own interpolation."""
    outside: bool
    """The track is not seen from here on."""


@dataclass
class Track:
    """One object through a video."""

    where: str
    shapes: dict[int, Shape] = field(default_factory=dict)
    problems: dict[int | None, str] = field(default_factory=dict)


def frames_of(track: Track) -> Iterator[tuple[int, Region, str]]:
    """Frame, region and remark wherever the track is seen.

    Frames that the file lists are taken as they stand, those between by straight lines from point to point; where
    two outlines have different numbers of points, or are masks, those between are left out with a remark on the first.
    """
    frames = sorted(track.shapes)
    for frame, after in itertools.zip_longest(frames, frames[1:]):
        shape = track.shapes[frame]
        if shape.outside:
            continue
        region = shape.region if shape.keyframe else dataclasses.replace(shape.region, origin="interpolated")
        gap = range(frame + 1, after if after is not None else frame + 1)
        if len(gap) > MAX_GAP_FRAMES:
            raise DataError(f"{track.where}: {len(gap)} frames between two shapes; at most {MAX_GAP_FRAMES} are filled")
        between = [_between(region, track.shapes[after].region, (k - frame) / (after - frame)) for k in gap]
        lacking = any(found is None for found in between)
        yield frame, region, "frames up to the next keyframe left out: outlines differ in points" if lacking else ""
        for number, found in zip(gap, between, strict=True):
            if found is not None:
                yield number, found, ""


def read_video_name(meta: Element) -> tuple[str, tuple[int, int] | None]:
    """File name and size (height, width) of the video, as far as the header tells; nothing else of it is read."""
    source = next((element.text or "" for element in meta.iter("source")), "")
    try:
        words = [meta.find(f".//original_size/{side}") for side in ("height", "width")]
        height, width = (count((word.text or "").strip()) for word in words if word is not None)
    except (BadEntry, ValueError):
        return source.strip(), None
    return source.strip(), (height, width)


def _between(region: Region, other: Region, part: float) -> Region | None:
    """`part` of the way from a region to the next; None where their points do not pair up."""
    if region.outline is None or other.outline is None or region.outline.shape != other.outline.shape:
        return None
    return dataclasses.replace(
        region, outline=(1 - part) * region.outline + part * other.outline, origin="interpolated"
    )
