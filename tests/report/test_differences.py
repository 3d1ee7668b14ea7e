"""Rows against the reference row: worked by hand, what pairs with what, what is said, and what is never bold."""

import itertools
import math

import numpy as np
import pytest
from report_store import CLASSES, make_store, plan_cell, publish_cell

from uscl.records import NO_FACTS, DatasetFacts, Outcome
from uscl.report.collect import collect
from uscl.report.differences import BOLD, Difference, build_differences, difference_sheets
from uscl.report.page import build_report
from uscl.report.render import to_markdown
from uscl.report.scores import Measure, measure_of, paired_scores, run_of
from uscl.report.stats import holm, paired_interval
from uscl.spec.sweep import ReportSpec

NAN = math.nan
REPORT = ReportSpec(rows=("temporal.polarity",), columns="labels.fraction", reference="none")
ROWS = ("none", "positive", "negative")
EFFECT = {"none": 0.0, "positive": 0.2, "negative": 0.001}


def plan(*, rows=ROWS, seeds=3, fractions=(0.1,)):
    grid = itertools.product(rows, fractions, range(seeds))
    return [plan_cell(n, row, fraction=f, seed=s) for n, (row, f, s) in enumerate(grid, 1)]


def value_of(row, seed, patient, case=0, name="cortex"):
    """A score with an effect of the row, and noise that is a function of seed, patient, class."""
    noise = math.sin(1 + 7 * seed + 3 * patient + 11 * CLASSES.index(name) + 5 * ROWS.index(row)) / 100
    return 0.3 + EFFECT[row] + noise + 0.01 * case


def dsc(cell):
    row, seed = cell.settings["temporal.polarity"], cell.settings["seed.pretrain"]
    return lambda p, i, name: {"dsc": value_of(row, seed, p, i, name)}


def differences_of(store, cells, report=REPORT, facts=NO_FACTS):
    return build_differences(store, cells, collect(store, cells), report, facts)


def entry(block, row, column="0.1"):
    (found,) = [each for each in block.entries if (each.row, each.column) == ((row,), column)]
    return found


def test_a_row_is_compared_seed_by_seed_and_patient_by_patient(tmp_path):
    cells = plan()
    store = make_store(tmp_path, cells, dsc)
    (block,) = differences_of(store, cells)
    found = {}
    for row in ("positive", "negative"):
        by_hand = [
            [np.mean([value_of(row, s, p, 0, c) - value_of("none", s, p, 0, c) for c in CLASSES]) for p in range(4)]
            for s in range(3)
        ]
        found[row], expected = entry(block, row), paired_interval(by_hand)
        paired = found[row].paired
        for name in ("mean", "low", "high", "p"):
            assert getattr(paired, name) == pytest.approx(getattr(expected, name))
        assert (paired.num_seeds, paired.num_patients, paired.unit) == (3, 4, "patient")
    adjusted = holm([found[row].paired.p for row in ("positive", "negative")])
    assert [found[row].p_holm for row in ("positive", "negative")] == pytest.approx(adjusted)
    assert len(block.entries) == 2, "the reference row is not compared with itself"
    assert found["positive"].bold and not found["negative"].bold


def test_the_mean_difference_is_the_difference_of_the_tables_means(tmp_path):
    cells = plan()
    store = make_store(tmp_path, cells, dsc)
    report = build_report(store, cells, REPORT)
    means = {row.settings[0]: row.entries[0].mean for row in report.table.blocks[0].rows}
    for row in ("positive", "negative"):
        assert entry(report.differences[0], row).paired.mean == pytest.approx(means[row] - means["none"])


def test_holm_counts_the_rows_of_a_column(tmp_path):
    cells = plan(fractions=(0.1, 1.0))
    cells = [
        cell for cell in cells if (cell.axes["temporal.polarity"], cell.axes["labels.fraction"]) != ("negative", 1)
    ]
    store = make_store(tmp_path, cells, dsc)
    (block,) = differences_of(store, cells)
    lone = entry(block, "positive", "1.0")
    assert lone.p_holm == lone.paired.p
    assert entry(block, "positive").p_holm == pytest.approx(2 * entry(block, "positive").paired.p)


@pytest.mark.parametrize(("seeds", "bold"), [(1, False), (2, False), (3, True)])
def test_bold_needs_three_seeds_and_one_seed_is_said_plainly(tmp_path, seeds, bold):
    cells = plan(rows=("none", "positive"), seeds=seeds)
    report = build_report(make_store(tmp_path, cells, dsc), cells, REPORT)
    page = to_markdown(report.sheets())
    difference = report.differences[0].entries[0]
    assert difference.paired.low > 0
    assert ("**+0.2" in page) == bold == difference.bold
    assert ("- one training run: patients only\n" in page) == (seeds == 1)
    assert ("- two training runs: the interval can be too narrow\n" in page) == (seeds == 2)
    assert f"{seeds} seed{'s' * (seeds > 1)}, 4 patients" in page


def test_an_interval_that_crosses_zero_is_not_bold_nor_one_that_holm_takes_back(tmp_path):
    cells = plan()
    (block,) = differences_of(make_store(tmp_path, cells, dsc), cells)
    weak = entry(block, "negative")
    assert weak.paired.low < 0 < weak.paired.high and not weak.bold
    strong = entry(block, "positive")
    assert not type(strong)(strong.row, strong.column, strong.paired, 0.2).bold
    (sheet,) = difference_sheets((block,), build_report(make_store(tmp_path, cells, dsc), cells, REPORT).table)
    assert sheet.bold == {(0, 2)} and sheet.header[2] == "difference" and BOLD in sheet.notes


@pytest.mark.parametrize(
    ("value", "classes"),
    [
        ("test/dsc", CLASSES),
        ("test/dsc_leaf", ("cortex", "medulla")),
        ("test/dsc/capsule", ("capsule",)),
        ("val/delta_snr", ("cortex", "medulla")),
        ("val/delta_snr_all", CLASSES),
    ],
)
def test_a_class_mean_is_over_the_classes_of_the_tables_aggregate(tmp_path, value, classes):
    cells = plan(rows=("none", "positive"), seeds=1)
    effects = {"capsule": 0.3, "cortex": 0.1, "medulla": 0.2}

    def score(cell):
        there = cell.settings["temporal.polarity"] == "positive"
        return lambda p, i, name: dict.fromkeys(("dsc", "delta_snr"), 0.5 + 0.01 * p * there + there * effects[name])

    report = build_report(make_store(tmp_path, cells, score), cells, REPORT.model_copy(update={"values": (value,)}))
    expected = np.mean([effects[name] for name in classes]) + 0.015
    assert report.differences[0].entries[0].paired.mean == pytest.approx(expected)
    reference, row = report.table.blocks[0].rows
    assert row.entries[0].mean - reference.entries[0].mean == pytest.approx(expected)


def test_counts_have_no_differences():
    assert measure_of("test/missed") is None and measure_of("test/n_cases") is None
    assert measure_of("test/dsc_leaf") == Measure("test", "dsc_leaf")
    assert measure_of("val/hd95/cortex").row_name == "hd95"


def test_what_one_network_has_no_value_for_is_compared_with_nothing():
    """A rule may leave a case out of one row only; then neither row counts it."""
    key = ("p", "cortex", "i0"), ("p", "cortex", "i1"), ("p", "medulla", "i0"), ("q", "cortex", "i2")
    ours = {(0, (0, 0)): dict(zip(key, (1.0, 5.0, 3.0, NAN), strict=True))}
    theirs = {(0, (0, 0)): dict(zip(key, (0.5, NAN, 1.0, 2.0), strict=True))}
    one, other = paired_scores(ours, theirs)
    assert [(score.patient, score.value) for score in one] == [("p", 2.0), ("q", pytest.approx(NAN, nan_ok=True))]
    assert other[0].value == 0.75


def test_label_draws_and_fine_tuning_seeds_are_averaged_within_a_training_run(tmp_path):
    cells = []
    for number, (row, seed, draw) in enumerate(itertools.product(("none", "positive"), range(3), range(2)), 1):
        extra = {"seed.finetune": draw, "labels.draw": draw, "seed.pretrain": seed}
        cells.append(plan_cell(number, row, seed=seed, **extra))
    assert run_of(cells[3]) == (1, (1, 1))
    store = make_store(tmp_path, cells, dsc)
    (found,) = differences_of(store, cells)[0].entries
    assert (found.paired.num_seeds, found.paired.num_patients) == (3, 4)
    assert found.paired.mean == pytest.approx(np.mean([
        value_of("positive", s, p, 0, c) - value_of("none", s, p, 0, c)
        for s, p, c in itertools.product(range(3), range(4), CLASSES)
    ]))  # fmt: skip


@pytest.mark.parametrize("unit", ["group", "case"])
def test_where_patients_are_unknown_the_unit_is_another_and_is_named(tmp_path, unit):
    cells = plan(rows=("none", "positive"))
    units = {f"p{p}i{i}": f"g{p}" if unit == "group" else f"p{p}i{i}" for p in range(4) for i in range(2)}
    store = make_store(tmp_path, cells, dsc, patient=lambda p, i: f"unknown-p{p}i{i}")
    report = build_report(store, cells, REPORT, DatasetFacts("x", {}, unit, units))
    count = {"group": 4, "case": 8}[unit]
    assert f"3 seeds, {count} {unit}s" in to_markdown(report.sheets())


def test_runs_that_are_missing_or_diverged_are_left_out_and_counted(tmp_path):
    cells = plan(rows=("none", "positive"), seeds=4)
    store = make_store(tmp_path, cells[:3], dsc)
    for cell in cells[3:]:
        if cell.number not in (4, 6):  # a run of the reference is missing, one of the row has diverged
            publish_cell(store, cell, dsc(cell))
    publish_cell(store, cells[5], dsc(cells[5]), outcome=Outcome.DIVERGED)
    (block,) = differences_of(store, cells)
    assert block.entries[0].paired.num_seeds == 2
    assert "2 of 4 training runs left out: no value in both rows" in block.notes


def test_a_torn_file_is_no_score_and_no_crash(tmp_path):
    cells = plan(rows=("none", "positive"))
    store = make_store(tmp_path, cells, dsc)
    records = collect(store, cells)
    (store.folder(cells[0].stages["evaluate/test"]) / "cases.parquet").write_bytes(b"torn")
    (block,) = build_differences(store, cells, records, REPORT)
    assert block.entries[0].paired.num_seeds == 2


def test_a_row_that_averages_over_a_setting_has_no_difference_and_says_so(tmp_path):
    cells = plan(rows=("none", "positive"), seeds=1)
    cells.append(plan_cell(3, "positive", **{"temporal.window": 9}))
    cells[1] = plan_cell(2, "positive", **{"temporal.window": 5})
    (block,) = differences_of(make_store(tmp_path, cells, dsc), cells)
    assert block.entries == ()
    assert block.notes == ("positive: no difference, for it averages over temporal.window",)


@pytest.mark.parametrize(("seeds", "most"), [(3, 0.16), (5, 0.09), (10, 0.06)])
def test_how_often_a_table_of_nine_rows_without_effect_has_something_bold(seeds, most):
    """400 tables, seed, patient and residual varying alike: 0.05 is known to within 0.02, 0.14 to within 0.035."""
    rng = np.random.default_rng(seeds)

    def scores_SP():
        return rng.normal(0, 1, (seeds, 1)) + rng.normal(0, 1, (1, 30)) + rng.normal(0, 1, (seeds, 30))

    bold = uncorrected = 0
    for _ in range(400):
        reference = scores_SP()
        paired = [paired_interval(scores_SP() - reference) for _ in range(9)]
        adjusted = holm([each.p for each in paired])
        bold += any(Difference((), "", each, p).bold for each, p in zip(paired, adjusted, strict=True))
        uncorrected += any(each.bold for each in paired)
    print(f"9 rows without effect, {seeds} seeds x 30 patients: {bold / 4:.1f} % of tables have something bold", end="")
    print(f", {uncorrected / 4:.1f} % without Holm")
    assert bold / 400 <= most + 0.035
    assert uncorrected / 400 > 0.2


def test_without_a_reference_or_another_row_nothing_is_compared(tmp_path):
    cells = plan(seeds=1)
    store = make_store(tmp_path, cells, dsc)
    assert differences_of(store, cells, REPORT.model_copy(update={"reference": ""})) == ()
    assert differences_of(store, cells, REPORT.model_copy(update={"reference": "gone"})) == ()
    assert differences_of(store, cells[:1]) == ()
    by_setting = REPORT.model_copy(update={"reference": {"temporal.polarity": "none"}})
    assert differences_of(store, cells, by_setting) == differences_of(store, cells)


def test_a_column_that_the_reference_row_lacks_is_named(tmp_path):
    cells = plan(rows=("none", "positive"), seeds=1, fractions=(0.1, 1.0))
    cells = [cell for cell in cells if cell.number != 1]
    (block,) = differences_of(make_store(tmp_path, cells, dsc), cells)
    assert [each.column for each in block.entries] == ["1.0"]
    assert "no differences at 0.1: the reference row has no cell there" in block.notes
