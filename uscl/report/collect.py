"""What the store holds of each cell of a sweep: the manifests of its chain, and its result where it has one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from uscl.records import CellPlan, CellResult, Outcome, StageManifest
from uscl.store.roots import ask_all
from uscl.store.stages import StageStore


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One cell as the store knows it."""

    plan: CellPlan
    manifests: Mapping[str, StageManifest]
    """Published stages by their name in the chain (`encoder`, ..., `evaluate/test`), in the chain's order."""
    result: CellResult | None
    """None while an evaluation is missing and nothing diverged."""


def collect(store: StageStore, cells: Iterable[CellPlan]) -> dict[str, CellRecord]:
    """The record of every cell, by cell id. Reads manifests only; no file of a stage is opened."""
    wanted = {cell.cell: cell for cell in cells}
    found = ask_all(store.root, lambda cell: collect_cell(store, cell), wanted.values())
    return dict(zip(wanted, found, strict=True))


def collect_cell(store: StageStore, cell: CellPlan) -> CellRecord:
    """The record of one cell, read in its own namespace of the store."""
    scoped = store.scoped(cell.namespace)
    found = {name: scoped.manifest(ref) for name, ref in cell.stages.items()}
    manifests = {name: manifest for name, manifest in found.items() if manifest is not None}
    return CellRecord(cell, manifests, cell_result(cell, manifests))


def cell_result(cell: CellPlan, manifests: Mapping[str, StageManifest]) -> CellResult | None:
    """The result that the published stages of a chain amount to, or None while one is missing.

    A diverged stage finishes the cell as DIVERGED, whatever else is there. Flags are those of all stages.
    """
    flags = tuple(dict.fromkeys(flag for manifest in manifests.values() for flag in manifest.flags))
    metrics = {
        name: float(value)
        for stage, manifest in manifests.items()
        if stage.startswith("evaluate")
        for name, value in manifest.metrics.items()
    }
    if any(manifest.outcome is Outcome.DIVERGED for manifest in manifests.values()):
        return CellResult(cell.cell, Outcome.DIVERGED, metrics, flags)
    evaluations = [stage for stage in cell.stages if stage.startswith("evaluate")]
    if not evaluations or any(stage not in manifests for stage in evaluations):
        return None
    return CellResult(cell.cell, Outcome.DONE, metrics, flags)
