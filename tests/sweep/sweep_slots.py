"""Many workers in one process: trials that only say what a real one would, for books of a thousand cells and more."""

import random

from uscl.records import CellFinished, CellResult, Outcome, Progress, StagePublished, StageReused
from uscl.sweep.queue import Turn


def said_by(order, stages):
    """The events of a trial that trains what its order says is not there; three reports a stage."""
    for ref in stages.values():
        if ref.key in order.present:
            yield StageReused(ref.kind, ref.key)
            continue
        for step in (1, 2, 3):
            yield Progress(ref.kind, ref.key, step, 3, 1_000.0, {f"{ref.kind}/loss": 1.0 / step}, step)
        yield StagePublished(ref.kind, ref.key, Outcome.DONE, 1.0)
    yield CellFinished(CellResult(stages["finetune"].key, Outcome.DONE, {"val/dsc": 0.5, "test/dsc": 0.5}))


def play_slots(plan, *, take, tell, look=lambda: None, slots=64, seed=0, each_end=lambda count: None):
    """Fill the slots, let a random one speak, until FINISHED. Returns how often cells were handed out, by id.

    `take(trial)` gives an order or a Turn; `tell(trial, event)` hands on; `look()` is what Tune calls at every step;
    `each_end(count)` follows each finished cell.
    """
    stages = {planned.plan.cell: planned.plan.stages for planned in plan.cells}
    rng, live, handed, number, ended = random.Random(seed), {}, {}, 0, 0
    names = []
    while True:
        while len(live) < slots:
            number += 1
            order = take(f"t{number}")
            if isinstance(order, Turn):
                break
            handed[order.cell] = handed.get(order.cell, 0) + 1
            live[f"t{number}"] = said_by(order, stages[order.cell])
            names.append(f"t{number}")
        if not live:
            assert order is Turn.FINISHED
            return handed
        position = rng.randrange(len(names))
        trial = names[position]
        event = next(live[trial])
        tell(trial, event)
        look()
        if isinstance(event, CellFinished):
            names[position] = names[-1]
            names.pop()
            del live[trial]
            ended += 1
            each_end(ended)
