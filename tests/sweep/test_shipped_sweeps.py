"""The sweep files of the repository: their cells, and what they share, on the phantom (which is not built for it)."""

from pathlib import Path

import pytest

from uscl.spec.reader import load_sweep
from uscl.sweep.plan import plan_sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
PAPER = ("baselines", "temporal", "speckle")


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
    assert plan_of(name, tmp_path, recipe=recipe).cells
