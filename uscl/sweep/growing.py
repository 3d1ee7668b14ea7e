"""A search under way: asks for one proposal more when a slot is free, and at the end for the winners' test scores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from uscl.errors import SpecError
from uscl.records import Proposal
from uscl.sweep.books import Entry, State, counted, why_ended, why_paused
from uscl.sweep.folders import folder_of
from uscl.sweep.plan import SweepPlan
from uscl.sweep.proposals import (
    Judge,
    chosen,
    grown,
    including,
    judged,
    known_proposals,
    search_of,
    standing,
    with_cells,
)
from uscl.sweep.queue import CellQueue, CellState
from uscl.sweep.study import Study


class Growth:
    """The books of a search in one start. Its plan grows; whoever drives it holds the sweep's lease."""

    def __init__(self, plan: SweepPlan) -> None:
        """`plan` as `proposals.grown` gives it."""
        self._spec = search_of(plan)
        self._plan = plan
        self._known = known_proposals(plan)
        self._folder = folder_of(plan)
        self._judge = Judge(plan.store_root)
        self._won: tuple[int, ...] = ()

    @property
    def plan(self) -> SweepPlan:
        """With the cells of all proposals so far."""
        return self._plan

    def entries(self, held: Collection[str] = ()) -> tuple[Entry, ...]:
        """Every proposal as it stands; `held` are cells that failed in this start."""
        return standing(self._plan, self._known, held=held, judge=self._judge)

    def first(self) -> SweepPlan:
        """The plan with something to do, where there is anything: before Ray is started.

        SpecError where every proposal is refused.
        """
        entries = self.entries()
        if not any(entry.state is State.PENDING for entry in entries):
            self._propose(entries)
        return self._plan

    def more(self, queue: CellQueue) -> bool:
        """Whether the plan has grown: by a proposal, or by the winners' test evaluations.

        Nothing is added while a cell waits: a proposal knows the more, the later it is asked for.
        """
        states = {planned.plan.cell: queue.state(planned.plan.cell) for planned in self._plan.cells}
        if CellState.WAITING in states.values():
            return False
        held = {cell for cell, state in states.items() if state is CellState.HELD}
        entries = self.entries(held)
        return self._propose(entries) or self._choose(entries)

    def why_over(self, held: Collection[str] = ()) -> str:
        """Why nothing more is proposed; empty where the search goes on."""
        entries = self.entries(held)
        return why_ended(self._spec, entries) or why_paused(entries)

    def _propose(self, entries: Sequence[Entry]) -> bool:
        """One proposal that can be trained and is new, with whatever repetitions and refusals come before it."""
        from uscl.sweep.search import ask

        while not why_ended(self._spec, entries) and not why_paused(entries):
            asked = ask(self._spec, entries, self._known.next_index)
            if asked is None:
                return False
            proposal, cells = judged(self._plan, self._known, asked.params)
            proposal = replace(proposal, distributions=asked.distributions, system_attrs=asked.system_attrs)
            self._folder.append_proposal(proposal)
            self._known = including(self._known, proposal, cells)
            if proposal.counts:
                self._plan = with_cells(self._plan, self._known, ())
                return True
            entries = (*entries, _twin(entries, proposal))
        if entries and not counted(entries):
            why = entries[-1].proposal.refused
            raise SpecError(f"{self._plan.spec.source}: every proposal of the search is refused: {why}")
        return False

    def _choose(self, entries: Sequence[Entry]) -> bool:
        won = chosen(self._plan, entries)
        indices = tuple(entry.proposal.index for entry in won)
        if indices == self._won:
            return False
        self._won, before = indices, self._plan
        self._plan = with_cells(self._plan, self._known, won)
        return [planned.plan for planned in self._plan.cells] != [planned.plan for planned in before.cells]


def _twin(entries: Sequence[Entry], proposal: Proposal) -> Entry:
    """A proposal that is not trained, as it stands: refused, or as the earlier one that it repeats."""
    for entry in entries:
        if entry.proposal.index == proposal.same_as:
            return replace(entry, proposal=proposal)
    return Entry(proposal, State.REFUSED)


def growth_of(study: Study) -> Growth | None:
    """What lets a search grow, its books read anew: the lease is ours by now. None for grids."""
    plan = study.plans[0]
    return Growth(grown(plan)) if plan.spec.search is not None else None
