"""One attempt at one cell, on whatever machine it runs: the order it is given, its events, its log. Knows no Ray.

Ray's workers and `uscl trial` both go through `work`, which is why they give the same bits.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from uscl.errors import StoreError
from uscl.records import (
    CellFinished,
    Drained,
    Failed,
    Progress,
    StagePublished,
    StageReused,
    TrialEvent,
)
from uscl.spec.phantom import PhantomSpec
from uscl.spec.trial import TrialSpec
from uscl.store.roots import read_file, store_root
from uscl.store.stages import StageStore
from uscl.sweep.failures import failure_of
from uscl.sweep.trial_log import open_log

RUN_TRIAL = "uscl.stages.run:run_trial"
"""The generator behind every trial, by name: the driver itself need not import torch. Tests name another."""

RUNNING, DRAINING = b"running\n", b"draining\n"
"""What a session file says. It is appended to, not replaced: NFS shows a reader that opens the file what its
writer has closed, while an absent or renamed file may stay cached for a minute."""

ASK_BUCKET_S = 1.0
"""Between two looks at a session file in a bucket: each is a request."""

SHOWN_METRICS = ("val/dsc", "test/dsc", "test/delta_snr")
"""Of a finished cell, in its log."""

LAST_EVENTS = (CellFinished, Drained, Failed)


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """All that an attempt needs to know; plain values, so that it travels as JSON."""

    number: int
    """Of the cell in its sweep."""
    cell: str
    spec: dict[str, Any]
    """TrialSpec as JSON."""
    store_root: str
    namespace: str
    dataset_path: str
    attempt: str
    present: tuple[str, ...]
    """Keys of stages that the driver saw in the store."""
    log_path: str
    session_path: str
    """File that says whether to go on; empty: always."""
    device: str
    cpus: float
    """torch's threads on a CPU."""
    amp: bool
    progress_every_s: float
    run_trial: str = RUN_TRIAL
    gpus: float = 0.0
    """Share of a GPU; below 1 it bounds the attempt's memory on it, which Ray does not."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Stage key -> its name in the cell (`evaluate/val`), for the log."""
    series: str = "trial"
    """What the log calls its number by; the sweep's name where several run as one."""
    parts: tuple[str, ...] = ("val", "test")
    """Splits to score; a cell of a search has no test score until it wins."""
    also: str = ""
    """What other sweeps call the cell, for the log's first line: `speckle 3`."""
    needs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What its node must have, as `Needs`; empty where the preflight has seen every node that there will be."""
    phantom: Mapping[str, Any] = field(default_factory=dict)
    """PhantomSpec as JSON, where the store is in a bucket and each machine builds its own; empty otherwise."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its inverse."""
        return asdict(self) | {"present": list(self.present), "parts": list(self.parts)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> TrialOrder:
        """Read what `to_json` wrote."""
        return cls(**document | {name: tuple(document[name]) for name in ("present", "parts")})


def work(order: TrialOrder) -> Iterator[TrialEvent]:
    """The events of one attempt; the last is CellFinished, Drained or Failed. An exception becomes Failed."""
    title = f"{order.series} {order.number}" + (f" = {order.also}" if order.also else "")
    head = f"{title} | cell {order.cell[:10]} | attempt {order.attempt} | {node_name()}"
    with open_log(order.log_path, head) as log:
        for event in _guarded(order):
            for line in log_lines(event, number=order.number, names=order.names, series=order.series):
                log.write(line)
            log.keep(last=isinstance(event, LAST_EVENTS))
            yield event
            if isinstance(event, LAST_EVENTS):
                return


def _guarded(order: TrialOrder) -> Iterator[TrialEvent]:
    try:
        yield from _started(order)
    except Exception as error:
        yield failure_of(error)
    else:
        yield Failed("error", "the trial ended without a result", "")


def _started(order: TrialOrder) -> Iterator[TrialEvent]:
    module, function = order.run_trial.split(":")
    run_trial = getattr(importlib.import_module(module), function)
    torch = sys.modules.get("torch")  # loaded by the line above, except where a test works without it
    if torch is not None:
        torch.set_num_threads(max(1, round(order.cpus)))
        if order.device == "cuda" and 0 < order.gpus < 1:
            torch.cuda.set_per_process_memory_fraction(order.gpus)
    store = StageStore(order.store_root)
    yield from run_trial(
        TrialSpec.model_validate(order.spec),
        store.scoped(order.namespace) if order.namespace else store,
        dataset=_dataset(order),
        device=order.device,
        attempt=order.attempt,
        stop_requested=stop_flag(order.session_path),
        present=frozenset(order.present),
        progress_every_s=order.progress_every_s,
        amp=order.amp,
        parts=order.parts,
    )


def _dataset(order: TrialOrder) -> Path:
    """The dataset's folder; a phantom that each machine keeps for itself is built where it is missing."""
    if not order.phantom or Path(order.dataset_path).exists():
        return Path(order.dataset_path)
    from uscl.data.phantom_cache import cached_phantom

    return cached_phantom(PhantomSpec(**order.phantom))


def stop_flag(session_path: str, *, clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Whether the attempt is to stop, by its session file; a file that has vanished means that the driver ended.

    A folder is asked at every call, a bucket once a second, and less often while it does not answer.
    """
    pause_s = 0.0 if not session_path or isinstance(store_root(session_path), Path) else ASK_BUCKET_S
    stopping, next_s = False, 0.0

    def stop_requested() -> bool:
        """Read anew, unless it was a moment ago."""
        nonlocal stopping, next_s
        if stopping or clock() < next_s:
            return stopping
        next_s = clock() + pause_s
        try:
            said = read_file(session_path, patience_s=0.0)
            stopping = said is None or DRAINING in said
        except StoreError:  # a hiccup of the file system or the network is no order to stop
            next_s = clock() + 10 * pause_s
        return stopping

    return stop_requested if session_path else lambda: False


def node_name() -> str:
    """Where this process works: host (or USCL_NODE_NAME) and, where it was given one, GPU."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    host = os.environ.get("USCL_NODE_NAME") or socket.gethostname()
    return f"{host} gpu {gpu}" if gpu else host


# ---- lines of the attempt's log


def log_lines(
    event: TrialEvent, *, number: int, names: Mapping[str, str] = MappingProxyType({}), series: str = "trial"
) -> list[str]:
    """An event as lines of a log: `trial 17 | decoder | step 300/1000 | loss 2.41 (chance 2.40) | 2120 frames/s`.

    `names`: stage key -> name, which tells the two evaluations apart; without it a stage is called by its kind.
    `series`: what the number counts in, where several sweeps run as one (`temporal 17 | ...`).
    """
    if isinstance(event, Failed):
        traced = event.traceback.rstrip().splitlines()
        return [*traced, f"{series} {number} | failed ({event.failure}) | {event.message}"]
    name = "" if isinstance(event, CellFinished) else names.get(event.key, event.kind).replace("/", " ")
    return [f"{series} {number} | {_said(event, name)}"]


def resumes(event: TrialEvent) -> bool:
    """Whether a stage has been taken up again from a progress point: it has steps, and this attempt made none."""
    return isinstance(event, Progress) and event.step == event.durable_step > 0 and event.frames_per_s == 0


def _said(event: TrialEvent, name: str) -> str:
    match event:
        case Progress() if resumes(event):
            return f"{name} | resumed at step {event.step}/{event.steps}"
        case Progress():
            parts = [
                name,
                f"step {event.step}/{event.steps}",
                *_loss(event),
                f"{event.frames_per_s:.0f} frames/s",
            ]
            return " | ".join(parts)
        case StageReused():
            return f"{name} | reused {event.key[:10]}"
        case StagePublished():
            flags = "".join(f" | {flag}" for flag in event.flags)
            return f"{name} | {event.outcome} in {event.seconds:.1f} s | {event.key[:10]}{flags}"
        case Drained():
            return f"{name} | stopped at step {event.step}, progress saved"
        case CellFinished():
            metrics = event.result.metrics
            shown = [f"{name} {metrics[name]:.3f}" for name in SHOWN_METRICS if name in metrics]
            return " | ".join(["finished", str(event.result.outcome), *shown])
        case Failed():
            return f"failed ({event.failure}) | {event.message}"


def _loss(event: Progress) -> list[str]:
    loss = event.values.get(f"{event.kind}/loss")
    if loss is None:
        return []
    ratio = event.values.get(f"{event.kind}/loss_over_chance")
    chance = event.values.get(f"{event.kind}/chance", loss / ratio if ratio else None)
    return [f"loss {loss:.3g}" + (f" (chance {chance:.3g})" if chance is not None else "")]
