"""One region of a VIA file: its shape as outline, its class by the attribute that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uscl.data.ingest.annotation import Region
from uscl.data.ingest.annotation_text import BadEntry, box, ellipse, number, points


def via_region(shape: Mapping[str, Any], attributes: Mapping[str, Any], key: str) -> list[Region]:
    """The region, once per class that a checkbox ticks. BadEntry where shape or class cannot be read."""
    kind = shape.get("name")
    outline = _outline(kind, shape)
    enclosed = kind not in ("polyline", "point")
    return [Region(name, outline=outline, enclosed=enclosed) for name in _names(attributes.get(key), key)]


def _names(value: object, key: str) -> list[str]:
    """Class names of an attribute: text, or of a checkbox the ticked ones."""
    if isinstance(value, str) and value.strip():
        return [value.strip()]
    if isinstance(value, dict):
        ticked = [str(name).strip() for name, on in value.items() if on is True or on == "true"]
        if ticked and all(ticked):
            return ticked
    raise BadEntry("region has no class: " + (f"its attribute {key!r} is empty" if key else "it has no attributes"))


def _outline(kind: object, shape: Mapping[str, Any]) -> np.ndarray:
    if kind in ("polygon", "polyline"):
        return points(shape.get("all_points_x"), shape.get("all_points_y"))
    if kind == "rect":
        left, top, width, height = (number(shape.get(name)) for name in ("x", "y", "width", "height"))
        return box(left, top, left + width, top + height)
    if kind == "circle":
        return ellipse(shape.get("cx"), shape.get("cy"), shape.get("r"), shape.get("r"))
    if kind == "ellipse":
        angle = number(shape.get("theta", 0))
        return ellipse(shape.get("cx"), shape.get("cy"), shape.get("rx"), shape.get("ry"), angle=angle)
    if kind == "point":
        return points([shape.get("cx")], [shape.get("cy")])
    if not shape:
        raise BadEntry("region has a class but no shape")
    raise BadEntry("region's shape is none that VIA knows: polygon, rect, circle, ellipse, polyline, point")
