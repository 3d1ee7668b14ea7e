"""What `uscl sweep --dry-run` prints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from random import Random
from typing import Any

import click

from uscl.cli.check import unread_note
from uscl.cli.gc import size_text
from uscl.sweep.board import duration
from uscl.sweep.editions import edition_notes
from uscl.sweep.estimate import KindCount
from uscl.sweep.proposals import likely
from uscl.sweep.rehearsal import Rehearsal, rehearse
from uscl.sweep.runner import RunOptions
from uscl.sweep.study import Study, study_of

_OF_A_SEARCH = "random points stand for the proposals to come; the winners' test scores are not counted"
CANNOT_FIT = 3
"""Exit code where the machine cannot hold what is asked for."""
_BASES = {
    "history": "{} by the store's own times",
    "similar": "{} by those of similar stages",
    "probe": "{} by a timed probe",
    "other device": "{} by times of another device",
}


def say_cost(study: Study, options: RunOptions, *, as_json: bool, clock: Callable[[], float] = time.time) -> int:
    """Print what a start would do and cost; 3 where it cannot fit, else 0. A search is taken to its end."""
    searches = any(plan.spec.search is not None for plan in study.plans)
    if searches:
        study = study_of([likely(plan, Random(0)) for plan in study.plans])
    rehearsal = rehearse(study, options)
    if searches:
        rehearsal = replace(rehearsal, notes=(_OF_A_SEARCH, *rehearsal.notes))
    ends_s = clock() + rehearsal.estimate.wall_seconds(rehearsal.placement.workers)
    if as_json:
        click.echo(json.dumps(_document(study, rehearsal, ends_s), indent=2))
    else:
        for line in cost_lines(study, rehearsal, ends_s, until_s=options.until_s):
            click.echo(line)
    return CANNOT_FIT if rehearsal.refusals else 0


def cost_lines(study: Study, rehearsal: Rehearsal, ends_s: float, *, until_s: float | None = None) -> list[str]:
    """Cells, stages by kind, time, disk, and why it cannot fit where it cannot."""
    found = rehearsal.estimate
    cells = f"{len(study.cells)} cells: {found.finished} finished, {found.failed} failed last time, {found.new} new"
    lines = [f"{study.identity}: {cells}"]
    lines += [f"{plan.identity}: {note}" for plan in study.plans for note in (*unread_note(plan), *edition_notes(plan))]
    lines += [f"  {_kind(kind)}" for kind in found.kinds]
    if found.finished == len(study.cells):
        return [*lines, "nothing to do", *_refusals(rehearsal)]
    lines += [*_time(rehearsal, ends_s), _disk(rehearsal), *(f"note: {note}" for note in rehearsal.notes)]
    if until_s is not None and until_s < ends_s:
        lines.append(f"note: --until {datetime.fromtimestamp(until_s):%Y-%m-%d %H:%M} comes before that")
    return lines + _refusals(rehearsal)


def _kind(count: KindCount) -> str:
    parts = [f"{number} {word}" for word in ("cached", "failed", "new") if (number := getattr(count, word))]
    seconds = f", {duration(count.seconds)} of work" if count.seconds else ""
    unknown = f", {count.unknown} of unknown time" if count.unknown else ""
    return f"{count.distinct} x {count.kind}: {', '.join(parts)}{seconds}{unknown}"


def _time(rehearsal: Rehearsal, ends_s: float) -> list[str]:
    found, placement = rehearsal.estimate, rehearsal.placement
    least = "at least " if found.unknown else ""
    where = rehearsal.device if placement.device == "cuda" else "no GPU here" if placement.fallback else "on the CPU"
    unit = "GPU-hours" if placement.device == "cuda" else "CPU-hours"
    bases = ", ".join(_BASES[basis].format(count) for basis, count in found.bases.items())
    hours = f"{unit}: {least}{rehearsal.device_hours:.2g} ({where}; stages: {bases or 'none of known time'})"
    if not found.bases:
        return [f"{unit}: unknown ({where})", "end: unknown"]
    bound = "the longest chain of stages decides" if found.bound_by_chain(placement.workers) else "more would be faster"
    workers = "1 worker" if placement.workers == 1 else f"{placement.workers} workers"
    wall = duration(found.wall_seconds(placement.workers))
    return [hours, f"end: {least}{wall} from now, {_when(ends_s)}, with {workers} ({bound})"]


def _when(moment_s: float) -> str:
    return f"{datetime.fromtimestamp(moment_s):%a %d %b %H:%M}"


def _disk(rehearsal: Rehearsal) -> str:
    found, free = rehearsal.estimate, rehearsal.free_bytes
    least = "at least " if found.unknown else "about "
    parts = f"{size_text(found.output_bytes)} of outputs, {size_text(found.progress_bytes)} of resume points meanwhile"
    parts += f", {size_text(rehearsal.dataset_bytes)} of phantom" if rehearsal.dataset_bytes else ""
    there = "free space unknown" if free is None else f"{size_text(free)} free"
    return f"disk: {least}{size_text(rehearsal.disk_bytes)} ({parts}); {there}"


def _refusals(rehearsal: Rehearsal) -> list[str]:
    return [f"cannot fit: {reason}" for reason in rehearsal.refusals]


def _document(study: Study, rehearsal: Rehearsal, ends_s: float) -> dict[str, Any]:
    found, placement = rehearsal.estimate, rehearsal.placement
    on_gpu = placement.device == "cuda"
    return {
        "sweeps": [plan.identity for plan in study.plans],
        "cells": {"all": len(study.cells), "finished": found.finished, "failed": found.failed, "new": found.new},
        "stages": [asdict(kind) | {"distinct": kind.distinct} for kind in found.kinds],
        "device": rehearsal.device,
        "workers": placement.workers,
        "gpu_hours": rehearsal.device_hours if on_gpu else None,
        "cpu_hours": None if on_gpu else rehearsal.device_hours,
        "work_seconds": found.seconds,
        "longest_chain_seconds": found.chain_seconds,
        "wall_seconds": found.wall_seconds(placement.workers),
        "bound_by": "longest chain" if found.bound_by_chain(placement.workers) else "workers",
        "ends": datetime.fromtimestamp(ends_s).astimezone().isoformat(timespec="seconds"),
        "stages_of_unknown_time": found.unknown,
        "basis": dict(found.bases),
        "disk": {
            "output_bytes": found.output_bytes,
            "progress_bytes": found.progress_bytes,
            "dataset_bytes": rehearsal.dataset_bytes,
            "needed_bytes": rehearsal.disk_bytes,
            "free_bytes": rehearsal.free_bytes,
        },
        "fits": not rehearsal.refusals,
        "refusals": list(rehearsal.refusals),
        "notes": [*(note for plan in study.plans for note in edition_notes(plan)), *rehearsal.notes],
    }
