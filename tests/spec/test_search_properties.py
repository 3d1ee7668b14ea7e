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

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
@example(search=WHOLE | {"space": {"encoder.lr": {"float": [5e-324, 1e308]}}})
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


@st.composite
def right_spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Spaces that must be read: legal ranges, each perhaps conditioned on earlier choices."""
    whole = st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda bounds: [bounds[0], sum(bounds)])
    ratio = st.tuples(st.floats(1e-3, 0.5), st.floats(1, 2)).map(lambda bounds: [bounds[0], bounds[0] * bounds[1]])
    options: dict[str, st.SearchStrategy[Any]] = {
        "temporal.polarity": st.lists(st.sampled_from(["none", "positive", "negative"]), min_size=1, unique=True),
        "temporal.stage": st.lists(st.sampled_from(["encoder", "decoder", "both"]), min_size=1, unique=True),
        "temporal.window": st.builds(lambda bounds, step: {"int": bounds, "step": step}, whole, st.integers(1, 3)),
        "temporal.guard": st.builds(lambda bounds: {"int": bounds, "log": True}, whole),
        "labels.fraction": st.builds(lambda bounds, log: {"float": bounds, "log": log}, ratio, st.booleans()),
        "speckle.permuted": st.just([True, False]),
    }
    space: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(sorted(options)), min_size=1, unique=True)):
        values = draw(options[name])
        chosen = {earlier: given for earlier, given in space.items() if isinstance(given, list)}
        when = {
            earlier: draw(st.sampled_from([given[0], given[:2]]))
            for earlier, given in chosen.items()
            if draw(st.booleans())
        }
        space[name] = {**({"choice": values} if isinstance(values, list) else values), "when": when} if when else values
    return space


@QUICK
@given(space=right_spaces(), seed=st.integers(0, 9))
def test_a_right_space_is_read_kept_and_narrowed(tmp_path: Path, space: dict[str, Any], seed: int):
    sweep = load_text(tmp_path, yaml.safe_dump(HEAD | {"search": WHOLE | {"space": space}}, sort_keys=False))
    assert [dimension.name for dimension in sweep.search.space] == list(space)
    again = load_text(tmp_path, yaml.safe_dump(HEAD | {"search": sweep.to_json()["search"]}, sort_keys=False))
    assert again.search == sweep.search
    point = random_point(sweep.search.space, Random(seed))
    cell = sweep.maker.cell(1, point)
    (same,) = load_text(tmp_path, yaml.safe_dump(HEAD | {"grid": point}, sort_keys=False)).cells()
    assert (cell.label, cell.axes, cell.spec) == (same.label, same.axes, same.spec)


@QUICK
@given(space=right_spaces(), seed=st.integers(0, 9))
def test_set_leaves_the_points_that_have_its_value(tmp_path: Path, space: dict[str, Any], seed: int):
    """What is left after `--set` is the space as it was wherever the setting had that value."""
    text = yaml.safe_dump(HEAD | {"search": WHOLE | {"space": space}}, sort_keys=False)
    before = load_text(tmp_path, text).search.space
    point = random_point(before, Random(seed))
    name, value = next(iter(point.items()))
    rest = {other: given for other, given in point.items() if other != name}
    try:
        after = load_text(tmp_path, text, sets=(f"{name}={json.dumps(value)}",)).search.space
    except SpecError as error:
        assert "nothing is left to search" in str(error) and not rest
        return
    assert rest.keys() <= {dimension.name for dimension in after} and name not in {d.name for d in after}
    for dimension in after:
        assert dimension.is_asked(rest) == (dimension.name in rest)
