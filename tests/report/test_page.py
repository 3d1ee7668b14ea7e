"""The whole report: the paper's block, every format, the notes on cases and raters, and the same bytes each time."""

import csv
import io
import itertools
import re
from dataclasses import replace

import pytest
from report_store import make_store, plan_cell, publish_cell

from uscl.records import DatasetFacts
from uscl.report.latex import escaped, to_latex
from uscl.report.page import FORMATS, build_report, stored_report, table_files
from uscl.report.render import to_text
from uscl.report.sheet import Sheet
from uscl.spec.sweep import PublishedSpec, ReportSpec
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder

PAPER = PublishedSpec(
    source="Singla et al. 2022, table 2",
    columns=(0.1, 0.5, 1.0),
    values={"test/dsc": {"baseline": (0.44, 0.55, 0.54), "positive": (0.45, None, 0.53)}},
    note="no spread is published",
)
REPORT = ReportSpec(
    rows=("temporal.polarity",), columns="labels.fraction", values=("test/dsc",), reference="baseline", published=PAPER
)
PHANTOM = DatasetFacts("phantom", {"dsc": 0.836, "dsc/cortex": 0.728})
SCORES = {("none", 0.1): 0.5, ("none", 1.0): 0.75, ("positive", 0.1): 0.625, ("positive", 1.0): 0.5}


def plan(fractions=(0.1, 1.0), seeds=1):
    grid = itertools.product(("none", "positive"), fractions, range(seeds))
    labels = {"none": "baseline"}
    return [plan_cell(n, row, fraction=f, seed=s, label=labels.get(row, "")) for n, (row, f, s) in enumerate(grid, 1)]


def score(cell):
    base = SCORES[cell.settings["temporal.polarity"], cell.settings["labels.fraction"]]
    return lambda p, i, name: {"dsc": base, "delta_snr": base}


@pytest.fixture
def cells():
    return plan()


@pytest.fixture
def store(tmp_path, cells):
    return make_store(tmp_path, cells, score, parts=("val", "test"))


def sheet_of(report, title):
    (found,) = [sheet for sheet in report.sheets() if sheet.title.startswith(title)]
    return found


def test_the_papers_numbers_are_a_block_of_their_own_and_effects_stand_side_by_side(store, cells):
    report = build_report(store, cells, REPORT, PHANTOM)
    paper = sheet_of(report, "paper, kidney images: test/dsc")
    assert paper.title.endswith("(Singla et al. 2022, table 2)")
    assert paper.header == ("temporal.polarity", "0.1", "1.0"), "this sweep has no column 0.5"
    assert paper.lines == (("none", "0.44", "0.54"), ("positive", "0.45", "0.53"))
    assert paper.notes == ("no spread is published",)
    effects = sheet_of(report, "effects, row minus none: test/dsc")
    assert effects.header == ("temporal.polarity", "0.1 paper", "0.1 ours", "1.0 paper", "1.0 ours")
    assert effects.lines == (("positive", "+0.010", "+0.125", "-0.010", "-0.250"),)
    assert effects.notes == ("the paper measured kidney images, this sweep 'phantom': only effects can be compared",)
    assert not [sheet for sheet in report.sheets() if sheet.title.startswith("ours minus paper")]


def test_on_the_papers_data_ours_are_subtracted(store, cells):
    report = build_report(store, cells, REPORT, DatasetFacts("Kidney"))
    assert sheet_of(report, "ours minus paper: test/dsc").lines == (
        ("none", "+0.060", "+0.210"),
        ("positive", "+0.175", "-0.030"),
    )
    assert not [sheet for sheet in report.sheets() if sheet.title.startswith("effects")]


def test_a_published_number_that_is_missing_is_a_dash(tmp_path):
    cells = plan((0.5, 1.0))
    report = build_report(
        make_store(tmp_path, cells, lambda cell: lambda p, i, n: {"dsc": 0.5}), cells, REPORT, PHANTOM
    )
    assert sheet_of(report, "paper").lines[1] == ("positive", "-", "0.53")
    assert sheet_of(report, "effects").lines == (("positive", "-", "+0.000", "-0.010", "+0.000"),)


def test_our_effect_is_over_the_runs_that_both_rows_have(tmp_path):
    """A run that the reference row lacks lies 0.4 higher in both rows, which is no effect of the row."""
    cells = plan((0.1,), seeds=3)
    lacking = next(cell for cell in cells if cell.settings["temporal.polarity"] == "none" and "seed=2" in cell.label)

    def of_seed(cell):
        seed, base = cell.settings["seed.pretrain"], SCORES[cell.settings["temporal.polarity"], 0.1]
        return lambda p, i, n: {"dsc": base - 0.25 + 0.4 * (seed == 2)}

    store = make_store(tmp_path, [cell for cell in cells if cell is not lacking], of_seed)
    report = build_report(store, cells, REPORT, PHANTOM)
    assert sheet_of(report, "effects").lines == (("positive", "+0.010", "+0.125"),)
    assert report.differences[0].entries[0].paired.mean == pytest.approx(0.125)


def test_published_numbers_need_no_reference_and_no_value_of_ours(store, cells):
    alone = REPORT.model_copy(update={"reference": "", "values": ("test/delta_snr",)})
    titles = [sheet.title for sheet in build_report(store, cells, alone, PHANTOM).sheets()]
    assert [title.split(":")[0] for title in titles] == [
        "test/delta_snr ↓ (lower is better), by labels.fraction",
        "paper, kidney images",
    ]
    gone = PAPER.model_copy(update={"values": {"test/dsc": {"decoder": (0.1, 0.1, 0.1)}}})
    report = build_report(store, cells, REPORT.model_copy(update={"published": gone}), PHANTOM)
    assert report.published == ()


def test_a_reference_that_is_no_row_of_its_own_is_said(store, cells):
    report = build_report(store, cells, REPORT.model_copy(update={"reference": "twin"}), PHANTOM)
    assert report.differences == ()
    assert "no differences: report.reference (twin) is no row of its own here" in to_text(report.sheets())
    assert not [sheet for sheet in report.sheets() if sheet.title.startswith("effects")]


def test_the_table_says_raters_and_how_many_cases(store, cells):
    text = to_text(build_report(store, cells, REPORT, PHANTOM).sheets())
    assert "two raters         0.836  0.836\n" in text
    assert (
        "labelled training cases by labels.fraction: 0.1 -> 10, 1.0 -> 100; scored on 32 validation "
        "(they also choose the step: finetune.select: best_val) and 40 test cases\n"
    ) in text
    cortex = REPORT.model_copy(update={"values": ("test/dsc/cortex", "test/hd95")})
    blocks = build_report(store, cells, cortex, PHANTOM).table.blocks
    assert [block.ceiling for block in blocks] == [0.728, None]


def test_csv_has_a_line_per_measurement_row_and_column(store, cells):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"][1](build_report(store, cells, REPORT, PHANTOM)))))
    assert [(line["temporal.polarity"], line["labels.fraction"], line["mean"]) for line in lines] == [
        ("none", "0.1", "0.5"), ("none", "1.0", "0.75"), ("positive", "0.1", "0.625"), ("positive", "1.0", "0.5"),
    ]  # fmt: skip
    reference, row = lines[0], lines[2]
    assert (reference["difference"], reference["seeds"], reference["published"]) == ("", "", "0.44")
    assert (row["difference"], row["seeds"], row["patients"], row["unit"]) == ("0.125", "1", "4", "patient")
    assert (row["n"], row["sd"], row["floor"], row["ceiling"]) == ("1", "", "0.25", "0.836")
    assert list(row)[-14:] == [
        "mean", "sd", "n", "difference", "low", "high", "p", "p_holm", "seeds", "patients", "unit", "floor", "ceiling",
        "published",
    ]  # fmt: skip


def test_latex_is_plain_ascii_and_balanced(store, cells):
    text = FORMATS["latex"][1](build_report(store, cells, REPORT, PHANTOM))
    assert text.isascii()
    assert text.count("{") == text.count("}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 4
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert r"none & 0.500 & 0.750 & 1 \\" in rows
    assert not re.search(r"(?<!\\)[&_%#](?=[^ ])", text.replace("% needs", ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % & 3_000 #1", r"50 \% \& 3\_000 \#1"),
        ("-0.011", "$-0.011$"),
        ("[-0.1, +0.2]", "{[}-0.1, +0.2]"),
        ("test/dsc ↑", r"test/dsc $\uparrow$"),
        ("0.5 ± 0.1*", r"0.5 $\pm$ 0.1*"),
        ("a\\b~^{}", r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}\{\}"),
        ("-", "-"),
    ],
)
def test_latex_escapes(text, expected):
    assert escaped(text) == expected


def test_bold_in_latex_is_bold_for_numbers_too():
    sheet = Sheet("t", ("a", "b"), (("x", "+0.1"), ("x", "y")), 1, bold=frozenset({(0, 1), (1, 1)}))
    assert r"x & $\mathbf{+0.1}$ \\" in to_latex([sheet])
    assert r"x & \textbf{y} \\" in to_latex([sheet])


def test_the_same_store_gives_the_same_bytes_in_every_format(store, cells):
    first = table_files(build_report(store, cells, REPORT, PHANTOM))
    again = table_files(build_report(StageStore(store.root), cells[::-1], REPORT, PHANTOM))
    assert first == again and list(first) == ["table.txt", "table.md", "report.csv", "report.tex"]
    folder = SweepFolder(store.root, "s")
    folder.write_cells(cells)
    folder.write_dataset(PHANTOM)
    folder.write_sweep({"name": "s", "report": REPORT.model_dump(mode="json")})
    assert table_files(stored_report(store, folder)) == first


def test_a_sweep_that_has_hardly_begun_has_a_report(tmp_path, cells):
    store = StageStore(tmp_path)
    empty = table_files(build_report(store, cells, REPORT, PHANTOM))
    assert "nothing to compare" in empty["table.txt"]
    assert "? not finished, not in the mean: 4 of 4 cells (1-4)" in empty["table.txt"]
    publish_cell(store, cells[0], score(cells[0]))
    assert "0.500" in table_files(build_report(store, cells, REPORT, PHANTOM))["table.txt"]
    assert table_files(build_report(store, [], REPORT, PHANTOM))["table.txt"]


@pytest.mark.parametrize(("seeds", "shown"), [(1, 0), (2, 1)])
def test_the_brief_report_has_all_results_and_the_first_measurements_differences_of_several_runs(
    tmp_path, seeds, shown
):
    def uneven(cell):
        """Training runs that differ, and differently in each row."""
        shift = 0.01 * cell.settings["seed.pretrain"] * SCORES[cell.settings["temporal.polarity"], 1.0]
        return lambda p, i, name: {key: value + shift for key, value in score(cell)(p, i, name).items()}

    cells = plan(seeds=seeds)
    store = make_store(tmp_path, cells, uneven, parts=("val", "test"))
    spec = REPORT.model_copy(update={"values": ("test/dsc", "test/delta_snr")})
    report = build_report(store, cells, spec, PHANTOM)
    whole, brief = ([sheet.title for sheet in sheets] for sheets in (report.sheets(), report.brief_sheets()))
    assert set(brief) < set(whole)
    assert sum(title.startswith("test/delta_snr ↓ (lower is better), by") for title in brief) == 1
    assert sum("difference to" in title for title in brief) == shown < sum("difference to" in title for title in whole)
    assert any(title.startswith("paper, kidney images") for title in brief)


def test_validation_does_not_choose_the_step_of_nnunets_recipe(store, cells):
    package = [replace(cell, settings={**cell.settings, "method": "nnunetv2"}) for cell in cells]
    assert "they also choose" not in to_text(build_report(store, package, REPORT, PHANTOM).sheets())
    mixed = to_text(build_report(store, [*cells[:2], *package[2:]], REPORT, PHANTOM).sheets())
    assert "(they also choose the step: finetune.select: best_val, not under nnU-Net's recipe)" in mixed


@pytest.mark.parametrize(
    ("raters", "settings", "notes"),
    [
        ((), {}, []),
        (("ann",), {}, []),
        (("ann", "bob"), {}, ["masks of ann (labels.rater); the dataset has ann, bob"]),
        (("ann", "bob"), {"labels.rater": "bob"}, ["masks of bob (labels.rater); the dataset has ann, bob"]),
    ],
)
def test_of_several_raters_the_page_says_whose_masks_count(store, cells, raters, settings, notes):
    chosen = [replace(cell, settings={**cell.settings, **settings}) for cell in cells]
    report = build_report(store, chosen, REPORT, DatasetFacts("kidney", raters=raters))
    assert [note for note in report.table.notes if "labels.rater" in note] == notes
