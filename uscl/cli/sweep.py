"""`uscl sweep`: run what is missing, then print what there is."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from uscl.cli.check import unread_note
from uscl.cli.dry_run import say_cost
from uscl.cli.options import sweep_options
from uscl.errors import SpecError
from uscl.records import Sink
from uscl.report.figures import draw_figures, figure_names
from uscl.report.page import Report, build_report, stored_report, table_files
from uscl.report.render import to_text
from uscl.spec.moments import parse_until
from uscl.spec.reader import load_sweep
from uscl.store.roots import StoreRoot
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.sweep.board import duration
from uscl.sweep.editions import edition_notes
from uscl.sweep.failures import RETRIED
from uscl.sweep.only import only
from uscl.sweep.plan import SweepPlan, plan_sweep
from uscl.sweep.proposals import grown
from uscl.sweep.runner import RunOptions, StudyOutcome, SweepOutcome, is_unfinished, run_study, unfinished
from uscl.sweep.search_results import search_results
from uscl.sweep.sharing import sharing
from uscl.sweep.study import OneSweep, Study, study_of
from uscl.sweep.view import SweepView


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@sweep_options
@click.option("--workers", type=click.IntRange(min=1), help="Trials at once; default: what the machine holds.")
@click.option("--no-share", is_flag=True, help="Give each cell stages of its own (tests, benchmarks).")
@click.option("--require-gpu", is_flag=True, help="Refuse to run on the CPU.")
@click.option("--address", metavar="ADDRESS", help="A running Ray cluster: 'auto' or host:port.")
@click.option("--skip-failed", is_flag=True, help="Do not try again what failed in an earlier start.")
@click.option("--no-mlflow", is_flag=True, help="Do not mirror to MLflow; `uscl sync` can do so later.")
@click.option("--only", "conditions", multiple=True, metavar="KEY=VALUE", help="Only cells of this setting or label.")
@click.option("--until", metavar="TIME", help="Save and stop at 07:00, at a date and time, or after +8h.")
@click.option("--dry-run", is_flag=True, help="Train nothing; say what it would cost. Exit 3: it cannot fit.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: an object.")
def sweep(
    files: tuple[Path, ...],
    *,
    recipe: str | None,
    data: str | None,
    name: str | None,
    sets: Sequence[str],
    store: StoreRoot,
    workers: int | None,
    no_share: bool,
    require_gpu: bool,
    address: str | None,
    skip_failed: bool,
    no_mlflow: bool,
    conditions: Sequence[str],
    until: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run what is missing of sweep files; print their tables.

    Ctrl-C once saves all progress and stops; the same command goes on. Several files run as one schedule: what they
    share is trained once.
    """
    specs = [load_sweep(path, recipe=recipe, data=data, name=name, sets=sets) for path in files]
    study = study_of([grown(plan_sweep(spec, store_root=store, share=not no_share)) for spec in specs])
    study = only(study, conditions)
    options = RunOptions(
        workers=workers,
        address=address,
        require_gpu=require_gpu,
        until_s=parse_until(until, now_s=time.time()) if until else None,
        skip_failed=skip_failed,
    )
    if as_json and not dry_run:
        raise SpecError("--json goes with --dry-run")
    if dry_run:
        return say_cost(study, options, as_json=as_json)
    return _run(study, options, mirrored=not no_mlflow)


def _run(study: Study, options: RunOptions, *, mirrored: bool) -> int:
    console = Console(highlight=False)
    missing, runs = frozenset(unfinished(study)), is_unfinished(study)
    _print_start(study, missing, console)
    with _view(study, console, shown=runs) as view:
        outcome = run_study(study, lambda: _sinks(study, view, mirrored=mirrored), options=options, say=view.say)
    if outcome.hard:
        sys.stdout.flush()
        os._exit(outcome.exit_code)  # Ray's threads would keep the process waiting
    _print_end(_as_run(study, outcome), outcome, console, ran=runs)
    if outcome.stopped_by:
        _say(console, f"stopped by {outcome.stopped_by} with `uscl stop`")
    return outcome.exit_code


def _as_run(study: Study, outcome: StudyOutcome) -> Study:
    """The study with the cells that a search has proposed by now; of grids as it is."""
    if all(plan.spec.search is None for plan in study.plans):
        return study
    return study_of([grown(p, held=stands.held) for p, stands in zip(study.plans, outcome.sweeps, strict=True)])


def _print_start(study: Study, missing: Collection[str], console: Console) -> None:
    """Which cells are one, and how many there are to run (`missing` are their keys)."""
    several = len(study.plans) > 1
    for plan in study.plans:
        cells = study.cells_of(plan)
        left = sum(cell.key in missing for cell in cells)
        for twin in plan.duplicates:
            where = f"{plan.identity}: " if several else ""
            _say(console, f"{where}cell {twin.number} ({twin.label}) is the same as cell {twin.same_as}: runs once")
        for note in (*unread_note(plan), *edition_notes(plan)):
            _say(console, f"{plan.identity}: {note}")
        if left:
            chosen = f"{len(cells)} of " if len(cells) < len(plan.cells) else ""
            counted = f"{chosen}{len(plan.cells)} cells, {len(cells) - left} finished, {left} to run"
            _say(console, f"{plan.identity}: {counted}; store {plan.store_root}")
    if several and missing:
        counted = f"{len(study.cells)} distinct cells, {len(missing)} to run"
        _say(console, f"{len(study.plans)} sweeps as one schedule: {counted}")


@contextmanager
def _view(study: Study, console: Console, *, shown: bool) -> Iterator[SweepView]:
    """The view, with warnings of our own going through it."""
    view = SweepView(study, console, live=shown)
    ours = logging.getLogger("uscl")
    ours.addHandler(view)
    try:
        yield view
    finally:
        view.close()
        ours.removeHandler(view)


def _sinks(study: Study, view: SweepView, *, mirrored: bool) -> list[Sink]:
    mirrors = [OneSweep(study, plan, _mirror(plan, view)) for plan in study.plans] if mirrored else []
    return [view, *mirrors]


def _mirror(plan: SweepPlan, view: SweepView) -> Sink:
    from uscl.tracking.mirror import Mirror

    return Mirror(
        StageStore(plan.store_root),
        plan.identity,
        cells=[planned.plan for planned in plan.cells],
        warn=view.say,
        table=lambda: table_files(_report(plan)),
        figures=lambda: draw_figures(_report(plan)),
    )


def _report(plan: SweepPlan) -> Report:
    """The plan's report as the store stands now; of a search with the cells that it has proposed by now."""
    if plan.spec.search is not None:
        return stored_report(StageStore(plan.store_root), SweepFolder(plan.store_root, plan.identity))
    cells = [planned.plan for planned in plan.cells]
    return build_report(StageStore(plan.store_root), cells, plan.spec.report, plan.facts)


def _print_end(study: Study, outcome: StudyOutcome, console: Console, *, ran: bool) -> None:
    """The tables, what sharing saved, and what is left to do."""
    if len(study.plans) == 1:
        _print_one(study, outcome, console, ran=ran)
        return
    for plan, stands in zip(study.plans, outcome.sweeps, strict=True):
        _say(console, f"{plan.identity}: {len(stands.finished)}/{_cells(study, plan)} finished")
        if stands.finished:
            _print_table(plan, console)
        _print_rest(plan, stands, console)
    _print_saved(study, console)
    if not ran:
        cells = f"{len(study.plans)} sweeps: all {len(study.cells)} distinct cells"
        _say(console, f"{cells} are finished; nothing to do")
        return
    of_sweep = {plan.identity: stands.finished for plan, stands in zip(study.plans, outcome.sweeps, strict=True)}
    finished = sum(any(plan.cell in of_sweep[sweep] for sweep, plan in c.declared.items()) for c in study.cells)
    counted = f"{finished}/{len(study.cells)} distinct cells finished"
    _say(console, f"{len(study.plans)} sweeps: {counted}; {_trained(outcome)}")


def _cells(study: Study, plan: SweepPlan) -> str:
    """`12 cells`; `3 chosen cells` where `--only` has left some out."""
    chosen = len(study.cells_of(plan))
    return f"{chosen} cells" if chosen == len(plan.cells) else f"{chosen} chosen cells"


def _print_one(study: Study, outcome: StudyOutcome, console: Console, *, ran: bool) -> None:
    (plan,), (stands,) = study.plans, outcome.sweeps
    if stands.finished:
        _print_table(plan, console)
    _print_saved(study, console)
    if plan.spec.search is not None and plan.cells:
        _print_search(plan, console)
    if not ran:
        _say(console, f"{plan.identity}: all {_cells(study, plan)} are finished; nothing to do")
        return
    _say(console, f"{plan.identity}: {len(stands.finished)}/{_cells(study, plan)} finished; {_trained(outcome)}")
    _print_rest(plan, stands, console)


def _print_search(plan: SweepPlan, console: Console) -> None:
    """The winners, and the figures of the search into the sweep's folder."""
    from uscl.cli.search import best_lines, search_figures

    results = search_results(plan.store_root, plan.identity)
    for line in best_lines(results):
        _say(console, line)
    for name, content in search_figures(results).items():
        SweepFolder(plan.store_root, plan.identity).write_report(name, content)


def _print_saved(study: Study, console: Console) -> None:
    saved = sharing(*study.plans)
    if saved.saved_runs:
        _say(console, f"sharing saved {saved.saved_runs} stage runs, {duration(saved.saved_seconds)} of training")


def _trained(outcome: StudyOutcome) -> str:
    trained = ", ".join(f"{count} {kind}" for kind, count in outcome.trained.items()) or "no stage"
    return f"trained {trained} in {duration(outcome.seconds)}"


def _print_rest(plan: SweepPlan, stands: SweepOutcome, console: Console) -> None:
    """The cells that are not finished, and why."""
    numbers = {planned.plan.cell: planned.plan.number for planned in plan.cells}
    for cell, failed in stands.failed.items():
        first = failed.message.splitlines()[0][:200] if failed.message else ""
        # a process that was killed says nothing in its log
        told = "why" if failed.failure in RETRIED else "logs"
        where = f"uscl {told} {plan.identity} {numbers[cell]}"
        _say(console, f"cell {numbers[cell]} failed ({failed.failure}): {first}; {where}")
    others = [str(numbers[cell]) for cell in stands.held if cell not in stands.failed]
    if others:
        _say(console, f"held back, because they or a stage they need failed: cells {', '.join(others)}")
    if stands.left:
        saved = f", {len(stands.saved)} of them with saved progress" if stands.saved else ""
        _say(console, f"{len(stands.left)} cells are left{saved}; the same command goes on")


def _say(console: Console, line: str) -> None:
    """A line as it is, however narrow the terminal: whoever reads a pipe wants it whole."""
    console.print(line, markup=False, soft_wrap=True)


def _print_table(plan: SweepPlan, console: Console) -> None:
    """The report, in brief on the screen and whole in the sweep's folder; figures only where they can have changed."""
    report, folder = _report(plan), SweepFolder(plan.store_root, plan.identity)
    if folder.read_dataset() != plan.facts:
        folder.write_dataset(plan.facts)
    files = {name: text.encode() for name, text in table_files(report).items()}
    changed = {name: content for name, content in files.items() if folder.read_report(name) != content}
    if changed or not all(folder.has_report(name) for name in figure_names(report)):
        changed |= draw_figures(report)
    for name, content in changed.items():
        folder.write_report(name, content)
    brief, full = report.brief_sheets(), report.sheets()
    console.print(to_text(brief), markup=False, soft_wrap=True)
    if len(full) > len(brief):
        console.print(f"all differences and published numbers: uscl report {plan.identity}\n", markup=False)
