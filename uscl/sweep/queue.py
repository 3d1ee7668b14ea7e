"""Which cell a free slot gets next. Pure: no Ray, no files, no clock.

A *link* names one stage output as a string (kind, key and, unshared, the cell's own corner of the store). A live
trial claims all missing links of its chain until they are published, so each is trained once; a cell is handed
out when its first missing link is unclaimed. Claims live in this object only: a killed driver leaves none behind.

No call looks at all cells: an event touches the cells that use its link, and a heap holds those that may go next, by
a rank that is never worse than the true one and is put right when it comes to the top.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from uscl.sweep.failures import policy_of


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


_Rank = tuple[int, tuple[int, ...], int]


@dataclass(slots=True, eq=False)
class _Place:
    """A cell in the queue, and what is known of it between two calls."""

    cell: QueueCell
    position: int
    missing: tuple[str, ...] = ()
    live: bool = False
    held: bool = False
    version: int = 0
    """Entries of the heap, or behind a claimed link, that have another one are void."""
    ranked: bool = False
    """Whether the heap has an entry of this version."""
    wanted: tuple[str, ...] = ()
    """Links it is counted under as waiting: `missing`, or none."""
    claimed: tuple[str, ...] = ()
    """Links it is counted under as live: `missing`, or none."""


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
        self._places: dict[str, _Place] = {}
        self._users: dict[str, list[_Place]] = {}
        self._present = set(present)
        self._diverged = set(diverged)
        self._held: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._live: dict[str, str] = {}
        self._unlisted: Counter[str] = Counter()
        self._slots = slots
        self._draining = False
        self._num_waiting = 0
        self._demand: Counter[str] = Counter()
        self._claims: Counter[str] = Counter()
        self._heap: list[tuple[_Rank, int, _Place]] = []
        self._behind: dict[str, list[tuple[int, _Place]]] = {}
        self._unranked: dict[int, _Place] = {}
        self._risen: set[str] = set()
        self.add(cells)

    def add(self, cells: Sequence[QueueCell]) -> None:
        """More cells, behind those that are there: a search proposes as it goes."""
        for cell in cells:
            place = self._places[cell.cell] = _Place(cell, len(self._places))
            self._enter(place, (*cell.trained, *cell.evaluated))

    def widen(self, cell: str, evaluated: Sequence[str]) -> None:
        """Ask a cell for these evaluations as well: one that was finished waits again."""
        place = self._places[cell]
        more = tuple(link for link in evaluated if link not in place.cell.evaluated)
        place.cell = replace(place.cell, evaluated=place.cell.evaluated + more)
        self._enter(place, more)

    def _enter(self, place: _Place, links: Iterable[str]) -> None:
        for link in links:
            self._users.setdefault(link, []).append(place)
        self._update(place)

    # ---- handing out

    def take(self, trial: str) -> str | Turn:
        """The next cell for this trial, whose missing links it claims from now on; WAIT or FINISHED where none."""
        num_waiting = 0 if self._draining else self._num_waiting
        if not num_waiting and not self._live:
            return Turn.FINISHED
        if not num_waiting or (self._slots is not None and len(self._live) >= self._slots):
            return Turn.WAIT
        place = self._first()
        if place is None:
            return Turn.WAIT
        self._live[trial] = place.cell.cell
        place.live = True
        self._update(place)
        return place.cell.cell

    def _first(self) -> _Place | None:
        """The ready cell of the best rank; those met behind a claimed link are set aside until it is released."""
        self._rank_anew()
        while self._heap:
            rank, version, place = self._heap[0]
            if version != place.version:
                heapq.heappop(self._heap)
            elif self._claims[place.missing[0]]:
                heapq.heappop(self._heap)
                place.ranked = False
                self._behind.setdefault(place.missing[0], []).append((version, place))
            elif rank != (now := self._rank(place)):
                heapq.heapreplace(self._heap, (now, version, place))
            else:
                return place
        return None

    def _rank(self, place: _Place) -> _Rank:
        return place.cell.block, tuple([-self._demand[link] for link in place.missing]), place.position

    def _rank_anew(self) -> None:
        """Enter cells without a rank, and those whose rank may be better than it says: a link is wanted by more."""
        for link in self._risen:
            self._unranked |= {place.position: place for place in self._users[link] if place.ranked}
        for place in self._unranked.values():
            if place.wanted:
                place.version += 1
                place.ranked = True
                heapq.heappush(self._heap, (self._rank(place), place.version, place))
        self._risen.clear()
        self._unranked.clear()
        if len(self._heap) > 2 * len(self._places) + 64:
            self._heap = [entry for entry in self._heap if entry[1] == entry[2].version]
            heapq.heapify(self._heap)

    def _update(self, place: _Place) -> None:
        """Take in what has changed for one cell: its place, and the counts over waiting and over live cells."""
        missing = self._missing(place.cell)
        held = not self._held.isdisjoint(missing)
        wanted, claimed = (() if place.live or held else missing), (missing if place.live else ())
        place.missing, place.held = missing, held
        if (wanted, claimed) == (place.wanted, place.claimed):
            return
        self._num_waiting += bool(wanted) - bool(place.wanted)
        self._demand.subtract(place.wanted)
        self._demand.update(wanted)
        self._risen.update(link for link in wanted if link not in place.wanted)
        self._claims.subtract(place.claimed)
        self._claims.update(claimed)
        released = [link for link in place.claimed if not self._claims[link]]
        place.wanted, place.claimed = wanted, claimed
        place.version += 1
        place.ranked = False
        self._unranked[place.position] = place
        for link in released:
            self._release(link)

    def _release(self, link: str) -> None:
        waited = self._behind.pop(link, ())
        self._unranked |= {place.position: place for version, place in waited if version == place.version}

    def missing(self, cell: str) -> tuple[str, ...]:
        """Links the cell still needs, in order; found from the end of the chain, as a child reads its parent only."""
        return self._places[cell].missing

    def _missing(self, chain: QueueCell) -> tuple[str, ...]:
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
        if link in self._present and (not diverged or link in self._diverged):
            return ()
        users = self._users.get(link, ())
        before = [place for place in users if place.wanted] if diverged else []
        self._present.add(link)
        if diverged:
            self._diverged.add(link)
        self._touch(link)
        ended = (place for place in before if not place.missing)
        return tuple(place.cell.cell for place in sorted(ended, key=lambda place: place.position))

    def end(self, trial: str, *, failure: str | None = None, absent: Collection[str] = ()) -> str | None:
        """The trial is over; its claims are released. Returns its cell (None where it was over already).

        `failure` is a class of `Failed`, None where it finished or drained. `absent` names links that were thought
        present and are not: a torn output that was moved away.
        """
        cell = self._live.pop(trial, None)
        self._unlisted.pop(trial, None)
        if cell is None:
            return None
        if failure is not None:
            self._count(self.blamed(cell), failure)
        for link in self._present.intersection(absent):
            self._present.remove(link)
            self._touch(link)
        self._places[cell].live = False
        self._update(self._places[cell])
        return cell

    def _count(self, link: str, failure: str) -> None:
        allowed = policy_of(failure).deaths
        self._deaths[link] += bool(allowed)
        if allowed and self._deaths[link] >= allowed:
            self.hold([link])

    def hold(self, links: Iterable[str]) -> None:
        """Hand out no cell that needs one of these links."""
        for link in links:
            self._held.add(link)
            self._touch(link)

    def _touch(self, link: str) -> None:
        for place in self._users.get(link, ()):
            self._update(place)

    def blamed(self, cell: str) -> str:
        """The link that a failure of this cell counts on now: its first missing one."""
        place = self._places[cell]
        return place.missing[0] if place.missing else place.cell.trained[-1]

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

    @property
    def is_waiting(self) -> bool:
        """Whether any cell waits for a slot."""
        return self._num_waiting > 0

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._draining

    # ---- what others may ask

    def cell_of(self, trial: str) -> str | None:
        """The cell a live trial works on."""
        return self._live.get(trial)

    def state(self, cell: str) -> CellState:
        """Where the cell stands."""
        place = self._places[cell]
        if place.live:
            return CellState.RUNNING
        if not place.missing:
            return CellState.FINISHED
        return CellState.HELD if place.held else CellState.WAITING

    def deaths(self, link: str) -> int:
        """Failures that count on a link so far."""
        return self._deaths[link]

    def is_held(self, link: str) -> bool:
        """Whether its failures hold back the cells that need it."""
        return link in self._held

    def is_present(self, link: str) -> bool:
        """Whether the link is known to be in the store."""
        return link in self._present

    @property
    def present(self) -> frozenset[str]:
        """Links known to be in the store."""
        return frozenset(self._present)

    @property
    def live(self) -> Mapping[str, str]:
        """Live trials and their cells."""
        return dict(self._live)
