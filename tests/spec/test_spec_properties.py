"""What must hold for every file: a SpecError or a sweep, never a traceback; equal values, equal specs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sweep_files import GOOD, load_text

from uscl.errors import SpecError
from uscl.spec.settings import trial_fields

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = sorted(trial_fields())

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["none", "both", "1e-4"])
)
keys = st.one_of(st.sampled_from([*NAMES, "label", "name", "temporal", "seed", "rows", "values"]), st.text(max_size=6))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)
blocks = st.dictionaries(
    st.sampled_from(["fixed", "rows", "grid", "resources", "report", "phantom", "description", "recipe", "oops"]),
    values,
    max_size=4,
)
right_values = st.sampled_from(
    [("temporal.window", 3), ("seed", 1), ("labels.fraction", 0.5), ("encoder.lr", 1e-4), ("contrast.margin", 2)]
)


def refused_or_read(folder: Path, text: str, **options: Any) -> None:
    try:
        sweep = load_text(folder, text, **options)
    except SpecError as error:
        assert str(error).strip()
        assert "\n" not in str(error)
    else:
        assert sweep.cells()


@QUICK
@given(document=blocks)
def test_any_document_is_read_or_refused_in_one_line(tmp_path: Path, document: dict[str, Any]):
    whole = {"name": "small", "recipe": "demo", "data": "phantom"} | document
    refused_or_read(tmp_path, yaml.safe_dump(whole, sort_keys=False))


@QUICK
@given(text=st.text(max_size=60))
@example(text="a: " + "[" * 3000)
@example(text="a: " + "9" * 5000)
@example(text="a: !!float x")
@example(text="a: !!bool x")
@example(text="a: !!null x")
@example(text="!!str a: 1")
@example(text="a: \x00")
@example(text="<<: {a: 1}")
def test_any_text_is_read_or_refused_in_one_line(tmp_path: Path, text: str):
    text = text.encode("utf-8", "replace").decode("utf-8")
    refused_or_read(tmp_path, GOOD + text)
    refused_or_read(tmp_path, text)


@QUICK
@given(position=st.integers(0, len(GOOD) - 1), inserted=st.text(alphabet="{}[]:-,&*!|>'\"#%@`? \n\t~0e.", max_size=4))
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, position: int, inserted: str):
    refused_or_read(tmp_path, GOOD[:position] + inserted + GOOD[position + 1 :])


@QUICK
@given(
    argument=st.one_of(st.text(max_size=20), st.builds("{}={}".format, st.sampled_from(NAMES), st.text(max_size=12)))
)
@example(argument="resources.workers=&a [*a]")
@example(argument="seed={pretrain: 1}")
def test_any_set_argument_is_read_or_refused_in_one_line(tmp_path: Path, argument: str):
    argument = " ".join(argument.encode("utf-8", "replace").decode("utf-8").split())
    refused_or_read(tmp_path, GOOD, sets=(argument,))


@QUICK
@given(name=st.sampled_from(NAMES), value=scalars)
def test_a_value_is_taken_as_it_is_or_refused_where_it_stands(tmp_path: Path, name: str, value: Any):
    text = GOOD + yaml.safe_dump({"fixed": {name: value}})
    try:
        load_text(tmp_path, text)
    except SpecError as error:
        assert str(error).startswith(f"{tmp_path / 'x.yaml'}:")


@QUICK
@given(value=st.floats(min_value=1e-12, max_value=1e12, allow_nan=False))
def test_every_spelling_of_a_number_is_one_value(tmp_path: Path, value: float):
    spellings = (repr(value), f"{value:.17e}", f"{value:.17E}", f"'{value!r}'")
    specs = [load_text(tmp_path, GOOD + f"fixed: {{encoder.lr: {text}}}\n").cells()[0].spec for text in spellings]
    assert len({spec.model_dump_json() for spec in specs}) == 1
    assert math.isclose(specs[0].encoder.lr, value, rel_tol=0)


@pytest.mark.parametrize("spelling", ["1e-4", "0.0001", "1.0E-04"])
def test_1e_minus_4_is_a_ten_thousandth(tmp_path: Path, spelling: str):
    for text in (GOOD + f"fixed: {{encoder.lr: {spelling}}}\n", GOOD.replace("seed: [0]", f"encoder.lr: [{spelling}]")):
        assert load_text(tmp_path, text).cells()[0].spec.encoder.lr == 1e-4
    assert load_text(tmp_path, GOOD, sets=(f"encoder.lr={spelling}",)).cells()[0].spec.encoder.lr == 1e-4


@QUICK
@given(pairs=st.lists(right_values, max_size=3, unique_by=lambda pair: pair[0]))
def test_where_a_value_is_written_does_not_change_the_trial(tmp_path: Path, pairs: list[tuple[str, Any]]):
    plain = GOOD.replace("grid:\n  seed: [0]\n", "")
    fixed = load_text(tmp_path, plain + yaml.safe_dump({"fixed": dict(pairs)}))
    grid = load_text(tmp_path, plain + yaml.safe_dump({"grid": {name: [value] for name, value in pairs}}))
    option = load_text(tmp_path, plain, sets=tuple(f"{name}={value}" for name, value in pairs))
    assert fixed.cells()[0].spec == grid.cells()[0].spec == option.cells()[0].spec
