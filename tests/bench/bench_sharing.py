"""What sharing saves, side by side: `python tests/bench/bench_sharing.py [SWEEP] [--set A.B=C]...`.

Prints the ratio of total stage seconds and of wall time, whether all metrics are bit-equal, and the peak memory of the
driver with everything it started (proportional set size, so shared pages count once). Default: sweeps/temporal.yaml.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process and its descendants; what has just ended counts 0."""
    total = 0
    for process in descendants(pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def descendants(pid: int) -> list[int]:
    """The process and everything below it, by parent; Ray's daemons stay in the driver's session."""
    parents, session = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(stat.parent.name)], session[int(stat.parent.name)] = int(fields[1]), int(fields[3])
    found = {pid}
    while True:
        more = {process for process, parent in parents.items() if parent in found} - found
        if not more:
            return sorted(found)
        found |= more


def run(store: Path, arguments: list[str]) -> tuple[float, int]:
    """Wall seconds and peak bytes of one sweep."""
    started, peak, done = time.monotonic(), 0, threading.Event()
    command = [sys.executable, "-m", "uscl.cli.main", "sweep", *arguments, "--store", str(store)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

        def watch() -> None:
            nonlocal peak
            while not done.wait(1.0):
                peak = max(peak, pss_bytes(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
        done.set()
        watcher.join()
        if status:
            output.seek(0)
            sys.exit(output.read().decode())
    return time.monotonic() - started, peak


def stage_seconds(store: Path) -> float:
    """Total of what the manifests say their stages took."""
    manifests = [json.loads(path.read_text()) for path in store.glob("**/stages/*/*/manifest.json")]
    return sum(manifest["provenance"]["seconds"] for manifest in manifests)


def figures(store: Path) -> dict[str, dict[str, object]]:
    """Metrics of every evaluation by key."""
    return {
        path.parent.name: json.loads(path.read_text())["metrics"]
        for path in store.glob("**/stages/evaluate/*/manifest.json")
    }


def report(name: str, store: Path, arguments: list[str]) -> float:
    """Run one sweep, print its figures, return its wall seconds."""
    wall_s, peak = run(store, arguments)
    print(
        f"{name:9} {wall_s:6.0f} s wall, {stage_seconds(store):6.0f} s of stages, peak {peak / 2**30:.2f} GiB",
        flush=True,
    )
    return wall_s


def main() -> None:
    """Run both and print."""
    arguments = sys.argv[1:] or [str(ROOT / "sweeps/temporal.yaml")]
    with tempfile.TemporaryDirectory() as folder:
        shared, alone = Path(folder) / "shared", Path(folder) / "alone"
        shared_s, alone_s = report("shared", shared, arguments), report("unshared", alone, [*arguments, "--no-share"])
        ratio = stage_seconds(alone) / stage_seconds(shared)
        print(f"ratio unshared / shared: {ratio:.2f} in stage seconds, {alone_s / shared_s:.2f} in wall time")
        print(f"metrics of {len(figures(shared))} evaluations bit-equal: {figures(shared) == figures(alone)}")


if __name__ == "__main__":
    main()
