"""run_trial: the stages of one cell, from the store where they are, trained and published where they are not."""

from __future__ import annotations

import logging
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from uscl.data.dataset import Dataset, open_dataset
from uscl.errors import TrialError
from uscl.records import (
    CellFinished,
    CellResult,
    Outcome,
    ParentRef,
    StageManifest,
    StagePublished,
    StageRef,
    StageReused,
    TrialEvent,
)
from uscl.spec.trial import TrialSpec
from uscl.stages.canonical import canonical
from uscl.stages.context import WEIGHTS, StageContext, StageEvents, StageFunction, StageOutput
from uscl.stages.decoder import train_decoder
from uscl.stages.encoder import train_encoder
from uscl.stages.evaluate import evaluate
from uscl.stages.finetune import train_finetune
from uscl.stages.inputs import NnunetInputs, PackageInputs, PixelInputs
from uscl.stages.keys import EVALUATED_PARTS, STAGE_VERSION, Chain, Stage, chain
from uscl.stages.loop import FitContext, amp_dtype, unpack_tensors
from uscl.stages.nnunet import train_nnunet2d
from uscl.stages.nnunetv2.stage import PACKAGE, train_package
from uscl.stages.pixels import train_pixels
from uscl.store.stages import StageStore, TornStage


def _second(context: StageContext) -> StageEvents:
    """What stands between encoder and fine-tuning: local contrast of clips, or contrast of labelled pixels."""
    if isinstance(context.stage.inputs, PixelInputs):
        return train_pixels(context)
    return train_decoder(context)


def _supervised(context: StageContext) -> StageEvents:
    """Training on labels: fine-tuning, nnU-Net's recipe in our loop, or the real package."""
    inputs = context.stage.inputs
    if isinstance(inputs, PackageInputs):
        return train_package(context)
    if isinstance(inputs, NnunetInputs):
        return train_nnunet2d(context)
    return train_finetune(context)


STAGES: Mapping[str, StageFunction] = {
    "encoder": train_encoder,
    "decoder": _second,
    "finetune": _supervised,
    "evaluate": evaluate,
}
"""The function behind each kind of stage; tests hand `run_trial` others."""

VISIBLE_WITHIN_S = 60.0
"""How long a stage that the driver believes present may stay invisible here: NFS caches absence."""
REBUILDS = 3
"""How often one trial starts over because a stage it needed did not match its manifest."""

log = logging.getLogger(__name__)


def run_trial(
    spec: TrialSpec,
    store: StageStore,
    *,
    dataset: Path,
    device: str,
    attempt: str,
    stop_requested: Callable[[], bool],
    present: frozenset[str] = frozenset(),
    progress_every_s: float = 60.0,
    event_every_s: float = 2.0,
    amp: bool = True,
    parts: Collection[str] = tuple(EVALUATED_PARTS),
    stages: Mapping[str, StageFunction] = STAGES,
) -> Iterator[TrialEvent]:
    """Run what is missing of a cell and yield what happens; the last event is CellFinished or Drained.

    `present` names keys of stages that the driver saw in the store: they are waited for, never rebuilt here
    (TrialError "store not shared"). `parts` are the splits to score, `val` and `test`. DataError where the dataset
    cannot be opened. Other exceptions are bugs.
    """
    opened = open_dataset(dataset)
    links = chain(spec, opened.index).scored_on(parts)
    _await_present(links, store, present)

    def context_of(stage: Stage) -> StageContext:
        fit = FitContext(
            ref=stage.ref, store=store, attempt=attempt, device=torch.device(device), amp=amp,
            stop_requested=stop_requested, progress_every_s=progress_every_s, event_every_s=event_every_s,
        )  # fmt: skip
        return _context(stage, store=store, dataset=opened, fit=fit)

    for rebuild in range(REBUILDS + 1):
        try:
            yield from _run_chain(links, store, context_of=context_of, stages=stages)
            return
        except TornStage:  # the store has said which, and why
            if rebuild == REBUILDS:
                raise
            log.warning("rebuilding the torn stage")


def missing_stages(links: Chain, store: StageStore) -> list[Stage]:
    """The stages that must run for the cell to be finished, in order; empty where it is, or where it diverged.

    A child reads only its direct parent, so the chain is searched from its end backwards: a stage nobody still
    needs is not missing.
    """
    if diverged_stage(links, store):
        return []
    by_ref = {stage.ref: stage for stage in links.stages}
    needed = [stage for stage in links.stages if stage.kind == "evaluate" and not store.has(stage.ref)]
    missing: list[Stage] = []
    while needed:
        missing = [stage for stage in needed if stage not in missing] + missing
        parents = dict.fromkeys(stage.parent for stage in needed if stage.parent)
        needed = [by_ref[ref] for ref in parents if not store.has(ref)]
    return missing


def diverged_stage(links: Chain, store: StageStore) -> StageManifest | None:
    """The manifest of the chain's first diverged stage, if any."""
    for stage in links.stages:
        manifest = store.manifest(stage.ref)
        if manifest and manifest.outcome is Outcome.DIVERGED:
            return manifest
    return None


def cell_result(links: Chain, store: StageStore) -> CellResult | None:
    """The cell's result from the store, or None where it is not finished."""
    if missing_stages(links, store):
        return None
    manifests = [manifest for stage in links.stages if (manifest := store.manifest(stage.ref))]
    diverged = any(manifest.outcome is Outcome.DIVERGED for manifest in manifests)
    metrics = {name: value for each in manifests if each.kind == "evaluate" for name, value in each.metrics.items()}
    flags = tuple(dict.fromkeys(flag for manifest in manifests for flag in manifest.flags))
    outcome = Outcome.DIVERGED if diverged else Outcome.DONE
    return CellResult(cell=links.cell, outcome=outcome, metrics=metrics, flags=flags)


def _run_chain(
    links: Chain,
    store: StageStore,
    *,
    context_of: Callable[[Stage], StageContext],
    stages: Mapping[str, StageFunction],
) -> Iterator[TrialEvent]:
    missing = missing_stages(links, store)
    for stage in links.stages:
        if stage not in missing and store.has(stage.ref):
            yield StageReused(stage.kind, stage.key)
    for stage in missing:
        if diverged_stage(links, store):
            break
        finished = yield from _run_stage(stage, store, context_of=context_of, stages=stages)
        if not finished:
            return
    result = cell_result(links, store)
    if result is None:
        raise TrialError(f"cell {links.cell[:10]}: a stage vanished from the store while the trial ran; start again")
    yield CellFinished(result)


def _run_stage(
    stage: Stage,
    store: StageStore,
    *,
    context_of: Callable[[Stage], StageContext],
    stages: Mapping[str, StageFunction],
) -> Generator[TrialEvent, None, bool]:
    """Train and publish one stage; False where it was drained."""
    if store.has(stage.ref):  # another trial was faster
        yield StageReused(stage.kind, stage.key)
        return True
    started = time.monotonic()
    context = context_of(stage)
    output = yield from stages[stage.kind](context)
    if output is None:
        return False
    seconds = time.monotonic() - started
    won = _publish(stage, output, context=context, seconds=seconds)
    if won:
        yield StagePublished(stage.kind, stage.key, output.outcome, seconds, output.flags)
    else:
        yield StageReused(stage.kind, stage.key)
    return True


def _publish(stage: Stage, output: StageOutput, *, context: StageContext, seconds: float) -> bool:
    """Publish an output; whether this attempt won."""
    store, attempt = context.fit.store, context.fit.attempt
    manifest = store.publish(
        stage.ref,
        attempt=attempt,
        files=output.files,
        outcome=output.outcome,
        inputs=canonical(stage.inputs),
        parent=_parent_ref(stage.parent, store),
        metrics=output.metrics,
        flags=output.flags,
        provenance=_provenance(context, seconds=seconds, frames_per_s=output.frames_per_s),
    )
    store.clear_progress(stage.ref, attempt=attempt)
    return manifest.attempt == attempt


def _context(stage: Stage, *, store: StageStore, dataset: Dataset, fit: FitContext) -> StageContext:
    parent = stage.parent
    if parent is None:
        return StageContext(stage=stage, dataset=dataset, parent_weights={}, fit=fit)
    weights = unpack_tensors(store.read(parent, WEIGHTS), torch.device("cpu"))
    return StageContext(
        stage=stage,
        dataset=dataset,
        parent_weights=weights,
        fit=fit,
        parent_file=lambda name: store.read(parent, name),
    )


def _parent_ref(parent: StageRef | None, store: StageStore) -> ParentRef | None:
    manifest = store.manifest(parent) if parent else None
    if manifest is None:
        return None
    return ParentRef(manifest.kind, manifest.key, manifest.attempt, manifest.files.get(WEIGHTS, ""))


def _await_present(links: Chain, store: StageStore, present: frozenset[str]) -> None:
    """Wait for the stages that the driver saw; TrialError where this machine never does."""
    deadline = time.monotonic() + VISIBLE_WITHIN_S
    believed = [stage.ref for stage in links.stages if stage.key in present]
    while invisible := [ref for ref in believed if not store.has(ref)]:
        if time.monotonic() > deadline:
            raise TrialError(
                f"store not shared: the driver sees stage {invisible[0]}, {socket.gethostname()} does not see it in "
                f"{store.root} after {VISIBLE_WITHIN_S:.0f} s; every node must mount the same --store"
            )
        time.sleep(0.2)


def _provenance(context: StageContext, *, seconds: float, frames_per_s: float) -> dict[str, Any]:
    device = context.device
    package = getattr(context.stage.inputs, "engine", "") == PACKAGE
    dtype = amp_dtype(device) if context.fit.amp else None
    if package and device.type == "cuda":
        dtype = torch.float16  # its own autocast, whatever the card
    return {
        **_versions(),
        "stage_version": STAGE_VERSION[context.stage.kind],
        **({PACKAGE: metadata.version(PACKAGE)} if package else {}),
        "seconds": round(seconds, 3),
        "frames_per_s": round(frames_per_s, 1),
        "device": device_name(device),
        "precision": str(dtype).removeprefix("torch.") if dtype else "float32",
        "host": socket.gethostname(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_clips": len(context.stage.data.clips),
        "num_cases": len(context.stage.data.cases),
        "dataset": context.dataset.name,
        "dataset_fingerprint": context.dataset.index.fingerprint,
    }


def device_name(device: torch.device) -> str:
    """The card's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def _versions() -> Mapping[str, str]:
    return {
        "uscl": metadata.version("uscl"),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
        "git": _git_revision(),
    }


def _git_revision() -> str:
    """Revision of the checkout this code runs from, with `+` where it was changed; empty for an installed package."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():  # installed: a repository further up would be somebody else's
        return ""
    try:
        run = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(run, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
