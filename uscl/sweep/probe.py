"""A short timed probe of stages that have no history: a few steps of each through the real stage functions.

It works in a temporary folder with a store of its own; the user's store is neither read nor written. A child stage
starts from the few steps of its parent. Imports torch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import torch

from uscl.data.dataset import Dataset, open_dataset
from uscl.data.phantom import build_phantom
from uscl.errors import UsclError
from uscl.records import Drained, Progress
from uscl.stages.canonical import canonical
from uscl.stages.context import WEIGHTS, StageContext, StageOutput
from uscl.stages.inputs import PackageInputs, StageInputs
from uscl.stages.keys import Chain, Stage, chain
from uscl.stages.loop import FitContext, unpack_tensors
from uscl.stages.run import STAGES
from uscl.store.stages import StageStore, new_attempt
from uscl.sweep.estimate import Need
from uscl.sweep.history import Cost
from uscl.sweep.plan import SweepPlan
from uscl.sweep.workload import workload

BUDGET_S = 30.0
"""For all stages together, a phantom to build included."""
STEPS, FIRST_STEPS, CASES = 20, 2, 4
"""Optimiser steps of one probe where time allows, those by which it finds out, and cases of an evaluation."""
PATIENTS = 10
"""Of a phantom that is built for the probe: the time of a step does not depend on how many there are."""
PHANTOM_SHARE = 0.5

Say = Callable[[str], None]
Clock = Callable[[], float]


class _OutOfTime(Exception):
    """The probe's time is over."""


@dataclass(frozen=True, slots=True)
class _Timed:
    """What a few units took."""

    first_s: float
    """To the end of the first unit: all that is done once is in it."""
    unit_s: float
    look_s: float
    """A validation at the last step."""
    last_s: float
    """After the last unit."""
    output: StageOutput

    def seconds(self, units: int, *, look_every: int) -> float:
        """What so many units would take."""
        looks = self.look_s * (units // look_every) if look_every else 0.0
        return self.first_s + self.unit_s * (units - 1) + looks + self.last_s


@dataclass(slots=True)
class _Bench:
    """Where the probe runs, and what it has timed so far."""

    folder: Path
    device: torch.device
    amp: bool
    clock: Clock
    deadline_s: float
    left: int
    """Stages that are still to be timed, at most: they share the time."""
    datasets: dict[str, Dataset | None] = field(default_factory=dict)
    timed: dict[tuple[str, ...], _Timed] = field(default_factory=dict)
    """By the shapes of a stage's chain, from its start."""


def time_stages(
    needs: Sequence[Need],
    *,
    device: str,
    cpus: float,
    amp: bool,
    say: Say,
    budget_s: float = BUDGET_S,
    clock: Clock = time.monotonic,
) -> dict[str, Cost]:
    """The cost of one unit of each stage shape; what cannot be timed is left out, and `say` hears why.

    `cpus` are torch's threads on a CPU, as trials have them.
    """
    first = {need.work.shape: need for need in needs if need.work is not None}
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory(prefix="uscl-probe-") as folder, _threads(cpus):
        bench = _Bench(Path(folder), torch.device(device), amp, clock, clock() + budget_s, left=2 * len(first))
        for shape, need in first.items():
            try:
                timed = _timed_stage(bench, need, say)
            except _OutOfTime:
                say(f"the timed probe ends after {budget_s:.0f} s; stages it has not come to are left out")
                break
            except Exception as error:  # out of memory, an odd dataset: the estimate goes on without
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                say(f"{need.stage.name} cannot be timed: {reason}")
                continue
            if timed is not None:
                assert need.work is not None
                seconds = timed.seconds(need.work.units, look_every=_look_every(need.stage.inputs))
                num_bytes = sum(map(len, timed.output.files.values()))
                costs[shape] = Cost(seconds / need.work.units, num_bytes, "probe")
    return costs


def _timed_stage(bench: _Bench, need: Need, say: Say) -> _Timed | None:
    """The stage after all before it in its chain; None where there are no data for it, or it cannot be cut short."""
    if isinstance(need.stage.inputs, PackageInputs) or getattr(need.stage.inputs, "engine", "") == "nnunetv2":
        say(f"{need.stage.name}: the nnU-Net package is not timed; run one cell, then its time is known")
        return None
    dataset = _dataset(bench, need.sweep, say)
    if dataset is None:
        return None
    links = chain(need.planned.spec, dataset.index)
    return _timed_chain(bench, _up_to(links, need.stage.name), dataset)


def _up_to(links: Chain, name: str) -> list[Stage]:
    """The stages that the one of this name is built on, and itself."""
    trained = [stage for stage in links.stages if stage.kind != "evaluate"]
    wanted = links.stage(name)
    return [*trained, wanted] if wanted.kind == "evaluate" else trained[: trained.index(wanted) + 1]


def _timed_chain(bench: _Bench, stages: Sequence[Stage], dataset: Dataset) -> _Timed:
    """Times what is not timed yet, in order; the last one's result."""
    path: tuple[str, ...] = ()
    files: Mapping[str, bytes] = {}
    for stage in stages:
        work = workload(stage.kind, canonical(stage.inputs), num_cases=len(stage.data.cases))
        assert work is not None
        path += (work.shape,)
        if path not in bench.timed:
            bench.timed[path] = _timed_twice(bench, stage, dataset, files)
            bench.left = max(1, bench.left - 1)
        files = bench.timed[path].output.files
    return bench.timed[path]


def _timed_twice(bench: _Bench, stage: Stage, dataset: Dataset, files: Mapping[str, bytes]) -> _Timed:
    """Two steps; then as many, up to twenty, as the stage's share of the time allows."""
    few = _run(bench, _short(stage, FIRST_STEPS), dataset, files)
    share_s = (bench.deadline_s - bench.clock()) / max(1, bench.left)
    steps = min(STEPS, int((share_s - few.first_s) / max(few.unit_s, 1e-6)))
    if stage.kind == "evaluate" or steps <= FIRST_STEPS:
        return few
    return _run(bench, _short(stage, steps), dataset, files)


def _run(bench: _Bench, stage: Stage, dataset: Dataset, files: Mapping[str, bytes]) -> _Timed:
    fit = FitContext(
        ref=stage.ref, store=StageStore(bench.folder / "store"), attempt=new_attempt(), device=bench.device,
        amp=bench.amp, stop_requested=lambda: bench.clock() > bench.deadline_s, progress_every_s=float("inf"),
        event_every_s=0.0, clock=bench.clock,
    )  # fmt: skip
    weights = unpack_tensors(files[WEIGHTS], torch.device("cpu")) if WEIGHTS in files else {}
    context = StageContext(stage, dataset, weights, fit, parent_file=lambda name: files[name])
    started = bench.clock()
    times, output = _watched(STAGES[stage.kind](context), bench.clock)
    if output is None:
        raise _OutOfTime
    ended = bench.clock()
    times = times or [ended]
    steps = [after - before for before, after in pairwise(times)] or [times[0] - started]
    looks = _look_every(stage.inputs) > 0
    unit_s = median(steps[:-1] or steps) if looks else median(steps)
    return _Timed(times[0] - started, unit_s, max(0.0, steps[-1] - unit_s) if looks else 0.0, ended - times[-1], output)


def _watched(
    events: Generator[Progress | Drained, None, StageOutput | None], clock: Clock
) -> tuple[list[float], StageOutput | None]:
    """When each unit was done, and what came out."""
    times: list[float] = []
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return times, end.value
        if isinstance(event, Progress):
            times.append(clock())


def _short(stage: Stage, units: int) -> Stage:
    """The stage with so many steps, or a few cases."""
    if stage.kind == "evaluate":
        return replace(stage, data=replace(stage.data, cases=stage.data.cases[:CASES]))
    return replace(stage, inputs=_with_steps(stage.inputs, units))


def _section(inputs: StageInputs) -> tuple[str, Any]:
    """The block that says how many steps, and its name; none of an evaluation."""
    names = ("encoder", "decoder", "pixel", "finetune", "nnunet")
    return next(((name, getattr(inputs, name)) for name in names if hasattr(inputs, name)), ("", None))


def _with_steps(inputs: StageInputs, steps: int) -> StageInputs:
    name, section = _section(inputs)
    update: dict[str, Any] = {"steps": min(steps, section.steps)}
    if _look_every(inputs):
        update["select_every"] = update["steps"]
    short: StageInputs = inputs.model_copy(update={name: section.model_copy(update=update)})
    return short


def _look_every(inputs: StageInputs) -> int:
    """Steps between two validations; 0 where there is none."""
    return getattr(_section(inputs)[1], "select_every", None) or 0


def _dataset(bench: _Bench, sweep: SweepPlan, say: Say) -> Dataset | None:
    """The sweep's dataset, or of a phantom that is not built yet a smaller one; None where that takes too long."""
    if sweep.dataset_fingerprint not in bench.datasets:
        bench.datasets[sweep.dataset_fingerprint] = _find_dataset(bench, sweep, say)
    return bench.datasets[sweep.dataset_fingerprint]


def _find_dataset(bench: _Bench, sweep: SweepPlan, say: Say) -> Dataset | None:
    try:
        return open_dataset(sweep.dataset_path)
    except UsclError:
        if sweep.spec.data != "phantom":
            raise
    until_s = bench.clock() + PHANTOM_SHARE * (bench.deadline_s - bench.clock())
    spec = sweep.spec.phantom
    small = spec.model_copy(update={"patients": min(PATIENTS, spec.patients)})
    path = bench.folder / f"phantom-{sweep.dataset_fingerprint[:10]}"

    def give_up_late(done: int, total: int) -> None:
        """After each patient."""
        if bench.clock() > until_s and done < total:
            _give_up()

    try:
        build_phantom(small, path, progress=give_up_late)
    except _OutOfTime:
        say("the phantom is not built yet, and building even a small one takes too long to time a step on it")
        return None
    say(f"the phantom is not built yet: timed on {small.patients} of its {spec.patients} patients, built for that")
    return open_dataset(path)


def _give_up() -> NoReturn:
    raise _OutOfTime


@contextmanager
def _threads(cpus: float) -> Generator[None, None, None]:
    """As many torch threads as a trial has."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, round(cpus)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
