"""Annotation files written by hand, with the quirks that real ones have."""

import json

HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
SQUARE = ([2, 9, 9, 2], [3, 3, 8, 8])
"""x and y of a square: rows 3 to 8, columns 2 to 9."""


def quoted(value):
    return '"' + json.dumps(value, separators=(",", ":")).replace('"', '""') + '"'


def polygon(xs, ys):
    return {"name": "polygon", "all_points_x": list(xs), "all_points_y": list(ys)}


def via_row(image, name=None, shape=None, *, count=1, number=0, attributes=None, bare=False):
    """A row; without a name the empty one of an image on which nothing was drawn."""
    region = {} if name is None else {"Anatomy": name}
    cell = json.dumps(region, separators=(",", ":")) if bare else quoted(region)
    shape = {} if name is None else polygon(*SQUARE) if shape is None else shape
    return f"{image},100,{quoted(attributes or {})},{0 if name is None else count},{number},{quoted(shape)},{cell}"


def write_via(path, *rows, header=HEADER, newline="\n", encoding="utf-8"):
    path.write_bytes((newline.join([header, *rows]) + newline).encode(encoding))
    return path
