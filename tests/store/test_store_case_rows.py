"""Case rows through Parquet: nothing lost, one measurement alone, and what is no such file."""

import math

import pytest

from uscl.errors import StoreError
from uscl.records import CaseRow
from uscl.store.case_rows import decode_rows, encode_rows

ROWS = [
    CaseRow("a", "p", "test", "outer", 4, 5, {"dsc": 0.5, "hd95": math.nan}),
    CaseRow("a", "p", "test", "inner", 4, 5, {"dsc": 1.0, "hd95": 2.0}),
]


def test_rows_survive_parquet():
    back = decode_rows(encode_rows(ROWS))
    assert back[1] == ROWS[1]
    assert [(row.class_name, row.values["dsc"]) for row in back] == [("outer", 0.5), ("inner", 1.0)]
    assert math.isnan(back[0].values["hd95"])


def test_one_measurement_can_be_read_alone():
    assert [row.values for row in decode_rows(encode_rows(ROWS), names=("dsc",))] == [{"dsc": 0.5}, {"dsc": 1.0}]


def test_other_bytes_are_refused():
    with pytest.raises(StoreError, match=r"cases\.parquet: not a table of case rows"):
        decode_rows(b"PAR1")
