"""Training curves as Parquet bytes: one row per measurement, in the order they were taken."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from uscl.errors import StoreError
from uscl.records import MetricPoint

SCHEMA = pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())])
"""Columns of `metrics.parquet`."""


def encode_points(points: Sequence[MetricPoint]) -> bytes:
    """Parquet bytes of the points; NaN and the infinities stay what they are, a point without values leaves no row."""
    rows = [(point.step, name, value) for point in points for name, value in point.values.items()]
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    target = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), target, compression="zstd")
    return target.getvalue()


def decode_points(content: bytes) -> list[MetricPoint]:
    """Read what `encode_points` wrote; neighbours of one step become one point unless a name repeats.

    StoreError where the bytes are no Parquet file with these columns.
    """
    try:
        table = pq.read_table(io.BytesIO(content), use_threads=False, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"metrics.parquet: not a table of step, name, value: {error}") from error
    if not table.schema.equals(SCHEMA):
        raise StoreError(f"metrics.parquet: not a table of step, name, value but of {', '.join(table.column_names)}")
    gathered: list[tuple[int, dict[str, float]]] = []
    for step, name, value in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if not gathered or gathered[-1][0] != step or name in gathered[-1][1]:
            gathered.append((step, {}))
        gathered[-1][1][name] = value
    return [MetricPoint(step, values) for step, values in gathered]
