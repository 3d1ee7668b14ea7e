"""Several sweeps as one schedule: the cells of all of them, each once, and which sweeps declare it.

A single sweep is a study of one; everything that runs, runs a study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uscl.errors import SpecError
from uscl.records import CellPlan, Sink, SweepEvent
from uscl.spec.sweep import ResourcesSpec
from uscl.store.roots import StoreRoot
from uscl.sweep.outlook import link, queue_cells, survey
from uscl.sweep.plan import PlannedCell, SweepPlan
from uscl.sweep.queue import CellQueue, QueueCell

_EQUAL = ("gpus_per_trial", "cpus_per_trial", "amp")
"""Resources that one schedule cannot have two of: slots are of one size, and a shared stage has one precision."""


@dataclass(frozen=True, slots=True)
class StudyCell:
    """One cell to run, and all that the sweeps of the study call it."""

    key: str
    """Its id; with a mark behind it where an earlier sweep scores the same network in another way."""
    series: str
    """What its number counts in: `trial`, or with several sweeps the first that declares it (`temporal 12`)."""
    planned: PlannedCell
    """As that first sweep declares it."""
    dataset_path: Path
    declared: Mapping[str, CellPlan]
    """Sweep's identity -> the cell as it stands there, in the order of the study."""
    phantom: Mapping[str, Any] = field(default_factory=dict)
    """Settings of its phantom, where every machine builds its own; empty otherwise."""

    @property
    def plan(self) -> CellPlan:
        """As that first sweep declares it, without its settings for a trial."""
        return self.planned.plan

    @property
    def title(self) -> str:
        """`trial 12`, `temporal 12`."""
        return f"{self.series} {self.planned.plan.number}"

    @property
    def also(self) -> str:
        """What the other sweeps call it: `speckle 3, baselines 7`; empty where only one declares it."""
        return ", ".join(f"{sweep} {plan.number}" for sweep, plan in list(self.declared.items())[1:])


@dataclass(frozen=True, slots=True)
class Study:
    """Checked sweeps over one store that run as one."""

    plans: tuple[SweepPlan, ...]
    cells: tuple[StudyCell, ...]
    """Distinct ones, in the order of the sweeps."""
    resources: ResourcesSpec
    _by_key: Mapping[str, StudyCell] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {cell.key: cell for cell in self.cells})

    @property
    def store_root(self) -> StoreRoot:
        """The store of all of them."""
        return self.plans[0].store_root

    @property
    def identity(self) -> str:
        """`baselines + temporal`."""
        return " + ".join(plan.identity for plan in self.plans)

    @property
    def datasets(self) -> tuple[SweepPlan, ...]:
        """For each dataset that is read, the first sweep that reads it."""
        first: dict[tuple[Path, str], SweepPlan] = {}
        for plan in self.plans:
            first.setdefault((plan.dataset_path, plan.dataset_fingerprint), plan)
        return tuple(first.values())

    def cell(self, key: str) -> StudyCell:
        """The cell of that key; KeyError where there is none."""
        return self._by_key[key]

    def cells_of(self, plan: SweepPlan) -> tuple[StudyCell, ...]:
        """The cells that one of the sweeps declares, in its own order."""
        own = [cell for cell in self.cells if plan.identity in cell.declared]
        return tuple(sorted(own, key=lambda cell: cell.declared[plan.identity].number))


def study_of(plans: Sequence[SweepPlan]) -> Study:
    """The sweeps, one or more over one store, as one schedule.

    SpecError where two have one identity, or resources that one schedule cannot give both, or where one of several
    is a search. Of `workers` the smallest that is given counts, of `progress_every_s` the smallest.
    """
    _refuse_one_name_for_two(plans)
    _refuse_search_among_others(plans)
    return Study(tuple(plans), distinct_cells(plans), _resources(plans))


def distinct_cells(plans: Sequence[SweepPlan]) -> tuple[StudyCell, ...]:
    """Every cell once: two are the same where all their stages are, evaluations included."""
    declared: dict[tuple[str, ...], list[tuple[SweepPlan, PlannedCell]]] = {}
    for plan in plans:
        for planned in plan.cells:
            links = tuple(link(planned.plan, ref) for ref in planned.plan.stages.values())
            declared.setdefault(links, []).append((plan, planned))
    seen: Counter[str] = Counter()
    cells = []
    for where in declared.values():
        plan, planned = where[0]
        mark = f"+{seen[planned.plan.cell]}" if seen[planned.plan.cell] else ""
        seen[planned.plan.cell] += 1
        cells.append(
            StudyCell(
                key=planned.plan.cell + mark,
                series=plan.identity if len(plans) > 1 else "trial",
                planned=planned,
                dataset_path=plan.dataset_path,
                declared={sweep.identity: cell.plan for sweep, cell in where},
                phantom=plan.spec.phantom.model_dump(mode="json") if plan.phantom_by_machine else {},
            )
        )
    return tuple(cells)


def _refuse_one_name_for_two(plans: Sequence[SweepPlan]) -> None:
    first: dict[str, SweepPlan] = {}
    for plan in plans:
        other = first.get(plan.identity)
        if other is not None:
            raise SpecError(
                f"{other.spec.source} and {plan.spec.source} are both sweep '{plan.identity}', and a sweep has one "
                "folder and one MLflow experiment; give each file a name of its own (--name is for a single file)"
            )
        first[plan.identity] = plan


def _refuse_search_among_others(plans: Sequence[SweepPlan]) -> None:
    searches = [plan.spec.source for plan in plans if plan.spec.search is not None]
    if searches and len(plans) > 1:
        raise SpecError(
            f"{searches[0]}: is a search, whose cells are not known before it runs; run it in a command of its own "
            "(what it shares with the others is trained once all the same)"
        )


def _resources(plans: Sequence[SweepPlan]) -> ResourcesSpec:
    first, *others = (plan.spec for plan in plans)
    for other in others:
        for name in _EQUAL:
            here, there = (_said(getattr(spec.resources, name)) for spec in (first, other))
            if here != there:
                raise SpecError(
                    f"resources.{name} is {here} in {first.source} and {there} in {other.source}, and one schedule "
                    f"needs one; give it for all with --set resources.{name}={here}, or run the files one by one"
                )
    workers = [plan.spec.resources.workers for plan in plans if plan.spec.resources.workers is not None]
    every_s = min(plan.spec.resources.progress_every_s for plan in plans)
    smallest = {"workers": min(workers, default=None), "progress_every_s": every_s}
    return first.resources.model_copy(update=smallest)


def _said(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def queue_of(study: Study, *, slots: int | None = None) -> CellQueue:
    """The queue over all cells, as the store stands; seed blocks are those of all sweeps together."""
    found = survey([cell.planned for cell in study.cells], study.store_root)
    return CellQueue(queued(study.cells), present=found.present, diverged=found.diverged, slots=slots)


def queued(cells: Sequence[StudyCell]) -> list[QueueCell]:
    """The cells as the queue wants them, by their keys."""
    plain = queue_cells([cell.planned for cell in cells])
    return [replace(one, cell=cell.key) for one, cell in zip(plain, cells, strict=True)]


def grow_queue(queue: CellQueue, cells: Sequence[StudyCell], *, known: Collection[str], store_root: Path) -> None:
    """Bring a queue up to the cells of a search as they stand: new ones are added, `known` ones may ask for more.

    What the store holds of the new ones already is told too.
    """
    new = [cell for cell in cells if cell.key not in known]
    found = survey([cell.planned for cell in new], store_root)
    for name in found.present:
        queue.published(name, diverged=name in found.diverged)
    queue.add(queued(new))
    for cell in queued([cell for cell in cells if cell.key in known]):
        queue.widen(cell.cell, cell.evaluated)


class OneSweep:
    """A sink that hands on to a sink of one sweep what happens to that sweep's cells, by their own ids."""

    def __init__(self, study: Study, plan: SweepPlan, sink: Sink) -> None:
        self._ids = {cell.key: cell.declared[plan.identity].cell for cell in study.cells_of(plan)}
        self._sink = sink

    def on_event(self, event: SweepEvent) -> None:
        """Hand it on, where it is of this sweep."""
        if event.cell in self._ids:
            self._sink.on_event(replace(event, cell=self._ids[event.cell]))

    def on_cells(self, cells: Sequence[CellPlan]) -> None:
        """Hand on the cells of a search, which runs by itself."""
        self._ids = {cell.cell: cell.cell for cell in cells}
        self._sink.on_cells(cells)

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()
