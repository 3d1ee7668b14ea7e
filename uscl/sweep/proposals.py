"""The proposals of a search and their cells: read from the sweep's folder, planned anew, judged by the store.

What a file asks for may have changed since: a proposal counts only while it lies in the space and its settings still
make the cells it was recorded with. Others are set aside: neither known to the sampler, nor counted, nor shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from random import Random

from uscl.errors import DataError, SpecError
from uscl.records import CellPlan, Outcome, Proposal
from uscl.spec.points import random_point
from uscl.spec.space import SearchSpec
from uscl.store.roots import StoreRoot
from uscl.sweep.books import CellVerdict, Entry, State, entries_of, why_ended, winners
from uscl.sweep.folders import folder_of
from uscl.sweep.outlook import cell_store
from uscl.sweep.plan import PlannedCell, SweepPlan
from uscl.sweep.points import Params, belongs

SCORED, WON = ("val",), ("val", "test")
"""The splits that a cell of a search is scored on, and a winner's."""

_TRIES = 20
"""Random points drawn per proposal that an estimate needs; of a small space many are twins."""


@dataclass(frozen=True, slots=True)
class Known:
    """The proposals of a search that count or were refused, with the plans of their cells."""

    proposals: tuple[Proposal, ...] = ()
    cells: tuple[PlannedCell, ...] = ()
    """Distinct ones, in the order of the proposals; scored on the validation split."""
    set_aside: int = 0
    """Recorded proposals of another file, of which nothing is used."""
    next_index: int = 0


def search_of(plan: SweepPlan) -> SearchSpec:
    """The plan's `search:` block. SpecError where it is no search."""
    if plan.spec.search is None:
        raise SpecError(f"{plan.spec.source}: has no 'search:' block, so it proposes nothing")
    return plan.spec.search


def known_proposals(plan: SweepPlan) -> Known:
    """What the sweep's folder holds, checked against the plan."""
    known = Known()
    for proposal in folder_of(plan).read_proposals():
        known = replace(_with(known, proposal, plan), next_index=proposal.index + 1)
    return known


def _with(known: Known, proposal: Proposal, plan: SweepPlan) -> Known:
    aside = replace(known, set_aside=known.set_aside + 1)
    if not belongs(proposal.params, search_of(plan).space):
        return aside
    cells = _cells_or_why(plan, proposal.params, proposal.index, number=len(known.cells) + 1)
    if isinstance(cells, str):
        return including(known, proposal) if proposal.refused else aside
    ids = tuple(planned.plan.cell for planned in cells)
    # of more or fewer repeats than it was recorded with, the shared ones are the same cells
    if any(one != other for one, other in zip(ids, proposal.cells or ("",), strict=False)):
        return aside
    return including(known, replace(proposal, cells=ids, same_as=_twin(known, ids)), cells)


def including(known: Known, proposal: Proposal, cells: Sequence[PlannedCell] = ()) -> Known:
    """With one proposal more; of its cells those that are new."""
    there = {planned.plan.cell for planned in known.cells}
    new = tuple(planned for planned in cells if planned.plan.cell not in there)
    return replace(
        known,
        proposals=(*known.proposals, proposal),
        cells=(*known.cells, *new),
        next_index=max(known.next_index, proposal.index + 1),
    )


def judged(plan: SweepPlan, known: Known, params: Params) -> tuple[Proposal, tuple[PlannedCell, ...]]:
    """The proposal that new settings make, and the plans of its cells: refused, a repetition, or new."""
    index = known.next_index
    cells = _cells_or_why(plan, params, index, number=len(known.cells) + 1)
    if isinstance(cells, str):
        return Proposal(index, params, refused=cells), ()
    ids = tuple(planned.plan.cell for planned in cells)
    return Proposal(index, params, cells=ids, same_as=_twin(known, ids)), cells


def _twin(known: Known, ids: Sequence[str]) -> int | None:
    """The first proposal of the same cells; None where there is none."""
    return next((earlier.index for earlier in known.proposals if earlier.cells == ids), None)


def _cells_or_why(plan: SweepPlan, params: Params, index: int, *, number: int) -> tuple[PlannedCell, ...] | str:
    """The planned cells, one per repeat, numbered from `number`; or why there are none."""
    assert plan.spec.maker is not None and plan.planner is not None, "a search comes with both"
    cells = []
    try:
        for repeat in range(search_of(plan).repeats):
            planned = plan.planner(plan.spec.maker.cell(number + repeat, params, repeat=repeat), SCORED)
            cells.append(replace(planned, plan=replace(planned.plan, proposal=index)))
    except (SpecError, DataError) as error:
        return str(error)
    return tuple(cells)


def with_test(plan: SweepPlan, planned: PlannedCell, params: Params, *, repeat: int) -> PlannedCell:
    """The same cell with its test evaluation: that of a winner."""
    assert plan.spec.maker is not None and plan.planner is not None, "a search comes with both"
    wider = plan.planner(plan.spec.maker.cell(planned.plan.number, params, repeat=repeat), WON)
    return replace(wider, plan=replace(wider.plan, proposal=planned.plan.proposal))


# ---- how they stand


class Judge:
    """Reads how cells stand in the store; what is final is read once."""

    def __init__(self, store_root: StoreRoot) -> None:
        self._root = store_root
        self._final: dict[str, CellVerdict] = {}

    def verdict(self, plan: CellPlan, *, held: bool = False) -> CellVerdict:
        """COMPLETE with its validation scores, DIVERGED, FAILED where it is `held`, else PENDING."""
        if plan.cell not in self._final:
            store = cell_store(self._root, plan)
            names = [name for name in plan.stages if name != "evaluate/test"]
            manifests = [store.manifest(plan.stages[name]) for name in reversed(names)]  # the scores first
            scores = manifests[0]
            if scores is not None:
                self._final[plan.cell] = CellVerdict(State.COMPLETE, dict(scores.metrics))
            elif any(manifest and manifest.outcome is Outcome.DIVERGED for manifest in manifests):
                self._final[plan.cell] = CellVerdict(State.DIVERGED)
            else:
                return CellVerdict(State.FAILED if held else State.PENDING)
        return self._final[plan.cell]


def standing(
    plan: SweepPlan, known: Known, *, held: Collection[str] = (), judge: Judge | None = None
) -> tuple[Entry, ...]:
    """Every proposal as the store has it; `held` are cells that failed in this start."""
    judge, cells = judge or Judge(plan.store_root), {planned.plan.cell: planned.plan for planned in known.cells}
    return entries_of(search_of(plan), known.proposals, lambda cell: judge.verdict(cells[cell], held=cell in held))


def chosen(plan: SweepPlan, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The winners; none before the search has ended and nothing of it is pending."""
    spec = search_of(plan)
    if not why_ended(spec, entries) or any(entry.state is State.PENDING for entry in entries):
        return ()
    return winners(spec, entries)


def grown(plan: SweepPlan, *, held: Collection[str] = ()) -> SweepPlan:
    """The plan with the cells that its search has proposed so far, winners with their test evaluation.

    `held` are cells that failed in this start, for which a winner need not wait. A plan of a grid is as it is.
    """
    if plan.spec.search is None:
        return plan
    known = known_proposals(plan)
    return with_cells(plan, known, chosen(plan, standing(plan, known, held=held)))


def goes_on(plan: SweepPlan) -> bool:
    """Whether a search has more to propose, or proposals that are not finished; never of a grid."""
    if plan.spec.search is None:
        return False
    entries = standing(plan, known_proposals(plan))
    return not why_ended(plan.spec.search, entries) or any(entry.state is State.PENDING for entry in entries)


def with_cells(plan: SweepPlan, known: Known, won: Sequence[Entry]) -> SweepPlan:
    """The plan with all known cells, those of the winners with their test evaluation."""
    cells = {planned.plan.cell: planned for planned in known.cells}
    for entry in won:
        for repeat, cell in enumerate(entry.proposal.cells):
            cells[cell] = with_test(plan, cells[cell], entry.proposal.params, repeat=repeat)
    return replace(plan, cells=tuple(cells.values()))


def likely(plan: SweepPlan, rng: Random) -> SweepPlan:
    """A search as it may be at its end, to say what it would cost: random points stand for proposals to come.

    Without the winners' test evaluations. A plan of a grid is as it is.
    """
    if plan.spec.search is None:
        return plan
    spec, known = plan.spec.search, known_proposals(plan)
    wanted = min(spec.trials, spec.size)
    for _ in range(_TRIES * spec.trials):
        if sum(proposal.counts for proposal in known.proposals) >= wanted:
            break
        proposal, cells = judged(plan, known, random_point(spec.space, rng))
        if proposal.counts:
            known = including(known, proposal, cells)
    return with_cells(plan, known, ())
