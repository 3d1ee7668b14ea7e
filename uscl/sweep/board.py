"""A running sweep as figures: cells by state, what runs where, stages done and shared, time left. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from uscl.records import (
    STAGE_KINDS,
    CellFinished,
    CellPlan,
    Drained,
    Failed,
    Outcome,
    Progress,
    StagePublished,
    StageRef,
    StageReused,
    SweepEvent,
)
from uscl.sweep.outlook import Survey, link, outlook


class BoardCell(Protocol):
    """What the board must know of a cell: a StudyCell, or of a search that grows the plan alone."""

    @property
    def key(self) -> str:
        """Its key in the study."""

    @property
    def plan(self) -> CellPlan:
        """As the first sweep that has it declares it."""

    @property
    def series(self) -> str:
        """What its number counts in."""

    @property
    def title(self) -> str:
        """`trial 12`."""

    @property
    def declared(self) -> Collection[str]:
        """The sweeps that have it."""


@dataclass(frozen=True, slots=True)
class SearchCell:
    """A cell that a search has proposed since the board was made."""

    plan: CellPlan
    declared: tuple[str, ...]
    series: str = "trial"

    @property
    def key(self) -> str:
        """Its id: a search runs by itself."""
        return self.plan.cell

    @property
    def title(self) -> str:
        """`trial 12`."""
        return f"{self.series} {self.plan.number}"


@dataclass(frozen=True, slots=True)
class Running:
    """A live trial's last word."""

    cell: BoardCell
    position: int
    """Of the cell in the study."""
    node: str
    stage: str
    """The stage it is at: `decoder`, `evaluate val`."""
    step: int = 0
    steps: int = 0
    frames_per_s: float = 0.0
    loss: float | None = None
    time_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StageTally:
    """Distinct outputs of one kind."""

    kind: str
    done: int
    total: int
    uses: int
    """How many cells need one of them; above `total`, they are shared."""


class Board:
    """Fed with events, it knows how the sweep stands."""

    def __init__(self, cells: Sequence[BoardCell], found: Survey) -> None:
        """`found`: what the store held at the start."""
        self.running: dict[str, Running] = {}
        self.failed: dict[str, Failed] = {}
        self.finished = {c.key for c in cells if outlook(c.plan, found).finished}
        self._cells: dict[str, BoardCell] = {}
        self._done = set(found.present)
        self.replace(cells)
        self._seconds: dict[str, list[float]] = {}
        self._started_s: float | None = None
        self._most_running = 1

    def replace(self, cells: Sequence[BoardCell]) -> None:
        """All cells, where there are more by now or some ask for more; one that was finished then waits again."""
        before = self._cells
        self._cells = {cell.key: cell for cell in cells}
        self._position = {cell.key: position for position, cell in enumerate(cells)}
        plans = {cell.key: cell.plan for cell in cells}
        self._needs = {key: {link(plan, ref): ref.kind for ref in plan.stages.values()} for key, plan in plans.items()}
        wider = {key for key, cell in before.items() if key in plans and len(plans[key].stages) > len(cell.plan.stages)}
        self.finished -= {key for key in wider if not self._needs[key].keys() <= self._done}

    def on_event(self, happened: SweepEvent) -> None:
        """Take in an event."""
        self._started_s = happened.time_s if self._started_s is None else self._started_s
        cell, event = self._cells[happened.cell], happened.event
        plan = cell.plan
        if isinstance(event, (CellFinished, Drained, Failed)):
            self._end(happened.cell, event)
            return
        self.failed.pop(happened.cell, None)
        loss = event.values.get(f"{event.kind}/loss") if isinstance(event, Progress) else None
        step, steps, speed = (
            (event.step, event.steps, event.frames_per_s) if isinstance(event, Progress) else (0, 0, 0.0)
        )
        stage = plan.stage_names.get(event.key, event.kind).replace("/", " ")
        self.running[happened.cell] = Running(
            cell, self._position[cell.key], happened.node, stage, step, steps, speed, loss, happened.time_s
        )
        self._most_running = max(self._most_running, len(self.running))
        if isinstance(event, (StagePublished, StageReused)):
            self._done.add(link(plan, StageRef(event.kind, event.key)))
        if isinstance(event, StagePublished):
            self._seconds.setdefault(event.kind, []).append(event.seconds)

    def _end(self, cell: str, event: CellFinished | Drained | Failed) -> None:
        self.running.pop(cell, None)
        if isinstance(event, CellFinished):
            self.finished.add(cell)
            self.failed.pop(cell, None)
            if event.result.outcome is Outcome.DIVERGED:  # what it lacks will never be
                self._done.update(self._needs[cell])
        elif isinstance(event, Failed) and event.failure != "full":  # the sweep pauses, and the cell waits
            self.failed[cell] = event

    def counts(self) -> Mapping[str, int]:
        """Cells by state; they add up to all."""
        failed = len(set(self.failed) - set(self.running) - self.finished)
        waiting = len(self._cells) - len(self.finished) - len(self.running) - failed
        return {"finished": len(self.finished), "running": len(self.running), "waiting": waiting, "failed": failed}

    def finished_of(self, sweep: str) -> tuple[int, int]:
        """Of the cells that one sweep declares: finished ones, and all."""
        own = {key for key, cell in self._cells.items() if sweep in cell.declared}
        return len(own & self.finished), len(own)

    def tallies(self) -> tuple[StageTally, ...]:
        """Stage outputs by kind, in the order of a chain."""
        uses: Counter[str] = Counter()
        links: dict[str, set[str]] = {}
        for needs in self._needs.values():
            for name, kind in needs.items():
                uses[kind] += 1
                links.setdefault(kind, set()).add(name)
        return tuple(
            StageTally(kind, len(links[kind] & self._done), len(links[kind]), uses[kind])
            for kind in STAGE_KINDS
            if kind in links
        )

    def frames_per_s(self) -> float:
        """Of all live trials together."""
        return sum(running.frames_per_s for running in self.running.values())

    def seconds_left(self) -> float | None:
        """Mean seconds of each kind times what is missing of it, over the slots; None before each kind was seen.

        A kind that nobody has finished yet counts as the mean of those known.
        """
        if not self._seconds:
            return None
        means = {kind: sum(seconds) / len(seconds) for kind, seconds in self._seconds.items()}
        otherwise = sum(means.values()) / len(means)
        missing: dict[str, str] = {}
        for cell, needs in self._needs.items():
            if cell not in self.finished and cell not in self.failed:
                missing |= {name: kind for name, kind in needs.items() if name not in self._done}
        return sum(means.get(kind, otherwise) for kind in missing.values()) / self._most_running


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
