"""`uscl sweep`, `uscl trial` and `uscl logs`."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from uscl.cli.options import store_option, sweep_options
from uscl.records import CellFinished, Drained, Failed, Outcome, Sink, TrialEvent
from uscl.report.figures import draw_figures, figure_names
from uscl.report.page import Report, build_report, table_files
from uscl.spec.reader import load_sweep
from uscl.store.files import Files
from uscl.store.stages import StageStore, new_attempt
from uscl.store.sweeps import SweepFolder, find_cell
from uscl.sweep.board import duration
from uscl.sweep.order import DRAINING, RUNNING, TrialOrder, work
from uscl.sweep.plan import SweepPlan, plan_sweep, sharing
from uscl.sweep.preflight import check_store, have_data, local_gpus, place
from uscl.sweep.runner import RunOptions, SweepOutcome, run_sweep, unfinished
from uscl.sweep.signals import stop_requests
from uscl.sweep.view import SweepView


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@sweep_options
@click.option("--workers", type=click.IntRange(min=1), help="Trials at once; default: what the machine holds.")
@click.option("--no-share", is_flag=True, help="Give each cell stages of its own (tests, benchmarks).")
@click.option("--require-gpu", is_flag=True, help="Refuse to run on the CPU.")
@click.option("--address", metavar="ADDRESS", help="A running Ray cluster: 'auto' or host:port.")
@click.option("--no-mlflow", is_flag=True, help="Do not mirror to MLflow; `uscl sync` can do so later.")
def sweep(
    files: tuple[Path, ...],
    *,
    recipe: str | None,
    data: str | None,
    name: str | None,
    sets: Sequence[str],
    store: Path,
    workers: int | None,
    no_share: bool,
    require_gpu: bool,
    address: str | None,
    no_mlflow: bool,
) -> int:
    """Run what is missing of sweep files; print their tables.

    Ctrl-C once saves all progress and stops; the same command goes on. Files are run in order and share stages.
    """
    specs = [load_sweep(path, recipe=recipe, data=data, name=name, sets=sets) for path in files]
    plans = [plan_sweep(spec, store_root=store, share=not no_share) for spec in specs]
    options = RunOptions(workers=workers, address=address, require_gpu=require_gpu)
    code = 0
    for plan in plans:
        outcome = _run(plan, options, mirrored=not no_mlflow)
        code = max(code, outcome.exit_code)
        if outcome.exit_code > 1:  # stopped by a signal
            break
    return code


def _run(plan: SweepPlan, options: RunOptions, *, mirrored: bool) -> SweepOutcome:
    console = Console(highlight=False)
    for twin in plan.duplicates:
        _say(console, f"cell {twin.number} ({twin.label}) is the same as cell {twin.same_as}: runs once")
    missing = len(unfinished(plan))
    if missing:
        done = len(plan.cells) - missing
        counted = f"{len(plan.cells)} cells, {done} finished, {missing} to run"
        _say(console, f"{plan.identity}: {counted}; store {plan.store_root}")
    with _view(plan, console, shown=missing > 0) as view:
        outcome = run_sweep(plan, lambda: _sinks(plan, view, mirrored=mirrored), options=options, say=view.say)
    if outcome.hard:
        sys.stdout.flush()
        os._exit(outcome.exit_code)  # Ray's threads would keep the process waiting
    _print_end(plan, outcome, console, ran=missing > 0)
    return outcome


@contextmanager
def _view(plan: SweepPlan, console: Console, *, shown: bool) -> Iterator[SweepView]:
    """The view, with warnings of our own going through it."""
    view = SweepView(plan, console, live=shown)
    ours = logging.getLogger("uscl")
    ours.addHandler(view)
    try:
        yield view
    finally:
        view.close()
        ours.removeHandler(view)


def _sinks(plan: SweepPlan, view: SweepView, *, mirrored: bool) -> list[Sink]:
    if not mirrored:
        return [view]
    from uscl.tracking.mirror import Mirror

    mirror = Mirror(
        StageStore(plan.store_root),
        plan.identity,
        cells=[planned.plan for planned in plan.cells],
        warn=view.say,
        table=lambda: table_files(_report(plan)),
        figures=lambda: draw_figures(_report(plan)),
    )
    return [view, mirror]


def _report(plan: SweepPlan) -> Report:
    """The plan's report as the store stands now."""
    cells = [planned.plan for planned in plan.cells]
    return build_report(StageStore(plan.store_root), cells, plan.spec.report, plan.facts)


def _print_end(plan: SweepPlan, outcome: SweepOutcome, console: Console, *, ran: bool) -> None:
    """The table, what sharing saved, and what is left to do."""
    if outcome.finished:
        _print_table(plan, console)
    saved = sharing(plan)
    if saved.saved_runs:
        _say(console, f"sharing saved {saved.saved_runs} stage runs, {duration(saved.saved_seconds)} of training")
    if not ran:
        _say(console, f"{plan.identity}: all {len(plan.cells)} cells are finished; nothing to do")
        return
    trained = ", ".join(f"{count} {kind}" for kind, count in outcome.trained.items()) or "no stage"
    counted = f"{len(outcome.finished)}/{len(plan.cells)} cells finished"
    _say(console, f"{plan.identity}: {counted}; trained {trained} in {duration(outcome.seconds)}")
    _print_rest(plan, outcome, console)


def _print_rest(plan: SweepPlan, outcome: SweepOutcome, console: Console) -> None:
    """The cells that are not finished, and why."""
    numbers = {planned.plan.cell: planned.plan.number for planned in plan.cells}
    for cell, failed in outcome.failed.items():
        first = failed.message.splitlines()[0][:200] if failed.message else ""
        where = f"uscl logs {plan.identity} {numbers[cell]}"
        _say(console, f"cell {numbers[cell]} failed ({failed.failure}): {first}; {where}")
    others = [str(numbers[cell]) for cell in outcome.held if cell not in outcome.failed]
    if others:
        _say(console, f"held back, because a stage they need failed: cells {', '.join(others)}")
    if outcome.left:
        saved = f", {len(outcome.saved)} of them with saved progress" if outcome.saved else ""
        _say(console, f"{len(outcome.left)} cells are left{saved}; the same command goes on")


def _say(console: Console, line: str) -> None:
    """A line as it is, however narrow the terminal: whoever reads a pipe wants it whole."""
    console.print(line, markup=False, soft_wrap=True)


def _print_table(plan: SweepPlan, console: Console) -> None:
    """The report on the screen and in the sweep's folder; figures only where they can have changed."""
    report, folder = _report(plan), SweepFolder(plan.store_root, plan.identity)
    if folder.read_dataset() != plan.facts:
        folder.write_dataset(plan.facts)
    files = {name: text.encode() for name, text in table_files(report).items()}
    changed = {name: content for name, content in files.items() if _is_news(folder.report_path(name), content)}
    if changed or not all(folder.report_path(name).exists() for name in figure_names(report)):
        changed |= draw_figures(report)
    for name, content in changed.items():
        Files(folder.report_path(name).parent).write(name, content)
    console.print(files["table.txt"].decode(), markup=False, soft_wrap=True)


def _is_news(path: Path, content: bytes) -> bool:
    return not path.exists() or path.read_bytes() != content


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("cell")
@sweep_options
@click.option("--no-share", is_flag=True, help="Use the cell's own corner of the store, as `uscl sweep --no-share`.")
@click.option("--require-gpu", is_flag=True, help="Refuse to run on the CPU.")
def trial(
    file: Path,
    cell: str,
    *,
    recipe: str | None,
    data: str | None,
    name: str | None,
    sets: Sequence[str],
    store: Path,
    no_share: bool,
    require_gpu: bool,
) -> int:
    """Run one cell of a sweep file in this process, without Ray.

    For debugging: same stages, same bits, same store; the log goes to the terminal, the sweep's history is untouched.
    """
    spec = load_sweep(file, recipe=recipe, data=data, name=name, sets=sets)
    plan = plan_sweep(spec, store_root=store, share=not no_share)
    chosen = find_cell([planned.plan for planned in plan.cells], cell)
    check_store(plan.store_root)
    have_data(plan, click.echo)
    placement = place(spec.resources, workers=1, gpus=local_gpus(), cpus=os.cpu_count() or 1, require_gpu=require_gpu)
    if placement.fallback:
        click.echo("NO GPU FOUND: this trial runs on the CPU")
    with tempfile.NamedTemporaryFile(prefix="uscl-session-") as session, stop_requests() as requests:
        session.write(RUNNING)
        session.flush()
        planned = plan.cell(chosen.cell)
        order = TrialOrder(
            number=chosen.number, cell=chosen.cell, spec=planned.spec.model_dump(mode="json"),
            store_root=str(plan.store_root), namespace=chosen.namespace, dataset_path=str(plan.dataset_path),
            attempt=new_attempt(), present=(), log_path="", session_path=session.name, device=placement.device,
            cpus=placement.cpus_per_trial, amp=spec.resources.amp, progress_every_s=spec.resources.progress_every_s,
            names=chosen.stage_names,
        )  # fmt: skip
        requests.install()
        event: TrialEvent | None = None
        for event in work(order):  # noqa: B007
            if requests.count:
                Path(session.name).write_bytes(RUNNING + DRAINING)
            if requests.hard:
                return requests.exit_code
        return _trial_code(event, requests.exit_code)


def _trial_code(event: TrialEvent | None, signal_code: int) -> int:
    if isinstance(event, CellFinished):
        for name, value in event.result.metrics.items():
            if name.split("/")[1:2] in (["dsc"], ["delta_snr"]):
                click.echo(f"{name} {value:.4f}")
        if event.result.outcome is Outcome.DIVERGED:
            click.echo("diverged: a result, not an error")
        return 0
    return signal_code or (1 if isinstance(event, (Failed, Drained)) else 0)


@click.command()
@click.argument("sweep_name", metavar="SWEEP")
@click.argument("cell")
@store_option
@click.option("--all", "every", is_flag=True, help="Every attempt, oldest first.")
def logs(sweep_name: str, cell: str, *, store: Path, every: bool) -> None:
    """Print the log of a cell's last attempt.

    SWEEP is a sweep's name, or its file.
    """
    identity = load_sweep(Path(sweep_name)).identity if Path(sweep_name).suffix in (".yaml", ".yml") else sweep_name
    folder = SweepFolder(store, identity)
    chosen = find_cell(folder.read_cells(), cell)
    paths = folder.logs(chosen.cell)
    if not paths:
        click.echo(f"cell {chosen.number} ({chosen.label}) has not been tried; its stages may come from other sweeps")
        return
    for path in paths if every else paths[-1:]:
        click.echo(path.read_text(encoding="utf-8", errors="replace"), nl=False)
