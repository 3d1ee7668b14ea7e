"""What a sweep will do: its cells and their stages. Imports no Ray.

`plan_sweep` needs the dataset's index only, so that a file is checked, with keys and all, before a phantom is built
or a GPU is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from uscl.data.dataset import open_dataset
from uscl.data.facts import dataset_facts
from uscl.data.schema import DatasetIndex
from uscl.errors import DataError, SpecError
from uscl.records import CellPlan, DatasetFacts
from uscl.spec.proposals import refuse_hopeless
from uscl.spec.sweep import Cell, CellMaker, SweepSpec, place_of
from uscl.spec.trial import TrialSpec, flatten
from uscl.stages.keys import EVALUATED_PARTS, Chain, chain
from uscl.store.roots import StoreRoot
from uscl.store.roots import store_root as find_root
from uscl.sweep.asked import check_report_classes, unread_settings
from uscl.sweep.data_checks import check_against_data, check_content, placed

_NUM_TRIED = 50
"""Points of a search that are tried on the data before all are called impossible."""
LARGEST_PHANTOM: Mapping[str, int] = {
    "patients": 100_000,
    "clips_per_patient": 1_000,
    "frames_per_clip": 100_000,
    "labels_per_patient": 1_000,
    "size": 8_192,
}
"""Far beyond what anybody renders; a slip of the keyboard is beyond that."""


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell to run: what others may know of it, its settings, and its stages."""

    plan: CellPlan
    spec: TrialSpec
    chain: Chain


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A cell of the file that is the same experiment as an earlier one, and therefore runs once."""

    number: int
    label: str
    same_as: int


CellPlanner: TypeAlias = Callable[[Cell, Collection[str]], PlannedCell]
"""The plan of a cell that is scored on these splits (`val`, `test`). SpecError where the dataset forbids it."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep, checked and keyed; nothing in it depends on what the store holds.

    That of a search has no cells: `proposals.grown` gives it those that it has proposed so far.
    """

    spec: SweepSpec
    identity: str
    store_root: StoreRoot
    dataset_path: Path
    """Absolute; a generated dataset may not be there yet."""
    dataset_fingerprint: str
    cells: tuple[PlannedCell, ...]
    duplicates: tuple[Duplicate, ...]
    facts: DatasetFacts = field(default_factory=DatasetFacts)
    unread: tuple[str, ...] = ()
    """Settings that the sweep file or `--set` gives and no cell reads."""
    planner: CellPlanner | None = field(default=None, repr=False, compare=False)
    """Plans one cell more: for a search, which makes its cells as it goes."""

    @property
    def phantom_by_machine(self) -> bool:
        """Whether each machine builds the phantom for itself: the store is a bucket, and datasets are folders."""
        return self.spec.data == "phantom" and not isinstance(self.store_root, Path)

    def cell(self, cell: str) -> PlannedCell:
        """The planned cell of that id; KeyError where there is none."""
        for planned in self.cells:
            if planned.plan.cell == cell:
                return planned
        raise KeyError(cell)


def plan_sweep(spec: SweepSpec, *, store_root: str | StoreRoot, share: bool = True) -> SweepPlan:
    """Cells with their stage keys, duplicates collapsed; `share=False` gives each cell stage folders of its own.

    SpecError, at the place of the setting to change, where a cell is impossible on this dataset.
    """
    root = _absolute(store_root) if isinstance(store_root, Path) else find_root(store_root)
    dataset_path, index = _find_data(spec, root)
    check_report_classes(spec, index)
    cells: dict[str, PlannedCell] = {}
    duplicates, asked = [], []
    planner = partial(_plan_cell, sweep=spec, index=index, share=share)
    _refuse_hopeless(spec, planner)
    for cell in spec.cells():
        planned = planner(cell, tuple(EVALUATED_PARTS))
        asked.append((cell, planned.chain))
        first = cells.setdefault(planned.plan.cell, planned)
        if first is not planned:
            duplicates.append(_duplicate(planned, first))
    return SweepPlan(
        spec=spec,
        identity=spec.identity,
        store_root=root,
        dataset_path=dataset_path,
        dataset_fingerprint=index.fingerprint,
        cells=tuple(cells.values()),
        duplicates=tuple(duplicates),
        facts=dataset_facts(index),
        unread=unread_settings(asked, index),
        planner=planner,
    )


def _absolute(path: str | Path) -> Path:
    """Without `..`, and without following links: Ray changes a trial's working directory."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100


def _find_data(spec: SweepSpec, store_root: StoreRoot) -> tuple[Path, DatasetIndex]:
    if spec.data == "phantom":
        from uscl.data.phantom import phantom_index
        from uscl.data.phantom_cache import phantom_folder

        _refuse_huge(spec)
        index = phantom_index(spec.phantom)
        return phantom_folder(store_root, index.fingerprint), index
    if "://" in spec.data:
        raise SpecError(
            f"data: {spec.data}: a dataset is a folder that every machine sees; copy it there, only the store may be "
            "in a bucket"
        )
    path = _absolute(spec.data)
    return path, open_dataset(path).index


def _refuse_hopeless(spec: SweepSpec, planner: CellPlanner) -> None:
    """SpecError where this dataset refuses whatever a search may propose."""
    search, maker = spec.search, spec.maker
    if search is None or maker is None:
        return
    where = place_of("search.space", spec.places)
    attempt = partial(_plan_proposal, maker, planner)
    refuse_hopeless(search, attempt, where, tried_at_most=_NUM_TRIED)


def _plan_proposal(maker: CellMaker, planner: CellPlanner, params: Mapping[str, Any]) -> PlannedCell:
    return planner(maker.cell(1, params), tuple(EVALUATED_PARTS))


def _refuse_huge(spec: SweepSpec) -> None:
    """SpecError for a phantom that nobody can mean: its index alone would not fit in memory."""
    for name, largest in LARGEST_PHANTOM.items():
        given = getattr(spec.phantom, name)
        if given > largest:
            raise spec.error(f"phantom.{name}", f"expected at most {largest}, got {given:.3g}")


def _plan_cell(
    cell: Cell, parts: Collection[str], *, sweep: SweepSpec, index: DatasetIndex, share: bool
) -> PlannedCell:
    check_content(cell, index)
    try:
        links = chain(cell.spec, index)
    except DataError as error:
        raise placed(error, cell, sweep, index) from error
    except SpecError as error:  # worded as `setting: message`; here it gets its place
        raise cell.error(*str(error).split(": ", 1)) from None
    check_against_data(cell, links, index)
    links = links.scored_on(parts)
    plan = CellPlan(
        number=cell.number,
        cell=links.cell,
        label=cell.label,
        axes=dict(cell.axes),
        fixed=dict(cell.fixed),
        settings=flatten(cell.spec),
        stages={stage.name: stage.ref for stage in links.stages},
        namespace="" if share else links.cell[:16],
        cases={stage.name: len(stage.data.cases) for stage in links.stages if stage.data.cases},
    )
    return PlannedCell(plan, cell.spec, links)


def _duplicate(planned: PlannedCell, first: PlannedCell) -> Duplicate:
    if planned.plan.stages != first.plan.stages:
        raise SpecError(
            f"cells {first.plan.number} and {planned.plan.number} are one fine-tuned network scored in two ways "
            "(evaluate.*); a sweep has one evaluation per cell: write two sweep files"
        )
    return Duplicate(planned.plan.number, planned.plan.label, first.plan.number)
