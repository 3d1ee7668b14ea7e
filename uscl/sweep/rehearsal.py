"""What `uscl sweep --dry-run` finds out: the cost of a start on this machine, and whether it can fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from uscl.errors import ClusterError
from uscl.records import STAGE_KINDS
from uscl.store.roots import open_files
from uscl.store.stages import StageStore
from uscl.sweep.estimate import Estimate, Need, estimate
from uscl.sweep.history import Cost, History, history_of
from uscl.sweep.outlook import cell_store
from uscl.sweep.preflight import Placement, local_gpus, place
from uscl.sweep.runner import RunOptions
from uscl.sweep.study import Study

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """An estimate, and the machine it is for."""

    estimate: Estimate
    placement: Placement
    device: str
    """The card's name, or `cpu`."""
    free_bytes: int | None
    """In the store; None where nobody can tell."""
    dataset_bytes: int
    """Of phantoms that are still to be built."""
    refusals: tuple[str, ...]
    """Why it cannot fit; empty where it can."""
    notes: tuple[str, ...]
    """What the reader should know of the figures."""

    @property
    def disk_bytes(self) -> float:
        """All that a start adds to the store at its fullest."""
        return self.estimate.disk_bytes + self.dataset_bytes

    @property
    def device_hours(self) -> float:
        """GPU-hours; where trials run on the CPU, hours of CPU cores."""
        on_gpu = self.placement.device == "cuda"
        share = self.placement.gpus_per_trial if on_gpu else self.placement.cpus_per_trial
        return self.estimate.seconds * share / 3600.0


def rehearse(study: Study, options: RunOptions, *, gpus: Callable[[], int] = local_gpus) -> Rehearsal:
    """Estimate a start on this machine; nothing is trained, and nothing written to the store."""
    notes: list[str] = []
    placement, refusals = _place(study, options, gpus() if study.resources.gpus_per_trial else 0)
    device = _device_name(placement)
    if options.address:
        known = options.workers or study.resources.workers
        counted = f"{placement.workers} workers" if known else f"as many workers as here ({placement.workers})"
        notes.append(f"the cluster at {options.address} is not asked: times are of this machine, with {counted}")

    def history() -> History:
        """Of the store, and with --no-share of the cells' own corners."""
        corners = dict.fromkeys(cell.planned.plan.namespace for cell in study.cells)
        own = [cell_store(study.store_root, cell.planned.plan) for cell in study.cells if cell.planned.plan.namespace]
        return history_of([StageStore(study.store_root), *own[: len(corners)]], STAGE_KINDS)

    def probe(needs: Sequence[Need]) -> Mapping[str, Cost]:
        """Imports torch only where something must be timed."""
        from uscl.sweep.probe import time_stages

        resources = study.resources
        return time_stages(
            needs, device=placement.device, cpus=placement.cpus_per_trial, amp=resources.amp, say=notes.append
        )

    found = estimate(study, history, probe, placement=placement, device=device)
    free = open_files(study.store_root).free_bytes()
    rehearsal = Rehearsal(found, placement, device, free, _unbuilt_bytes(study), (), tuple(dict.fromkeys(notes)))
    if free is not None and rehearsal.disk_bytes > free:
        refusals.append("the disk is too small")
    return replace(rehearsal, refusals=tuple(refusals))


def _unbuilt_bytes(study: Study) -> int:
    """Frames of the phantoms that are not there yet, a byte a pixel; noise hardly compresses."""
    total = 0
    for sweep in study.datasets:
        if sweep.spec.data == "phantom" and not sweep.dataset_path.exists():
            phantom = sweep.spec.phantom
            frames = phantom.clips_per_patient * phantom.frames_per_clip + phantom.labels_per_patient
            total += phantom.patients * frames * phantom.size**2
    return total


def _place(study: Study, options: RunOptions, gpus: int) -> tuple[Placement, list[str]]:
    """Who would run where, and why that cannot be: then as near to it as the machine can."""
    resources, cpus = study.resources, os.cpu_count() or 1
    try:
        return place(resources, workers=options.workers, gpus=gpus, cpus=cpus, require_gpu=options.require_gpu), []
    except ClusterError as error:
        on_gpu = bool(gpus) and resources.gpus_per_trial > 0
        share = min(resources.gpus_per_trial, gpus) if on_gpu else 0.0
        own_cpus = min(resources.cpus_per_trial, float(cpus))
        slots = int((gpus / share if on_gpu else cpus / own_cpus) + 1e-9)
        workers = min(options.workers or resources.workers or slots, slots) if on_gpu else options.workers or slots
        return Placement("cuda" if on_gpu else "cpu", share, own_cpus, workers, not on_gpu), [str(error)]


def _device_name(placement: Placement) -> str:
    if placement.device == "cpu":
        return "cpu"
    import torch  # here: only where there is a card

    return torch.cuda.get_device_name(0)
