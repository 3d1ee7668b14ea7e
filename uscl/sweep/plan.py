"""What a sweep will do: its cells, their stages, and what of them the store holds already. Imports no Ray.

`plan_sweep` needs the dataset's index only, so that a file is checked, with keys and all, before a phantom is built
or a GPU is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uscl.data.dataset import open_dataset
from uscl.data.facts import dataset_facts
from uscl.data.schema import ClipEntry, DatasetIndex
from uscl.errors import DataError, SpecError
from uscl.records import CellPlan, DatasetFacts, Outcome, StageRef
from uscl.spec.sweep import Cell, SweepSpec
from uscl.spec.trial import TrialSpec, flatten
from uscl.spec.variants import clip_stages
from uscl.stages.keys import Chain, chain
from uscl.store.stages import StageStore
from uscl.sweep.asked import check_report_classes, unread_settings
from uscl.sweep.batch_checks import check_batches
from uscl.sweep.queue import QueueCell


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


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep, checked and keyed; nothing in it depends on what the store holds."""

    spec: SweepSpec
    identity: str
    store_root: Path
    dataset_path: Path
    """Absolute; a generated dataset may not be there yet."""
    dataset_fingerprint: str
    cells: tuple[PlannedCell, ...]
    duplicates: tuple[Duplicate, ...]
    facts: DatasetFacts = field(default_factory=DatasetFacts)
    unread: tuple[str, ...] = ()
    """Settings that the sweep file or `--set` gives and no cell reads."""

    def cell(self, cell: str) -> PlannedCell:
        """The planned cell of that id; KeyError where there is none."""
        for planned in self.cells:
            if planned.plan.cell == cell:
                return planned
        raise KeyError(cell)


def plan_sweep(spec: SweepSpec, *, store_root: Path, share: bool = True) -> SweepPlan:
    """Cells with their stage keys, duplicates collapsed; `share=False` gives each cell stage folders of its own.

    SpecError, at the place of the setting to change, where a cell is impossible on this dataset.
    """
    store_root = _absolute(store_root)
    dataset_path, index = _find_data(spec, store_root)
    check_report_classes(spec, index)
    cells: dict[str, PlannedCell] = {}
    duplicates, asked = [], []
    for cell in spec.cells():
        planned = _plan_cell(cell, spec, index, share=share)
        asked.append((cell, planned.chain))
        first = cells.setdefault(planned.plan.cell, planned)
        if first is not planned:
            duplicates.append(_duplicate(planned, first))
    return SweepPlan(
        spec=spec,
        identity=spec.identity,
        store_root=store_root,
        dataset_path=dataset_path,
        dataset_fingerprint=index.fingerprint,
        cells=tuple(cells.values()),
        duplicates=tuple(duplicates),
        facts=dataset_facts(index),
        unread=unread_settings(asked, index),
    )


def _absolute(path: str | Path) -> Path:
    """Without `..`, and without following links: Ray changes a trial's working directory."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100


def _find_data(spec: SweepSpec, store_root: Path) -> tuple[Path, DatasetIndex]:
    if spec.data == "phantom":
        from uscl.data.phantom import phantom_index

        index = phantom_index(spec.phantom)
        return store_root / "data" / f"phantom-{index.fingerprint[:10]}", index
    path = _absolute(spec.data)
    return path, open_dataset(path).index


def _plan_cell(cell: Cell, sweep: SweepSpec, index: DatasetIndex, *, share: bool) -> PlannedCell:
    _check_content(cell, index)
    _check_classes(cell, index)
    try:
        links = chain(cell.spec, index)
    except DataError as error:
        raise _placed(error, cell, sweep, index) from error
    except SpecError as error:  # worded as `setting: message`; here it gets its place
        raise cell.error(*str(error).split(": ", 1)) from None
    _check_against_data(cell, links, index)
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


# ---- settings that only the data can refuse


def _check_against_data(cell: Cell, links: Chain, index: DatasetIndex) -> None:
    spec = cell.spec
    if spec.image.size > index.size and spec.method != "nnunetv2":  # which reads labelled images at native size
        raise cell.error(
            "image.size",
            f"{spec.image.size} is larger than the {index.size} px frames of dataset '{index.name}'; "
            f"set at most {index.size}, or make the dataset larger",
        )
    if spec.speckle.weight and spec.speckle.permuted and len(links.stage("finetune").data.cases) < 2:
        said = f"true takes the speckle of another case, and labels.fraction {spec.labels.fraction:g} keeps one"
        raise cell.error("speckle.permuted", f"{said}; keep more, or set false")
    if spec.method == "pixel_supcon" and not spec.pixel.background and len(index.classes) < 2:
        said = f"false leaves one class, and dataset '{index.name}' has no other to contrast it with; set true"
        raise cell.error("pixel.background", said)
    if clip_stages(spec):
        read = set(links.stage("encoder").data.clips)
        clips = [clip for clip in index.clips if clip.clip in read]
        check_batches(cell, clips, index)
        if spec.temporal.polarity != "none":
            _check_window(cell, clips)


def _placed(error: DataError, cell: Cell, sweep: SweepSpec, index: DatasetIndex) -> SpecError:
    """Why a cell has no training cases, at the setting to change: the label fraction, or else the dataset."""
    whole = cell.spec.labels.model_copy(update={"fraction": 1.0})
    try:
        chain(cell.spec.model_copy(update={"labels": whole}), index)
    except DataError:
        return sweep.error("phantom.patients" if sweep.data == "phantom" else "data", str(error))
    return cell.error("labels.fraction", str(error))


def _check_content(cell: Cell, index: DatasetIndex) -> None:
    """That there is something to pretrain on, where the method pretrains, and something to fine-tune on."""
    if all(case.excluded for case in index.cases):
        raise DataError(
            f"dataset '{index.name}' has no labelled images to fine-tune on; merge one with labels (uscl data merge)"
        )
    if clip_stages(cell.spec) and not index.clips:
        said = f"dataset '{index.name}' has no clips to pretrain on; merge one with clips (uscl data merge)"
        raise cell.error("method", f"{said}, or set method: supervised")


def _check_classes(cell: Cell, index: DatasetIndex) -> None:
    unknown = [name for name in cell.spec.speckle.classes if name not in index.classes]
    if unknown:
        said = f"'{unknown[0]}' is no class of dataset '{index.name}'; it has {', '.join(index.classes)}"
        raise cell.error("speckle.classes", said)


def _check_window(cell: Cell, clips: Sequence[ClipEntry]) -> None:
    unit, window = cell.spec.temporal.unit, cell.spec.temporal.window
    timeless = next((clip.clip for clip in clips if not clip.has_times), None)
    if unit == "ms" and timeless is not None:
        raise cell.error("temporal.unit", f"ms needs frame times (column time_ms), and clip {timeless} has none")
    longest = max((_extent(clip, unit) for clip in clips), default=0.0)
    if window > longest:
        said = f"{window:g} {unit} is longer than every clip; the longest spans {longest:g} {unit}"
        raise cell.error("temporal.window", said)
    apart = min((_extent(clip, unit) / (clip.num_frames - 1) for clip in clips if clip.num_frames > 1), default=0.0)
    if window < apart * (1 - 1e-6):  # every clip would count as too short for temporal pairs
        said = f"{window:g} {unit} holds no other frame; frames of a clip are {apart:g} {unit} apart or more"
        raise cell.error("temporal.window", said)
    _check_far(cell, longest)


def _check_far(cell: Cell, longest: float) -> None:
    """Where far frames are negatives, some clip must have a frame beyond window and guard."""
    temporal = cell.spec.temporal
    if temporal.polarity not in ("negative", "positive_negative") or temporal.negatives == "cross":
        return
    if longest <= temporal.window or longest < temporal.window + temporal.guard:
        raise cell.error(
            "temporal.window",
            f"no clip has a frame beyond window {temporal.window:g} and guard {temporal.guard:g} to be a negative; "
            f"the longest spans {longest:g} {temporal.unit}",
        )


def _extent(clip: ClipEntry, unit: str) -> float:
    gaps = clip.num_frames - 1
    if unit == "frames":
        return float(gaps)
    return gaps * clip.frame_time_ms if unit == "ms" else gaps / clip.num_frames


# ---- what the store holds of it


@dataclass(frozen=True, slots=True)
class CellOutlook:
    """What a run would do for one cell: stage names it finds, and those it has to train or evaluate."""

    cell: str
    reused: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do (evaluated, or diverged)."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Survey:
    """Links of a plan that the store holds, and those of them that diverged."""

    present: frozenset[str]
    diverged: frozenset[str]


def link(plan: CellPlan, ref: StageRef) -> str:
    """The name of one stage output of a cell; equal for all cells that share it."""
    return f"{plan.namespace}/{ref.kind}/{ref.key}"


def cell_store(store_root: Path, plan: CellPlan) -> StageStore:
    """The store that a cell reads and writes."""
    store = StageStore(store_root)
    return store.scoped(plan.namespace) if plan.namespace else store


def survey(cells: Iterable[PlannedCell], store_root: Path) -> Survey:
    """Which stages have a manifest, each looked up once."""
    outcomes: dict[str, Outcome | None] = {}
    for planned in cells:
        store = cell_store(store_root, planned.plan)
        for ref in planned.plan.stages.values():
            name = link(planned.plan, ref)
            if name not in outcomes:
                manifest = store.manifest(ref)
                outcomes[name] = manifest.outcome if manifest else None
    return Survey(
        present=frozenset(name for name, outcome in outcomes.items() if outcome is not None),
        diverged=frozenset(name for name, outcome in outcomes.items() if outcome is Outcome.DIVERGED),
    )


def outlook(plan: CellPlan, found: Survey) -> CellOutlook:
    """What of one cell is done; found from the end of the chain, as a stage reads its direct parent only."""
    missing = [name for name in plan.stages if name.startswith("evaluate") and not _has(plan, name, found)]
    trained = [name for name in plan.stages if not name.startswith("evaluate")]
    for name in reversed(trained) if missing else ():
        if _has(plan, name, found):
            if link(plan, plan.stages[name]) in found.diverged:
                missing = []
            break
        missing.insert(0, name)
    return CellOutlook(plan.cell, tuple(name for name in plan.stages if _has(plan, name, found)), tuple(missing))


def _has(plan: CellPlan, name: str, found: Survey) -> bool:
    return link(plan, plan.stages[name]) in found.present


def to_do(plan: SweepPlan) -> tuple[CellOutlook, ...]:
    """The outlook of every cell of a plan against its store as it is now."""
    found = survey(plan.cells, plan.store_root)
    return tuple(outlook(planned.plan, found) for planned in plan.cells)


def queue_cells(cells: Sequence[PlannedCell]) -> list[QueueCell]:
    """The cells as the queue wants them; seed blocks are numbered as they first occur."""
    blocks: dict[Any, int] = {}
    queued = []
    for planned in cells:
        plan, spec = planned.plan, planned.spec
        block = blocks.setdefault((spec.seed.pretrain, spec.seed.finetune, spec.labels.draw), len(blocks))
        links = {name: link(plan, ref) for name, ref in plan.stages.items()}
        trained = tuple(value for name, value in links.items() if not name.startswith("evaluate"))
        evaluated = tuple(value for name, value in links.items() if name.startswith("evaluate"))
        queued.append(QueueCell(plan.cell, block, trained, evaluated))
    return queued
