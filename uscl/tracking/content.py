"""What the mirror says of a cell, as a function of the store and the sweep's events. Knows no MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import yaml

from uscl.records import (
    CellFinished,
    CellPlan,
    Drained,
    Failed,
    Outcome,
    StageManifest,
    SweepEvent,
    event_from_json,
)
from uscl.spec.methods import is_moot
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore

PARAM_CHARACTERS = 6000
"""MLflow refuses longer params (sweep-engine.md 4.1)."""
TAG_CHARACTERS = 4900


@dataclass(frozen=True, slots=True)
class CellHistory:
    """What the events say of one cell; the store says what it has."""

    first_s: float = math.nan
    last_s: float = math.nan
    attempts: frozenset[str] = frozenset()
    state: str = ""
    """`running`, `failed`, `drained` or `finished`; empty where nothing has happened."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value at one step, under the name that MLflow shows."""

    name: str
    value: float
    step: int


@dataclass(frozen=True, slots=True)
class RunContent:
    """What a run must say, except its measurements and files."""

    name: str
    status: str
    """MLflow's word: RUNNING, FINISHED, FAILED or KILLED."""
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    start_ms: int | None = None
    end_ms: int | None = None


def event_of(document: Mapping[str, Any]) -> SweepEvent:
    """A record of events.jsonl as an event, its fields nested or side by side. KeyError or TypeError if it is none."""
    names = ("time_s", "cell", "attempt", "node")
    beside = (*names, "log_tail")
    nested = document["event"]
    event = nested if isinstance(nested, Mapping) else {k: v for k, v in document.items() if k not in beside}
    return SweepEvent(**{name: document[name] for name in names}, event=event_from_json(event))


def begun_s(event: SweepEvent) -> float:
    """When the event's attempt began (Unix time): its name says it, since events.jsonl keeps no progress."""
    named = named_s(event.attempt)
    return event.time_s if math.isnan(named) else min(named, event.time_s)


def named_s(attempt: str) -> float:
    """When an attempt began (Unix time), by its name; NaN where it does not say."""
    try:
        return datetime.strptime(attempt.split("-")[0], "%Y%m%dT%H%M%S.%f%z").timestamp()
    except ValueError:
        return math.nan


def after(history: CellHistory, event: SweepEvent) -> CellHistory:
    """The history with one event more."""
    states: dict[type, str] = {CellFinished: "finished", Drained: "drained", Failed: "failed"}
    return CellHistory(
        first_s=begun_s(event) if math.isnan(history.first_s) else history.first_s,
        last_s=event.time_s,
        attempts=history.attempts | {event.attempt},
        state=states.get(type(event.event), "running"),
        failure=event.event.message if isinstance(event.event, Failed) else "",
    )


def interrupted(history: CellHistory) -> CellHistory:
    """The history once its driver is gone: what was running was killed."""
    return replace(history, state="drained") if history.state == "running" else history


def manifests_of(store: StageStore, cell: CellPlan) -> dict[str, StageManifest]:
    """Published stages of a cell by name, in the chain's order."""
    scoped = store.scoped(cell.namespace)
    found = {name: scoped.manifest(ref) for name, ref in cell.stages.items()}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


def outcome_of(cell: CellPlan, manifests: Mapping[str, StageManifest]) -> Outcome | None:
    """How the cell ended, or None while it has not."""
    if any(manifest.outcome is Outcome.DIVERGED for manifest in manifests.values()):
        return Outcome.DIVERGED
    evaluations = [name for name in cell.stages if name.startswith("evaluate")]
    return Outcome.DONE if evaluations and all(name in manifests for name in evaluations) else None


def run_content(
    identity: str, cell: CellPlan, manifests: Mapping[str, StageManifest], history: CellHistory
) -> RunContent | None:
    """A cell's run, or None where the cell has not begun."""
    outcome = outcome_of(cell, manifests)
    if outcome is None and not history.state and "finetune" not in manifests:
        return None
    # A complete cell whose trial has not said so yet is still RUNNING: its end is not known.
    status = "RUNNING" if history.state == "running" else "FAILED" if history.state == "failed" else "KILLED"
    if outcome and status != "RUNNING":
        status = "FINISHED"
    start_s, end_s = history.first_s, history.last_s
    if not history.state and "finetune" in manifests:  # trained by another sweep
        start_s, end_s = named_s(manifests["finetune"].attempt), _finished_s(manifests.values())
    return RunContent(
        name=cell.label or f"cell {cell.number}",
        status=status,
        tags=_tags(identity, cell, manifests, history) | {"uscl.outcome": str(outcome or history.state or "drained")},
        params=cell_params(cell),
        start_ms=_milliseconds(start_s),
        end_ms=None if status == "RUNNING" else _milliseconds(end_s),
    )


def cell_params(cell: CellPlan) -> dict[str, str]:
    """What a run's params show: its axes, what the file fixes otherwise than the recipe, its method and its short id.

    Its number may change, so that is a tag.
    """
    method = {"method": cell.settings["method"]} if "method" in cell.settings else {}
    values = {**method, **cell.fixed, **cell.axes, "cell": cell.cell[:10]}
    # one run serves any value that its method does not read
    values = {name: value for name, value in values.items() if not is_moot(name, cell.settings)}
    return {name: clipped(text_of(value), PARAM_CHARACTERS) for name, value in values.items()}


def number_tag(number: int) -> str:
    """A cell's number as a tag that sorts as text; 0 is the sweep's own run."""
    return f"{number:04d}"


def varying(cells: Sequence[CellPlan]) -> list[str]:
    """The axes that have more than one value in the sweep, in the order of the cells' own."""
    axes = dict.fromkeys(name for cell in cells for name in cell.axes)
    return [name for name in axes if len({text_of(cell.axes.get(name, "")) for cell in cells}) > 1]


def told_apart(params: Sequence[Mapping[str, str]]) -> list[str]:
    """The params in which an experiment's runs differ, those of an earlier `--set` or file too; not the short id."""
    names = dict.fromkeys(name for of_run in params for name in of_run if name != "cell")
    return [name for name in names if len({of_run.get(name) for of_run in params}) > 1]


def measurements(store: StageStore, cell: CellPlan, stage: str, manifest: StageManifest | None) -> list[Measurement]:
    """All that is durable of one stage: its curve, and once published its final values at step 0.

    A final value whose name has a curve is left out: the curve ends in it.
    """
    curve = list(_curve(store.scoped(cell.namespace), cell, stage, manifest))
    drawn = {point.name for point in curve}
    final = manifest.metrics if manifest is not None else {}
    prefix = "" if stage.startswith("evaluate") else f"{stage}/"
    named = {_prefixed(prefix, name): float(value) for name, value in final.items()}
    return curve + [Measurement(name, value, 0) for name, value in named.items() if name not in drawn]


def text_of(value: Any) -> str:
    """A setting as text: words bare, all else as JSON, so 0.001 and 1e-3 read alike."""
    return value if isinstance(value, str) else json.dumps(value)


def clipped(text: str, characters: int) -> str:
    """The text, cut to a length that the tracker takes."""
    return text if len(text) <= characters else text[: characters - 3] + "..."


def config_yaml(settings: Mapping[str, Any]) -> str:
    """Dotted settings as nested YAML, in their order."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, last = name.split(".")
        at = nested
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(nested, sort_keys=False)


def stages_json(manifests: Mapping[str, StageManifest]) -> str:
    """Which stage outputs a cell is made of, and where and how each was trained."""
    kept = ("key", "attempt", "outcome", "flags", "parent", "provenance")
    chosen = {stage: {name: manifest.to_json()[name] for name in kept} for stage, manifest in manifests.items()}
    return json.dumps(chosen, indent=1, default=str) + "\n"


def fold(events: Iterable[SweepEvent]) -> dict[str, CellHistory]:
    """Histories by cell id."""
    histories: dict[str, CellHistory] = {}
    for event in events:
        histories[event.cell] = after(histories.get(event.cell, CellHistory()), event)
    return histories


def _tags(
    identity: str, cell: CellPlan, manifests: Mapping[str, StageManifest], history: CellHistory
) -> dict[str, str]:
    flags = dict.fromkeys(flag for manifest in manifests.values() for flag in manifest.flags)
    return {
        "uscl.sweep": identity,
        "uscl.cell": cell.cell,
        "uscl.number": number_tag(cell.number),
        "uscl.attempts": str(len(history.attempts)),
        "uscl.flags": " ".join(flags),
        "uscl.failure": clipped(history.failure, TAG_CHARACTERS),
        **_search_tags(cell),
        **{f"uscl.{stage}": ref.key for stage, ref in cell.stages.items() if not stage.startswith("evaluate")},
        **{f"uscl.{name}": clipped(text_of(value), TAG_CHARACTERS) for name, value in cell.axes.items()},
    }


def _search_tags(cell: CellPlan) -> dict[str, str]:
    if cell.proposal is None:
        return {}
    return {"uscl.proposal": number_tag(cell.proposal), "uscl.winner": "yes" if cell.is_winner else "no"}


def _curve(store: StageStore, cell: CellPlan, stage: str, manifest: StageManifest | None) -> Iterator[Measurement]:
    name = "metrics.parquet"
    content = None
    if manifest is not None:
        content = store.read(manifest.ref, name) if name in manifest.files else None
    elif (progress := store.load_progress(cell.stages[stage])) is not None:
        content = progress.files.get(name)
    for point in decode_points(content) if content else ():
        for key, value in point.values.items():
            yield Measurement(_prefixed(f"{stage}/", key), value, point.step)


def _finished_s(manifests: Iterable[StageManifest]) -> float:
    """When the last of the stages was published (Unix time); NaN where none says so."""
    said = [manifest.provenance["finished"] for manifest in manifests if "finished" in manifest.provenance]
    return max((datetime.fromisoformat(text).timestamp() for text in said), default=math.nan)


def _prefixed(prefix: str, name: str) -> str:
    return name if name.startswith(prefix) else prefix + name


def _milliseconds(seconds: float) -> int | None:
    return None if math.isnan(seconds) else round(seconds * 1000)
