"""A store in a bucket beside one in a folder: `python tests/bench/bench_s3.py`; moto on loopback, no network's delay.

Prints the time of each operation and how often a bucket takes it, then what rewriting events.jsonl costs.
"""

import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from s3_server import KEYS, Server

from uscl.records import Outcome, StageRef
from uscl.store.s3_files import S3Files
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder

ROUNDS = 30
WEIGHTS = {"weights.safetensors": bytes(1_000_000), "metrics.parquet": bytes(20_000)}
EVENT = {
    "time_s": 1764068400.123, "cell": "ab" * 32, "attempt": "20261125T111111.000000Z-host-1234-abcdef01",
    "node": "host gpu 0", "event": "StagePublished", "kind": "encoder", "key": "cd" * 32, "outcome": "done",
    "seconds": 12.3,
}  # fmt: skip


def operations(store, number):
    """What a trial asks of its store; by name."""
    ref, missing = StageRef("encoder", f"{number:064x}"), StageRef("encoder", f"{number + 1000:064x}")
    return {
        "publish 1 MB": lambda: store.publish(
            ref, attempt="a", files=WEIGHTS, outcome=Outcome.DONE, inputs={}, parent=None, metrics={}, flags=(),
            provenance={},
        ),
        "has, there": lambda: store.has(ref),
        "has, missing": lambda: store.has(missing),
        "read 1 MB": lambda: store.read(ref, "weights.safetensors"),
        "save_progress 1 MB": lambda: store.save_progress(StageRef("encoder", "ff" * 32), attempt="a", step=number,
                                                          files={"model": WEIGHTS["weights.safetensors"]}),
    }  # fmt: skip


def compare(stores):
    """Both kinds in turns; medians in ms and their ratio."""
    taken = defaultdict(list)
    for number in range(ROUNDS):
        for kind, store in stores.items():
            for name, operation in operations(store, number).items():
                started = time.perf_counter()
                operation()
                taken[name, kind].append(1e3 * (time.perf_counter() - started))
    for name in dict.fromkeys(name for name, _ in taken):
        folder, bucket = (median(taken[name, kind]) for kind in ("folder", "bucket"))
        print(f"{name:20} folder {folder:7.2f} ms | bucket {bucket:7.2f} ms | x {bucket / folder:.1f}")


def events(roots, *, cells=1000, per_cell=6):
    """A burst of a sweep's events, and the same at 50 a second for 10 s."""
    puts, write = [], S3Files.write

    def noting(files, name, content):
        puts.append(len(content))
        write(files, name, content)

    S3Files.write = noting
    for kind, root in roots.items():
        folder, number = SweepFolder(root, "burst"), cells * per_cell
        puts.clear()
        started = time.perf_counter()
        for _ in range(number):
            folder.append_event(EVENT)
        each = 1e3 * (time.perf_counter() - started) / number
        folder._files.flush("events.jsonl")
        print(f"{cells} cells, {number} events: {kind} {each:.3f} ms each; {len(puts)} puts, {sum(puts) / 1e6:.1f} MB")
    puts.clear()
    folder = SweepFolder(roots["bucket"], "burst")
    for _ in range(500):
        folder.append_event(EVENT)
        time.sleep(0.02)
    folder._files.flush("events.jsonl")
    print(f"10 s of 50 events/s behind those: {len(puts)} puts, {sum(puts) / 1e7:.2f} MB/s")


def main():
    """Measure."""
    os.environ |= KEYS
    server = Server()
    try:
        with tempfile.TemporaryDirectory() as folder:
            roots = {"folder": folder, "bucket": server.address("bench")}
            compare({kind: StageStore(root) for kind, root in roots.items()})
            events(roots)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
