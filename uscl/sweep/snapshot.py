"""A stored sweep, read once: its cells, outputs, attempts and live trials, and the state of each cell. Imports no Ray.

Neither the sweep file nor the dataset is needed, so any machine that sees the store can look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uscl.records import CellPlan, StageManifest
from uscl.store.lease import Holder
from uscl.store.roots import StoreRoot
from uscl.store.sweeps import SweepFolder
from uscl.sweep.attempts import Attempt, attempts, last_of, stage_at_end
from uscl.sweep.failures import policy_of
from uscl.sweep.live import LiveTrial
from uscl.sweep.outlook import Survey, cell_store, link, outlook

STATES = ("finished", "running", "waiting", "failed", "held")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that folder and store say of a sweep, read once."""

    sweep: str
    store_root: StoreRoot
    cells: tuple[CellPlan, ...]
    manifests: Mapping[str, StageManifest]
    """Published stages, by link."""
    attempts: tuple[Attempt, ...]
    driver: Holder | None
    stopping: str
    """Who has asked the driver to stop, with `uscl stop`; empty where nobody has."""
    live: Mapping[str, LiveTrial]
    """Cell -> its trial under way; empty without a driver."""
    workers: int | None
    """Trials at once of the driver that runs."""
    resources: Mapping[str, Any]

    @property
    def found(self) -> Survey:
        """What the store holds of the cells."""
        diverged = frozenset(name for name, manifest in self.manifests.items() if manifest.outcome == "diverged")
        return Survey(frozenset(self.manifests), diverged)

    def number(self, cell: str) -> int | None:
        """Of a cell that the sweep still declares."""
        return next((plan.number for plan in self.cells if plan.cell == cell), None)


def look(folder: SweepFolder, store_root: StoreRoot) -> Snapshot:
    """Read a sweep from its folder and store. StoreError where it has not run yet."""
    cells = folder.read_cells()
    driver, asked = folder.driver(), folder.stop_request()
    live = (folder.read_live() or {}) if driver else {}
    manifests: dict[str, StageManifest] = {}
    for plan in cells:
        store = cell_store(store_root, plan)
        for ref in plan.stages.values():
            name = link(plan, ref)
            manifest = None if name in manifests else store.manifest(ref)
            if manifest is not None:
                manifests[name] = manifest
    return Snapshot(
        sweep=folder.identity,
        store_root=store_root,
        cells=cells,
        manifests=manifests,
        attempts=tuple(attempts(folder.read_events())),
        driver=driver,
        stopping=asked.by if driver and asked and asked.meant_for(driver) else "",
        live=_trials(live),
        workers=live.get("workers"),
        resources=(folder.read_sweep() or {}).get("resources") or {},
    )


def _trials(live: Mapping[str, Any]) -> dict[str, LiveTrial]:
    try:
        return {trial["cell"]: LiveTrial(**trial) for trial in live.get("trials", ())}
    except (TypeError, KeyError):  # of another release
        return {}


def cell_states(snapshot: Snapshot) -> dict[str, str]:
    """Cell -> one of STATES. A failed cell is one whose last attempt failed; held is what needs a stage that failed."""
    found, last, broken = snapshot.found, last_of(snapshot.attempts), failed_stages(snapshot)
    states = {}
    for plan in snapshot.cells:
        here = outlook(plan, found)
        attempt = last.get(plan.cell)
        if here.finished:
            states[plan.cell] = "finished"
        elif plan.cell in snapshot.live:
            states[plan.cell] = "running"
        elif attempt is not None and attempt.end == "failed":
            states[plan.cell] = "failed"
        else:
            held = any(link(plan, plan.stages[name]) in broken for name in here.missing)
            states[plan.cell] = "held" if held else "waiting"
    return states


def failed_stages(snapshot: Snapshot) -> dict[str, Attempt]:
    """Link -> the last attempt that failed at it, of stages whose failures hold back every cell that needs them."""
    plans = {plan.cell: plan for plan in snapshot.cells}
    last = last_of(snapshot.attempts)
    failures: dict[str, list[Attempt]] = {}
    for attempt in snapshot.attempts:
        plan = plans.get(attempt.cell)
        if plan is not None and attempt.end == "failed":
            name = link(plan, plan.stages[stage_at_end(attempt, plan)])
            if name not in snapshot.manifests:
                failures.setdefault(name, []).append(attempt)
    return {
        name: failed[-1]
        for name, failed in failures.items()
        if last[failed[-1].cell] is failed[-1] and 0 < policy_of(failed[-1].failure).deaths <= len(failed)
    }
