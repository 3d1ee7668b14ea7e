"""The stage around nnU-Net's process, with a process that only pretends: news, resume points, stops and failures."""

import sys
import textwrap
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from uscl.data.dataset import open_dataset
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError, TrialError
from uscl.records import Drained, Outcome, Progress, StagePublished
from uscl.stages.keys import chain
from uscl.stages.nnunetv2 import stage
from uscl.stages.run import run_trial
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore

PRETENDER = """
    import sys, time, json, numpy
    from pathlib import Path
    from safetensors.numpy import save, save_file
    from uscl.stages.nnunetv2.exchange import Job, Monitor, write_result
    root = Path(sys.argv[1]); job = Job.read(root); monitor = Monitor(root); monitor.listen()
    state = lambda step: save({"w": numpy.zeros(1)}, metadata={"step": str(step)})
    result = {"points": [[1, {"loss": 2.0}], [2, {"loss": 1.0}]], "frames_per_s": 5.0, "batch": 2, "parameters": 9}
    def done():
        (root / "out").mkdir(); save_file({"w": numpy.ones(1)}, root / "out" / "weights.safetensors")
        write_result(root, result | {"outcome": "done"})
"""


@pytest.fixture
def pretend(monkeypatch):
    """`pretend(code)` makes that code nnU-Net's process."""

    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "pretended" if name == "nnunetv2" else version(name))

    def _pretend(code):
        monkeypatch.setattr(stage, "POLL_S", 0.01)
        monkeypatch.setattr(
            stage, "COMMAND", (sys.executable, "-c", textwrap.dedent(PRETENDER) + textwrap.dedent(code))
        )

    return _pretend


def finetune_events(trial, dataset, store, **changes):
    """Events of the first stage only: nothing real could evaluate what a pretender trained."""
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False, "event_every_s": 0.0} | changes
    events = []
    for event in run_trial(trial(method="nnunetv2"), store, dataset=dataset, **settings):
        events.append(event)
        if isinstance(event, StagePublished):
            break
    return events


@pytest.fixture
def cell(trial, tiny_index):
    return chain(trial(method="nnunetv2"), tiny_index).stage("finetune")


def test_what_the_process_leaves_is_published(pretend, trial, tiny_dataset, tmp_path, cell):
    pretend("monitor.tell(step=1, frames_per_s=3.0); time.sleep(0.3); done()")
    store = StageStore(tmp_path)
    events = finetune_events(trial, tiny_dataset, store)
    assert any(isinstance(event, Progress) and event.step == 1 and event.frames_per_s == 3.0 for event in events)
    manifest = store.manifest(cell.ref)
    assert manifest.outcome is Outcome.DONE and set(manifest.files) == {"weights.safetensors", "metrics.parquet"}
    assert manifest.metrics["finetune/labelled_cases"] == len(cell.data.cases) and "nnunetv2" in manifest.provenance
    points = decode_points(store.read(cell.ref, "metrics.parquet"))
    assert [(point.step, dict(point.values)) for point in points] == [
        (1, {"finetune/loss": 2.0}),
        (2, {"finetune/loss": 1.0}),
    ]


def test_a_diverged_run_is_a_result_without_weights(pretend, trial, tiny_dataset, tmp_path, cell):
    pretend("write_result(root, result | {'outcome': 'diverged'})")
    store = StageStore(tmp_path)
    finetune_events(trial, tiny_dataset, store)
    manifest = store.manifest(cell.ref)
    assert manifest.outcome is Outcome.DIVERGED and set(manifest.files) == {"metrics.parquet"}


def test_a_stopped_run_leaves_its_newest_resume_point_and_takes_it_up_again(
    pretend, trial, tiny_dataset, tmp_path, cell
):
    pretend("""
        if (root / "resume.safetensors").exists(): sys.exit("resumed")
        monitor.tell(step=7)
        while not monitor.stopping: time.sleep(0.01)
        monitor.save(state(5), 5); write_result(root, {"outcome": "stopped"})
    """)
    store, seen = StageStore(tmp_path), []
    settings = {"device": "cpu", "attempt": "one", "event_every_s": 0.0}
    for event in run_trial(
        trial(method="nnunetv2"), store, dataset=tiny_dataset,
        stop_requested=lambda: bool(seen) and seen[-1].step == 7, **settings,
    ):  # fmt: skip
        seen.append(event)
    assert seen[-1] == Drained("finetune", cell.key, 5)
    assert store.load_progress(cell.ref).step == 5
    with pytest.raises(TrialError, match=r"^nnU-Net ended with exit code 1: resumed"):
        finetune_events(trial, tiny_dataset, store)


def test_a_failure_shows_the_end_of_its_log(pretend, trial, tiny_dataset, tmp_path):
    pretend("print('plans made'); raise RuntimeError('no memory left')")
    with pytest.raises(TrialError) as caught:
        finetune_events(trial, tiny_dataset, StageStore(tmp_path))
    first, *rest = str(caught.value).splitlines()
    assert first == "nnU-Net ended with exit code 1: RuntimeError: no memory left" and "plans made" in rest


def test_nothing_of_it_outlives_a_trial_that_is_given_up(pretend, trial, tiny_dataset, tmp_path):
    """A trial that is closed takes the process, its children and its scratch folder along."""
    pretend(f"""
        import os, subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path({str(tmp_path)!r}, "pids").write_text(f"{{os.getpid()}} {{child.pid}} {{root}}")
        monitor.tell(step=1); time.sleep(60)
    """)
    stream = run_trial(
        trial(method="nnunetv2"), StageStore(tmp_path), dataset=tiny_dataset, device="cpu", attempt="one",
        stop_requested=lambda: False, event_every_s=0.0,
    )  # fmt: skip
    next(event for event in stream if isinstance(event, Progress) and event.step == 1)
    stream.close()
    *pids, root = (tmp_path / "pids").read_text().split()
    deadline = time.monotonic() + 5
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(_alive, pids)) and not Path(root).exists()


def test_a_process_whose_stage_is_gone_ends_itself(pretend, tmp_path):
    """Its standard input closes when the trial's process dies, even by kill -9."""
    pretend("time.sleep(60)")
    (tmp_path / "job.json").write_text(
        '{"inputs": {"engine": "nnunetv2", "seed": 0, "nnunet": {}, "speckle": null, "classes": [], "contains": {}},'
        ' "device": "cpu", "threads": 1, "progress_every_s": 1}'
    )
    process = stage.NnunetProcess(tmp_path, threads=1, saved_step=0)
    process._process.stdin.close()
    assert process._process.wait(timeout=30) == -9
    process.end()


def test_classes_that_overlap_are_refused_before_it_starts(pretend, trial, tmp_path):
    pretend("raise SystemExit('it was started')")
    rng, masks = np.random.default_rng(0), np.zeros((2, 32, 32), bool)
    masks[0, 4:20, 4:20] = masks[1, 12:28, 12:28] = True
    with DatasetWriter(tmp_path / "data", name="d", classes=("outer", "inner"), size=32) as out:
        for patient in range(6):
            image = rng.integers(1, 256, (32, 32), dtype=np.uint8)
            out.add_case(image, masks, case=f"c{patient}", patient=f"p{patient}")
        out.close()
    assert open_dataset(tmp_path / "data").classes == ("outer", "inner")
    with pytest.raises(DataError, match="it partly overlaps another class"):
        finetune_events(trial, tmp_path / "data", StageStore(tmp_path / "store"))


def test_a_long_curve_is_thinned_and_keeps_its_end():
    points = stage.curve([(step, {"loss": float(step)}) for step in range(1, 1001)])
    assert len(points) == 50 and points[-1].step == 1000 and points[0].values == {"finetune/loss": 20.0}


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False
