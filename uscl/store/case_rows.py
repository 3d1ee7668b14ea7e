"""Scores of an evaluation as Parquet bytes: one line per case, class and measurement."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from uscl.errors import StoreError
from uscl.records import CaseRow

CASES = "cases.parquet"
"""The file of an `evaluate` stage that holds its rows."""
ROW_FIELDS = ("case", "patient", "split", "class_name", "height_px", "width_px")


def encode_rows(rows: Sequence[CaseRow]) -> bytes:
    """Rows as Parquet bytes: one line per case, class and measurement."""
    lines = [
        {field: getattr(row, field) for field in ROW_FIELDS} | {"name": name, "value": value}
        for row in rows
        for name, value in row.values.items()
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines), sink)
    return sink.getvalue()


def decode_rows(content: bytes, *, names: Sequence[str] = ()) -> list[CaseRow]:
    """What `encode_rows` wrote; with `names`, only these measurements. StoreError where it is something else."""
    try:
        chosen = [("name", "in", list(names))] if names else None
        lines = pq.read_table(io.BytesIO(content), filters=chosen, use_threads=False, pre_buffer=False).to_pylist()
        values: dict[tuple[str, str, str, str, int, int], dict[str, float]] = {}
        for line in lines:
            who = tuple(line[name] for name in ROW_FIELDS)
            values.setdefault(who, {})[line["name"]] = line["value"]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(f"{CASES}: not a table of case rows: {error}") from error
    return [CaseRow(*who, values=measured) for who, measured in values.items()]
