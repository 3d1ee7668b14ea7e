"""Strict JSON: what goes in comes out, whatever the floats; what is torn is a ValueError."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uscl.store.strict_json import decode_json, encode_json

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.text().filter(lambda key: key != "float")
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12)


@given(DOCUMENTS)
def test_round_trip_keeps_every_value(document):
    # repr tells -0.0 from 0.0 and has NaN equal to itself
    assert repr(decode_json(encode_json(document))) == repr(document)


@given(DOCUMENTS)
def test_the_text_is_json_to_everybody(document):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads(encode_json(document), parse_constant=refuse)


def test_non_finite_floats_are_tagged():
    text = encode_json({"loss": math.nan, "range": (math.inf, -math.inf)})
    assert text == b'{"loss": {"float": "nan"}, "range": [{"float": "inf"}, {"float": "-inf"}]}'


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a": NaN}', b"\0\0\0\0\0\0\0\0", b"\xff\xfe\x00", b'{"a": -Infinity}']
)
def test_torn_or_loose_json_is_refused(content):
    with pytest.raises(ValueError):
        decode_json(content)


def test_a_value_that_is_no_json_is_the_callers_mistake():
    with pytest.raises(TypeError):
        encode_json({"a": object()})
