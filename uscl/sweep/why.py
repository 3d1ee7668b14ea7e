"""What happened to one cell of a stored sweep, attempt by attempt, and why it stands where it does. Imports no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uscl.records import CellPlan, StageManifest
from uscl.store.sweeps import SweepFolder
from uscl.sweep.attempts import Attempt, attempts, stage_at_end
from uscl.sweep.outlook import link, outlook
from uscl.sweep.snapshot import Snapshot, cell_states, failed_stages


@dataclass(frozen=True, slots=True)
class StageOrigin:
    """Where a stage of the cell stands, and who made it."""

    stage: str
    """Name in the chain."""
    key: str
    state: str
    """`done`, `diverged` or `missing`."""
    maker: str = ""
    """`this cell`, `cell 4`, `cell 2 of baselines`; `unknown` where no sweep of the store has it on record."""
    attempt: str = ""
    host: str = ""
    finished: str = ""
    """ISO time."""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """One attempt at the cell."""

    attempt: str
    node: str
    started_s: float
    ended_s: float | None
    """Unix time of its last record; None while it runs."""
    reused: tuple[str, ...]
    trained: tuple[str, ...]
    end: str
    """`finished`, `diverged`, `drained`, `failed`, `running`, or `cut off`: its driver was killed."""
    stage: str
    """The stage at which it was drained or failed, or is now; empty where it finished."""
    step: int
    failure: str
    message: str
    traceback: str
    log_tail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """The failure that holds a cell back."""

    stage: str
    cell: int | None
    """Number of the cell that failed there."""
    failure: str
    message: str


@dataclass(frozen=True, slots=True)
class Why:
    """All that is known of a cell."""

    sweep: str
    number: int
    cell: str
    label: str
    state: str
    """finished, running, waiting, failed or held."""
    held_by: Holding | None
    stages: tuple[StageOrigin, ...]
    attempts: tuple[AttemptStory, ...]


def why(snapshot: Snapshot, plan: CellPlan, others: Sequence[SweepFolder] = ()) -> Why:
    """The story of one cell; `others` are the store's sweeps in which the makers of its stages are looked for."""
    state = cell_states(snapshot)[plan.cell]
    own = [attempt for attempt in snapshot.attempts if attempt.cell == plan.cell]
    makers = _makers(snapshot, plan, others)
    return Why(
        sweep=snapshot.sweep,
        number=plan.number,
        cell=plan.cell,
        label=plan.label,
        state=state,
        held_by=_held_by(snapshot, plan) if state == "held" else None,
        stages=tuple(_origin(snapshot, plan, name, makers) for name in plan.stages),
        attempts=tuple(_story(attempt, plan, snapshot) for attempt in own),
    )


def _held_by(snapshot: Snapshot, plan: CellPlan) -> Holding | None:
    broken = failed_stages(snapshot)
    for name in outlook(plan, snapshot.found).missing:
        failed = broken.get(link(plan, plan.stages[name]))
        if failed is not None:
            return Holding(name, snapshot.number(failed.cell), failed.failure, failed.message)
    return None


def _manifest(snapshot: Snapshot, plan: CellPlan, name: str) -> StageManifest | None:
    return snapshot.manifests.get(link(plan, plan.stages[name]))


def _origin(snapshot: Snapshot, plan: CellPlan, name: str, makers: dict[str, str]) -> StageOrigin:
    manifest = _manifest(snapshot, plan, name)
    if manifest is None:
        return StageOrigin(name, plan.stages[name].key, "missing")
    known = manifest.provenance
    return StageOrigin(
        stage=name,
        key=manifest.key,
        state=str(manifest.outcome),
        maker=makers.get(manifest.attempt, "unknown"),
        attempt=manifest.attempt,
        host=str(known.get("host", "")),
        finished=str(known.get("finished", "")),
        seconds=float(known.get("seconds", 0.0)),
        flags=manifest.flags,
    )


def _makers(snapshot: Snapshot, plan: CellPlan, others: Sequence[SweepFolder]) -> dict[str, str]:
    """Attempt -> whose it was, of those that made this cell's stages; other sweeps are read only where needed."""
    found = (_manifest(snapshot, plan, name) for name in plan.stages)
    wanted = {manifest.attempt for manifest in found if manifest is not None}
    makers: dict[str, str] = {}
    for attempt in snapshot.attempts:
        if attempt.name in wanted and (attempt.name not in makers or attempt.cell == plan.cell):
            number = snapshot.number(attempt.cell)
            named = f"cell {number}" if number else f"cell {attempt.cell[:10]}, no longer declared"
            makers[attempt.name] = "this cell" if attempt.cell == plan.cell else named
    for folder in others:
        if wanted <= makers.keys():
            break
        if folder.identity == snapshot.sweep:
            continue
        numbers = {cell.cell: cell.number for cell in folder.read_cells()}
        for attempt in attempts(folder.read_events()):
            if attempt.name in wanted:
                cell = f"cell {numbers[attempt.cell]}" if attempt.cell in numbers else f"cell {attempt.cell[:10]}"
                makers.setdefault(attempt.name, f"{cell} of {folder.identity}")
    return makers


def _story(attempt: Attempt, plan: CellPlan, snapshot: Snapshot) -> AttemptStory:
    live = snapshot.live.get(plan.cell)
    running = live is not None and live.attempt == attempt.name and not attempt.end
    names = plan.stage_names
    stage, step = "", attempt.step
    if running and live is not None:
        stage, step = live.stage, live.step
    elif attempt.end not in ("finished", "diverged"):
        stage = stage_at_end(attempt, plan)
    return AttemptStory(
        attempt=attempt.name,
        node=attempt.node,
        started_s=attempt.started_s,
        ended_s=None if running else attempt.last_s,
        reused=tuple(names.get(step.key, step.kind) for step in attempt.stages if not step.trained),
        trained=tuple(names.get(step.key, step.kind) for step in attempt.stages if step.trained),
        end=attempt.end or ("running" if running else "cut off"),
        stage=stage,
        step=step,
        failure=attempt.failure,
        message=attempt.message,
        traceback=attempt.traceback,
        log_tail=attempt.log_tail,
    )
