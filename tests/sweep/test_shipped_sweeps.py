"""The sweep files of the repository: their cells, and what they share, on the phantom (which is not built for it)."""

from pathlib import Path
from random import Random

import pytest

from uscl.data.phantom import phantom_index
from uscl.spec.points import random_point
from uscl.spec.reader import load_sweep
from uscl.spec.space import Choice
from uscl.stages.keys import chain
from uscl.sweep.data_checks import check_against_data
from uscl.sweep.plan import plan_sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
PAPER = ("baselines", "temporal", "speckle")
SEARCHES = ("temporal_search", "speckle_search")


def plan_of(name, tmp_path, **options):
    return plan_sweep(load_sweep(SWEEPS / f"{name}.yaml", **options), store_root=tmp_path)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return {name: plan_of(name, tmp_path_factory.mktemp("store")) for name in PAPER}


def test_the_papers_three_tables_have_22_30_and_8_cells(study):
    assert [len(plan.cells) for plan in study.values()] == [22, 30, 8]


def test_the_papers_60_cells_are_53_on_5_encoders_and_10_decoders(study):
    cells = [planned.plan for plan in study.values() for planned in plan.cells]
    assert len({cell.cell for cell in cells}) == 53
    for kind, number in (("encoder", 5), ("decoder", 10), ("finetune", 53)):
        assert len({cell.stages[kind].key for cell in cells if kind in cell.stages}) == number


def test_table_1_takes_its_fractions_from_1_to_100_percent(study):
    fractions = sorted({planned.spec.labels.fraction for planned in study["baselines"].cells})
    assert fractions == [0.01, *(tenth / 10 for tenth in range(1, 11))]


@pytest.mark.parametrize("name", sorted(path.stem for path in SWEEPS.glob("*.yaml")))
def test_a_header_says_question_source_cost_and_what_to_expect(name):
    head = [line for line in (SWEEPS / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert [
        word for word in ("Question", "Source", "Cost", "Expect") if not any(f"# {word}:" in line for line in head)
    ] == []


@pytest.mark.parametrize("name", ["window", "activation"])
def test_a_study_that_chooses_is_judged_on_the_validation_split(name):
    assert all(value.startswith("val/") for value in load_sweep(SWEEPS / f"{name}.yaml").report.values)


@pytest.mark.parametrize("recipe", ["small", "paper"])
@pytest.mark.parametrize("name", sorted({path.stem for path in SWEEPS.glob("*.yaml")} - {"labels_nnunetv2"}))
def test_every_recipe_fits_every_shipped_sweep(name, recipe, tmp_path):
    plan = plan_of(name, tmp_path, recipe=recipe)
    assert plan.cells if plan.spec.search is None else plan.spec.maker


@pytest.mark.parametrize("recipe", ["demo", "small", "paper"])
@pytest.mark.parametrize("name", SEARCHES)
def test_nothing_that_a_shipped_search_may_propose_is_refused(name, recipe, tmp_path):
    spec = load_sweep(SWEEPS / f"{name}.yaml", recipe=recipe)
    index, rng = phantom_index(spec.phantom), Random(0)
    extremes = [_corner(spec.search.space, pick) for pick in (min, max)]
    for number, params in enumerate((*extremes, *(random_point(spec.search.space, rng) for _ in range(20))), start=1):
        for repeat in range(spec.search.repeats):
            cell = spec.maker.cell(number, params, repeat=repeat)
            check_against_data(cell, chain(cell.spec, index), index)


def _corner(space, pick):
    """Every setting at an end of its range; of choices the last, which has the most conditions met."""
    params = {}
    for dimension in space:
        if dimension.is_asked(params):
            values = dimension.values
            params[dimension.name] = values.values[-1] if isinstance(values, Choice) else pick(values.low, values.high)
    return params


def test_the_speckle_search_stands_on_one_pretraining_per_seed(tmp_path):
    """Its header's cost: the term acts in fine-tuning only."""
    spec = load_sweep(SWEEPS / "speckle_search.yaml")
    index, rng = phantom_index(spec.phantom), Random(0)
    points = [random_point(spec.search.space, rng) for _ in range(8)]
    chains = [chain(spec.maker.cell(1, point, repeat=n).spec, index) for point in points for n in range(2)]
    for kind, number in (("encoder", 2), ("decoder", 2), ("finetune", 16)):
        assert len({links.stage(kind).ref for links in chains}) == number
    assert (spec.search.trials * spec.search.repeats, len(spec.search.objectives)) == (48, 2)


def test_the_temporal_search_asks_for_no_window_where_there_are_no_pairs():
    spec = load_sweep(SWEEPS / "temporal_search.yaml")
    dimensions = {dimension.name: dimension for dimension in spec.search.space}
    assert dimensions.keys() == {
        *("temporal.polarity", "temporal.stage", "temporal.window", "temporal.guard", "contrast.temperature")
    }
    for name in ("temporal.stage", "temporal.window", "temporal.guard"):
        assert not dimensions[name].is_asked({"temporal.polarity": "none"})
        assert dimensions[name].is_asked({"temporal.polarity": "negative"})
    assert dimensions["contrast.temperature"].is_asked({"temporal.polarity": "none"})
