"""What the mirror takes and gives: `python tests/bench/bench_mirror.py [POINTS]`.

Metrics per second into the embedded SQLite file and into an MLflow server (wanted: 1,500), the driver's cost of one
report with and without a mirror (side by side), and how long a sweep waits when the server falls silent (wanted: 0 s).
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

for room in ("sweep", "reliability"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))

from sweep_fakes import fake_plan, grid_specs  # noqa: E402
from tracked_sweep import TrackedSweep  # noqa: E402
from tracking_server import FaultyProxy, TrackingServer  # noqa: E402

from uscl.records import MetricPoint, Outcome, Progress  # noqa: E402
from uscl.store.curves import encode_points  # noqa: E402
from uscl.store.stages import StageStore  # noqa: E402
from uscl.store.sweeps import SweepFolder  # noqa: E402
from uscl.tracking.mirror import sync  # noqa: E402

NAMES = 12
"""Metrics of one report, as in sweep-engine.md 4.3."""
WANTED_PER_S = 1500


def stored_sweep(root: Path, num_points: int) -> tuple[StageStore, list, int]:
    """Six finished cells with long curves, and how many metrics they are."""
    plan = fake_plan(root, grid_specs())
    store, cells = StageStore(plan.store_root), [planned.plan for planned in plan.cells]
    SweepFolder(plan.store_root, plan.identity).write_sweep({"name": "fake", "recipe": "fake"})
    points = [
        MetricPoint(step, {f"finetune/m{n}": 1.0 / (step + n) for n in range(NAMES)}) for step in range(1, num_points)
    ]
    for cell in cells:
        for name, ref in cell.stages.items():
            files = {"metrics.parquet": encode_points(points)} if name == "finetune" else {}
            store.publish(
                ref, attempt="20260101T000000.0Z-bench", files=files, outcome=Outcome.DONE, inputs={}, parent=None,
                metrics={}, flags=(), provenance={},
            )  # fmt: skip
    return store, cells, len(points) * NAMES * len(cells)


def throughput(root: Path, uri: str, num_points: int) -> float:
    """Metrics per second of a `sync` into an MLflow that has none of them; runs, params, tags and files included."""
    store, cells, count = stored_sweep(root, num_points)
    sync(store, "warm", cells=[], tracking_uri=uri)
    started = time.monotonic()
    sync(store, "fake", cells=cells, tracking_uri=uri)
    return count / (time.monotonic() - started)


def report_costs(sweep: TrackedSweep, num_reports: int = 3000) -> tuple[float, float]:
    """Median and worst seconds of one report of progress in the driver's path."""
    order = sweep.dispatch.take("bench")
    (ref, *_) = sweep.cells[0].stages.values()
    values = {f"encoder/m{n}": 1.0 for n in range(NAMES)}
    costs = []
    for step in range(num_reports):
        event = Progress(ref.kind, ref.key, step, num_reports, 100.0, values, 0)
        started = time.perf_counter()
        sweep.dispatch.event("bench", event, node="here")
        costs.append(time.perf_counter() - started)
        time.sleep(0.0005)
    assert order is not None
    return statistics.median(costs), max(costs)


def print_report_costs(scratch: Path, uri: str) -> None:
    """Without, with, and without again: the machine drifts."""
    found = {}
    for name in ("without", "with", "without again"):
        sweep = TrackedSweep(scratch / name)
        if name == "with":
            sweep.mirror_to(uri)
        found[name] = report_costs(sweep)
        sweep.close()
        print(f"report, {name:14} median {1e6 * found[name][0]:7.1f} us, worst {1e3 * found[name][1]:7.2f} ms")
    bare = (found["without"][0] + found["without again"][0]) / 2
    print(f"report, ratio with / without a mirror: {found['with'][0] / bare:.2f}")


def print_stall(scratch: Path, server: TrackingServer) -> None:
    """Six cells whose server falls silent after the first, against six without a tracker."""
    proxy = FaultyProxy(server.port)
    walls = {}
    for name in ("without a tracker", "silent server"):
        sweep = TrackedSweep(scratch / name.replace(" ", "-"), name=name.replace(" ", "-"), step_s=0.05)
        if name == "silent server":
            sweep.mirror_to(proxy.url)
        sweep.run(1)
        time.sleep(4)
        proxy.fault = "black hole"
        started = time.monotonic()
        sweep.run()
        walls[name] = time.monotonic() - started
        closed_s = sweep.close()
        said = f"then {closed_s:5.1f} s to close; warned {len(sweep.warnings)}x"
        print(f"five cells, {name:18} {walls[name]:6.2f} s, {said}")
    print(f"stall: {walls['silent server'] - walls['without a tracker']:+.2f} s (wanted 0)")
    proxy.close()


def main() -> None:
    """Print everything."""
    num_points = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        server = TrackingServer(scratch / "server")
        (scratch / "server").mkdir()
        server.start()
        try:
            uris = {"SQLite": f"sqlite:///{scratch}/mlflow.db", "server": server.url}
            for name, uri in uris.items():
                each = throughput(scratch / f"sync-{name}", uri, num_points)
                print(f"mirror into {name:6} {each:7.0f} metrics/s (wanted {WANTED_PER_S})", flush=True)
            print_report_costs(scratch, uris["SQLite"])
            print_stall(scratch, server)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
