"""Whatever stands under `search`: a SpecError in one line or a search, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sweep_files import load_text

from uscl.errors import SpecError
from uscl.spec.points import random_point
from uscl.spec.ranges import takes
from uscl.spec.settings import trial_fields

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEAD = {"name": "small", "recipe": "demo", "data": "phantom"}
WHOLE = {"trials": 3, "objectives": {"val/dsc": "maximize"}}
NAMES = sorted(trial_fields())

numbers = st.one_of(st.integers(-5, 40), st.floats(), st.integers(), st.sampled_from([1e-3, 0.5, 1, 2**53, 1e308]))
scalars = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=6), st.sampled_from(["none", "both", "positive", "maximize"])
)
loose = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), inner)
    ),
    max_leaves=5,
)
ranges = st.one_of(
    st.lists(scalars, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "int": st.lists(numbers, min_size=1, max_size=3),
            "float": st.lists(numbers, min_size=2, max_size=2),
            "choice": st.lists(scalars, max_size=3),
            "log": st.one_of(st.booleans(), scalars),
            "step": st.one_of(numbers, scalars),
            "when": st.one_of(
                loose, st.dictionaries(st.sampled_from(NAMES), st.one_of(scalars, st.lists(scalars, max_size=2)))
            ),
        },
    ),
    loose,
)
measured = st.dictionaries(
    st.one_of(st.sampled_from(["val/dsc", "val/dsc/cortex", "val/hd95", "test/dsc", "val"]), st.text(max_size=5)),
    st.one_of(
        st.sampled_from(["maximize", "minimize"]), st.dictionaries(st.sampled_from(["min", "max"]), scalars), loose
    ),
    max_size=3,
)
searches = st.one_of(
    loose,
    st.fixed_dictionaries(
        {
            "trials": st.one_of(st.integers(1, 50), scalars),
            "objectives": st.one_of(st.just({"val/dsc": "maximize"}), measured, loose),
            "space": st.one_of(st.dictionaries(st.sampled_from(NAMES), ranges, min_size=1, max_size=4), loose),
        },
        optional={
            "sampler": st.one_of(st.sampled_from(["tpe", "random", "gp", "nsga2"]), scalars),
            "repeats": scalars,
            "seed": scalars,
            "constraints": st.one_of(measured, loose),
            "oops": scalars,
        },
    ),
)


def refused_or_read(folder: Path, text: str, **options: Any) -> None:
    try:
        sweep = load_text(folder, text, **options)
    except SpecError as error:
        assert str(error).strip() and "\n" not in str(error)
        return
    search = sweep.search
    assert search is not None and search.size >= 1 and sweep.cells() == ()
    json.dumps(sweep.to_json(), allow_nan=False)
    point = random_point(search.space, Random(0))
    assert all(takes(dimension.values, point[dimension.name]) for dimension in search.space if dimension.name in point)


@QUICK
@given(search=searches)
@example(search=WHOLE | {"space": {"encoder.steps": {"int": [1, 10**400]}}})
@example(search=WHOLE | {"space": {"encoder.lr": {"float": [1, 10**400]}}})
@example(
    search={"trials": 3, "objectives": {"val/dsc": "maximize"}, "space": {"encoder.lr": {"float": [5e-324, 1e308]}}}
)
@example(search=WHOLE | {"space": {"speckle.dynamic_range_db": [None, 60]}})
@example(search=WHOLE | {"space": {"seed": {"pretrain": {}}}})
@example(search=WHOLE | {"space": {"temporal": {"when": 3}}})
@example(search=WHOLE | {"objectives": {"val/dsc": ["maximize"]}, "space": {"temporal.guard": [1]}})
@example(search=WHOLE | {"space": {"temporal.guard": [[1], [1]]}})
def test_any_block_is_read_or_refused_in_one_line(tmp_path: Path, search: Any):
    refused_or_read(tmp_path, yaml.safe_dump(HEAD | {"search": search}, sort_keys=False))


@QUICK
@given(name=st.sampled_from(NAMES), values=ranges, value=scalars)
def test_any_range_and_any_set_argument_are_read_or_refused(tmp_path: Path, name: str, values: Any, value: Any):
    space = {"temporal.guard": [0, 1], name: values}
    text = yaml.safe_dump(HEAD | {"search": WHOLE | {"space": space}}, sort_keys=False)
    refused_or_read(tmp_path, text)
    refused_or_read(tmp_path, text, sets=(f"{name}={json.dumps(value)}",))
