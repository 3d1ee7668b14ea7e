"""T17: a thousand cells on 64 workers: each once, by operations that do not grow with the sweep, in memory that stays.

How long it takes is printed by tests/bench/bench_scheduling.py; here operations are counted.
"""

import gc
import tracemalloc
from collections import Counter

import pytest
from sweep_fakes import fake_plan, grid_specs
from sweep_slots import play_slots
from test_dispatch import start

from uscl.records import Failed
from uscl.store.sweeps import SweepFolder
from uscl.sweep.queue import CellQueue, CellState

SLOTS = 64


def thousand(root, *, seeds=125):
    """Encoders of 4 cells each, with a decoder of their own."""
    return fake_plan(root, grid_specs(fractions=(0.1, 0.2, 0.5, 1.0), seeds=range(seeds)))


@pytest.fixture
def looks(monkeypatch):
    """Counts what the queue does to single cells."""
    counted = Counter()
    for name in ("_update", "_rank"):
        original = getattr(CellQueue, name)

        def counting(queue, place, *, name=name, original=original):
            counted[name] += 1
            return original(queue, place)

        monkeypatch.setattr(CellQueue, name, counting)
    return counted


def play(dispatch, plan, **options):
    """As Tune would, with a look at the live trials after every event."""
    return play_slots(
        plan,
        take=dispatch.take,
        tell=lambda trial, event: dispatch.event(trial, event, node="here"),
        look=lambda: dispatch.look_for_lost(dict.fromkeys(dispatch.live_trials(), True)),
        slots=SLOTS,
        **options,
    )


def test_a_thousand_cells_are_handed_out_once_each_at_a_constant_cost(tmp_path, looks):
    plan = thousand(tmp_path)
    dispatch = start(plan, slots=SLOTS)
    looks.clear()
    handed = play(dispatch, plan)
    assert len(plan.cells) == 1_000 and handed == {planned.plan.cell: 1 for planned in plan.cells}
    assert len(dispatch.cells_in(CellState.FINISHED)) == 1_000
    assert dispatch.trained == {"encoder": 250, "decoder": 250, "finetune": 1_000, "evaluate": 2_000}
    assert looks["_update"] < 12 * 1_000 and looks["_rank"] < 12 * 1_000, looks
    kept = Counter(line["event"] for line in SweepFolder(plan.store_root, "fake").read_events())
    assert kept["Started"] == kept["CellFinished"] == 1_000


def test_the_books_of_what_is_over_take_no_memory(tmp_path):
    plan = thousand(tmp_path)
    dispatch = start(plan, slots=SLOTS)
    taken = {}

    def note(count):
        if count in (200, 900):
            gc.collect()
            taken[count] = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        play(dispatch, plan, each_end=note)
    finally:
        tracemalloc.stop()
    assert not dispatch.live_trials() and not dispatch._attempts
    # what stays is the name of each stage that is present; attempts that were kept would take another 600 bytes each
    assert (taken[900] - taken[200]) / 700 < 1_400, taken


def test_failures_of_a_shared_stage_cost_no_more_than_the_cells_above_it(tmp_path, looks):
    plan = fake_plan(tmp_path, grid_specs(polarities=("none",), fractions=tuple(n / 500 for n in range(1, 501))))
    dispatch = start(plan, slots=SLOTS)
    looks.clear()
    for number in range(3):
        dispatch.take(f"{number}")
        dispatch.gone(f"{number}", Failed("lost", "killed", ""))
    assert len(dispatch.cells_in(CellState.HELD)) == 500, "all stand on one encoder"
    assert looks["_update"] < 3 * 500 and looks["_rank"] < 8 * 500, looks
