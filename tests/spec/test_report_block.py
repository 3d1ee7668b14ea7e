"""The `report` block: the reference row, and a paper's numbers of the shapes that tables 1 to 3 need."""
# ruff: noqa: E501  one case per line

import json
from pathlib import Path

import pytest
from sweep_files import load_text

from uscl.errors import SpecError
from uscl.spec.reference import settings_page, sweep_schema
from uscl.spec.rows import reference_row, row_titles, rows_called
from uscl.spec.sweep import ReportSpec

TWO_ROWS = """\
name: small
recipe: demo
data: phantom
rows:
  - {label: baseline, contrast.loss: infonce, temporal.polarity: none}
  - {contrast.loss: infonce, temporal.polarity: positive, temporal.stage: [encoder, both]}
grid:
  labels.fraction: [0.5, 1.0]
"""
REPORT = """\
report:
  rows: [contrast.loss, temporal.polarity, temporal.stage]
  columns: labels.fraction
"""
PUBLISHED = """\
  published:
    source: Singla et al. 2022, table 2
    columns: [0.5, 1.0]
    values:
      test/dsc:
        baseline: [0.55, 0.54]
        infonce positive encoder: [0.51, null]
"""
TABLE_1 = """\
name: baselines
recipe: demo
data: phantom
rows:
  - {label: supervised, method: supervised}
  - {label: Chaitanya}
grid:
  labels.fraction: [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
report:
  rows: [label]
  columns: labels.fraction
  reference: supervised
  published:
    source: Singla et al. 2022, table 1
    columns: [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    values:
      test/dsc:
        supervised: [0.33, 0.44, 0.52, 0.52, 0.55, 0.54, 0.57, 0.55, 0.57, 0.56, 0.57]
        Chaitanya: [0.28, 0.50, 0.56, 0.57, 0.56, 0.58, 0.58, 0.58, 0.57, 0.56, 0.57]
"""
TABLE_3 = """\
name: speckle
recipe: demo
data: phantom
rows:
  - {label: Chaitanya, speckle.weight: 0}
  - {label: Chaitanya + speckle, speckle.weight: 0.1}
grid:
  labels.fraction: [0.1, 0.5, 1.0]
report:
  rows: [label]
  columns: labels.fraction
  values: [test/dsc, test/dsc_leaf, test/dsc/cortex, test/delta_snr, test/delta_snr_all]
  reference: Chaitanya
  published:
    source: Singla et al. 2022, table 3
    columns: [0.1, 0.5, 1.0]
    note: delta SNR of CEC at 100 % repeats the cortex's
    values:
      test/dsc/cortex: {Chaitanya: [0.21, 0.31, 0.30], Chaitanya + speckle: [0.04, 0.20, 0.19]}
      test/dsc: {Chaitanya: [0.42, 0.55, 0.54], Chaitanya + speckle: [0.34, 0.48, 0.45]}
      test/delta_snr: {Chaitanya: [0.25, 0.20, 0.20], Chaitanya + speckle: [0.22, 0.25, 0.24]}
"""


TABLE_2 = """\
report:
  rows: [contrast.loss, temporal.polarity, temporal.stage]
  columns: labels.fraction
  values: [test/dsc, test/delta_snr]
  reference: baseline
  published:
    source: Singla et al. 2022, table 2
    columns: [0.1, 0.5, 1.0]
    values:
      test/dsc:
        baseline: [0.44, 0.55, 0.54]
        infonce positive encoder: [0.45, 0.51, 0.53]
        infonce positive decoder: [0.47, 0.53, 0.54]
        infonce positive both: [0.45, 0.50, 0.53]
        pairwise positive encoder: [0.43, 0.53, 0.55]
        pairwise positive decoder: [0.44, 0.53, 0.54]
        pairwise positive both: [0.43, 0.53, 0.53]
        pairwise positive_negative encoder: [0.45, 0.52, 0.54]
        pairwise positive_negative decoder: [0.43, 0.52, 0.54]
        pairwise positive_negative both: [0.46, 0.53, 0.54]
"""


def test_table_2_fits_the_shipped_sweep_row_for_row(tmp_path):
    shipped = (Path(__file__).parents[2] / "sweeps" / "temporal.yaml").read_text(encoding="utf-8")
    sweep = load_text(tmp_path, shipped.split("report:\n")[0] + TABLE_2)
    plans = _plans(sweep)
    rows = row_titles(plans, sweep.report.rows)
    assert len(rows) == len(sweep.report.published.values["test/dsc"]) == 10
    assert all(len(rows_called(name, rows)) == 1 for name in sweep.report.published.values["test/dsc"])
    assert reference_row(plans, sweep.report.rows, "baseline") == ("infonce", "none", "-")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("baseline", ("infonce", "none", "-")),
        ("infonce none -", ("infonce", "none", "-")),
        ("{temporal.polarity: none}", ("infonce", "none", "-")),
        ("{temporal.polarity: positive, temporal.stage: both}", ("infonce", "positive", "both")),
    ],
)
def test_a_reference_is_a_label_or_settings(tmp_path, reference, expected):
    sweep = load_text(tmp_path, TWO_ROWS + REPORT + f"  reference: {reference}\n")
    option = load_text(tmp_path, TWO_ROWS + REPORT, sets=(f"report.reference={reference}",))
    assert sweep.report == option.report
    assert ReportSpec(**json.loads(json.dumps(sweep.to_json()["report"]))) == sweep.report
    assert reference_row(_plans(sweep), sweep.report.rows, sweep.report.reference) == expected


def _plans(sweep):
    from types import SimpleNamespace

    from uscl.spec.trial import flatten

    return [SimpleNamespace(label=c.label, axes=c.axes, settings=flatten(c.spec)) for c in sweep.cells()]


def test_published_numbers_of_all_three_tables(tmp_path):
    table_2 = load_text(tmp_path, TWO_ROWS + REPORT + PUBLISHED).report.published
    assert (table_2.columns, table_2.dataset) == ((0.5, 1.0), "kidney")
    assert table_2.values["test/dsc"]["infonce positive encoder"] == (0.51, None)
    table_1 = load_text(tmp_path, TABLE_1).report
    assert len(table_1.published.values["test/dsc"]["Chaitanya"]) == 11
    assert set(load_text(tmp_path, TABLE_3).report.published.values) == {
        "test/dsc",
        "test/dsc/cortex",
        "test/delta_snr",
    }


def test_published_rows_that_an_option_removes_are_no_mistake(tmp_path):
    text = TWO_ROWS + REPORT + PUBLISHED
    sweep = load_text(tmp_path, text, sets=("temporal.stage=decoder", "labels.fraction=[1.0]"))
    assert len(sweep.report.published.values["test/dsc"]) == 2
    assert load_text(tmp_path, text, sets=("report.published.dataset=liver",)).report.published.dataset == "liver"


BAD = [
    ("unknown", "  reference: basline\n", "12: report.reference: 'basline' is no row; did you mean 'baseline'?"),
    ("far", "  reference: zzz\n", "12: report.reference: 'zzz' is no row; rows are baseline, infonce positive encoder, infonce positive both"),
    ("several", "  reference: {contrast.loss: infonce}\n", "12: report.reference: contrast.loss: infonce is 3 rows (infonce none -, infonce positive encoder, infonce positive both); name one of them"),
    ("none", "  reference: {temporal.window: 3}\n", "12: report.reference: temporal.window: 3 is no row; rows are baseline, infonce positive encoder, infonce positive both"),
    ("setting", "  reference: {temporal.polarty: none}\n", "12: report.reference: temporal.polarty: unknown key; did you mean 'temporal.polarity'?"),
    ("value", "  reference: {temporal.polarity: nune}\n", "12: report.reference: temporal.polarity: expected one of none, positive, negative, positive_negative, got 'nune'; did you mean 'none'?"),
    ("a list", "  reference: [baseline]\n", "12: report.reference: expected text or a mapping, got '[baseline]'"),
    ("published row", PUBLISHED.replace("        base", "        bse"), "17: report.published.values: test/dsc: bseline: is no row of this sweep; did you mean 'baseline'?"),
    ("too few", PUBLISHED.replace(", 0.54]", "]"), "17: report.published.values: test/dsc: baseline: expected 2 numbers, one per column, got 1"),
    ("no columns", PUBLISHED.replace("    columns: [0.5, 1.0]\n", ""), "14: report.published.columns: missing; the values of labels.fraction"),
    ("no number", PUBLISHED.replace("0.55", "x"), "17: report.published.values: test/dsc: baseline: expected a list of numbers (null where none), got '[x, 0.54]'"),
    ("no list", PUBLISHED.replace("[0.55, 0.54]", "0.55"), "17: report.published.values: test/dsc: baseline: expected a list of numbers (null where none), got '0.55'"),
    ("no rows", "  published: {values: {test/dsc: 3}}\n", "12: report.published.values: test/dsc: expected {row: [number, ...]}, got '3'"),
    ("measurement", PUBLISHED.replace("test/dsc", "test/dcs"), "15: report.published.values: 'test/dcs' is no measurement; expected val/... or test/..., as in test/dsc; did you mean 'test/dsc'?"),
    ("unknown key", "  published: {sources: x}\n", "12: report.published.sources: unknown key; did you mean 'report.published.source'?"),
    ("aggregate of a class", "  values: [test/dsc_leaf/cortex]\n", "12: report.values: 'test/dsc_leaf/cortex' is no measurement; dsc_leaf is a mean over classes and has none per class"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_report_gives_one_clear_line(tmp_path, text, message):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, TWO_ROWS + REPORT + text)
    assert str(caught.value) == f"{tmp_path / 'x.yaml'}:{message}"


def test_a_bad_option_is_named(tmp_path):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, TWO_ROWS + REPORT, sets=("report.reference=basline",))
    assert str(caught.value) == "--set report.reference=basline: 'basline' is no row; did you mean 'baseline'?"


def test_without_a_label_a_grid_has_rows_to_name(tmp_path):
    text = "name: small\nrecipe: demo\ndata: phantom\ngrid: {temporal.window: [3, 5], temporal.polarity: [positive]}\n"
    assert load_text(tmp_path, text, sets=("report.reference={temporal.window: 5}",)).report.reference
    assert load_text(tmp_path, text + "report: {rows: [temporal.window], reference: '3.0'}\n").report.reference == "3.0"


def test_the_reference_page_and_the_schema_know_the_new_fields():
    page = settings_page()
    assert "| `report.reference` | text, or a mapping | empty |" in page
    assert "| `report.published.values` | mapping | empty |" in page
    assert "| `report.published.columns` | list of values | `[]` |" in page
    report = sweep_schema()["properties"]["report"]["properties"]
    assert report["published"]["properties"]["columns"]["type"] == "array"
    assert [kind["type"] for kind in report["reference"]["anyOf"]] == ["string", "object"]
