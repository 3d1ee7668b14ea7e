"""Fifty random kills of drivers and workers of one sweep: `python tests/bench/bench_chaos.py [ROUNDS] [SEED]`.

Prints each kill, then what was lost; fails where a cell is missing, trained twice, or left RUNNING in MLflow.
"""

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "reliability"), str(TESTS / "sweep"), str(TESTS.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:3], os.environ.get("PYTHONPATH", "")])

from chaos import SAVE_EVERY, STEP_S, check, rage  # noqa: E402
from sweep_fakes import steps_taken  # noqa: E402


def main() -> None:
    """Kill, finish, check, print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as scratch:
        root, started = Path(scratch), time.monotonic()
        kills = rage(root, rounds=rounds, rng=rng, say=lambda line: print(line, flush=True))
        check(root, rounds=rounds, kills=kills)
        taken = Counter(step[:3] for step in steps_taken(root))
    lost, done = sum(count - 1 for count in taken.values()), len(taken)
    of_kind = Counter(kill.what for kill in kills)
    drivers, took_s = of_kind["driver"], time.monotonic() - started
    print(f"{rounds} kills ({drivers} drivers, {rounds - drivers} workers) in {took_s:.0f} s")
    print("every cell once, one finished run each in MLflow, none RUNNING")
    print(f"{lost} of {done} steps of {STEP_S} s taken again ({lost / done:.1%}); saved every {SAVE_EVERY} steps")


if __name__ == "__main__":
    main()
