"""`uscl trial`, one cell without Ray, and `uscl logs`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from uscl.cli.options import store_option, sweep_identity, sweep_options
from uscl.records import CellFinished, Drained, Failed, Outcome, TrialEvent
from uscl.spec.reader import load_sweep
from uscl.store.roots import StoreRoot, read_file
from uscl.store.stages import new_attempt
from uscl.store.sweeps import SweepFolder, find_cell
from uscl.sweep.order import DRAINING, RUNNING, TrialOrder, work
from uscl.sweep.plan import plan_sweep
from uscl.sweep.preflight import check_store, have_data, local_gpus, place
from uscl.sweep.proposals import grown
from uscl.sweep.signals import stop_requests


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
    store: StoreRoot,
    no_share: bool,
    require_gpu: bool,
) -> int:
    """Run one cell of a sweep file in this process, without Ray.

    For debugging: same stages, same bits, same store; the log goes to the terminal, the sweep's history is untouched.
    """
    spec = load_sweep(file, recipe=recipe, data=data, name=name, sets=sets)
    plan = grown(plan_sweep(spec, store_root=store, share=not no_share))
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
            names=chosen.stage_names, parts=chosen.parts,
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
def logs(sweep_name: str, cell: str, *, store: StoreRoot, every: bool) -> None:
    """Print the log of a cell's last attempt.

    SWEEP is a sweep's name, or its file.
    """
    folder = SweepFolder(store, sweep_identity(sweep_name))
    chosen = find_cell(folder.read_cells(), cell)
    paths = folder.logs(chosen.cell)
    if not paths:
        click.echo(f"cell {chosen.number} ({chosen.label}) has not been tried; its stages may come from other sweeps")
        return
    for path in paths if every else paths[-1:]:
        click.echo((read_file(path) or b"").decode(errors="replace"), nl=False)
