"""Results as the store has them."""

import pytest

from uscl.records import CellPlan, Outcome, StageRef
from uscl.report.collect import collect
from uscl.store.stages import StageStore


def plan(namespace=""):
    stages = {
        "finetune": StageRef("finetune", "a" * 64),
        "evaluate/val": StageRef("evaluate", "b" * 64),
        "evaluate/test": StageRef("evaluate", "c" * 64),
    }
    return CellPlan(1, "a" * 64, "one", {}, {}, stages, namespace)


def publish(store, ref, *, metrics=None, flags=()):
    store.publish(
        ref, attempt="a1", files={}, outcome=Outcome.DONE, inputs={}, parent=None, metrics=metrics or {}, flags=flags,
        provenance={},
    )  # fmt: skip


@pytest.mark.parametrize("namespace", ["", "aaaa"])
def test_a_result_is_the_union_of_both_evaluations_in_the_cells_own_corner(tmp_path, namespace):
    store, cell = StageStore(tmp_path), plan(namespace)
    corner = store.scoped(namespace)
    publish(corner, cell.stages["finetune"], metrics={"finetune/loss": 0.1}, flags=("collapsed",))
    publish(corner, cell.stages["evaluate/val"], metrics={"val/dsc": 0.5})
    assert collect(store, [cell])[cell.cell].result is None
    publish(corner, cell.stages["evaluate/test"], metrics={"test/dsc": 0.4})
    record = collect(store, [cell])[cell.cell]
    assert record.result.metrics == {"val/dsc": 0.5, "test/dsc": 0.4}
    assert (record.result.outcome, record.result.flags) == (Outcome.DONE, ("collapsed",))
    assert list(record.manifests) == ["finetune", "evaluate/val", "evaluate/test"]
    other = collect(store, [plan("bbbb")])[cell.cell]
    assert (other.result, other.manifests) == (None, {})
