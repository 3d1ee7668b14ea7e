from pathlib import Path

import pytest
from sweep_files import GOOD, load_text

from uscl import recipes
from uscl.errors import SpecError
from uscl.metrics.aggregate import COUNTS, MEANS
from uscl.spec.reader import load_sweep
from uscl.spec.sweep import MEASURES
from uscl.spec.trial import flatten
from uscl.spec.variants import decoder_settings, encoder_settings

ROOT = Path(__file__).parents[2]


def test_temporal_has_the_30_cells_of_table_2():
    sweep = load_sweep(ROOT / "sweeps" / "temporal.yaml")
    cells = sweep.cells()
    assert [cell.number for cell in cells] == list(range(1, 31))
    assert len({str(cell.spec) for cell in cells}) == 30
    assert cells[0].label == "baseline labels.fraction=0.1 seed=0"
    assert cells[29].label == "pairwise positive_negative both labels.fraction=1 seed=0"
    rows = {(c.spec.contrast.loss, c.spec.temporal.polarity, c.spec.temporal.stage) for c in cells}
    stages = ("encoder", "decoder", "both")
    pairs = (("infonce", "positive"), ("pairwise", "positive"), ("pairwise", "positive_negative"))
    assert rows == {(*pair, stage) for pair in pairs for stage in stages} | {("infonce", "none", "both")}


def test_grid_crosses_five_factors():
    cells = load_sweep(ROOT / "sweeps" / "grid.yaml").cells()
    assert len(cells) == 3 * 4 * 3 * 2 * 3
    assert len({str(cell.spec) for cell in cells}) == len(cells)


def test_paper_recipe_is_chaitanyas_schedule():
    spec = load_sweep(ROOT / "sweeps" / "temporal.yaml", recipe="paper").cells()[0].spec
    assert (spec.image.size, spec.image.norm, spec.network.preset) == (192, "minmax", "chaitanya")
    assert (spec.encoder.steps, spec.decoder.steps, spec.finetune.steps) == (10001, 10001, 10001)
    assert (spec.encoder.lr, spec.finetune.lr, spec.contrast.temperature) == (1e-3, 1e-3, 0.1)
    assert (spec.decoder.level, spec.finetune.batch, spec.temporal.window) == (3, 20, 5.0)
    assert (spec.encoder.variant, spec.encoder.clips * spec.encoder.parts, spec.encoder.head) == (
        "GDminus",
        12,
        "flatten",
    )
    assert (spec.decoder.variant, spec.decoder.clips * spec.decoder.frames) == ("LR", 12)
    assert (spec.decoder.num_negatives, spec.decoder.patch) == (5, 3)
    assert (spec.encoder.augment, spec.encoder.faithful_bugs, spec.encoder.cross_clip_positive) == (
        "chaitanya",
        False,
        False,
    )


def test_a_recipes_variant_is_silently_moot_where_a_stage_is_temporal(tmp_path: Path):
    """Named by the file or `--set` it would be an error; the stage that is not temporal runs it."""
    text = "name: x\nrecipe: paper\ndata: phantom\nrows:\n  - {temporal.polarity: positive, temporal.stage: STAGE}\n"
    for stage, expected in (("encoder", ("clip", "LR")), ("decoder", ("GDminus", "clip")), ("both", ("clip", "clip"))):
        (cell,) = load_text(tmp_path, text.replace("STAGE", stage)).cells()
        assert (encoder_settings(cell.spec).variant, decoder_settings(cell.spec).variant) == expected
        assert "encoder.variant" not in cell.asked and "temporal.polarity" in cell.asked
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        (Path(recipes.__file__).with_name("demo.yaml")).read_text().replace("head: gap", "head: gap, variant: GD")
    )
    assert load_text(tmp_path, GOOD, recipe=str(mine)).cells()[0].spec.encoder.variant == "GD"
    with pytest.raises(SpecError, match=r"G\^D with a temporal polarity"):
        load_text(tmp_path, GOOD + "fixed: {encoder.variant: GD}\n", recipe=str(mine))


def test_rows_are_outer_and_grid_inner_in_the_order_written(tmp_path: Path):
    text = """\
name: order
recipe: demo
data: phantom
rows:
  - {label: a, temporal.window: [2, 3], temporal.polarity: positive}
  - {label: b}
grid:
  labels.fraction: [0.5, 1.0]
  seed: [0, 1]
"""
    labels = [cell.label for cell in load_text(tmp_path, text).cells()]
    assert labels[:5] == [
        "a temporal.window=2 labels.fraction=0.5 seed=0",
        "a temporal.window=2 labels.fraction=0.5 seed=1",
        "a temporal.window=2 labels.fraction=1 seed=0",
        "a temporal.window=2 labels.fraction=1 seed=1",
        "a temporal.window=3 labels.fraction=0.5 seed=0",
    ]
    assert labels[8:] == [f"b labels.fraction={fraction} seed={seed}" for fraction in ("0.5", "1") for seed in (0, 1)]


def test_nested_and_dotted_names_are_one(tmp_path: Path):
    nested = GOOD + "fixed: {finetune: {steps: 7, lr: 0.5}}\n"
    dotted = GOOD + "fixed: {finetune.steps: 7, finetune.lr: 0.5}\n"
    first, second = load_text(tmp_path, nested).cells()[0].spec, load_text(tmp_path, dotted).cells()[0].spec
    assert first == second
    assert (first.finetune.steps, first.finetune.lr) == (7, 0.5)


def test_the_more_specific_place_counts(tmp_path: Path):
    text = GOOD.replace("seed: [0]", "temporal.window: [4]") + "fixed: {temporal.window: 3, finetune.steps: 7}\n"
    assert load_text(tmp_path, text).cells()[0].spec.temporal.window == 4
    assert load_text(tmp_path, text).cells()[0].spec.finetune.steps == 7
    options = ("temporal.window=6", "finetune.steps=8", "finetune.steps=9")
    spec = load_text(tmp_path, text, sets=options).cells()[0].spec
    assert (spec.temporal.window, spec.finetune.steps) == (6, 9)
    row = text.replace("temporal.window: [4]", "seed: [0]").replace(
        "polarity: positive", "polarity: positive, temporal.window: 2"
    )
    assert load_text(tmp_path, row).cells()[0].spec.temporal.window == 2


def test_a_list_in_set_multiplies_and_replaces_an_axis(tmp_path: Path):
    text = GOOD.replace("seed: [0]", "labels.fraction: [0.1, 0.5, 1.0]")
    assert len(load_text(tmp_path, text, sets=("labels.fraction=0.5",)).cells()) == 1
    cells = load_text(tmp_path, text, sets=("labels.fraction=[0.2]", "seed=[0, 1]")).cells()
    assert [cell.axes["seed"] for cell in cells] == [0, 1]
    assert [cell.label for cell in cells] == [f"infonce positive labels.fraction=0.2 seed={seed}" for seed in (0, 1)]


def test_seed_stands_for_three_and_the_specific_one_wins(tmp_path: Path):
    text = GOOD.replace("seed: [0]", "seed: [3]") + "fixed: {seed.pretrain: 1}\n"
    cell = load_text(tmp_path, text).cells()[0]
    assert (cell.spec.seed.pretrain, cell.spec.seed.finetune, cell.spec.labels.draw) == (1, 3, 3)
    assert cell.axes["seed"] == 3


def test_a_list_setting_takes_one_list_and_multiplies_by_several(tmp_path: Path):
    one = load_text(tmp_path, GOOD + "fixed: {speckle.classes: [cortex, medulla]}\n").cells()
    assert [cell.spec.speckle.classes for cell in one] == [("cortex", "medulla")]
    text = GOOD.replace("seed: [0]", "speckle.classes: [[cortex], [medulla, cec], []]")
    two = load_text(tmp_path, text).cells()
    assert [cell.spec.speckle.classes for cell in two] == [("cortex",), ("medulla", "cec"), ()]


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "0.0001", "1.E-4", "+1e-04"])
def test_a_number_is_a_number_however_it_is_written(tmp_path: Path, written: str):
    sweep = load_text(tmp_path, GOOD + f"fixed: {{encoder.lr: {written}}}\n")
    assert flatten(sweep.cells()[0].spec)["encoder.lr"] == 1e-4


def test_a_default_written_out_changes_nothing(tmp_path: Path):
    plain = load_text(tmp_path, GOOD).cells()[0].spec
    written = load_text(tmp_path, GOOD + "fixed: {temporal.window: 5, labels.fraction: 1, speckle.weight: 0}\n")
    assert written.cells()[0].spec.model_dump_json() == plain.model_dump_json()


def test_identity_names_what_the_command_line_overrides(tmp_path: Path):
    def identity(**options: str) -> str:
        return load_text(tmp_path, GOOD, **options).identity

    assert identity() == identity(recipe="demo", data="phantom") == "small"
    assert identity(recipe="paper") == "small-paper"
    assert identity(data="runs/data/real") == "small-real"
    assert identity(data="runs/data/my set/") == "small-my-set"
    assert identity(data="runs/data/real/.") == "small-real"
    assert identity(recipe="paper", data="/d/real") == "small-paper-real"
    assert identity(recipe="paper", name="other") == "other"


def test_data_reaches_every_trial(tmp_path: Path):
    sweep = load_text(tmp_path, GOOD, data="runs/data/real")
    assert sweep.data == sweep.cells()[0].spec.data == "runs/data/real"


def test_blocks_take_recipe_then_file_then_set(tmp_path: Path):
    text = GOOD + "phantom: {patients: 7, seed: 3}\nresources: {workers: 2, progress_every_s: 5}\n"
    sweep = load_text(tmp_path, text, sets=("phantom.patients=9", "resources.amp=false"))
    assert (sweep.phantom.patients, sweep.phantom.seed, sweep.phantom.size) == (9, 3, 64)
    assert (sweep.resources.workers, sweep.resources.progress_every_s, sweep.resources.amp) == (2, 5, False)
    assert sweep.resources.gpus_per_trial == 1


def test_a_recipe_of_ones_own(tmp_path: Path):
    own = (ROOT / "uscl" / "recipes" / "demo.yaml").read_text().replace("steps: 250", "steps: 11")
    (tmp_path / "mine.yaml").write_text(own)
    sweep = load_text(tmp_path, GOOD, recipe=str(tmp_path / "mine.yaml"))
    assert (sweep.recipe, sweep.identity) == ("mine", "small-mine")
    assert sweep.cells()[0].spec.finetune.steps == 11


def test_the_report_is_read_or_made_from_the_axes(tmp_path: Path):
    made = load_text(tmp_path, GOOD.replace("seed: [0]", "seed: [0, 1]\n  labels.fraction: [0.1, 1]")).report
    assert made.rows == ("contrast.loss", "temporal.polarity")
    assert (made.columns, made.values) == ("labels.fraction", ("test/dsc",))
    read = load_text(
        tmp_path, GOOD + "report: {rows: [temporal.stage], columns: seed, values: [val/dsc/cortex]}\n"
    ).report
    assert (read.rows, read.columns, read.values) == (("temporal.stage",), "seed", ("val/dsc/cortex",))


def test_a_report_may_show_embeddings(tmp_path: Path):
    values = ("val/embedding/separability", "test/embedding/compactness/cortex", "val/embedding/effective_rank")
    report = load_text(tmp_path, GOOD + f"report: {{values: [{', '.join(values)}]}}\n").report
    assert report.values == values


def test_set_reaches_the_report(tmp_path: Path):
    text = GOOD + "report: {rows: [temporal.stage], columns: seed, values: [val/dsc/cortex]}\n"
    sets = ("report.rows=[label]", "report.values=[test/dsc, test/dsc_n]")
    report = load_text(tmp_path, text, sets=sets).report
    assert (report.rows, report.columns, report.values) == (("label",), "seed", ("test/dsc", "test/dsc_n"))
    made = load_text(tmp_path, GOOD, sets=("report.columns=contrast.loss",)).report
    assert (made.rows, made.columns, made.values) == (("temporal.polarity",), "contrast.loss", ("test/dsc",))
    named = load_text(tmp_path, GOOD, sets=("report.rows=[contrast.loss]",)).report
    assert (named.rows, named.columns) == (("contrast.loss",), "")


def test_the_measurements_of_a_report_are_those_that_are_made():
    assert sorted(MEASURES) == sorted((*MEANS, *COUNTS))


def test_what_set_changes_is_an_axis_of_every_cell(tmp_path: Path):
    text = GOOD + "fixed: {finetune.steps: 7}\n"
    cell = load_text(tmp_path, text, sets=("encoder.steps=20",)).cells()[0]
    assert (cell.axes["encoder.steps"], cell.fixed) == (20, {"finetune.steps": 7})
    assert cell.label == "infonce positive seed=0 encoder.steps=20"
    same = load_text(tmp_path, text, sets=("encoder.steps=200", "finetune.steps=7", "temporal.window=5")).cells()[0]
    assert same.label == "infonce positive seed=0", "as the recipe, the file and the default have it"
    back = load_text(tmp_path, text, sets=("finetune.steps=250",)).cells()[0]
    assert (back.axes["finetune.steps"], back.fixed) == (250, {})


def test_fixed_tells_only_what_differs_from_the_recipe(tmp_path: Path):
    text = GOOD + "fixed: {finetune.steps: 250, finetune.lr: 0.5, temporal.window: 5, speckle.weight: 0.1}\n"
    assert load_text(tmp_path, text).cells()[0].fixed == {"finetune.lr": 0.5, "speckle.weight": 0.1}
    row = text.replace("infonce,", "infonce, finetune.lr: 0.25,")
    assert load_text(tmp_path, row).cells()[0].fixed == {"speckle.weight": 0.1}, "an axis is told as such"


def test_a_sweep_knows_where_its_data_and_phantom_stand(tmp_path: Path):
    path = tmp_path / "x.yaml"
    sweep = load_text(tmp_path, GOOD + "phantom:\n  patients: 7\n", sets=("phantom.seed=3",))
    assert str(sweep.error("phantom.patients", "no")) == f"{path}:9: phantom.patients: no"
    assert str(sweep.error("phantom.seed", "no")) == "--set phantom.seed=3: no"
    assert str(sweep.error("data", "no")) == f"{path}:3: data: no"
    assert str(load_text(tmp_path, GOOD, data="d").error("data", "no")) == "--data d: no"


def test_a_cell_knows_where_its_settings_stand(tmp_path: Path):
    cell = load_text(tmp_path, GOOD).cells()[0]
    path = tmp_path / "x.yaml"
    assert str(cell.error("temporal.polarity", "no")) == f"{path}:5: temporal.polarity: no"
    assert str(cell.error("labels.draw", "no")) == f"{path}:7: seed: no"
    assert str(cell.error("temporal.guard", "no")) == "temporal.guard: no"
    where = str(cell.error("image.size", "no"))
    assert where.endswith("recipes/demo.yaml:5: image.size: no")


def test_the_resolved_sweep_is_plain_json(tmp_path: Path):
    import json

    document = json.loads(json.dumps(load_text(tmp_path, GOOD).to_json()))
    assert (document["name"], document["recipe"], document["data"]) == ("small", "demo", "phantom")
    assert document["cells"][0]["settings"]["temporal"]["polarity"] == "positive"
