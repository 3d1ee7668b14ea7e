"""`uscl report`: a sweep's report from the store, whenever it is wanted."""

from __future__ import annotations

from pathlib import Path

import click

from uscl.cli.options import store_option
from uscl.report.figures import draw_figures
from uscl.report.page import FORMATS, stored_report
from uscl.spec.reader import load_sweep
from uscl.store.files import Files
from uscl.store.roots import StoreRoot
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder


@click.command("report")
@click.argument("sweep", metavar="SWEEP")
@store_option
@click.option(
    "--format", "chosen", type=click.Choice(list(FORMATS)), default="text", show_default=True, help="How to write it."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file instead of the terminal.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Draw its figures into this folder.")
def report(sweep: str, *, store: StoreRoot, chosen: str, output: Path | None, figures: Path | None) -> None:
    """Print a sweep's report from the store.

    SWEEP is a sweep's name, finished or not, or its file, whose report block then counts. Nothing is trained or
    changed; the same store gives the same bytes.
    """
    spec = load_sweep(Path(sweep)) if Path(sweep).suffix in (".yaml", ".yml") else None
    folder = SweepFolder(store, spec.identity if spec else sweep)
    built = stored_report(StageStore(store), folder, spec.report if spec else None)
    text = FORMATS[chosen][1](built)
    if output is None:
        click.echo(text, nl=False)
    else:
        Files(output.parent).write(output.name, text.encode())
    if figures is not None:
        for name, content in draw_figures(built).items():
            Files(figures).write(name, content)
            click.echo(f"wrote {figures / name}", err=True)
