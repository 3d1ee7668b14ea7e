"""A driver in a process of its own, over fake plans: `python sweep_driver.py ROOT OPTIONS-AS-JSON`.

`grid` is one sweep's, `grids` (name -> grid) those of several that run as one. Prints the outcome as JSON on the
last line. It is what the slow tests start, signal and kill.
"""

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

from sweep_fakes import NAME, fake_plan, grid_specs, journal

from uscl.records import Progress
from uscl.store.lease import acquire_lease
from uscl.sweep import runner
from uscl.sweep.study import OneSweep, study_of

WORKING = {}
"""Cells that are under way and have said so -> their nodes."""


class Said:
    """A sink that prints a line per event, and can be told to raise at each."""

    def __init__(self, broken):
        self.broken = broken

    def on_event(self, event):
        if isinstance(event.event, Progress):
            WORKING[event.cell] = event.node
        else:
            WORKING.pop(event.cell, None)
            print("event", type(event.event).__name__, flush=True)
        if self.broken:
            raise RuntimeError("sink is broken")

    def close(self):
        if self.broken:
            raise RuntimeError("sink is broken")


def sinks(study, options):
    """The printing sink and, where asked for, a MLflow mirror of each sweep."""
    found = [Said(options.get("broken", False))]
    if options.get("mirror"):
        from uscl.store.stages import StageStore
        from uscl.tracking.mirror import Mirror

        for plan in study.plans:
            cells = [planned.plan for planned in plan.cells]
            mirror = Mirror(StageStore(plan.store_root), plan.identity, cells=cells, every_s=0.2)
            found.append(OneSweep(study, plan, mirror))
    return found


def two_nodes(root, lose_after):
    """The address of a Ray cluster of two nodes, one of which dies after so many lines of the journal."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1, env_vars={"USCL_NODE_NAME": "second"})
    cluster.wait_for_nodes()

    def lose():
        while len(journal(root)) < lose_after or "second" not in WORKING.values():
            time.sleep(0.01)
        cluster.remove_node(second, allow_graceful=False)
        print("node lost", flush=True)

    threading.Thread(target=lose, daemon=True).start()
    return cluster.address


def main():
    """Run the sweep as told."""
    root, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    logging.basicConfig(level=logging.WARNING)
    runner.have_data = lambda plan, say: None
    grids = options.get("grids") or {"fake": options.get("grid", {})}
    script = options.get("script", {})
    if "stale_s" in options:
        acquire_lease.__kwdefaults__ |= {"beat_s": options["stale_s"] / 6, "stale_s": options["stale_s"]}
    more = {"store": options.get("store", "")} | script
    study = study_of([fake_plan(root, grid_specs(**grid), name=name, **more) for name, grid in grids.items()])
    print("planned", flush=True)
    address = two_nodes(root, options["lose_after"]) if "lose_after" in options else options.get("address")
    outcome = runner.run_study(
        study,
        lambda: sinks(study, options),
        options=runner.RunOptions(
            workers=options.get("workers", 2),
            run_trial=NAME,
            address=address,
            require_gpu=options.get("require_gpu", False),
            skip_failed=options.get("skip_failed", False),
        ),
        say=lambda line: print("say", line, flush=True),
    )
    said = {
        **{what: sum(len(getattr(sweep, what)) for sweep in outcome.sweeps)
           for what in ("finished", "held", "left", "saved")},
        "failed": {cell: failed.failure for sweep in outcome.sweeps for cell, failed in sweep.failed.items()},
        "trained": dict(outcome.trained), "exit_code": outcome.exit_code, "hard": outcome.hard,
        "ray": "ray" in sys.modules, "torch": "torch" in sys.modules,
    }  # fmt: skip
    print(json.dumps(said), flush=True)
    if outcome.hard:  # as `uscl sweep` does
        os._exit(outcome.exit_code)


if __name__ == "__main__":
    main()
