"""A finished sweep in a store, with the case rows that an evaluation would leave, made in milliseconds."""

import hashlib

from uscl.metrics.aggregate import aggregate
from uscl.records import CaseRow, CellPlan, Outcome, StageRef
from uscl.store.case_rows import CASES, encode_rows
from uscl.store.stages import StageStore

CLASSES = ("capsule", "cortex", "medulla")
LEAVES = ("cortex", "medulla")


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def plan_cell(number, row, *, fraction=0.1, seed=0, label="", **settings):
    """A cell of row `row` (its temporal.polarity)."""
    axes = {"temporal.polarity": row, "labels.fraction": fraction, "seed": seed} | settings
    every = {
        "method": "contrastive", "seed.pretrain": seed, "seed.finetune": seed, "labels.draw": seed,
        "temporal.polarity": row, "labels.fraction": fraction, "finetune.select": "best_val",
    } | settings  # fmt: skip
    finetune = StageRef("finetune", key("finetune", number))
    stages = {"finetune": finetune} | {f"evaluate/{p}": StageRef("evaluate", key(p, number)) for p in ("val", "test")}
    label = f"{label or row} labels.fraction={fraction} seed={seed}"
    cases = {"finetune": round(100 * fraction), "evaluate/val": 32, "evaluate/test": 40}
    return CellPlan(number, finetune.key, label, axes, every, stages, cases=cases)


def case_rows(score, *, part="test", patients=4, cases=2, patient=lambda p, _: f"p{p}"):
    """Rows of every case and class; `score(patient, case, class)` gives the measurements."""
    return [
        CaseRow(f"p{p}i{i}", patient(p, i), part, name, 10, 10, {"dsc_floor": 0.25} | score(p, i, name))
        for p in range(patients)
        for i in range(cases)
        for name in CLASSES
    ]


def publish_cell(store, cell, score, *, parts=("val", "test"), outcome=Outcome.DONE, extra=None, **kwargs):
    """The stages of a cell with their case rows, and the metrics that evaluate would make of them."""
    shared = {"attempt": "a1", "parent": None, "flags": (), "provenance": {}}
    store.publish(cell.stages["finetune"], files={}, inputs={}, metrics={}, outcome=outcome, **shared)
    for part in parts if outcome is Outcome.DONE else ():
        rows = case_rows(score, part=part, **kwargs)
        metrics = {f"{part}/{name}": value for name, value in aggregate(rows, leaf_classes=LEAVES).items()}
        inputs = {"classes": list(CLASSES), "leaf_classes": list(LEAVES)}
        metrics |= extra(cell) if extra and part == "val" else {}
        store.publish(
            cell.stages[f"evaluate/{part}"], files={CASES: encode_rows(rows)}, inputs=inputs, metrics=metrics,
            outcome=outcome, **shared,
        )  # fmt: skip


def make_store(root, cells, score, **kwargs):
    """A store with these cells; `score(cell)` gives a function of (patient, case, class)."""
    store = StageStore(root)
    for cell in cells:
        publish_cell(store, cell, score(cell), **kwargs)
    return store
