"""T11: the same cell written in different ways is one cell, and is trained once: the whole path from YAML to queue."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uscl.spec.reader import load_sweep
from uscl.sweep.plan import plan_sweep
from uscl.sweep.runner import unfinished
from uscl.sweep.study import study_of

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SPELLINGS = {
    "encoder.lr": ("1e-3", "0.001", "1.0e-3", ".001", "10e-4"),
    "temporal.window": ("4", "4.0", "4e0"),
    "temporal.polarity": ("positive", "'positive'", '"positive"'),
    "temporal.shuffled": (None, "false", "False"),
    "temporal.guard": (None, "0", "0.0"),
    "finetune.freeze": (None, "none", "'none'"),
    "labels.fraction": ("0.5", "5e-1", ".5"),
}
"""Ways to write one value; None: the default, left out."""


def row(draw):
    """One of many ways to write the same row."""
    chosen = {name: draw(st.sampled_from(ways)) for name, ways in SPELLINGS.items()}
    given_ = [(name, text) for name, text in chosen.items() if text is not None]
    return draw(st.permutations(given_))


@st.composite
def two_rows(draw):
    return row(draw), row(draw)


def as_dotted(pairs):
    return "{" + ", ".join(f"{name}: {text}" for name, text in pairs) + "}"


def as_nested(pairs):
    sections = {}
    for name, text in pairs:
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key}: {text}")
    return "{" + ", ".join(f"{name}: {{{', '.join(keys)}}}" for name, keys in sections.items()) + "}"


def plan_of(tmp_path, *rows):
    body = "".join(f"  - {text}\n" for text in rows)
    (tmp_path / "x.yaml").write_text(f"name: x\nrecipe: demo\ndata: phantom\nrows:\n{body}")
    return plan_sweep(load_sweep(tmp_path / "x.yaml"), store_root=tmp_path / "runs")


@QUICK
@given(rows=two_rows())
def test_two_spellings_of_one_row_are_one_cell_that_runs_once(tmp_path, rows):
    one, other = rows
    plan = plan_of(tmp_path, as_dotted(one), as_nested(other))
    assert [planned.plan.number for planned in plan.cells] == [1]
    assert [(twin.number, twin.same_as) for twin in plan.duplicates] == [(2, 1)]
    assert len(unfinished(study_of([plan]))) == 1


@QUICK
@given(rows=two_rows(), name=st.sampled_from(["encoder.lr", "temporal.window", "temporal.guard"]))
def test_another_value_is_another_cell(tmp_path, rows, name):
    """The control: what makes rows one is their values, not that they look alike."""
    one, other = rows
    changed = [*((key, text) for key, text in other if key != name), (name, "3")]
    assert len(plan_of(tmp_path, as_dotted(one), as_nested(changed)).cells) == 2


@pytest.mark.parametrize("default", ["temporal.soft: false", "contrast.temperature: 0.1", "labels.draw: 0", "seed: 0"])
def test_a_default_written_out_is_the_default_left_out(tmp_path, default):
    plan = plan_of(tmp_path, "{temporal.polarity: positive}", f"{{temporal.polarity: positive, {default}}}")
    assert len(plan.cells) == 1 and len(plan.duplicates) == 1


def test_a_setting_that_another_makes_moot_makes_no_second_cell(tmp_path):
    plan = plan_of(tmp_path, "{temporal.polarity: none, temporal.window: 3}", "{temporal.polarity: none}")
    assert len(plan.cells) == 1
