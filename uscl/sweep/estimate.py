"""What a start would cost: stages by kind, GPU-hours, the end, the disk. Trains nothing; imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from uscl.errors import StoreError
from uscl.records import STAGE_KINDS, CellFinished, Drained, Failed
from uscl.stages.canonical import canonical
from uscl.stages.keys import Stage
from uscl.store.stages import GENERATIONS
from uscl.sweep.folders import folder_of
from uscl.sweep.history import Cost, History
from uscl.sweep.outlook import CellOutlook, link, outlook, survey
from uscl.sweep.plan import PlannedCell, SweepPlan
from uscl.sweep.preflight import Placement
from uscl.sweep.study import Study
from uscl.sweep.workload import Workload, workload

PROGRESS_FACTOR = 4
"""A resume point holds the weights, Adam's two moments and the best step's weights; the output is mostly weights."""
_LAST = (CellFinished.__name__, Drained.__name__, Failed.__name__)


@dataclass(frozen=True, slots=True)
class Need:
    """One distinct stage output that a start would train or evaluate."""

    link: str
    stage: Stage
    planned: PlannedCell
    """The first cell that needs it."""
    sweep: SweepPlan
    """A sweep that has this cell."""
    work: Workload | None


Probe = Callable[[Sequence[Need]], Mapping[str, Cost]]
"""Times what has no history: costs per unit of work, by `Workload.shape`; what it cannot time is left out."""


@dataclass(frozen=True, slots=True)
class KindCount:
    """Distinct stage outputs of one kind."""

    kind: str
    cached: int
    failed: int
    """Those at which the last attempt of a cell failed."""
    new: int
    seconds: float = 0.0
    unknown: int = 0
    """Of failed and new: those whose time nobody can tell."""

    @property
    def distinct(self) -> int:
        """All of them."""
        return self.cached + self.failed + self.new


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a start would do and cost. Seconds and bytes leave out what is unknown; `unknown` counts it."""

    finished: int
    failed: int
    new: int
    kinds: tuple[KindCount, ...]
    seconds: float
    """Of one slot after the other."""
    chain_seconds: float
    """Of the cell that has most to train: no number of workers makes it shorter."""
    unknown: int
    bases: Mapping[str, int] = field(default_factory=dict)
    """Where the seconds come from -> stages."""
    output_bytes: float = 0.0
    progress_bytes: float = 0.0
    """Resume points of as many trials as run at once."""

    def wall_seconds(self, workers: int) -> float:
        """From the first trial to the last: the work over the workers, and no less than the longest chain."""
        return max(self.seconds / workers, self.chain_seconds)

    def bound_by_chain(self, workers: int) -> bool:
        """Whether more workers would not end it sooner."""
        return self.chain_seconds >= self.seconds / workers

    @property
    def disk_bytes(self) -> float:
        """Outputs and resume points."""
        return self.output_bytes + self.progress_bytes


def estimate(
    study: Study, history: Callable[[], History], probe: Probe, *, placement: Placement, device: str
) -> Estimate:
    """The cost of what is missing of a study, by what the store's stages took on this device, or by a probe.

    `history` and `probe` are called where something is missing, and where history does not know it.
    """
    found = survey([cell.planned for cell in study.cells], study.store_root)
    outlooks = {cell.key: outlook(cell.planned.plan, found) for cell in study.cells}
    needs = _needs(study, outlooks)
    costs = _costs(list(needs.values()), history, probe, device=device)
    failed = _failed_cells(study) & {key for key, stands in outlooks.items() if not stands.finished}
    at = {_first_missing(study, key, outlooks[key]) for key in failed}
    chains = [_chain_seconds(study, key, stands, costs) for key, stands in outlooks.items()]
    finished = sum(stands.finished for stands in outlooks.values())
    sizes = {name: cost.num_bytes or 0.0 for name, cost in costs.items()}
    largest = max((size for name, size in sizes.items() if needs[name].stage.kind != "evaluate"), default=0.0)
    return Estimate(
        finished=finished,
        failed=len(failed),
        new=len(outlooks) - finished - len(failed),
        kinds=_kinds(study, found.present, needs, at, costs),
        seconds=sum(cost.seconds for cost in costs.values()),
        chain_seconds=max(chains, default=0.0),
        unknown=len(needs) - len(costs),
        bases=dict(Counter(cost.basis for cost in costs.values())),
        output_bytes=sum(sizes.values()),
        # one more than is kept: the oldest goes when the newest is whole
        progress_bytes=(GENERATIONS + 1) * PROGRESS_FACTOR * largest * min(placement.workers, len(needs)),
    )


def _needs(study: Study, outlooks: Mapping[str, CellOutlook]) -> dict[str, Need]:
    needs: dict[str, Need] = {}
    for cell in study.cells:
        for name in outlooks[cell.key].missing:
            stage = cell.planned.chain.stage(name)
            where = link(cell.planned.plan, stage.ref)
            if where not in needs:
                work = workload(stage.kind, canonical(stage.inputs), num_cases=len(stage.data.cases))
                sweep = next(plan for plan in study.plans if plan.identity in cell.declared)
                needs[where] = Need(where, stage, cell.planned, sweep, work)
    return needs


def _costs(needs: Sequence[Need], history: Callable[[], History], probe: Probe, *, device: str) -> dict[str, Cost]:
    """By link; what is neither in history nor probed is left out."""
    known = history() if needs else History(())
    costs: dict[str, Cost] = {}
    unknown = []
    for need in needs:
        cost = known.cost(need.work, device) if need.work else None
        if cost is None:
            unknown.append(need)
        else:
            costs[need.link] = cost
    timed = probe(unknown) if unknown else {}
    for need in unknown:
        if need.work is None:
            continue
        per_unit = timed.get(need.work.shape)
        if per_unit is not None:
            costs[need.link] = Cost(per_unit.seconds * need.work.units, per_unit.num_bytes, per_unit.basis)
        elif (elsewhere := known.cost_elsewhere(need.work)) is not None:
            costs[need.link] = elsewhere
    return costs


def _first_missing(study: Study, key: str, stands: CellOutlook) -> str:
    plan = study.cell(key).planned.plan
    return link(plan, plan.stages[stands.missing[0]])


def _chain_seconds(study: Study, key: str, stands: CellOutlook, costs: Mapping[str, Cost]) -> float:
    """Seconds of a cell's missing stages, one after the other."""
    plan = study.cell(key).planned.plan
    links = [link(plan, plan.stages[name]) for name in stands.missing]
    return sum(costs[name].seconds for name in links if name in costs)


def _kinds(
    study: Study, present: frozenset[str], needs: Mapping[str, Need], failed_at: set[str], costs: Mapping[str, Cost]
) -> tuple[KindCount, ...]:
    """Stages by kind. One that is not there, and that no cell needs any more, is not counted."""
    cached: dict[str, set[str]] = {}
    for cell in study.cells:
        for ref in cell.planned.plan.stages.values():
            if link(cell.planned.plan, ref) in present:
                cached.setdefault(ref.kind, set()).add(link(cell.planned.plan, ref))
    counts = []
    for kind in STAGE_KINDS:
        links = [name for name, need in needs.items() if need.stage.kind == kind]
        failed = sum(name in failed_at for name in links)
        seconds = sum(costs[name].seconds for name in links if name in costs)
        unknown = sum(name not in costs for name in links)
        count = KindCount(kind, len(cached.get(kind, ())), failed, len(links) - failed, seconds, unknown)
        counts += [count] if count.distinct else []
    return tuple(counts)


def _failed_cells(study: Study) -> set[str]:
    """Keys of the cells whose last attempt failed, by the history of their sweeps."""
    failed: set[str] = set()
    for plan in study.plans:
        last: dict[str, str] = {}
        for record in _events(plan):
            if record.get("event") in _LAST:
                last[str(record.get("cell"))] = str(record["event"])
        keys = {cell.declared[plan.identity].cell: cell.key for cell in study.cells_of(plan)}
        failed |= {keys[cell] for cell, event in last.items() if event == Failed.__name__ and cell in keys}
    return failed


def _events(plan: SweepPlan) -> list[dict[str, Any]]:
    try:
        return folder_of(plan).read_events()
    except StoreError:  # a history that cannot be read costs a word, not the estimate
        return []
