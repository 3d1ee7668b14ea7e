"""The store under real processes: killed between weights and manifest, killed at any moment, racing each other."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from uscl.records import Outcome, StageRef
from uscl.store.stages import StageStore

REF = StageRef("encoder", "ab" * 32)

COMMON = """
import os, signal, sys, time
from uscl.records import Outcome, StageRef
from uscl.store.files import Files
from uscl.store.stages import StageStore, new_attempt

def publish(store, ref, attempt, files):
    return store.publish(ref, attempt=attempt, files=files, outcome=Outcome.DONE, inputs={}, parent=None,
                         metrics={}, flags=(), provenance={})

store, ref = StageStore(sys.argv[1]), StageRef("encoder", "ab" * 32)
"""

KILLED_BEFORE_THE_MANIFEST = """
def die(files, name, content):
    os.kill(os.getpid(), signal.SIGKILL)
Files.link_first = die
publish(store, ref, "killed", {"weights.safetensors": b"w" * 1000})
"""

KILLED_WITHIN_A_RESUME_POINT = """
store.save_progress(ref, attempt="killed", step=10, files={"model.safetensors": b"ten"})
write = Files.write
def die(files, name, content):
    if name.endswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(files, name, content)
Files.write = die
store.save_progress(ref, attempt="killed", step=20, files={"model.safetensors": b"twenty"})
"""

FOR_EVER = """
print("go", flush=True)
for step in range(1, 10**6):
    key = StageRef("encoder", f"{step:064x}")
    store.save_progress(key, attempt="a", step=step, files={"model.safetensors": bytes([step % 256]) * 50_000})
    publish(store, key, "a", {"weights.safetensors": bytes([step % 256]) * 50_000, "metrics.parquet": b"m"})
"""

RACE = """
import json
attempt, won = sys.argv[2], []
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    key = StageRef("encoder", f"{number:064x}")
    won.append(publish(store, key, attempt, {"weights.safetensors": f"{attempt} {number}".encode() * 200}).attempt)
print(json.dumps(won), flush=True)
"""


def start(code, *arguments):
    command = [sys.executable, "-c", COMMON + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_until_killed(code, *arguments):
    with start(code, *arguments) as process:
        assert process.wait(timeout=60) == -signal.SIGKILL


def publish(store, attempt):
    return store.publish(
        REF, attempt=attempt, files={"weights.safetensors": b"rebuilt"}, outcome=Outcome.DONE, inputs={}, parent=None,
        metrics={}, flags=(), provenance={},
    )  # fmt: skip


def test_killed_between_weights_and_manifest(tmp_path):
    run_until_killed(KILLED_BEFORE_THE_MANIFEST, tmp_path)
    assert (tmp_path / "stages" / "encoder" / REF.key / "killed" / "weights.safetensors").stat().st_size == 1000
    store = StageStore(tmp_path)
    assert not store.has(REF)
    assert store.refs("encoder") == []
    assert publish(store, "next").attempt == "next"
    assert store.read(REF, "weights.safetensors") == b"rebuilt"


@pytest.mark.parametrize("at", ["model.safetensors", "progress.json"])
def test_killed_within_a_resume_point(tmp_path, at, caplog):
    run_until_killed(KILLED_WITHIN_A_RESUME_POINT, tmp_path, at)
    point = StageStore(tmp_path).load_progress(REF)
    assert (point.step, point.files) == (10, {"model.safetensors": b"ten"})
    assert caplog.records == []


def test_killed_at_any_moment_every_stage_is_whole_or_absent(tmp_path):
    seen = 0
    for seed in range(6):
        root = tmp_path / str(seed)
        with start(FOR_EVER, root) as process:
            process.stdout.readline()
            time.sleep(random.Random(seed).uniform(0.05, 0.3))
            process.kill()
        store = StageStore(root)
        started = sorted(path.name for path in (root / "stages" / "encoder").iterdir())
        for key in started:
            ref, whole = StageRef("encoder", key), bytes([int(key, 16) % 256]) * 50_000
            if store.has(ref):
                assert store.read(ref, "weights.safetensors") == whole
                seen += 1
            point = store.load_progress(ref)
            assert point is None or point.files == {"model.safetensors": whole}
        assert len(started) - len(store.refs("encoder")) <= 1
        assert not (root / "torn").exists()
    assert seen > 6


def test_racers_agree_on_one_winner_for_each_stage(tmp_path):
    racers = [start(RACE, tmp_path, f"racer-{number}") for number in range(4)]
    try:
        for racer in racers:
            racer.stdout.readline()
        answers = [racer.communicate("\n", timeout=60)[0] for racer in _released(racers)]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    winners = [json.loads(answer) for answer in answers]
    store = StageStore(tmp_path)
    assert all(won == winners[0] for won in winners)
    for number, attempt in enumerate(winners[0]):
        ref = StageRef("encoder", f"{number:064x}")
        assert store.manifest(ref).attempt == attempt
        assert store.read(ref, "weights.safetensors") == f"{attempt} {number}".encode() * 200
        assert sorted(path.name for path in store.folder(ref).parent.iterdir()) == sorted(["manifest.json", attempt])


def _released(racers):
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    return racers
