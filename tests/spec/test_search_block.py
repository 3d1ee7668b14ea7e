"""The `search` block: read with every value, refused in one line with file and line, narrowed by `--set`."""
# ruff: noqa: E501  one case per line

import json
from pathlib import Path

import pytest
from sweep_files import GOOD, load_text

from uscl.errors import SpecError
from uscl.spec.points import every_point
from uscl.spec.space import Bound, Choice, Dimension, FloatRange, IntRange

HEAD = """\
name: small
recipe: demo
data: phantom
"""
SEARCH = (
    HEAD
    + """\
search:
  trials: 8
  objectives: {val/dsc: maximize}
  space:
    temporal.polarity: [none, positive]
    temporal.window: {int: [1, 20], when: {temporal.polarity: positive}}
"""
)


def with_space(line: str) -> str:
    """The file with one more dimension, on line 10."""
    return SEARCH + f"    {line}\n"


def with_key(line: str) -> str:
    """The file with one more key of the block, on line 10."""
    return SEARCH + f"  {line}\n"


def test_a_whole_block_is_read(tmp_path: Path):
    text = (
        HEAD
        + """\
search:
  sampler: nsga2
  trials: 40
  repeats: 3
  seed: 7
  objectives: {val/dsc: maximize, val/delta_snr/cortex: minimize}
  constraints: {val/miss_rate: {max: 0.1}, val/dsc_leaf: {min: 2e-1, max: 1}}
  space:
    temporal.window: {int: [1, 19], step: 2}
    contrast: {temperature: {float: [1e-2, 1], log: true}, loss: [infonce, pairwise]}
    labels.fraction: {float: [0.1, 0.5], step: 0.2}
    encoder.steps: {int: [10, 1000], log: true}
    speckle.permuted: {choice: [false, true]}
"""
    )
    search = load_text(tmp_path, text).search
    assert search is not None
    assert (search.sampler, search.trials, search.repeats, search.seed) == ("nsga2", 40, 3, 7)
    assert search.objectives == {"val/dsc": "maximize", "val/delta_snr/cortex": "minimize"}
    assert search.constraints == {"val/miss_rate": Bound(high=0.1), "val/dsc_leaf": Bound(0.2, 1)}
    assert search.space == (
        Dimension("temporal.window", IntRange(1, 19, step=2)),
        Dimension("contrast.temperature", FloatRange(0.01, 1, log=True)),
        Dimension("contrast.loss", Choice(("infonce", "pairwise"))),
        Dimension("labels.fraction", FloatRange(0.1, 0.5, step=0.2)),
        Dimension("encoder.steps", IntRange(10, 1000, log=True)),
        Dimension("speckle.permuted", Choice((False, True))),
    )


def test_what_is_left_out_has_a_default_and_there_are_no_cells_yet(tmp_path: Path):
    sweep = load_text(tmp_path, SEARCH)
    assert sweep.search is not None and sweep.maker is not None
    assert (sweep.search.sampler, sweep.search.repeats, sweep.search.seed) == ("tpe", 1, 0)
    assert (sweep.search.constraints, sweep.search.notes) == ({}, ())
    assert sweep.cells() == () and sweep.search.size == 21
    assert sweep.search.space[1].when == {"temporal.polarity": ("positive",)}
    assert load_text(tmp_path, GOOD).search is None


@pytest.mark.parametrize("low", ["1e-3", "1E-03", "0.001", ".001"])
def test_a_bound_is_a_number_however_it_is_written(tmp_path: Path, low: str):
    search = load_text(tmp_path, with_space(f"speckle.weight: {{float: [{low}, 1], log: true}}")).search
    assert search is not None and search.space[-1].values == FloatRange(1e-3, 1, log=True)


def test_the_block_is_kept_with_the_sweep_and_reads_back_as_itself(tmp_path: Path):
    text = with_space("speckle.weight: {float: [1e-3, 1], log: true}") + "  constraints: {val/miss_rate: {max: 0.1}}\n"
    sweep = load_text(tmp_path, text)
    block = json.loads(json.dumps(sweep.to_json()))["search"]
    again = load_text(tmp_path, HEAD + f"search: {json.dumps(block)}\n")
    assert again.search == sweep.search and block["constraints"] == {"val/miss_rate": {"max": 0.1}}
    assert "search" not in load_text(tmp_path, GOOD).to_json()


BAD = [
    ("rows too", SEARCH + "rows:\n  - {temporal.stage: both}\n", "10: rows: 'search:' (line 4) proposes the cells; keep one of the two"),
    ("grid too", SEARCH + "grid: {seed: [0]}\n", "10: grid: 'search:' (line 4) proposes the cells; keep one of the two"),
    ("nothing in it", HEAD + "search:\n", "4: search: lacks trials; how many proposals to make, as in 'trials: 40'"),
    ("no group", HEAD + "search: tpe\n", "4: search: expected a group of settings, got 'tpe'"),
    ("no objectives", HEAD + "search: {trials: 3}\n", "4: search: lacks objectives; what is sought, as in 'objectives: {val/dsc: maximize}'"),
    ("no space", HEAD + "search: {trials: 3, objectives: {val/dsc: maximize}}\n", "4: search: lacks space; the settings to vary, as in 'space: {temporal.window: {int: [1, 20]}}'"),
    ("unknown key", with_key("tirals: 3"), "10: search.tirals: unknown key; did you mean 'search.trials'?"),
    ("unknown key of a group", with_key("constrains: {val/dsc: {min: 0}}"), "10: search.constrains: unknown key; did you mean 'search.constraints'?"),
    ("unknown sampler", with_key("sampler: tpee"), "10: search.sampler: expected one of tpe, random, gp, nsga2, got 'tpee'; did you mean 'tpe'?"),
    ("no trials", SEARCH.replace("trials: 8", "trials: 0"), "5: search.trials: expected at least 1, got '0'"),
    ("half a trial", SEARCH.replace("trials: 8", "trials: 2.5"), "5: search.trials: expected a whole number, got '2.5'"),
    ("no repeats", with_key("repeats: 0"), "10: search.repeats: expected at least 1, got '0'"),
    ("a huge seed", with_key("seed: 4294967296"), "10: search.seed: expected less than 4294967296, got '4294967296'"),
    ("sought on the test split", SEARCH.replace("val/dsc", "test/dsc"), "6: search.objectives: 'test/dsc': a proposal has no test score until it has won; use 'val/dsc'"),
    ("no measurement", SEARCH.replace("val/dsc", "val/dcs"), "6: search.objectives: 'val/dcs' is no measurement; expected val/..., as in val/dsc; did you mean 'val/dsc'?"),
    ("no split", SEARCH.replace("val/dsc", "dsc"), "6: search.objectives: 'dsc' is no measurement; expected val/..., as in val/dsc; did you mean 'val/dsc'?"),
    ("a count", SEARCH.replace("val/dsc", "val/n_cases"), "6: search.objectives: 'val/n_cases' is no measurement; expected val/..., as in val/dsc"),
    ("a mean per class", SEARCH.replace("val/dsc", "val/dsc_leaf/cortex"), "6: search.objectives: 'val/dsc_leaf/cortex' is no measurement; dsc_leaf is a mean over classes and has none per class"),
    ("direction", SEARCH.replace("maximize", "maximise"), "6: search.objectives: val/dsc: expected maximize or minimize, got 'maximise'; did you mean 'maximize'?"),
    ("objectives a list", SEARCH.replace("{val/dsc: maximize}", "[val/dsc]"), "6: search.objectives: expected {measurement: maximize or minimize}, got '[val/dsc]'"),
    ("no objective", SEARCH.replace("{val/dsc: maximize}", "{}"), "6: search.objectives: expected {measurement: maximize or minimize}, got '{}'"),
    ("second objective", SEARCH.replace("{val/dsc: maximize}", "\n    val/dsc: maximize\n    val/hd96: minimize"), "8: search.objectives: 'val/hd96' is no measurement; expected val/..., as in val/dsc; did you mean 'val/hd95'?"),
    ("constraint on the test split", with_key("constraints: {test/miss_rate: {max: 1}}"), "10: search.constraints: 'test/miss_rate': a proposal has no test score until it has won; use 'val/miss_rate'"),
    ("constraint of a number", with_key("constraints: {val/miss_rate: 0.1}"), "10: search.constraints: val/miss_rate: expected {min: number}, {max: number} or both, got '0.1'"),
    ("constraint of another key", with_key("constraints: {val/miss_rate: {maximum: 0.1}}"), "10: search.constraints: val/miss_rate: expected {min: number}, {max: number} or both, got '{'maximum': 0.1}'"),
    ("constraint of a word", with_key("constraints: {val/miss_rate: {max: low}}"), "10: search.constraints: val/miss_rate: max: expected a number, got 'low'"),
    ("constraint without end", with_key("constraints: {val/miss_rate: {max: .inf}}"), "10: search.constraints: val/miss_rate: max: expected a finite number, got 'inf'"),
    ("constraint of nothing", with_key("constraints: {val/dsc: {min: 0.9, max: 0.1}}"), "10: search.constraints: val/dsc: min 0.9 is above max 0.1: nothing is feasible"),
    ("constraints a list", with_key("constraints: [val/dsc]"), "10: search.constraints: expected {measurement: {max: number}}, got '[val/dsc]'"),
    ("empty space", HEAD + "search: {trials: 3, objectives: {val/dsc: maximize}, space: {}}\n", "4: search.space: expected {setting: {int: [low, high]}, {float: [low, high]} or a list of values}, got '{}'"),
    ("unknown setting", with_space("temporal.windw: {int: [1, 3]}"), "10: temporal.windw: unknown key; did you mean 'temporal.window'?"),
    ("unknown nested", with_space("temporal: {gard: {int: [1, 3]}}"), "10: temporal.gard: unknown key; did you mean 'temporal.guard'?"),
    ("a group", with_space("contrast: [1, 2]"), "10: contrast: is a group of settings (contrast.loss, contrast.form, contrast.temperature, contrast.margin, ...); name one of them"),
    ("given twice", with_space("temporal: {window: [1, 2]}"), "10: temporal.window: given twice in this space"),
    ("data", with_space("data: [a, b]"), "10: data: a sweep has one dataset; give it as 'data:' at the top of the file, or by --data"),
    ("seed", with_space("seed: {int: [0, 9]}"), "10: seed: a search for a lucky seed finds one; search.repeats runs every proposal under several, and takes their mean"),
    ("draw", with_space("labels.draw: [0, 1]"), "10: labels.draw: a search for a lucky seed finds one; search.repeats runs every proposal under several, and takes their mean"),
    ("nested seed", with_space("seed: {pretrain: [0, 1]}"), "10: seed.pretrain: a search for a lucky seed finds one; search.repeats runs every proposal under several, and takes their mean"),
    ("split", with_space("split.seed: [0, 1]"), "10: split.seed: decides which patients are scored, so a search would find the easiest; set it under 'fixed'"),
    ("scoring", with_space("evaluate.tta: [none, flip]"), "10: evaluate.tta: scores one network in two ways, and a search has one evaluation per cell; set it under 'fixed'"),
    ("list setting", with_space("speckle.classes: [[cortex], [medulla]]"), "10: speckle.classes: is itself a list, and a search varies single values; set it under 'fixed'"),
    ("one value", with_space("temporal.guard: 3"), "10: temporal.guard: expected {int: [low, high]}, {float: [low, high]} or a list of values, got '3'"),
    ("no value", with_space("temporal.guard: []"), "10: temporal.guard: expected a list of values, got '[]'"),
    ("wrong choice", with_space("temporal.stage: [encoder, boht]"), "10: temporal.stage: expected one of encoder, decoder, both, got 'boht'; did you mean 'both'?"),
    ("choice twice", with_space("temporal.guard: [1, 2, 1.0]"), "10: temporal.guard: '1' is given twice"),
    ("unknown range key", with_space("temporal.guard: {int: [1, 2], stepp: 1}"), "10: temporal.guard: stepp: unknown key; did you mean 'step'?"),
    ("two ranges", with_space("temporal.guard: {int: [1, 2], float: [1, 2]}"), "10: temporal.guard: expected {int: [low, high]}, {float: [low, high]} or a list of values, got both int and float"),
    ("no range", with_space("temporal.guard: {log: true}"), "10: temporal.guard: expected {int: [low, high]}, {float: [low, high]} or a list of values, got none of int, float and choice"),
    ("one bound", with_space("temporal.guard: {int: [1]}"), "10: temporal.guard: int: expected [low, high], got '[1]'"),
    ("no bounds", with_space("temporal.guard: {int: 5}"), "10: temporal.guard: int: expected [low, high], got '5'"),
    ("bounds the wrong way", with_space("temporal.guard: {int: [5, 2]}"), "10: temporal.guard: int: low 5 is above high 2"),
    ("a word for a bound", with_space("temporal.guard: {float: [low, 2]}"), "10: temporal.guard: float: expected a number, got 'low'"),
    ("half a bound", with_space("temporal.guard: {int: [1, 2.5]}"), "10: temporal.guard: int: expected a whole number, got '2.5'"),
    ("endless bound", with_space("temporal.guard: {float: [1, .inf]}"), "10: temporal.guard: float: expected a finite number, got 'inf'"),
    ("illegal bound", with_space("labels.fraction: {float: [0.1, 1.5]}"), "10: labels.fraction: float: expected at most 1, got '1.5'"),
    ("illegal value between", with_space("image.size: {int: [32, 64]}"), "10: image.size: int: expected a multiple of 16, got '33'"),
    ("range of words", with_space("temporal.stage: {int: [1, 2]}"), "10: temporal.stage: int: this setting takes one of encoder, decoder, both; list the values to try: [..]"),
    ("range of true", with_space("temporal.soft: {int: [0, 1]}"), "10: temporal.soft: int: this setting takes no numbers; list the values to try: [..]"),
    ("numbers where whole ones go", with_space("decoder.level: {float: [1, 3]}"), "10: decoder.level: float: this setting takes whole numbers; use int"),
    ("log of zero", with_space("temporal.guard: {float: [0, 3], log: true}"), "10: temporal.guard: float: log: true needs low above 0, got '0'"),
    ("log of whole zero", with_space("temporal.guard: {int: [0, 3], log: true}"), "10: temporal.guard: int: log: true needs low of at least 1, got '0'"),
    ("log and step", with_space("temporal.guard: {int: [1, 9], log: true, step: 2}"), "10: temporal.guard: log and step exclude each other; keep one"),
    ("log of a choice", with_space("temporal.guard: {choice: [1, 9], log: true}"), "10: temporal.guard: log: belongs to a range of numbers, and this is a choice"),
    ("log no truth", with_space("temporal.guard: {int: [1, 9], log: 3}"), "10: temporal.guard: log: expected true or false, got '3'"),
    ("no step", with_space("temporal.guard: {int: [1, 9], step: 0}"), "10: temporal.guard: step: expected at least 1, got '0'"),
    ("step back", with_space("temporal.guard: {float: [1, 9], step: -1}"), "10: temporal.guard: step: expected more than 0, got '-1'"),
    ("step too fine", with_space("temporal.guard: {float: [1, 9], step: 1e-300}"), "10: temporal.guard: float: holds more values than a sampler can count"),
    ("int too large", with_space("encoder.steps: {int: [1, 9007199254740993]}"), "10: encoder.steps: int: expected at most 9007199254740992, which a sampler can still count to"),
    ("when of nothing", with_space("temporal.guard: {int: [1, 9], when: positive}"), "10: temporal.guard: when: expected {earlier setting: value or values}, got 'positive'"),
    ("when of no setting", with_space("temporal.guard: {int: [1, 9], when: {temporal.polarty: positive}}"), "10: temporal.polarty: unknown key; did you mean 'temporal.polarity'?"),
    ("when of itself", with_space("temporal.guard: {int: [1, 9], when: {temporal.guard: 3}}"), "10: temporal.guard: when: temporal.guard is no earlier setting of this space; earlier ones are temporal.polarity, temporal.window"),
    ("when of a later one", SEARCH.replace("    temporal.polarity: [none, positive]\n", "") + "    temporal.polarity: [none, positive]\n", "8: temporal.window: when: temporal.polarity is no earlier setting of this space; this one is the first"),
    ("when never", with_space("temporal.guard: {int: [1, 9], when: {temporal.polarity: negative}}"), "10: temporal.guard: when: temporal.polarity: is never 'negative' in this space; expected one of none, positive"),
    ("when of no value", with_space("temporal.guard: {int: [1, 9], when: {temporal.polarity: []}}"), "10: temporal.guard: when: temporal.polarity: expected at least one value, got an empty list"),
    ("when of a wrong value", with_space("temporal.guard: {int: [1, 9], when: {temporal.polarity: 3}}"), "10: temporal.guard: when: temporal.polarity: expected one of none, positive, negative, positive_negative, got '3'"),
    ("when between steps", with_space("temporal.guard: {int: [1, 9], when: {temporal.window: 2.5}}"), "10: temporal.guard: when: temporal.window: is never '2.5' in this space; expected whole numbers 1 to 20"),
    ("when of a continuous one", with_space("speckle.weight: {float: [0, 1]}") + "    speckle.form: {choice: [log], when: {speckle.weight: 0.5}}\n", "11: speckle.form: when: speckle.weight: is drawn from a continuous range; a condition needs a choice, or a range with steps"),
    ("gp with a condition", with_key("sampler: gp"), "9: temporal.window: when: Optuna's GPSampler models only settings that every proposal has, and draws the others at random; use search.sampler: tpe or random"),
    ("nsga2 with a condition", with_key("sampler: nsga2"), "9: temporal.window: when: Optuna's NSGAIISampler crosses only settings that every proposal has, and draws the others at random; use search.sampler: tpe or random"),
    ("data as a setting", SEARCH + "fixed: {data: a}\n", "10: data: a sweep has one dataset; give it as 'data:' at the top of the file, or by --data"),
    ("report row", SEARCH + "report: {rows: [temporal.windw]}\n", "10: report.rows: 'temporal.windw' is no setting; did you mean 'temporal.window'?"),
    ("report reference", SEARCH + "report: {reference: {temporal.windw: 3}}\n", "10: report.reference: temporal.windw: unknown key; did you mean 'temporal.window'?"),
    ("impossible whatever is proposed", SEARCH + "fixed: {split.test_fraction: 0.9}\n", "10: split.test_fraction: with split.validation_fraction leaves no patient to train on; their sum must be below 1"),
    ("impossible everywhere", SEARCH.replace("[none, positive]", "[positive, negative]").replace("when: {temporal.polarity: positive}", "") + "fixed: {method: supervised}\n", "7: search.space: every proposal is refused, the first by X:8: temporal.polarity: 'positive' pairs frames by time, but method: supervised never pretrains on clips; set temporal.polarity: none"),
    ("impossible as far as tried", SEARCH.replace("[none, positive]", "[positive]").replace("int: [1, 20],", "float: [0.1, 0.9],"), "7: search.space: each of 300 proposals tried is refused, the first by X:9: temporal.window: 0.706363522352242 frames hold no other frame; expected at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_search_gives_one_clear_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, text)
    path = str(tmp_path / "x.yaml")
    assert str(caught.value) == f"{path}:{message}".replace("X:", f"{path}:")


def test_a_space_with_one_possible_point_is_read(tmp_path: Path):
    text = SEARCH.replace("when: {temporal.polarity: positive}", "") + "fixed: {method: supervised}\n"
    assert load_text(tmp_path, text).search is not None


def test_gp_and_nsga2_take_choices_and_several_objectives(tmp_path: Path):
    text = SEARCH.replace(", when: {temporal.polarity: positive}", "").replace(
        "{val/dsc: maximize}", "{val/dsc: maximize, val/hd95: minimize}"
    )
    for sampler in ("gp", "nsga2"):
        search = load_text(tmp_path, text, sets=(f"search.sampler={sampler}",)).search
        assert search is not None and search.sampler == sampler and len(search.objectives) == 2


def test_set_changes_the_search_itself(tmp_path: Path):
    sets = (
        "search.trials=100",
        "search.sampler=random",
        "search.seed=3",
        "search.repeats=2",
        "search.objectives={val/hd95: minimize}",
    )
    search = load_text(tmp_path, SEARCH, sets=sets).search
    assert search is not None
    assert (search.trials, search.sampler, search.seed, search.repeats) == (100, "random", 3, 2)
    assert search.objectives == {"val/hd95": "minimize"} and search.notes == ()
    other = load_text(tmp_path, SEARCH, sets=("search.space={temporal.stage: [encoder, both]}",)).search
    assert other is not None and other.space == (Dimension("temporal.stage", Choice(("encoder", "both"))),)


def test_set_takes_a_setting_out_of_the_space_and_conditions_on_it_are_settled(tmp_path: Path):
    polarity, window = load_text(tmp_path, SEARCH).search.space
    stage = Dimension("temporal.stage", Choice(("encoder", "both")))
    text = with_space("temporal.stage: [encoder, both]")

    def narrowed(*sets: str) -> tuple[tuple[Dimension, ...], tuple[str, ...]]:
        search = load_text(tmp_path, text, sets=sets).search
        return search.space, search.notes

    assert narrowed() == ((polarity, window, stage), ())
    assert narrowed("temporal.window=5") == ((polarity, stage), ("temporal.window=5 is fixed",))
    assert narrowed("temporal.polarity=positive")[0] == (Dimension("temporal.window", IntRange(1, 20)), stage)
    space, notes = narrowed("temporal.polarity=none")
    assert space == (stage,)
    assert notes == (
        "temporal.polarity=none is fixed",
        "temporal.window is never asked for",
    )
    assert narrowed("finetune.steps=5") == ((polarity, window, stage), ())
    assert narrowed("temporal.stage=[both]")[0] == (polarity, window), "a list of one is a value"


def test_a_condition_on_a_step_is_met_by_that_step(tmp_path: Path):
    """0.1 + 2 x 0.1 is 0.30000000000000004, which is what a sampler proposes for the 0.3 of the file."""
    text = with_space("labels.fraction: {float: [0.1, 0.5], step: 0.1}")
    text += "    temporal.guard: {choice: [1, 2], when: {labels.fraction: [0.3, 0.5]}}\n"
    search = load_text(tmp_path, text).search
    assert search is not None and search.size == 21 * (3 + 2 * 2)
    points = list(every_point(search.space))
    assert len(points) == search.size
    assert {round(point["labels.fraction"], 9) for point in points if "temporal.guard" in point} == {0.3, 0.5}
    guarded = load_text(tmp_path, text, sets=("labels.fraction=0.3",)).search
    assert guarded is not None and guarded.space[-1] == Dimension("temporal.guard", Choice((1.0, 2.0)))
    assert load_text(tmp_path, text, sets=("labels.fraction=0.4",)).search.size == 21


def test_a_condition_that_set_settles_no_longer_stands_in_the_way_of_gp(tmp_path: Path):
    search = load_text(tmp_path, with_key("sampler: gp"), sets=("temporal.polarity=positive",)).search
    assert search is not None and search.sampler == "gp"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("search.tirals=3", "unknown key; did you mean 'search.trials'?"),
        ("search.trials=0", "expected at least 1, got '0'"),
        ("search.sampler=grid", "expected one of tpe, random, gp, nsga2, got 'grid'"),
        ("search.sampler=gp", None),
        ("search.objectives={test/dsc: maximize}", "'test/dsc': a proposal has no test score until it has won; use 'val/dsc'"),
        ("search.space={temporal.windw: [1, 2]}", "temporal.windw: unknown key; did you mean 'temporal.window'?"),
        ("search.space={temporal.window: {int: [3, 1]}}", "temporal.window: int: low 3 is above high 1"),
        ("temporal.window=[1, 2]", "a list makes the cells of a grid, and a search takes one value; vary it in search.space"),
        ("seed=[0, 1]", "a list makes the cells of a grid, and a search takes one value; search.repeats runs several seeds"),
        ("temporal.window=none", "expected a number, got 'none'"),
        ("data=x", "a sweep has one dataset; give it as 'data:' at the top of the file, or by --data"),
    ],
)  # fmt: skip
def test_a_bad_set_argument_of_a_search_is_named(tmp_path: Path, argument: str, message: str | None):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, SEARCH, sets=(argument,))
    if message is None:  # the condition is what has to change
        assert str(caught.value).startswith(f"{tmp_path / 'x.yaml'}:9: temporal.window: when: Optuna's GPSampler")
    else:
        assert str(caught.value) == f"--set {argument}: {message}"


def test_set_may_not_fix_the_whole_space(tmp_path: Path):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, SEARCH, sets=("temporal.polarity=none",))
    assert (
        str(caught.value) == f"{tmp_path / 'x.yaml'}:7: search.space: --set fixes all of it; nothing is left to search"
    )


def test_search_settings_need_a_search(tmp_path: Path):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, GOOD, sets=("search.trials=3",))
    assert str(caught.value) == f"--set search.trials=3: {tmp_path / 'x.yaml'} has no 'search:'"


def test_the_report_shows_what_is_searched_and_sought(tmp_path: Path):
    report = load_text(tmp_path, SEARCH).report
    assert (report.rows, report.columns, report.values) == (
        ("temporal.polarity", "temporal.window"),
        "",
        ("val/dsc", "test/dsc"),
    )
    own = load_text(tmp_path, SEARCH + "report: {rows: [label], values: [val/hd95]}\n").report
    assert (own.rows, own.values) == (("label",), ("val/hd95",))
    half = load_text(tmp_path, SEARCH + "report: {columns: temporal.polarity}\n").report
    assert (half.rows, half.columns, half.values) == (
        ("temporal.window",),
        "temporal.polarity",
        ("val/dsc", "test/dsc"),
    )
    fixed = load_text(tmp_path, SEARCH, sets=("temporal.window=5", "report.values=[val/dsc]")).report
    assert (fixed.rows, fixed.values) == (("temporal.polarity",), ("val/dsc",))
