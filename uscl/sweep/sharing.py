"""What one trained output serving several cells has saved, in runs and in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from uscl.records import CellPlan, StageRef
from uscl.sweep.outlook import Survey, cell_store, link, outlook, survey_of
from uscl.sweep.plan import SweepPlan


@dataclass(frozen=True, slots=True)
class Sharing:
    """What one trained output serving several cells has saved."""

    distinct: Mapping[str, int]
    """Stage kind -> distinct outputs of the sweeps in the store."""
    saved_runs: int
    saved_seconds: float


def sharing(*plans: SweepPlan) -> Sharing:
    """Stage runs and seconds that the finished cells did not have to spend: seconds x (uses - 1), over all stages.

    Several sweeps, of one store, are counted together: a cell that two of them have is used twice.
    """
    cells, store_root = [planned.plan for plan in plans for planned in plan.cells], plans[0].store_root
    return sharing_of(cells, store_root, survey_of(cells, store_root))


def sharing_of(cells: Iterable[CellPlan], store_root: Path, found: Survey) -> Sharing:
    """As `sharing`, of cells as a sweep's folder knows them; `found`: what the store holds of them."""
    uses: dict[str, list[tuple[CellPlan, StageRef]]] = {}
    for plan in (plan for plan in cells if outlook(plan, found).finished):
        for ref in plan.stages.values():
            uses.setdefault(link(plan, ref), []).append((plan, ref))
    distinct: dict[str, int] = {}
    saved_runs, saved_seconds = 0, 0.0
    for users in uses.values():
        plan, ref = users[0]
        manifest = cell_store(store_root, plan).manifest(ref)
        if manifest is None:
            continue
        distinct[ref.kind] = distinct.get(ref.kind, 0) + 1
        saved_runs += len(users) - 1
        saved_seconds += float(manifest.provenance.get("seconds", 0.0)) * (len(users) - 1)
    return Sharing(distinct, saved_runs, saved_seconds)
