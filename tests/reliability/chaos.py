"""Random kills: `kill -9` of the driver or of a trial's process at random moments of one sweep of fake trials.

The test does a few rounds, `tests/bench/bench_chaos.py` fifty.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from abandoned import check_each_stage_once, check_lost_steps
from sweep_fakes import fake_plan, grid_specs, steps_taken
from sweep_processes import Driver

WORKERS, STEPS, STEP_S, SAVE_EVERY = 2, 5, 0.02, 2
"""Four or five stages of 0.1 s; progress is saved every 0.04 s, which is the `progress_every_s` of these trials."""
CELLS_PER_ROUND = 12
LONGEST_S = 1.5


@dataclass(frozen=True)
class Kill:
    """One kill."""

    what: str
    after_s: float
    steps: int
    """Taken when it came."""


def grid_of(rounds: int) -> dict[str, list]:
    """Enough cells for so many rounds: a driver should not finish between two kills."""
    seeds = max(1, CELLS_PER_ROUND * rounds // 6)
    return {"seeds": list(range(seeds))}


def rage(root: Path, *, rounds: int, rng: random.Random, say: Callable[[str], None] = lambda line: None) -> list[Kill]:
    """Kill so often, then let the last start finish; it must end well."""
    options = {
        "mirror": True,
        "workers": WORKERS,
        "grid": grid_of(rounds),
        "script": {"steps": STEPS, "step_s": STEP_S, "save_every": SAVE_EVERY},
    }
    kills: list[Kill] = []
    driver = Driver(root, **options)
    while len(kills) < rounds:
        kill = _one_kill(driver, root, rng)
        kills.append(kill)
        say(f"round {len(kills)}/{rounds}: {kill.what} after {kill.after_s:.2f} s, at step {kill.steps} in all")
        if kill.what == "driver":
            driver = Driver(root, **options)
    outcome = driver.end(600)
    assert (outcome["left"], outcome["held"], outcome["exit_code"]) == (0, 0, 0), driver.lines[-20:]
    return kills


def _one_kill(driver: Driver, root: Path, rng: random.Random) -> Kill:
    before, after_s = len(steps_taken(root)), rng.uniform(0.0, LONGEST_S)
    driver.wait_for(lambda: len(steps_taken(root)) > before)
    time.sleep(after_s)
    steps = steps_taken(root)
    if rng.random() < 0.5:
        driver.kill()
        return Kill("driver", after_s, len(steps))
    with suppress(ProcessLookupError):
        os.kill(steps[-1][3], signal.SIGKILL)
    return Kill("worker", after_s, len(steps))


def check(root: Path, *, rounds: int, kills: list[Kill]) -> None:
    """Every cell once, a finished run each in MLflow, no more work lost than since the last save of each live trial."""
    from test_kill_driver import assert_one_finished_run_per_cell

    grid = {name: tuple(values) for name, values in grid_of(rounds).items()}
    plan = fake_plan(root, grid_specs(**grid))
    check_each_stage_once(root, plan)
    live = sum(WORKERS if kill.what == "driver" else 1 for kill in kills)
    # at a kill a step may be taken and not yet saved, on top of those since the last save
    check_lost_steps(root, at_most=live * SAVE_EVERY)
    assert_one_finished_run_per_cell(plan, [planned.plan.cell for planned in plan.cells])
