"""Which cell a free slot gets next. Pure: no Ray, no files, no clock.

A *link* names one stage output as a string (kind, key and, unshared, the cell's own corner of the store). A live
trial claims all missing links of its chain until they are published, so each is trained once; a cell is handed
out when its first missing link is unclaimed. Claims live in this object only: a killed driver leaves none behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

MAX_DEATHS = 3
"""Infrastructure deaths (lost node, killed process, unreadable store) per link before its cells are held back."""

RETRIED_FAILURES = ("lost", "store")
"""Failures that are nobody's bug; any other class holds back all cells above the failing link at once."""


class Turn(Enum):
    """What a slot hears when it gets no cell."""

    WAIT = "wait"
    FINISHED = "finished"


class CellState(Enum):
    """Where a cell stands; HELD: it failed, or a stage that it needs did."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class QueueCell:
    """A cell as the queue sees it."""

    cell: str
    block: int
    """Number of its seed block: lower blocks go first, so that a night cut short leaves a balanced table."""
    trained: tuple[str, ...]
    """Links in chain order, up to `finetune`."""
    evaluated: tuple[str, ...]
    """Links of its evaluations; each needs the last trained one."""


class CellQueue:
    """Hands out cells, holds claims, and counts failures per link."""

    def __init__(
        self,
        cells: Sequence[QueueCell],
        *,
        present: Iterable[str],
        diverged: Iterable[str] = (),
        slots: int | None = None,
    ) -> None:
        """`cells` in the order of the sweep file; `present` and `diverged` are links in the store; at most `slots`
        trials live at once (None: as many as ask)."""
        self._cells = {cell.cell: cell for cell in cells}
        self._position = {cell.cell: position for position, cell in enumerate(cells)}
        self._present = set(present)
        self._diverged = set(diverged)
        self._held: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._live: dict[str, str] = {}
        self._unlisted: Counter[str] = Counter()
        self._slots = slots
        self._draining = False
        self._nothing_new = False

    def add(self, cells: Sequence[QueueCell]) -> None:
        """More cells, behind those that are there: a search proposes as it goes."""
        for cell in cells:
            self._position[cell.cell] = len(self._cells)
            self._cells[cell.cell] = cell
        self._nothing_new = False

    def widen(self, cell: str, evaluated: Sequence[str]) -> None:
        """Ask a cell for these evaluations as well: one that was finished waits again."""
        known = self._cells[cell]
        more = tuple(link for link in evaluated if link not in known.evaluated)
        self._cells[cell] = replace(known, evaluated=known.evaluated + more)
        self._nothing_new = False

    # ---- handing out

    def take(self, trial: str) -> str | Turn:
        """The next cell for this trial, whose missing links it claims from now on; WAIT or FINISHED where none."""
        waiting = [] if self._draining else self._waiting()
        if not waiting and not self._live:
            return Turn.FINISHED
        if not waiting or self._nothing_new or (self._slots is not None and len(self._live) >= self._slots):
            return Turn.WAIT
        claimed = self._claimed()
        needs = {cell.cell: self.missing(cell.cell) for cell in waiting}
        ready = [cell for cell in waiting if needs[cell.cell][0] not in claimed]
        if not ready:
            self._nothing_new = True
            return Turn.WAIT
        demand = Counter(link for links in needs.values() for link in links)
        chosen = min(ready, key=lambda cell: self._rank(cell, [demand[link] for link in needs[cell.cell]])).cell
        self._live[trial] = chosen
        return chosen

    def _rank(self, cell: QueueCell, demands: list[int]) -> tuple[int, list[int], int]:
        return cell.block, [-demand for demand in demands], self._position[cell.cell]

    def _waiting(self) -> list[QueueCell]:
        live = set(self._live.values())
        return [
            cell for cell in self._cells.values() if cell.cell not in live and self._resting(cell) is CellState.WAITING
        ]

    def _claimed(self) -> set[str]:
        return {link for cell in self._live.values() for link in self.missing(cell)}

    def missing(self, cell: str) -> tuple[str, ...]:
        """Links the cell still needs, in order; found from the end of the chain, as a child reads its parent only."""
        chain = self._cells[cell]
        needed = [link for link in chain.evaluated if link not in self._present]
        for link in reversed(chain.trained) if needed else ():
            if link in self._present:
                if link in self._diverged:
                    return ()
                break
            needed.insert(0, link)
        return tuple(needed)

    # ---- what trials report

    def published(self, link: str, *, diverged: bool = False) -> tuple[str, ...]:
        """A link is in the store now. Returns the waiting cells that a diverged one finishes without a trial."""
        before = {cell.cell for cell in self._waiting()} if diverged else set()
        self._present.add(link)
        if diverged:
            self._diverged.add(link)
        self._nothing_new = False
        return tuple(cell for cell in self._cells if cell in before and not self.missing(cell))

    def end(self, trial: str, *, failure: str | None = None, absent: Collection[str] = ()) -> str | None:
        """The trial is over; its claims are released. Returns its cell (None where it was over already).

        `failure` is a class of `Failed`, None where it finished or drained. `absent` names links that were thought
        present and are not: a torn output that was moved away.
        """
        cell = self._live.pop(trial, None)
        self._unlisted.pop(trial, None)
        self._nothing_new = False
        if cell is None:
            return None
        if failure is not None:
            missing = self.missing(cell)
            self._count(missing[0] if missing else self._cells[cell].trained[-1], failure)
        self._present.difference_update(absent)
        return cell

    def _count(self, link: str, failure: str) -> None:
        self._deaths[link] += 1
        if failure not in RETRIED_FAILURES or self._deaths[link] >= MAX_DEATHS:
            self._held.add(link)

    def lost(self, listed: Mapping[str, bool]) -> tuple[str, ...]:
        """Live trials that Tune has ended or dropped without a word, of `listed` (trial -> is it still going).

        A trial is listed a moment after it took its cell, so being absent counts from the third look on.
        """
        gone = []
        for trial in self._live:
            self._unlisted[trial] = 0 if listed.get(trial) else self._unlisted[trial] + 1
            if self._unlisted[trial] >= 3:
                gone.append(trial)
        return tuple(gone)

    def drain(self) -> None:
        """Hand out nothing any more."""
        self._draining = True

    # ---- what others may ask

    def cell_of(self, trial: str) -> str | None:
        """The cell a live trial works on."""
        return self._live.get(trial)

    def state(self, cell: str) -> CellState:
        """Where the cell stands."""
        return CellState.RUNNING if cell in self._live.values() else self._resting(self._cells[cell])

    def _resting(self, cell: QueueCell) -> CellState:
        missing = self.missing(cell.cell)
        if not missing:
            return CellState.FINISHED
        return CellState.HELD if self._held.intersection(missing) else CellState.WAITING

    @property
    def present(self) -> frozenset[str]:
        """Links known to be in the store."""
        return frozenset(self._present)

    @property
    def live(self) -> Mapping[str, str]:
        """Live trials and their cells."""
        return dict(self._live)
