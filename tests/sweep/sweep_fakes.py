"""Plans and trials of milliseconds, with a real store. Ray's workers import this by name.

A fake trial learns what to do from `script.json` in its dataset folder:
    {"steps": 3, "step_s": 0.01, "faults": {"<cell number>": "error"}, "pause_at": "mid-progress"}
and writes what it trains into `trained.log` there, one line per start and per publication, and every step it takes,
with its process, into `steps.log`. It saves its progress every `save_every` steps.
"""

import errno
import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from uscl.data.schema import DATASET_FORMAT, DATASET_VERSION
from uscl.records import (
    CellFinished,
    CellPlan,
    CellResult,
    Drained,
    MetricPoint,
    Outcome,
    ParentRef,
    Progress,
    StagePublished,
    StageRef,
    StageReused,
)
from uscl.spec.sweep import ReportSpec, ResourcesSpec
from uscl.spec.trial import TrialSpec, flatten
from uscl.store.curves import encode_points
from uscl.store.files import Files, StoreFull
from uscl.store.roots import store_root
from uscl.store.stages import PROGRESS_MANIFEST, StageStore
from uscl.sweep.plan import PlannedCell, SweepPlan

NAME = "sweep_fakes:run_trial"
PAUSE_S = 30.0
ODD_LOSSES = {"nan": math.nan, "inf": math.inf}

SETTINGS = {
    "data": "fake",
    "image": {"size": 16},
    "network": {"preset": "tiny"},
    "encoder": {"steps": 3, "lr": 1e-3, "clips": 2, "frames": 2},
    "decoder": {"steps": 3, "lr": 1e-3, "clips": 2, "frames": 2, "level": 1},
    "finetune": {"steps": 3, "lr": 1e-3, "batch": 2},
}


def trial_spec(**settings) -> TrialSpec:
    """A small TrialSpec; keyword arguments replace whole sections."""
    return TrialSpec.model_validate(SETTINGS | settings)


def fake_stages(spec: TrialSpec) -> dict[str, StageRef]:
    """A chain whose keys depend on few settings: polarity (encoder), stage (decoder), fraction (finetune), tta."""
    read, stages = str(spec.seed.pretrain), {}
    for name, more in [
        ("encoder", spec.temporal.polarity),
        ("decoder", spec.temporal.stage),
        ("finetune", str(spec.labels.fraction)),
        ("evaluate/val", f"val {spec.evaluate.tta}"),
        ("evaluate/test", f"test {spec.evaluate.tta}"),
    ]:
        kind = name.split("/")[0]
        parent = read if kind == "evaluate" else (read := f"{read}|{more}")
        stages[name] = StageRef(kind, hashlib.sha256(f"{kind}|{parent}|{more}".encode()).hexdigest())
    return stages


def grid_specs(*, polarities=("none", "positive"), fractions=(0.1, 0.5, 1.0), seeds=(0,)) -> list[TrialSpec]:
    """polarity x seed x fraction; cells of one polarity and seed share their pretraining."""
    return [
        trial_spec(seed=seed, temporal={"polarity": polarity}, labels={"fraction": fraction})
        for polarity in polarities
        for fraction in fractions
        for seed in seeds
    ]


def fake_plan(
    root: Path, specs: list[TrialSpec], *, share: bool = True, name: str = "fake", store: str = "", **script
) -> SweepPlan:
    """A plan over `root/store` (or the store at an address), with its fake dataset and script in `root/dataset`."""
    (root / "dataset").mkdir(parents=True, exist_ok=True)
    (root / "dataset" / "script.json").write_text(json.dumps(script))
    document = {"format": DATASET_FORMAT, "version": DATASET_VERSION, "fingerprint": "0" * 64}
    (root / "dataset" / "dataset.json").write_text(json.dumps(document))
    cells = []
    for number, spec in enumerate(specs, 1):
        stages = fake_stages(spec)
        cell = stages["finetune"].key
        axes = {"temporal.polarity": spec.temporal.polarity, "labels.fraction": spec.labels.fraction}
        plan = CellPlan(
            number, cell, f"cell {number}", axes, flatten(spec), stages, namespace="" if share else cell[:16]
        )
        cells.append(PlannedCell(plan, spec, SimpleNamespace(cell=cell)))
    resources = ResourcesSpec(gpus_per_trial=0, cpus_per_trial=1, progress_every_s=0.05)
    spec = SimpleNamespace(
        name=name, identity=name, data="fake", search=None, maker=None, source=f"{name}.yaml", resources=resources,
        report=ReportSpec(rows=("temporal.polarity",), columns="labels.fraction", values=("test/dsc",)),
        to_json=lambda: {"name": name, "recipe": "fake", "data": "fake"},
    )  # fmt: skip
    at = store_root(store or root / "store")
    return SweepPlan(spec, name, at, root / "dataset", "0" * 64, tuple(cells), ())


def scores(spec: TrialSpec) -> dict[str, float]:
    """What a fake trial of a search measures: best at fraction 0.3 and polarity positive, a hundredth per seed."""
    away = (spec.labels.fraction - 0.3) ** 2 + 0.2 * (spec.temporal.polarity != "positive")
    return {"dsc": 1 - away + 0.01 * spec.seed.pretrain, "delta_snr": spec.labels.fraction}


def journal(root: Path) -> list[tuple[str, str, str]]:
    """(start or publish, kind, key), in order, over all attempts and drivers."""
    path = root / "dataset" / "trained.log"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def steps_taken(root: Path) -> list[tuple[str, str, int, int]]:
    """(kind, key, step, process id) of every step of training, in order, over all attempts and drivers."""
    path = root / "dataset" / "steps.log"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(kind, key, int(step), int(pid)) for kind, key, step, pid in lines]


# ---- the trial


@dataclass
class _Script:
    folder: Path
    steps: int = 3
    step_s: float = 0.0
    faults: dict = None
    pause_at: str = ""
    save_every: int = 1
    deaf: bool = False
    """Trials do not heed a request to stop."""
    scored: bool = False
    scores: dict = None

    def note(self, *words: str, file: str = "trained.log") -> None:
        """One line of a log, whole or not at all."""
        with (self.folder / file).open("ab", buffering=0) as stream:
            stream.write((" ".join(words) + "\n").encode())

    def reach(self, point: str) -> None:
        """At the point to pause at, the first trial to come stops until it is killed, or `go-POINT` is there."""
        if point != self.pause_at:
            return
        try:
            os.close(os.open(self.folder / f"hit-{point}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        until = time.monotonic() + PAUSE_S
        while time.monotonic() < until and not (self.folder / f"go-{point}").exists():
            time.sleep(0.01)


class _PausingFiles(Files):
    """Stops between the files of a resume point and its list."""

    def write(self, name, content):
        if name.endswith(f"{2:012d}/{PROGRESS_MANIFEST}"):
            self.script.reach("mid-checkpoint-write")
        super().write(name, content)


class _PausingStore(StageStore):
    """Stops between the files of a stage and its manifest."""

    script: _Script

    def _link_manifest(self, ref, document):
        self.script.reach("between weights and manifest")
        return super()._link_manifest(ref, document)


def run_trial(spec, store, *, dataset, device, attempt, stop_requested, present, progress_every_s, amp, parts):
    """As stages.run.run_trial, with stages that sleep."""
    script = _Script(dataset, **json.loads((dataset / "script.json").read_text()))
    pausing = _PausingStore(store.root, namespace=store.namespace)
    pausing.script = script
    if isinstance(pausing._files, Files):
        pausing._files = _PausingFiles(pausing._files.root)
        pausing._files.script = script
    script.scores = scores(spec) if script.scored else {"dsc": 0.5}
    stages, parent = fake_stages(spec), None
    stages = {name: ref for name, ref in stages.items() if "/" not in name or name.split("/")[1] in parts}
    fault = (script.faults or {}).get(f"{spec.temporal.polarity} {spec.labels.fraction}", "")
    for name, ref in stages.items():
        if pausing.has(ref):
            yield StageReused(ref.kind, ref.key)
            if pausing.manifest(ref).outcome is Outcome.DIVERGED:
                yield CellFinished(CellResult(stages["finetune"].key, Outcome.DIVERGED, {}))
                return
        else:
            assert ref.key not in present
            trained = yield from _train(
                pausing, ref, script, stop_requested, parent, attempt, _fault(fault, name), name.split("/")[-1]
            )
            if not trained:
                return
        manifest = pausing.manifest(ref)
        if manifest.outcome is Outcome.DIVERGED:
            yield CellFinished(CellResult(stages["finetune"].key, Outcome.DIVERGED, {}))
            return
        if ref.kind != "evaluate":
            parent = ParentRef(ref.kind, ref.key, manifest.attempt, manifest.files["weights.safetensors"])
    script.reach("after the last stage")
    metrics = {key: v for n in parts for key, v in pausing.manifest(stages[f"evaluate/{n}"]).metrics.items()}
    yield CellFinished(CellResult(stages["finetune"].key, Outcome.DONE, metrics))


def _fault(fault: str, name: str) -> str:
    what, _, where = fault.partition(" in ")
    return what if where == name else ""


def _train(store, ref, script, stop_requested, parent, attempt, fault, part):
    script.note("start", ref.kind, ref.key)
    point = store.load_progress(ref)
    step = saved = point.step if point else 0
    started, points = time.monotonic(), []
    while step < script.steps:
        time.sleep(script.step_s)
        step += 1
        if fault == f"kill at step {step}":
            _once(script, ref, lambda: os.kill(os.getpid(), 9))
        _break(fault, script, ref)
        script.note(ref.kind, ref.key, str(step), str(os.getpid()), file="steps.log")
        loss = ODD_LOSSES.get(fault, 1.0 / step)
        points.append(MetricPoint(step, {f"{ref.kind}/loss": loss}))
        if step % script.save_every == 0:
            store.save_progress(ref, attempt=attempt, step=step, files={"metrics.parquet": encode_points(points)})
            saved = step
        if fault.startswith("kill at step"):
            script.note("step", ref.kind, str(step))
        if ref.kind == "encoder":
            script.reach("mid-progress")
            script.reach("while a follower waits")
        if ref.kind == "evaluate":
            script.reach("during evaluation")
        script.reach(f"in {ref.kind}")
        if stop_requested() and not script.deaf:
            if saved < step:
                store.save_progress(ref, attempt=attempt, step=step, files={"metrics.parquet": encode_points(points)})
            yield Drained(ref.kind, ref.key, step)
            return False
        yield Progress(ref.kind, ref.key, step, script.steps, 100.0, points[-1].values, saved)
    outcome = Outcome.DIVERGED if fault == "diverge" else Outcome.DONE
    weights = hashlib.sha256(f"{ref.key}{parent}".encode()).hexdigest().encode()
    files = {"metrics.parquet": encode_points(points)}
    manifest = store.publish(
        ref, attempt=attempt, files=files if outcome is Outcome.DIVERGED else files | {"weights.safetensors": weights},
        outcome=outcome, inputs={}, parent=parent, flags=(), provenance={"seconds": 1.0, "device": "cpu", "torch": "x"},
        metrics=_measured(script, part, fault) if ref.kind == "evaluate" and fault != "no metric" else {},
    )  # fmt: skip
    script.note("publish", ref.kind, ref.key)
    script.reach("between manifest and event")
    store.clear_progress(ref, attempt=attempt)
    if manifest.attempt == attempt:
        yield StagePublished(ref.kind, ref.key, outcome, time.monotonic() - started)
    else:
        yield StageReused(ref.kind, ref.key)
    return True


def _break(fault: str, script: _Script, ref: StageRef) -> None:
    if fault == "error":
        raise ValueError("a bug in the " + ref.kind)
    if fault == "long error":
        raise ValueError("x" * 1_000_000)
    if fault == "oom":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if fault == "host oom":
        raise MemoryError
    if fault == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(script.folder))
    if fault == "full while told so" and (script.folder / "full").exists():
        raise StoreFull(f"{script.folder}: no space left")
    if fault.startswith("exit with "):
        _once(script, ref, lambda: os._exit(int(fault.split()[-1])))
    if fault == "exit once":
        _once(script, ref, lambda: os._exit(0))
    if fault == "kill once":
        _once(script, ref, lambda: os.kill(os.getpid(), 9))
    if fault == "kill always":
        os.kill(os.getpid(), 9)


def _once(script: _Script, ref: StageRef, act) -> None:
    try:
        os.close(os.open(script.folder / f"died-{ref.key[:10]}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    act()


def _measured(script, part, fault):
    odd = ODD_LOSSES.get(fault)
    return {f"{part}/{name}": value if odd is None else odd for name, value in script.scores.items()}
