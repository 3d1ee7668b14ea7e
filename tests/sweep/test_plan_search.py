"""The plan of a search: no cells yet, and what the dataset refuses whatever is proposed."""

from pathlib import Path

import pytest

from uscl.errors import SpecError
from uscl.spec.reader import load_sweep
from uscl.sweep.plan import plan_sweep

SEARCH = """\
name: small
recipe: demo
data: phantom
fixed: {temporal.polarity: positive}
search:
  trials: 8
  objectives: {val/dsc: maximize}
  constraints: {val/miss_rate: {max: 0.5}}
  space:
    temporal.window: {int: [1, 20]}
"""


def plan_of(folder: Path, text: str = SEARCH, **options):
    path = folder / "x.yaml"
    path.write_text(text)
    return plan_sweep(load_sweep(path, **options), store_root=folder / "runs")


def test_a_search_is_planned_without_cells_and_without_a_phantom(tmp_path: Path):
    plan = plan_of(tmp_path)
    assert (plan.cells, plan.duplicates, plan.unread) == ((), (), ())
    assert plan.dataset_fingerprint and not plan.dataset_path.exists()
    assert plan.spec.search.size == 20


def test_a_space_that_the_dataset_refuses_throughout_is_told_before_a_start(tmp_path: Path):
    path = tmp_path / "x.yaml"
    with pytest.raises(SpecError) as caught:
        plan_of(tmp_path, SEARCH.replace("[1, 20]", "[40, 60]"))
    assert str(caught.value) == (
        f"{path}:9: search.space: every proposal is refused, the first by {path}:10: temporal.window: "
        "40 frames is longer than every clip; the longest spans 31 frames"
    )
    plan_of(tmp_path, SEARCH.replace("[1, 20]", "[31, 60]"))  # one of them can run
    with pytest.raises(SpecError, match=r":9: search.space: each of 50 proposals tried is refused, the first by "):
        plan_of(tmp_path, SEARCH.replace("{int: [1, 20]}", "{float: [40, 60]}"))


def test_what_the_dataset_refuses_whatever_is_proposed_is_told_at_its_own_place(tmp_path: Path):
    with pytest.raises(SpecError) as caught:
        plan_of(tmp_path, SEARCH, sets=("image.size=128",))
    assert str(caught.value).startswith(
        "--set image.size=128: 128 is larger than the 64 px frames of dataset 'phantom'"
    )


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("val/dsc: maximize", "val/dsc/liver: maximize", "search.objectives: 'val/dsc/liver'"),
        ("val/miss_rate", "val/dsc/liver", "search.constraints: 'val/dsc/liver'"),
    ],
)
def test_a_class_that_the_dataset_lacks_cannot_be_sought(tmp_path: Path, old: str, new: str, key: str):
    with pytest.raises(SpecError) as caught:
        plan_of(tmp_path, SEARCH.replace(old, new))
    assert str(caught.value) == (
        f"{tmp_path / 'x.yaml'}: {key}: 'liver' is no class of dataset 'phantom'; it has capsule, cortex, medulla, cec"
    )
