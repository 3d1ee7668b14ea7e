"""What a trial costs beyond its own work: `python tests/bench/bench_trial_cost.py [CELLS] [WORKERS]`.

Cells whose stages sleep, under a real Ray with reused actors, against the same cells one after the other in this
process. Wanted: under 0.5 s per trial.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1] / "sweep"
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])

from sweep_fakes import NAME, fake_plan, grid_specs  # noqa: E402

from uscl.records import CellFinished  # noqa: E402
from uscl.sweep import runner  # noqa: E402
from uscl.sweep.order import TrialOrder, work  # noqa: E402
from uscl.sweep.study import study_of  # noqa: E402

SCRIPT = {"steps": 2, "step_s": 0.02}


class Clock:
    """When cells finished."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_event(self, event: object) -> None:
        if isinstance(event.event, CellFinished):
            self.times.append(time.monotonic())

    def close(self) -> None:
        """Nothing to close."""


def in_process(root: Path, specs: list) -> float:
    """Seconds per cell without Ray."""
    plan = fake_plan(root, specs, **SCRIPT)
    started = time.monotonic()
    for planned in plan.cells:
        order = TrialOrder(
            number=planned.plan.number, cell=planned.plan.cell, spec=planned.spec.model_dump(mode="json"),
            store_root=str(plan.store_root), namespace="", dataset_path=str(plan.dataset_path), attempt="bench",
            present=(), log_path=str(root / "log"), session_path="", device="cpu", cpus=1.0, amp=True,
            progress_every_s=60.0, run_trial=NAME,
        )  # fmt: skip
        assert isinstance(list(work(order))[-1], CellFinished)
    return (time.monotonic() - started) / len(plan.cells)


def main() -> None:
    """Print both figures and their difference."""
    num_cells = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    runner.have_data = lambda plan, say: None
    specs = grid_specs(polarities=("none",), fractions=[(n + 1) / num_cells for n in range(num_cells)])
    with tempfile.TemporaryDirectory() as scratch:
        alone = in_process(Path(scratch) / "alone", specs)
        clock, started = Clock(), time.monotonic()
        plan = fake_plan(Path(scratch) / "ray", specs, **SCRIPT)
        options = runner.RunOptions(workers=workers, run_trial=NAME)
        runner.run_study(study_of([plan]), lambda: [clock], options=options, say=lambda line: None)
        total = time.monotonic() - started
    # from the first finished cell on: Ray's own start is paid once, not per trial
    each = (clock.times[-1] - clock.times[0]) / (len(clock.times) - 1) * workers
    print(f"{num_cells} cells, {workers} worker(s): {total:.1f} s with Ray's start and end")
    print(f"own work {alone:.3f} s per trial, under Ray {each:.3f} s: {each - alone:+.3f} s per trial (wanted < 0.5)")


if __name__ == "__main__":
    main()
