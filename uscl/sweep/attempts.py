"""A sweep's events as attempts at its cells. Pure; what it does not know, as a later release's records, it passes over.

A record is a line of events.jsonl (`dispatch.event_record`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from uscl.records import CellPlan

ENDS = {"CellFinished": "finished", "Drained": "drained", "Failed": "failed"}
"""Event -> how the attempt ended."""


@dataclass(frozen=True, slots=True)
class StageStep:
    """A stage that an attempt had behind it."""

    kind: str
    key: str
    trained: bool
    """By this attempt; otherwise it was in the store."""
    outcome: str = ""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()


@dataclass(slots=True)
class Attempt:
    """One execution of a cell, as far as its records tell."""

    cell: str
    name: str
    node: str
    started_s: float
    """Unix time at which it was handed out, by its name; of its first record where the name is no time."""
    last_s: float
    """Unix time of its last record."""
    stages: list[StageStep] = field(default_factory=list)
    end: str = ""
    """`finished`, `diverged`, `drained`, `failed`; empty where it still runs or its driver was killed."""
    key: str = ""
    """Key of the stage at which it was drained or failed, where the record says so."""
    step: int = 0
    """Optimiser steps of that stage when it was drained."""
    failure: str = ""
    """Class of the failure: `error`, `oom`, `lost`, ..."""
    message: str = ""
    traceback: str = ""
    log_tail: tuple[str, ...] = ()

    @property
    def trained_s(self) -> float:
        """Seconds of the stages that it trained to their end."""
        return sum(stage.seconds for stage in self.stages)


def attempts(records: Iterable[Mapping[str, Any]]) -> list[Attempt]:
    """Every attempt, in the order of their first records; a record that names no cell, attempt or time is left out."""
    found: dict[tuple[str, str], Attempt] = {}
    for record in records:
        try:
            cell, name, time_s = str(record["cell"]), str(record["attempt"]), float(record["time_s"])
        except (KeyError, TypeError, ValueError):
            continue
        attempt = found.setdefault((cell, name), Attempt(cell, name, "", _begun_s(name, time_s), time_s))
        attempt.last_s = max(attempt.last_s, time_s)
        attempt.node = str(record.get("node") or attempt.node)
        try:
            _take(attempt, record)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return list(found.values())


def _begun_s(name: str, first_s: float) -> float:
    """An attempt's name begins with its time (`store.stages.new_attempt`): its first record may be long after."""
    try:
        named = datetime.strptime(name.split("Z-")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return first_s
    return min(named.timestamp(), first_s)


def _take(attempt: Attempt, record: Mapping[str, Any]) -> None:
    what = record.get("event")
    if what in ("StagePublished", "StageReused"):
        trained = what == "StagePublished"
        outcome, seconds = str(record.get("outcome", "")), float(record.get("seconds", 0.0))
        step = StageStep(record["kind"], record["key"], trained, outcome, seconds, tuple(record.get("flags", ())))
        attempt.stages.append(step)
    if what not in ENDS:
        return
    attempt.end = ENDS[what]
    attempt.key, attempt.step = str(record.get("key", "")), int(record.get("step", 0))
    if what == "CellFinished" and record["result"]["outcome"] == "diverged":
        attempt.end = "diverged"
    if what == "Failed":
        attempt.failure, attempt.message = str(record["failure"]), str(record.get("message", ""))
        attempt.traceback = str(record.get("traceback", ""))
        attempt.log_tail = tuple(map(str, record.get("log_tail") or ()))


def stage_at_end(attempt: Attempt, plan: CellPlan) -> str:
    """The name of the stage at which an attempt was when it ended: as its record says, or the first not behind it."""
    names = plan.stage_names
    if attempt.key in names:
        return names[attempt.key]
    chain = list(plan.stages)
    behind = [chain.index(names[step.key]) for step in attempt.stages if step.key in names]
    return chain[min(max(behind, default=-1) + 1, len(chain) - 1)]


def last_of(found: Iterable[Attempt]) -> dict[str, Attempt]:
    """Cell -> its last attempt."""
    return {attempt.cell: attempt for attempt in found}


def first_line(message: str, *, length: int = 200) -> str:
    """Of a message, cut."""
    lines = message.strip().splitlines()
    return lines[0][:length] if lines else ""
