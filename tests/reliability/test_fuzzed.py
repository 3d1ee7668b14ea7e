"""T21: shipped sweep files, damaged at random, through reader and planner: a plan or one line, never a traceback."""

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uscl.errors import SpecError, UsclError
from uscl.spec.reader import load_sweep
from uscl.spec.settings import trial_fields
from uscl.sweep.plan import plan_sweep

FILES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ODD = (None, True, -1, 0, 1, 2.5, 1e-300, 1e300, float("nan"), float("inf"), 10**30, "", "none", "both", "1e-4", "\x00",
       "é" * 50, "*", [], {}, [[]], [1, [2]], {"a": {"b": 1}}, [0.1, 0.1], "../../x", "2026-11-26")  # fmt: skip
NAMES = sorted(trial_fields())
AFTER = ("fixed", "rows", "grid", "report", "resources", "phantom", "data", "recipe", "name", "search")


def planned(folder: Path, text: str) -> None:
    """A plan, or an error of ours in one line."""
    (folder / "x.yaml").write_text(text, encoding="utf-8")
    try:
        plan = plan_sweep(load_sweep(folder / "x.yaml"), store_root=folder / "runs")
    except UsclError as error:
        assert str(error).strip() and "\n" not in str(error)
    else:
        # a search proposes its cells later
        assert plan.cells or plan.spec.search is not None
    assert not (folder / "runs").exists()


@QUICK
@given(file=st.sampled_from(FILES), seed=st.integers(0, 2**32), edits=st.integers(1, 4))
def test_text_that_was_cut_doubled_and_overwritten(tmp_path, file, seed, edits):
    rng, text = random.Random(seed), file.read_text(encoding="utf-8")
    for _ in range(edits):
        at, length = rng.randrange(len(text) + 1), rng.choice([1, 1, 3, 20, 200])
        put = rng.choice(
            ["", " ", "\t", "\n", ":", "- ", "{", "}", "[", "]", ",", "'", '"', "&a ", "*a", "!!x ", "%", "9"]
        )
        text = rng.choice([
            text[:at] + put + text[at:],
            text[:at] + text[at + length :],
            text[:at] + text[at : at + length] * 2 + text[at + length :],
            text[:at],
        ])  # fmt: skip
    planned(tmp_path, text)


@QUICK
@given(file=st.sampled_from(FILES), seed=st.integers(0, 2**32), edits=st.integers(1, 3))
def test_documents_whose_values_were_replaced(tmp_path, file, seed, edits):
    rng, document = random.Random(seed), yaml.safe_load(file.read_text(encoding="utf-8"))
    for _ in range(edits):
        _replace_one(document, rng)
    planned(tmp_path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


@QUICK
@given(name=st.sampled_from(NAMES), value=st.sampled_from(ODD), where=st.sampled_from(["fixed", "grid"]))
def test_any_setting_with_an_odd_value(tmp_path, name, value, where):
    document = {"name": "x", "recipe": "demo", "data": "phantom", where: {name: value}}
    planned(tmp_path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


@pytest.mark.parametrize("name", ["patients", "clips_per_patient", "frames_per_clip", "labels_per_patient", "size"])
def test_a_phantom_of_astronomic_size_is_refused_at_once(tmp_path, name):
    (tmp_path / "x.yaml").write_text(f"name: x\nrecipe: demo\ndata: phantom\nphantom: {{{name}: {10**30}}}\n")
    with pytest.raises(SpecError, match=rf"x.yaml:4: phantom.{name}: expected at most \d+, got 1e\+30"):
        plan_sweep(load_sweep(tmp_path / "x.yaml"), store_root=tmp_path / "runs")


@pytest.mark.parametrize("text", ["", "[]", "null", "x", "- a", "name: x", "? [a]\n: b", "<<: {a: 1}", "a: &a [*a]"])
def test_documents_that_are_no_sweep(tmp_path, text):
    planned(tmp_path, text)


def _replace_one(node, rng):
    """Replace, drop or add one member, anywhere in the document."""
    while True:
        members = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not members:
            return
        chosen = rng.choice(members)
        child = node[chosen]
        if isinstance(child, (dict, list)) and child and rng.random() < 0.75:
            node = child
            continue
        if rng.random() < 0.2:
            del node[chosen]
        elif isinstance(node, dict) and rng.random() < 0.3:
            node[rng.choice([*NAMES, *AFTER])] = rng.choice(ODD)
        else:
            node[chosen] = rng.choice(ODD)
        return
