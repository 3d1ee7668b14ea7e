"""What comes out of `uscl`, as frozen values: manifests, metric points, case rows, cell results, trial events.

Nothing here computes; every value turns into JSON and back, so that the store, the tracker and the report
read the same record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

Metrics: TypeAlias = Mapping[str, float]
"""Measurements by name; slashes name measurements: `val/dsc/cortex`."""

STAGE_KINDS = ("encoder", "decoder", "finetune", "evaluate")
"""The links of a trial's chain, in order; `evaluate` occurs twice, for the validation and the test split."""


class Outcome(StrEnum):
    """How a stage or a cell ended. DIVERGED is a result (a non-finite loss), not an error."""

    DONE = "done"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class StageRef:
    """Where one stage output lives: its kind and its content key (64 hex digits)."""

    kind: str
    key: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.key[:10]}"


@dataclass(frozen=True, slots=True)
class ParentRef:
    """The exact parent a stage was trained on: its key, winning attempt and the sha256 of its weights."""

    kind: str
    key: str
    attempt: str
    sha256: str


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """Measurements at one optimiser step of one stage (`encoder/loss`, `finetune/dice`, ...)."""

    step: int
    values: Metrics


@dataclass(frozen=True, slots=True)
class StageManifest:
    """What a published stage is: its files with their sha256, what it read, how it ended, where it ran."""

    kind: str
    key: str
    attempt: str
    outcome: Outcome
    files: Mapping[str, str]
    """File name in the attempt's folder -> sha256 (hex)."""
    parent: ParentRef | None
    inputs: Mapping[str, Any]
    """The inputs value of the stage, as JSON: exactly what the key was made of."""
    metrics: Metrics
    """Final measurements; for `evaluate` the aggregated `val/...` or `test/...`."""
    flags: tuple[str, ...]
    """Warnings that belong beside a result: `collapsed`."""
    provenance: Mapping[str, Any]
    """Versions, git revision, device, seconds, frames_per_s, host, finish time."""

    @property
    def ref(self) -> StageRef:
        """The stage this manifest belongs to."""
        return StageRef(self.kind, self.key)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its inverse."""
        return dataclasses.asdict(self) | {"outcome": str(self.outcome), "flags": list(self.flags)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StageManifest:
        """Read what `to_json` wrote. KeyError, TypeError or ValueError where the document is not a manifest."""
        fields = dict(document)
        fields["outcome"] = Outcome(fields["outcome"])
        fields["flags"] = tuple(fields["flags"])
        fields["parent"] = ParentRef(**fields["parent"]) if fields["parent"] else None
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One class of one evaluated case: `values` holds every measurement, NaN where a rule gives none."""

    case: str
    patient: str
    split: str
    class_name: str
    height_px: int
    width_px: int
    """The resolution the row was measured at: the native one."""
    values: Metrics


@dataclass(frozen=True, slots=True)
class CellPlan:
    """A cell as the driver planned it; all that tracker and report need to know of it."""

    number: int
    """As `uscl check` prints it, from 1."""
    cell: str
    """The cell's id: the key of its `finetune` stage."""
    label: str
    axes: Mapping[str, Any]
    """The settings by which this cell differs from its sweep's fixed part, and those that `--set` changes."""
    settings: Mapping[str, Any]
    """Every setting of the trial, by dotted name."""
    stages: Mapping[str, StageRef]
    """Chain in order: encoder, decoder, finetune, evaluate/val, evaluate/test (those that it has)."""
    namespace: str = ""
    """Empty where stages are shared; with `--no-share` the cell's own corner of the store."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Settings besides the axes that the file's `fixed` sets otherwise than the recipe and the defaults do."""
    cases: Mapping[str, int] = field(default_factory=dict)
    """How many labelled cases a stage reads, by its name in the chain: those trained on, or scored."""
    proposal: int | None = None
    """Of a search: the index of the proposal that this is a repeat of."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its inverse."""
        return dataclasses.asdict(self)

    @property
    def parts(self) -> tuple[str, ...]:
        """The splits that it is scored on: `val`, `test`."""
        return tuple(name.removeprefix("evaluate/") for name in self.stages if name.startswith("evaluate/"))

    @property
    def is_winner(self) -> bool:
        """Whether its search chose it: of a search, winners alone have a test evaluation."""
        return self.proposal is not None and "evaluate/test" in self.stages

    @property
    def stage_names(self) -> dict[str, str]:
        """Stage key -> its name in the chain: what tells the two evaluations apart."""
        return {ref.key: name for name, ref in self.stages.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CellPlan:
        """Read what `to_json` wrote."""
        stages = {name: StageRef(**ref) for name, ref in document["stages"].items()}
        return cls(**{**document, "stages": stages})


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a search asked for once; with the results in the store, all that its sampler needs to know of the past."""

    index: int
    """From 0, in the order of asking; it seeds the sampler together with the search's seed."""
    params: Mapping[str, Any]
    """Setting -> proposed value, by dotted name; those that `when` leaves out are missing."""
    distributions: Mapping[str, str] = field(default_factory=dict)
    """Setting -> what it was drawn from, as Optuna's JSON."""
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    """Optuna's own notes: NSGA-II keeps its generation here."""
    cells: tuple[str, ...] = ()
    """Ids of its cells, one per repeat; empty where it is refused."""
    refused: str = ""
    """Why it cannot be trained; empty where it can."""
    same_as: int | None = None
    """The index of the earlier proposal with the same cells; nothing is trained twice."""

    @property
    def counts(self) -> bool:
        """Whether it is one of the search's `trials`: neither refused nor a repetition."""
        return not self.refused and self.same_as is None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its inverse."""
        return dataclasses.asdict(self) | {"cells": list(self.cells)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Proposal:
        """Read what `to_json` wrote. KeyError or TypeError where the document is no proposal."""
        return cls(**{**document, "index": int(document["index"]), "cells": tuple(document["cells"])})


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a report must know of a dataset besides the store's records."""

    name: str = ""
    agreement: Metrics = field(default_factory=dict)
    """Scores between two raters (`dsc`, `dsc/cortex`, `delta_snr`): the human ceiling; empty where nobody measured."""
    unit: str = "patient"
    """What stands for a patient in statistics: where some patients are unknown the group, or else the case."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Case -> its unit; empty where every patient is known, and is the unit."""
    raters: tuple[str, ...] = ()
    """Who drew masks, in the order in which `labels.rater` falls back on them; empty where the dataset names nobody."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DatasetFacts:
        """Read what `to_json` wrote, or an older release, which knew no raters."""
        return cls(**{**document, "raters": tuple(document.get("raters", ()))})


NO_FACTS = DatasetFacts()
"""Of a sweep that an older release ran: nothing is known of its dataset."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """A finished cell: `metrics` holds the aggregated `val/...` and `test/...` of its evaluations."""

    cell: str
    outcome: Outcome
    metrics: Metrics
    flags: tuple[str, ...] = ()


# ---- events of a trial, in the order a trial may yield them


@dataclass(frozen=True, slots=True)
class StageReused:
    """The stage was in the store already (or another trial published it first)."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage under way: `step` of `steps`, the last measurements, and what of it is safe in the store."""

    kind: str
    key: str
    step: int
    steps: int
    frames_per_s: float
    values: Metrics = field(default_factory=dict)
    durable_step: int = 0


@dataclass(frozen=True, slots=True)
class StagePublished:
    """This trial trained the stage and its manifest is in the store."""

    kind: str
    key: str
    outcome: Outcome
    seconds: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CellFinished:
    """Both evaluations of the cell exist (or it diverged)."""

    result: CellResult


@dataclass(frozen=True, slots=True)
class Drained:
    """The trial was asked to stop, saved its progress and ended."""

    kind: str
    key: str
    step: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The trial ended by an exception. `failure` names its class, a line of `sweep.failures.POLICIES`."""

    failure: str
    message: str
    traceback: str


TrialEvent: TypeAlias = StageReused | Progress | StagePublished | CellFinished | Drained | Failed

_EVENTS: dict[str, type] = {
    cls.__name__: cls for cls in (StageReused, Progress, StagePublished, CellFinished, Drained, Failed)
}


def event_to_json(event: TrialEvent) -> dict[str, Any]:
    """Plain JSON with the event's name under `event`."""
    return {"event": type(event).__name__} | dataclasses.asdict(event)


def event_from_json(document: Mapping[str, Any]) -> TrialEvent:
    """Read what `event_to_json` wrote. KeyError or TypeError where the document is no event."""
    fields = {name: value for name, value in document.items() if name != "event"}
    if "flags" in fields:
        fields["flags"] = tuple(fields["flags"])
    if "outcome" in fields:
        fields["outcome"] = Outcome(fields["outcome"])
    if "result" in fields:
        result = dict(fields["result"])
        result["outcome"], result["flags"] = Outcome(result["outcome"]), tuple(result.get("flags", ()))
        fields["result"] = CellResult(**result)
    event: TrialEvent = _EVENTS[document["event"]](**fields)
    return event


@dataclass(frozen=True, slots=True)
class SweepEvent:
    """An event of one attempt at one cell, as the driver hands it to its sinks and to events.jsonl."""

    time_s: float
    """Unix time on the driver."""
    cell: str
    attempt: str
    node: str
    event: TrialEvent


class Sink(Protocol):
    """Something that watches a sweep: the mirror, the live view. It must never raise into the sweep."""

    def on_event(self, event: SweepEvent) -> None:
        """Called on the driver for each event, in order; returns at once."""

    def on_cells(self, cells: Sequence[CellPlan]) -> None:
        """Called when a search has proposed cells or chosen winners, with all cells as they stand; returns at once."""

    def close(self) -> None:
        """Called once when the sweep has ended, finished or drained."""
