"""The `finetune` stage of `method: nnunetv2`: the real package, in a process of its own, on our cases."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from uscl.errors import TrialError
from uscl.records import Drained, MetricPoint, Outcome, Progress
from uscl.stages.context import CURVES, StageContext, StageEvents, StageOutput
from uscl.stages.inputs import PackageInputs
from uscl.stages.loop import POINTS_PER_STAGE
from uscl.stages.nnunetv2.exchange import NEWS, OUT, RESULT, RESUME, STATE, STOP_LINE, Job, state_metadata
from uscl.stages.nnunetv2.labels import LabelScheme
from uscl.stages.nnunetv2.raw import environment, write_raw
from uscl.store.curves import encode_points

PACKAGE = "nnunetv2"
COMMAND = (sys.executable, "-m", "uscl.stages.nnunetv2.entry")
POLL_S = 0.2
STOP_WITHIN_S = 6.0
"""How long the process may take to save and end: Ray ends an actor 10 s after asking it to stop."""
LOG_TAIL_LINES = 20

log = logging.getLogger(__name__)


def train_package(context: StageContext) -> StageEvents:
    """Let nnU-Net plan, preprocess and train on the stage's cases; publishes its final network and its plans.

    The scratch folder goes when the stage ends, however it ends. A drained run goes on from its last epoch's end.
    DataError where classes overlap partly; TrialError, with the end of its log, where the process fails.
    """
    inputs = context.stage.inputs
    assert isinstance(inputs, PackageInputs)
    with tempfile.TemporaryDirectory(prefix="uscl-nnunet-") as folder:
        root = Path(folder)
        scheme = LabelScheme.of(inputs.classes, inputs.contains)
        cases = (context.dataset.case(name) for name in context.stage.data.cases)
        lost = write_raw(root, cases, scheme, longest_px=inputs.nnunet.longest_px)
        resumed_step = _prepare(root, inputs, context)
        process = NnunetProcess(root, threads=torch.get_num_threads(), saved_step=resumed_step)
        try:
            finished = yield from _watch(process, inputs, context)
        finally:
            process.end()
        return _output(root, inputs, context, lost=max(lost.values())) if finished else None


def _prepare(root: Path, inputs: PackageInputs, context: StageContext) -> int:
    """Write the job, and the newest resume point of any attempt; returns that point's step, or 0."""
    fit = context.fit
    job = Job(inputs, context.device.type, torch.get_num_threads(), fit.progress_every_s)
    job.write(root)
    point = fit.store.load_progress(fit.ref)
    if point is None:
        return 0
    (root / RESUME).write_bytes(point.files[STATE])
    return point.step


class NnunetProcess:
    """nnU-Net's process and its group: started, listened to, asked to stop, and ended."""

    def __init__(self, root: Path, *, threads: int, saved_step: int) -> None:
        self.root = root
        self.step, self.saved_step = 0, saved_step
        self.frames_per_s = 0.0
        self._read = 0
        self._log = (root / "log.txt").open("wb")
        self._process = subprocess.Popen(
            [*COMMAND, str(root)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment(root, os.environ, threads=threads),
            start_new_session=True,  # a group of its own, so that ending it takes its pool along
        )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def read_news(self) -> bool:
        """Take in what it told since the last call; whether it has saved a resume point."""
        path, saved = self.root / NEWS, False
        with path.open("rb") if path.exists() else open(os.devnull, "rb") as stream:  # noqa: PTH123
            stream.seek(self._read)
            lines = stream.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            news = json.loads(line)
            self.step = news.get("step", self.step)
            self.frames_per_s = news.get("frames_per_s", self.frames_per_s)
            self.saved_step = news.get("saved", self.saved_step)
            saved = saved or "saved" in news
        return saved

    def ask_to_stop(self) -> None:
        """Have it save and end; before it trains there is nothing to save."""
        if self.step == 0:
            self.end()
            return
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has just ended
            self._process.stdin.write(STOP_LINE)
            self._process.stdin.flush()

    def end(self) -> None:
        """End what is left of its group, by its own id, and close our ends."""
        if self._log.closed:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def tail(self) -> str:
        """The end of its log."""
        lines = (self.root / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def _watch(
    process: NnunetProcess, inputs: PackageInputs, context: StageContext
) -> Generator[Progress | Drained, None, bool]:
    """Follow the process to its end; False where it was drained."""
    fit = context.fit
    told, stop_at = fit.clock(), None
    while process.exit_code is None:
        time.sleep(POLL_S)
        if process.read_news():
            _keep(process, context)
        now = fit.clock()
        if stop_at is None and fit.stop_requested():
            process.ask_to_stop()
            stop_at = now + STOP_WITHIN_S
        elif stop_at is not None and now > stop_at:
            process.end()
        if stop_at is None and now - told >= fit.event_every_s:
            told = now
            yield _progress(process, inputs, context)
    if process.read_news():
        _keep(process, context)
    if (process.root / RESULT).exists() and _result(process.root)["outcome"] != "stopped":
        return True
    if stop_at is not None:
        yield Drained(fit.ref.kind, fit.ref.key, process.saved_step)
        return False
    tail = process.tail()
    last = next((line for line in reversed(tail.splitlines()) if line[:1].strip()), "it said nothing")
    raise TrialError(f"nnU-Net ended with exit code {process.exit_code}: {last}\n{tail}")


def _keep(process: NnunetProcess, context: StageContext) -> None:
    """Its newest resume point, into the store."""
    state = (process.root / STATE).read_bytes()
    step = int(state_metadata(state)["step"])
    context.fit.store.save_progress(context.fit.ref, attempt=context.fit.attempt, step=step, files={STATE: state})


def _progress(process: NnunetProcess, inputs: PackageInputs, context: StageContext) -> Progress:
    return Progress(
        kind=context.fit.ref.kind,
        key=context.fit.ref.key,
        step=process.step,
        steps=inputs.nnunet.steps,
        frames_per_s=process.frames_per_s,
        durable_step=process.saved_step,
    )


def _output(root: Path, inputs: PackageInputs, context: StageContext, *, lost: float) -> StageOutput:
    """What the process left, as the stage's output."""
    result = _result(root)
    curves = {CURVES: encode_points(curve(result["points"]))}
    metrics = {
        "finetune/labelled_cases": float(len(context.stage.data.cases)),
        "finetune/chosen_step": float(inputs.nnunet.steps),
        "finetune/batch": float(result["batch"]),
        "finetune/parameters": float(result["parameters"]),
        "finetune/relabelled_fraction": lost,
    }
    if result["outcome"] == "diverged":
        return StageOutput(Outcome.DIVERGED, curves, metrics, result["frames_per_s"])
    files = {path.name: path.read_bytes() for path in sorted((root / OUT).iterdir())}
    return StageOutput(Outcome.DONE, files | curves, metrics, result["frames_per_s"])


def curve(points: list[tuple[int, dict[str, float]]]) -> list[MetricPoint]:
    """At most about POINTS_PER_STAGE of the epochs' points, always the last, under `finetune/`."""
    stride = max(1, len(points) // POINTS_PER_STAGE)
    kept = [point for number, point in enumerate(reversed(points)) if number % stride == 0]
    return [
        MetricPoint(step, {f"finetune/{name}": value for name, value in values.items()})
        for step, values in reversed(kept)
    ]


def _result(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((root / RESULT).read_text(encoding="utf-8"))
    return document
