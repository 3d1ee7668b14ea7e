"""What handing out costs the driver: `python tests/bench/bench_scheduling.py [CELLS] [WORKERS]`.

The hooks that Tune calls (searcher, callback), with workers that live in this process and no Ray process: per cell,
per report, and in the queue alone at ten times as many cells. Beside it the plain rule, which looks at every cell at
every call (tests/sweep/test_queue_rule.py). Goals: 50 ms per cell at 1,000 cells on 64 workers, 5 ms per hand-out at
10,000 cells.
"""

import json
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))

from sweep_fakes import fake_plan, grid_specs
from sweep_slots import play_slots
from test_dispatch import start
from test_queue_rule import Rule, chains

from uscl.records import Progress, event_to_json
from uscl.store.strict_json import decode_json, encode_json
from uscl.sweep.order import TrialOrder
from uscl.sweep.queue import CellQueue, Turn
from uscl.sweep.tune_adapter import EVENT, NODE, CellSearcher, EventCallback


class Hooks:
    """Tune's side of the two classes it calls, with the time spent in them."""

    def __init__(self, dispatch) -> None:
        self.searcher, self.callback = CellSearcher(dispatch), EventCallback(dispatch)
        self.trials, self.live = [], {}
        self.seconds = {"hand out": 0.0, "reports": 0.0, "events": 0.0, "look": 0.0}
        self.count = dict.fromkeys(self.seconds, 0)

    def _timed(self, what, hook, *args, **kwargs):
        started = time.perf_counter()
        answer = hook(*args, **kwargs)
        self.seconds[what] += time.perf_counter() - started
        self.count[what] += 1
        return answer

    def take(self, name):
        """As SearchGenerator does."""
        taken = self._timed("hand out", self.searcher.suggest, name)
        if not isinstance(taken, dict):
            return Turn.FINISHED if taken == self.searcher.FINISHED else Turn.WAIT
        self.live[name] = SimpleNamespace(trial_id=name, over=False)
        self.live[name].is_finished = lambda trial=self.live[name]: trial.over
        self.trials.append(self.live[name])
        return TrialOrder.from_json(decode_json(taken["order"]))

    def tell(self, name, event):
        """As TuneController does with a result."""
        result = {EVENT: encode_json(event_to_json(event)).decode(), NODE: "here"}
        what = "reports" if isinstance(event, Progress) else "events"
        self._timed(what, self.callback.on_trial_result, 0, self.trials, self.live[name], result)
        self.live[name].over = type(event).__name__ == "CellFinished"

    def look(self):
        """At the end of every step."""
        self._timed("look", self.callback.on_step_end, 0, self.trials)


def scheduling(num_cells, workers):
    """Milliseconds per cell and per call, and bytes per cell, through Tune's hooks."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(num_cells // 8)
        plan = fake_plan(Path(folder), grid_specs(fractions=(0.1, 0.2, 0.5, 1.0), seeds=seeds))
        hooks = Hooks(start(plan, slots=workers))
        play_slots(plan, take=hooks.take, tell=hooks.tell, look=hooks.look, slots=workers)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        second = Path(folder) / "memory"
        again = fake_plan(second, [planned.spec for planned in plan.cells])
        dispatch = start(again, slots=workers)
        planned = tracemalloc.get_traced_memory()[0] - before
        play_slots(again, take=dispatch.take, tell=lambda trial, event: dispatch.event(trial, event, node="here"))
        running = tracemalloc.get_traced_memory()[0] - before - planned
        tracemalloc.stop()
    per_cell_ms = 1_000 * sum(hooks.seconds.values()) / len(plan.cells)
    per_call_ms = {what: 1_000 * hooks.seconds[what] / hooks.count[what] for what in hooks.seconds}
    return per_cell_ms, per_call_ms, planned / len(plan.cells), running / len(plan.cells)


def per_take_ms(kind, cells, *, most=None, slots=64):
    """Mean and worst milliseconds of a `take`, news of stages included; of the first `most` calls only."""
    queue = kind(cells, present=())
    live, spent, calls, worst, number = [], 0.0, 0, 0.0, 0
    while most is None or calls < most:
        number += 1
        started = time.perf_counter()
        turn = queue.take(f"{number}")
        worst = max(worst, time.perf_counter() - started)
        calls += 1
        if turn is not Turn.FINISHED and not isinstance(turn, Turn):
            live.append((f"{number}", turn))
        if turn is Turn.FINISHED:
            break
        if len(live) == slots or turn is Turn.WAIT:
            trial, cell = live.pop(0)
            missing = queue.missing(cell)
            if missing:
                queue.published(missing[0])
            if len(missing) > 1:
                live.append((trial, cell))
            else:
                queue.end(trial)
        spent += time.perf_counter() - started
    return 1_000 * spent / calls, 1_000 * worst, calls


def main() -> None:
    """Print the figures beside their goals."""
    num_cells = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    per_cell_ms, per_call_ms, planned, running = scheduling(num_cells, workers)
    print(f"{num_cells} cells on {workers} workers, through Tune's hooks")
    print(f"  scheduling      {per_cell_ms:8.2f} ms per cell   (goal: under 50)")
    for what, value in per_call_ms.items():
        print(f"  {what:15} {value:8.3f} ms per call")
    print(f"  memory          {planned / 1e3:8.1f} MB per 1,000 cells as planned, {running / 1e3:+.2f} MB when run")
    many = 10 * num_cells
    print(f"the queue alone, {many} cells on {workers} workers")
    for num_encoders in (1, many // 40, many):
        mean, worst, _ = per_take_ms(CellQueue, chains(many, num_encoders), slots=workers)
        shared = f"{num_encoders} encoders"
        print(f"  {shared:15} {mean:8.3f} ms per hand-out (goal: under 5), the worst {worst:.1f}")
    ours, _, calls = per_take_ms(CellQueue, chains(num_cells, num_cells // 4), most=150)
    rule, _, _ = per_take_ms(Rule, chains(num_cells, num_cells // 4), most=150)
    print(f"first {calls} hand-outs at {num_cells} cells: the plain rule takes {rule / ours:.0f} times as long")
    print(json.dumps({"per_cell_ms": round(per_cell_ms, 3), "rule_over_queue": round(rule / ours, 1)}))


if __name__ == "__main__":
    main()
