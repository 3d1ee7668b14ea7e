"""`uscl check FILE...`: the cells of sweep files and what each would reuse. `uscl schema`: their JSON Schema."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from uscl.cli.options import sweep_options
from uscl.cli.search_check import aligned, describe_search, search_lines
from uscl.errors import SpecError
from uscl.records import STAGE_KINDS
from uscl.report.footnotes import spans
from uscl.spec.positions import one_line
from uscl.spec.reader import load_sweep
from uscl.spec.reference import settings_page, sweep_schema
from uscl.store.roots import StoreRoot
from uscl.sweep.editions import edition_notes
from uscl.sweep.outlook import link, survey
from uscl.sweep.plan import SweepPlan, plan_sweep
from uscl.sweep.study import distinct_cells, study_of

_ID_DIGITS = 10
_STAGES = ("encoder", "decoder", "finetune", "evaluate/val", "evaluate/test")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A list of objects: cell, label, settings, stages, reuse, ...; of a search one, with its space.",
)
@sweep_options
def check(
    files: tuple[Path, ...],
    *,
    as_json: bool,
    recipe: str | None,
    data: str | None,
    name: str | None,
    sets: Sequence[str],
    store: StoreRoot,
) -> None:
    """Check sweep files; print their cells, and what each would reuse.

    For several files also what they are together, as `uscl sweep` runs them.
    """
    first_use: dict[str, tuple[SweepPlan, int]] = {}
    specs = [load_sweep(path, recipe=recipe, data=data, name=name, sets=sets) for path in files]
    plans = [plan_sweep(spec, store_root=store) for spec in specs]
    described = [(plan, describe_plan(plan, first_use)) for plan in plans]
    if as_json:
        click.echo(json.dumps([item for plan, cells in described for item in _as_json(plan, cells)], indent=2))
        return
    for plan, cells in described:
        click.echo("\n".join(plan_lines(plan, cells)))
    if len(plans) > 1:
        click.echo("\n".join(study_lines(plans)))


@click.command()
@click.option("--markdown", is_flag=True, help="The settings as a page of tables: docs/settings.md.")
def schema(*, markdown: bool) -> None:
    """Print the JSON Schema of a sweep file, for editors."""
    click.echo(settings_page() if markdown else json.dumps(sweep_schema(), indent=2), nl=not markdown)


def describe_plan(plan: SweepPlan, first_use: dict[str, tuple[SweepPlan, int]]) -> list[dict[str, Any]]:
    """One JSON object per distinct cell of a plan.

    `reuse` says for each stage `stored`, `cell 4` (trained for that cell; `cell 4 of NAME` in another file) or `new`.
    `first_use` remembers, over several plans, which cell is the first to need a stage output.
    """
    stored = survey(plan.cells, plan.store_root).present
    described = []
    for planned in plan.cells:
        cell = planned.plan
        reuse = {}
        for name, ref in cell.stages.items():
            user = first_use.setdefault(link(cell, ref), (plan, cell.number))
            reuse[name] = "stored" if link(cell, ref) in stored else _first_user(user, plan, cell.number)
        same = [duplicate.number for duplicate in plan.duplicates if duplicate.same_as == cell.number]
        described.append({**cell.to_json(), "sweep": plan.identity, "reuse": reuse, "duplicates": same})
    return described


def _first_user(user: tuple[SweepPlan, int], plan: SweepPlan, number: int) -> str:
    first_plan, first_number = user
    if first_plan is not plan:
        return f"cell {first_number} of {first_plan.identity}"
    return "new" if first_number == number else f"cell {first_number}"


def _as_json(plan: SweepPlan, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells of a grid; of a search one object, with the cells that it has proposed."""
    if plan.spec.search is None:
        return cells
    return [{"sweep": plan.identity, **describe_search(plan.spec.search), "cells": cells}]


def plan_lines(plan: SweepPlan, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a search seeks; the cells as a table, the duplicates by number, the labelled cases, what a run trains."""
    stages = [name for name in _STAGES if any(name in cell["reuse"] for cell in cells)]
    head = ["cell", "id", "label", *stages]
    rows = [
        [
            str(cell["number"]),
            cell["cell"][:_ID_DIGITS],
            cell["label"],
            *(cell["reuse"].get(name, "-") for name in stages),
        ]
        for cell in cells
    ]
    lines = [f"{plan.identity}: {plan.spec.source}, dataset {plan.dataset_path}"]
    if plan.spec.search is not None:
        lines += search_lines(plan.spec.search)
    if not cells:
        return [*lines, *edition_notes(plan)]
    notes = [*_twins(plan), *unread_note(plan), *edition_notes(plan)]
    return [*lines, *aligned([head, *rows]), *notes, _labels(plan), _summary(cells)]


def unread_note(plan: SweepPlan) -> list[str]:
    """A line about settings that are given and change nothing, where there are any."""
    return [f"note: {', '.join(plan.unread)}: given, and read by no cell that has it"] if plan.unread else []


def study_lines(plans: Sequence[SweepPlan]) -> list[str]:
    """What several sweeps are together, the store aside: distinct cells and stages; and why they cannot run as one."""
    cells = distinct_cells(plans)
    outputs = {link(cell.planned.plan, ref): ref.kind for cell in cells for ref in cell.planned.plan.stages.values()}
    kinds = Counter(outputs.values())
    stages = ", ".join(f"{kinds[kind]} x {kind}" for kind in STAGE_KINDS if kinds[kind])
    declared = sum(len(plan.cells) for plan in plans)
    searches = sum(plan.spec.search is not None for plan in plans)
    counted = f"{declared} cells, {len(cells)} distinct; {stages}" if cells else "no cells yet"
    proposed = f"; {searches} of them propose more" if searches else ""
    lines = [f"{len(plans)} sweeps, {counted}{proposed}"]
    try:
        study_of(plans)
    except SpecError as error:
        lines.append(f"not to be run in one command: {error}")
    return lines


def _twins(plan: SweepPlan) -> list[str]:
    numbers = [duplicate.number for duplicate in plan.duplicates]
    if not numbers:
        return []
    if len(numbers) == 1:
        return [f"cell {numbers[0]} is the same as cell {plan.duplicates[0].same_as}: runs once"]
    which = one_line(spans(numbers), length=80)
    return [f"{len(numbers)} cells are the same as an earlier one and run once: {which} (which as which: --json)"]


def _labels(plan: SweepPlan) -> str:
    """How many labelled cases each label fraction gives to fine-tuning; a range where splits or draws differ."""
    counts: dict[float, set[int]] = {}
    for planned in plan.cells:
        number = len(planned.chain.stage("finetune").data.cases)
        counts.setdefault(planned.spec.labels.fraction, set()).add(number)
    said = [f"{fraction:g} -> {'-'.join(map(str, sorted({min(n), max(n)})))}" for fraction, n in sorted(counts.items())]
    return f"training cases by labels.fraction: {', '.join(said)}"


def _summary(cells: Sequence[Mapping[str, Any]]) -> str:
    done = sum(all(said == "stored" for said in cell["reuse"].values()) for cell in cells)
    new = Counter(name.partition("/")[0] for cell in cells for name, said in cell["reuse"].items() if said == "new")
    work = ", ".join(f"{new[kind]} x {kind}" for kind in STAGE_KINDS if new[kind]) or "nothing"
    return f"{len(cells)} cells, {done} finished; to run: {work}"
