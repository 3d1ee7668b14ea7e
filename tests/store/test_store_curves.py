"""Curves survive Parquet exactly."""

import io
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uscl.errors import StoreError
from uscl.records import MetricPoint
from uscl.store.curves import decode_points, encode_points

VALUES = st.dictionaries(st.text(min_size=1), st.floats(), min_size=1, max_size=4)
POINTS = st.lists(st.builds(MetricPoint, st.integers(0, 2**40), VALUES), max_size=8, unique_by=lambda point: point.step)


@given(POINTS)
def test_round_trip(points):
    assert repr(decode_points(encode_points(points))) == repr(points)


def test_columns_are_those_of_the_design():
    table = pq.read_table(io.BytesIO(encode_points([MetricPoint(3, {"encoder/loss": math.inf})])))
    assert table.schema.equals(pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]))
    assert table.to_pylist() == [{"step": 3, "name": "encoder/loss", "value": math.inf}]


def test_neighbours_of_one_step_join_unless_a_name_repeats():
    points = [MetricPoint(1, {"a": 1.0}), MetricPoint(1, {"b": 2.0}), MetricPoint(1, {"a": 3.0})]
    assert decode_points(encode_points(points)) == [MetricPoint(1, {"a": 1.0, "b": 2.0}), MetricPoint(1, {"a": 3.0})]


def test_equal_points_give_equal_bytes():
    points = [MetricPoint(step, {"loss": step / 3}) for step in range(50)]
    assert encode_points(points) == encode_points(list(points))


def _other_columns() -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"step": [1]}), target)
    return target.getvalue()


@pytest.mark.parametrize("content", [b"", b"PAR1", encode_points([MetricPoint(1, {"a": 1.0})])[:-9], _other_columns()])
def test_what_is_no_curve_is_refused(content):
    with pytest.raises(StoreError, match=r"^metrics\.parquet: not a table of step, name, value"):
        decode_points(content)
