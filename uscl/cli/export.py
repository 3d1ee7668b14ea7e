"""`uscl export` and `uscl predict`: a finished cell as a model to use."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from uscl.cli.options import store_option
from uscl.errors import ClusterError
from uscl.store.roots import StoreRoot

_EVERY_S = 10.0
"""Between two lines of progress."""

_sweep_option = click.option("--sweep", "sweep_name", metavar="NAME", help="The cell's sweep; CELL may be its number.")
_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("cell")
@click.argument("out", type=_folder)
@_sweep_option
@store_option
def export(cell: str, out: Path, *, sweep_name: str | None, store: StoreRoot) -> None:
    """Write a finished cell's network as a folder that needs no store.

    CELL is the start of a cell's id, over all sweeps of the store; with --sweep also its number. OUT gets
    weights.safetensors and model.json: classes, preprocessing, settings, metrics, provenance.
    """
    from uscl.export.model import write_model

    model = _cell_model(cell, sweep_name, store)
    write_model(model, out)
    scores = {name: value for name, value in model.document["metrics"].items() if name in ("val/dsc", "test/dsc")}
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    click.echo(f"{out}: {model.document['label']} ({model.document['cell'][:10]}), {told}; classes {_listed(model)}")


@click.command()
@click.argument("model")
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("out", type=_folder)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@_sweep_option
@store_option
def predict(model: str, images: Path, out: Path, *, device: str, sweep_name: str | None, store: StoreRoot) -> int:
    """Masks of images, DICOM files and video clips, by an exported model or a cell.

    MODEL is a folder that `uscl export` wrote, or a CELL as there. IMAGES is a file or a folder. OUT gets
    masks/ (0 or 255 at the file's own size, one PNG per frame and class), overlays/ and areas.csv. Nested classes
    overlap. Not for clinical use.
    """
    from uscl.export.model import MODEL_FILE, read_model
    from uscl.export.predict import predict_files

    exported = (Path(model) / MODEL_FILE).is_file()
    found = read_model(Path(model)) if exported else _cell_model(model, sweep_name, store)
    predictor = found.predictor(_device(device))
    summary = predict_files(predictor, images, out, classes=found.classes, progress=_progress())
    click.echo(f"{out}: {summary.frames} frames of {summary.files} files; classes {_listed(found)}")
    for reason in summary.unreadable:
        click.echo(f"left out: {reason}", err=True)
    return 1 if summary.unreadable else 0


def _cell_model(cell: str, sweep_name: str | None, store: StoreRoot) -> Any:
    from uscl.export.model import FoundCell, find_cell_anywhere, model_of_cell
    from uscl.store.sweeps import SweepFolder, find_cell

    if sweep_name is None:
        return model_of_cell(store, find_cell_anywhere(store, cell))
    sweep = SweepFolder(store, sweep_name)
    return model_of_cell(store, FoundCell(find_cell(sweep.read_cells(), cell), sweep))


def _device(name: str) -> Any:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ClusterError("--device cuda: torch sees no GPU here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _progress() -> Callable[[str, int, int], None]:
    told = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        """A line now and then."""
        nonlocal told
        if time.monotonic() - told >= _EVERY_S:
            told = time.monotonic()
            click.echo(f"{done}/{total} {what}", err=True)

    return tell


def _listed(model: Any) -> str:
    return ", ".join(model.classes)
