"""What the store holds of a plan, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from uscl.records import CellPlan, Outcome, StageRef
from uscl.store.roots import StoreRoot, ask_all
from uscl.store.stages import StageStore
from uscl.sweep.plan import PlannedCell, SweepPlan
from uscl.sweep.queue import QueueCell


@dataclass(frozen=True, slots=True)
class CellOutlook:
    """What a run would do for one cell: stage names it finds, and those it has to train or evaluate."""

    cell: str
    reused: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do (evaluated, or diverged)."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Survey:
    """Links of a plan that the store holds, and those of them that diverged."""

    present: frozenset[str]
    diverged: frozenset[str]


def link(plan: CellPlan, ref: StageRef) -> str:
    """The name of one stage output of a cell; equal for all cells that share it."""
    return f"{plan.namespace}/{ref.kind}/{ref.key}"


def cell_store(store_root: StoreRoot, plan: CellPlan) -> StageStore:
    """The store that a cell reads and writes."""
    store = StageStore(store_root)
    return store.scoped(plan.namespace) if plan.namespace else store


def survey(cells: Iterable[PlannedCell], store_root: StoreRoot) -> Survey:
    """Which stages have a manifest, each looked up once."""
    return survey_of((planned.plan for planned in cells), store_root)


def survey_of(cells: Iterable[CellPlan], store_root: StoreRoot) -> Survey:
    """As `survey`, of cells as a sweep's folder knows them."""
    wanted: dict[str, tuple[CellPlan, StageRef]] = {}
    for plan in cells:
        for ref in plan.stages.values():
            wanted.setdefault(link(plan, ref), (plan, ref))

    def outcome(asked: tuple[CellPlan, StageRef]) -> Outcome | None:
        """Of one stage; None where it is not there."""
        manifest = cell_store(store_root, asked[0]).manifest(asked[1])
        return manifest.outcome if manifest else None

    outcomes = dict(zip(wanted, ask_all(store_root, outcome, wanted.values()), strict=True))
    return Survey(
        present=frozenset(name for name, outcome in outcomes.items() if outcome is not None),
        diverged=frozenset(name for name, outcome in outcomes.items() if outcome is Outcome.DIVERGED),
    )


def outlook(plan: CellPlan, found: Survey) -> CellOutlook:
    """What of one cell is done; found from the end of the chain, as a stage reads its direct parent only."""
    missing = [name for name in plan.stages if name.startswith("evaluate") and not _has(plan, name, found)]
    trained = [name for name in plan.stages if not name.startswith("evaluate")]
    for name in reversed(trained) if missing else ():
        if _has(plan, name, found):
            if link(plan, plan.stages[name]) in found.diverged:
                missing = []
            break
        missing.insert(0, name)
    return CellOutlook(plan.cell, tuple(name for name in plan.stages if _has(plan, name, found)), tuple(missing))


def _has(plan: CellPlan, name: str, found: Survey) -> bool:
    return link(plan, plan.stages[name]) in found.present


def to_do(plan: SweepPlan) -> tuple[CellOutlook, ...]:
    """The outlook of every cell of a plan against its store as it is now."""
    found = survey(plan.cells, plan.store_root)
    return tuple(outlook(planned.plan, found) for planned in plan.cells)


def queue_cells(cells: Sequence[PlannedCell]) -> list[QueueCell]:
    """The cells as the queue wants them; seed blocks are numbered as they first occur; a proposal is a block."""
    blocks: dict[Any, int] = {}
    queued = []
    for planned in cells:
        plan, spec = planned.plan, planned.spec
        seeds = (spec.seed.pretrain, spec.seed.finetune, spec.labels.draw)
        block = blocks.setdefault(seeds, len(blocks)) if plan.proposal is None else plan.proposal
        links = {name: link(plan, ref) for name, ref in plan.stages.items()}
        trained = tuple(value for name, value in links.items() if not name.startswith("evaluate"))
        evaluated = tuple(value for name, value in links.items() if name.startswith("evaluate"))
        queued.append(QueueCell(plan.cell, block, trained, evaluated))
    return queued
