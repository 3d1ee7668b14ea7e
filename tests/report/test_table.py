"""The table: means, spread, n, floor, marks, footnotes, and the same bytes each time."""

import itertools
import math
import subprocess
import sys
from dataclasses import replace

import pytest

from uscl.records import CellPlan, CellResult, Outcome, StageManifest, StageRef
from uscl.report import render
from uscl.report.collect import CellRecord, cell_result
from uscl.report.footnotes import device_kind, spans, torch_version
from uscl.report.sheet import table_sheets
from uscl.report.table import arrow, build_table, floor_name
from uscl.spec.rows import shown
from uscl.spec.sweep import ReportSpec

REPORT = ReportSpec(rows=("contrast.loss", "temporal.stage"), columns="labels.fraction", values=("test/dsc",))


def to_text(table):
    return render.to_text(table_sheets(table))


def to_markdown(table):
    return render.to_markdown(table_sheets(table))


def plan(number, *, loss="infonce", stage="both", fraction=0.1, seed=0, polarity="positive", **settings):
    axes = {"contrast.loss": loss, "temporal.stage": stage, "labels.fraction": fraction, "seed": seed}
    every = {
        "method": "contrastive", "seed.pretrain": seed, "seed.finetune": seed, "labels.draw": seed,
        "contrast.loss": loss, "temporal.polarity": polarity, "temporal.stage": stage, "labels.fraction": fraction,
    }  # fmt: skip
    stages = {
        name: StageRef(name.split("/")[0], f"{number:04x}{at}" + "0" * 59)
        for at, name in enumerate(("finetune", "evaluate/test"))
    }
    return CellPlan(number, f"{number:064x}", f"cell {number}", axes | settings, every | settings, stages)


def manifest(ref, *, metrics=None, outcome=Outcome.DONE, flags=(), provenance=None):
    return StageManifest(ref.kind, ref.key, "a", outcome, {}, None, {}, metrics or {}, flags, provenance or {})


def record(cell, *, metrics=None, outcome=Outcome.DONE, flags=(), provenance=None):
    manifests = {name: manifest(ref, outcome=outcome, provenance=provenance) for name, ref in cell.stages.items()}
    return CellRecord(cell, manifests, CellResult(cell.cell, outcome, metrics or {}, flags))


def records_of(cells, score, **kwargs):
    return {c.cell: record(c, metrics={"test/dsc": score(c), "test/dsc_floor": 0.25}, **kwargs) for c in cells}


def test_a_row_is_the_mean_over_its_seeds_with_sample_sd_and_n():
    cells = [plan(i + 1, seed=i) for i in range(3)]
    table = build_table(cells, records_of(cells, lambda c: (0.5, 0.6, 0.8)[c.number - 1]), REPORT)
    (entry,) = table.blocks[0].rows[0].entries
    assert entry.mean == pytest.approx(1.9 / 3)
    assert entry.sd == pytest.approx(
        math.sqrt(((0.5 - 1.9 / 3) ** 2 + (0.6 - 1.9 / 3) ** 2 + (0.8 - 1.9 / 3) ** 2) / 2)
    )
    assert (entry.n, entry.marks) == (3, "")
    assert "0.633 ± 0.153" in to_text(table)


def test_one_seed_has_no_spread():
    cells = [plan(1)]
    table = build_table(cells, records_of(cells, lambda c: 0.5), REPORT)
    assert math.isnan(table.blocks[0].rows[0].entries[0].sd)
    assert "±" not in to_text(table)


def test_the_whole_text_of_a_small_table():
    grid = itertools.product(("infonce", "pairwise"), (1.0, 0.1), (0, 1))
    cells = [plan(i + 1, loss=loss, fraction=f, seed=s) for i, (loss, f, s) in enumerate(grid)]
    records = records_of(cells, lambda c: 0.5 + c.number / 100)
    records[cells[2].cell] = record(cells[2], outcome=Outcome.DIVERGED)
    records[cells[7].cell] = CellRecord(cells[7], {}, None)
    records[cells[0].cell] = record(cells[0], metrics={"test/dsc": 0.51, "test/dsc_floor": 0.25}, flags=("collapsed",))
    assert to_text(build_table(cells, records, REPORT)) == (
        "test/dsc ↑ (higher is better), by labels.fraction\n"
        "contrast.loss   temporal.stage   0.1 ↑           1.0 ↑    n\n"
        "-----------------------------------------------------------\n"
        "infonce         both            0.540!  0.515 ± 0.007*  1/2\n"
        "pairwise        both            0.570?  0.555 ± 0.007   1/2\n"
        "-----------------------------------------------------------\n"
        "all background                  0.250           0.250\n"
        "\n"
        "n = 1: one training run, no spread is known; add seeds before reading small differences\n"
        "* collapsed pretraining, in the mean: 1 of 8 cells (1)\n"
        "! diverged (non-finite loss), not in the mean: 1 of 8 cells (3)\n"
        "? not finished, not in the mean: 1 of 8 cells (8)\n"
        'in every cell, beside the recipe: temporal.stage="both"\n'
        "dsc: both masks empty = 1, one empty = 0 (both_empty_one)\n"
    )


def test_a_decoder_stage_that_learned_coordinates_is_told():
    cells = [plan(1), plan(2, fraction=0.5)]
    records = records_of(cells, lambda c: 0.5)
    records[cells[1].cell] = record(cells[1], metrics={"test/dsc": 0.5}, flags=("coordinates",))
    note = "the decoder stage learned coordinates (decoder/position_retrieval over 0.5; control: "
    text = to_text(build_table(cells, records, REPORT))
    assert f"{note}decoder.cross_clip_negative: true): 1 of 2 cells (2)\n" in text
    assert "*" not in text
    assert "coordinates" not in to_text(build_table(cells, records_of(cells, lambda c: 0.5), REPORT))


def test_markdown_of_a_small_table():
    cells = [plan(1), plan(2, fraction=0.5)]
    assert to_markdown(build_table(cells, records_of(cells, lambda c: 0.5), REPORT)) == (
        "**test/dsc ↑ (higher is better), by labels.fraction**\n"
        "\n"
        "| contrast.loss | temporal.stage | 0.1 ↑ | 0.5 ↑ | n |\n"
        "| :-- | :-- | --: | --: | --: |\n"
        "| infonce | both | 0.500 | 0.500 | 1 |\n"
        "| all background |  | 0.250 | 0.250 |  |\n"
        "\n"
        "- n = 1: one training run, no spread is known; add seeds before reading small differences\n"
        '- in every cell, beside the recipe: contrast.loss="infonce", temporal.stage="both"\n'
        "- dsc: both masks empty = 1, one empty = 0 (both\\_empty\\_one)\n"
    )


def test_equal_records_give_equal_bytes_in_any_order():
    cells = [plan(i + 1, loss=loss, fraction=f) for i, (loss, f) in enumerate(itertools.product("ab", (0.1, 0.5)))]
    records = records_of(cells, lambda c: c.number / 10)
    again = dict(reversed(records.items()))
    assert to_text(build_table(cells, records, REPORT)) == to_text(build_table(cells[::-1], again, REPORT))


def test_lower_is_better_shows_in_the_header_of_delta_snr():
    cells = [plan(1)]
    report = REPORT.model_copy(update={"values": ("test/delta_snr",)})
    records = {cells[0].cell: record(cells[0], metrics={"test/delta_snr": 0.3})}
    text = to_text(build_table(cells, records, report))
    assert text.startswith("test/delta_snr ↓ (lower is better)")
    assert "0.1 ↓" in text
    assert "all background" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("test/dsc", "↑"),
        ("val/delta_snr_present/cortex", "↓"),
        ("test/hd95_px", "↓"),
        ("test/dsc_nan_drop", "↑"),
        ("test/snr_degenerate/cortex", "↓"),
        ("test/delta_snr_signed/cortex", "→0"),
        ("encoder/loss", "↓"),
        ("val/embedding/compactness", "↑"),
        ("val/embedding/separability/cortex", "↑"),
        ("val/embedding/effective_rank", "↑"),
        ("test/embedding/alignment", "↓"),
        ("test/embedding/uniformity", "↓"),
    ],
)
def test_arrows(value, expected):
    assert arrow(value) == expected


def test_floor_names():
    assert floor_name("test/dsc") == "test/dsc_floor"
    assert floor_name("test/dsc/cortex") == "test/dsc_floor/cortex"


def test_a_measurement_that_is_nan_is_left_out_of_mean_and_n():
    cells = [plan(i + 1, seed=i) for i in range(3)]
    table = build_table(cells, records_of(cells, lambda c: math.nan if c.number == 2 else 0.5), REPORT)
    entry = table.blocks[0].rows[0].entries[0]
    assert (entry.mean, entry.n) == (0.5, 2)


def test_moot_settings_show_as_a_dash():
    settings = {"method": "contrastive", "temporal.polarity": "none", "temporal.stage": "both", "contrast.loss": "x"}
    assert shown(settings, "temporal.stage") == "-"
    assert shown(settings, "temporal.polarity") == "none"
    assert shown(settings, "contrast.loss") == "x"
    assert shown(settings | {"method": "supervised"}, "contrast.loss") == "-"
    pixels = settings | {"method": "pixel_supcon", "pixel.start": "random", "decoder.level": 2, "pixel.scope": "batch"}
    assert [shown(pixels, name) for name in ("contrast.loss", "decoder.level", "pixel.scope")] == ["-", "-", "batch"]
    assert shown(pixels | {"pixel.start": "encoder"}, "contrast.loss") == "x"
    assert shown(settings, "pixel.scope") == "-"
    pixpro = settings | {"contrast.loss": "pixpro", "contrast.form": "simclr", "contrast.momentum": 0.9}
    assert [shown(pixpro, name) for name in ("contrast.form", "contrast.momentum")] == ["-", "0.9"]


def test_a_speckle_term_that_is_off_shows_no_form():
    cells = [plan(n, **{"speckle.weight": weight, "speckle.form": "log"}) for n, weight in enumerate((0.0, 0.5), 1)]
    table = build_table(cells, {}, ReportSpec(rows=("speckle.weight", "speckle.form")))
    assert [row.settings for row in table.blocks[0].rows] == [("0.0", "-"), ("0.5", "log")]


def test_a_mean_over_an_unnamed_setting_is_said():
    cells = [plan(1, **{"temporal.window": 5}), plan(2, **{"temporal.window": 9})]
    notes = build_table(cells, records_of(cells, lambda c: 0.5), REPORT).notes
    assert "means also average over temporal.window (no ± there): name it in `report.rows`" in notes
    seeds = [plan(1, seed=0), plan(2, seed=1)]
    assert not any("average over" in n for n in build_table(seeds, records_of(seeds, lambda c: 0.5), REPORT).notes)


def test_a_spread_is_over_seeds_and_nothing_else():
    windows = [plan(i + 1, seed=i % 2, **{"temporal.window": (5, 9)[i // 2]}) for i in range(4)]
    seeds = [plan(i + 5, seed=i, fraction=1.0, **{"temporal.window": 5}) for i in range(2)]
    cells = [*windows, *seeds]
    records = records_of(cells, lambda c: c.number / 10)
    table = build_table(cells, records, REPORT)
    mixed, repeated = table.blocks[0].rows[0].entries
    assert (mixed.mean, mixed.n, math.isnan(mixed.sd)) == (0.25, 4, True)
    assert (repeated.n, repeated.sd) == (2, pytest.approx(0.1 / math.sqrt(2)))
    text = to_text(table)
    assert "0.250 " in text and text.count("±") == 1 + 1, "one entry, and the note"
    named = REPORT.model_copy(update={"rows": (*REPORT.rows, "temporal.window")})
    assert not any("average over" in note for note in build_table(cells, records, named).notes)
    assert build_table(cells, records, named).blocks[0].rows[1].entries[0].sd == pytest.approx(0.1 / math.sqrt(2))


def test_a_row_whose_settings_are_all_moot_has_a_name():
    report = ReportSpec(rows=("temporal.stage", "temporal.window"), columns="labels.fraction")
    supervised = replace(plan(1, method="supervised"), label="none labels.fraction=0.1 seed=0")
    baseline = [replace(plan(2 + s, polarity="none", seed=s), label=f"baseline seed={s}") for s in range(2)]
    cells = [supervised, *baseline, plan(4, **{"temporal.window": 5})]
    rows = build_table(cells, records_of(cells, lambda c: 0.5), report).blocks[0].rows
    assert [row.settings for row in rows] == [("supervised", "-"), ("baseline", "-"), ("both", "5")]
    assert rows[1].entries[0].n == 2


def test_rows_by_label():
    cells = [replace(plan(i + 1, seed=i % 2), label=f"{'ab'[i // 2]} x seed={i % 2}") for i in range(4)]
    table = build_table(cells, records_of(cells, lambda c: 0.5), ReportSpec(rows=("label",)))
    assert [(row.settings, row.entries[0].n) for row in table.blocks[0].rows] == [(("a x",), 2), (("b x",), 2)]


def test_mixed_devices_and_torch_versions_are_noted_once_and_equal_ones_not():
    cells = [plan(1), plan(2, fraction=0.5)]
    v100 = {"device": "Tesla V100", "versions": {"torch": "2.6.0+cu126"}}
    cpu = {"device": "cpu", "versions": {"torch": "2.13.0+cpu"}}
    both = records_of(cells[:1], lambda c: 0.5, provenance=v100) | records_of(cells[1:], lambda c: 0.5, provenance=cpu)
    notes = build_table(cells, both, REPORT).notes
    assert (
        "mixed device kinds: Tesla V100 (2 stages), cpu (2 stages); differences between cells may come from that"
        in notes
    )
    assert sum(note.startswith("mixed torch versions: 2.13.0 (2 stages), 2.6.0 (2 stages)") for note in notes) == 1
    same = records_of(cells, lambda c: 0.5, provenance=cpu)
    assert not any("mixed" in note for note in build_table(cells, same, REPORT).notes)


def test_without_declared_rows_every_axis_but_seeds_makes_one():
    cells = [plan(1), plan(2, loss="pairwise", seed=1)]
    table = build_table(cells, records_of(cells, lambda c: 0.5), ReportSpec(columns="labels.fraction"))
    assert table.row_names == ("contrast.loss", "temporal.stage")
    bare = build_table(cells, records_of(cells, lambda c: 0.5), ReportSpec())
    assert "mean ↑" in to_text(bare)


def test_a_diverged_stage_finishes_a_cell_without_its_evaluations():
    cell = plan(1)
    done = manifest(cell.stages["evaluate/test"], metrics={"test/dsc": 0.4}, flags=("b",))
    tuned = manifest(cell.stages["finetune"], flags=("a", "b"))
    assert cell_result(cell, {"finetune": tuned}) is None
    assert cell_result(cell, {"finetune": tuned, "evaluate/test": done}) == CellResult(
        cell.cell, Outcome.DONE, {"test/dsc": 0.4}, ("a", "b")
    )
    nan = manifest(cell.stages["finetune"], outcome=Outcome.DIVERGED)
    assert cell_result(cell, {"finetune": nan}).outcome is Outcome.DIVERGED


def test_spans_and_provenance_words():
    assert spans([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert torch_version({"torch": "2.13.0+cpu"}) == "2.13.0"
    assert device_kind({"device": "cuda:3"}) == "cuda"
    assert device_kind({}) == torch_version({}) == ""


def test_importing_the_report_brings_neither_mlflow_nor_torch_nor_ray():
    code = "import sys, uscl.report.page; print([m for m in ('mlflow', 'torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
