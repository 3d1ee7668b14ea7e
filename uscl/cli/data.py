"""`uscl data ...`: make, join and look at datasets."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path

import click
import yaml

from uscl.cli.data_check import agreement_command, check_command
from uscl.cli.data_import import import_group
from uscl.cli.data_privacy import check_privacy
from uscl.cli.made import say_made, show_progress

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(dir_okay=False, path_type=Path)


@click.group()
def data() -> None:
    """Make, import and look at datasets."""


data.add_command(import_group)
data.add_command(check_command)
data.add_command(agreement_command)
data.add_command(check_privacy)


@data.command()
@click.argument("out", type=_folder)
@click.option("--patients", type=int, help="Simulated kidneys.")
@click.option("--size", type=int, help="Side of a frame, px; a multiple of 16.")
@click.option("--seed", type=int, help="Another seed is another set of patients.")
@click.option("--clips", "clips_per_patient", type=int, help="Clips per patient.")
@click.option("--frames", "frames_per_clip", type=int, help="Frames per clip.")
@click.option("--labels", "labels_per_patient", type=int, help="Labelled frames per patient.")
@click.option("--frame-rate", "frame_rate_hz", type=float, help="Frames per second.")
@click.option("--difficulty", type=float, help="1 is the demo's; more hides more of the anatomy.")
def phantom(out: Path, **given: float | None) -> None:
    """Simulate a kidney dataset; what is not given is as in the demo recipe."""
    from pydantic import ValidationError

    from uscl.data.phantom import build_phantom
    from uscl.errors import SpecError
    from uscl.spec.phantom import PhantomSpec

    recipe = yaml.safe_load((importlib.resources.files("uscl") / "recipes/demo.yaml").read_text(encoding="utf-8"))
    settings = recipe["phantom"] | {key: value for key, value in given.items() if value is not None}
    try:
        spec = PhantomSpec(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"uscl data phantom: {first['loc'][0]}: {first['msg']}") from error
    progress = show_progress()
    build_phantom(spec, out, progress=lambda done, total: progress("patients", done, total))
    say_made(out)


@data.command()
@click.argument("first", metavar="A", type=_folder)
@click.argument("second", metavar="B", type=_folder)
@click.argument("out", type=_folder)
@click.option("--name", metavar="NAME", default="", help="The dataset's own name; default: that of OUT.")
def merge(first: Path, second: Path, out: Path, *, name: str) -> None:
    """Join the datasets A and B; a patient of one name in both is one patient."""
    from uscl.data.ingest.merge import merge_datasets

    summary = merge_datasets(first, second, out, name=name, progress=show_progress())
    say_made(out, summary.remarks)


@data.command()
@click.argument("dataset", type=_folder)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--seed", type=int, default=0, show_default=True, help="split.seed")
@click.option("--validation-fraction", type=float, default=0.2, show_default=True, help="split.validation_fraction")
@click.option("--test-fraction", type=float, default=0.2, show_default=True, help="split.test_fraction")
def info(dataset: Path, *, as_json: bool, seed: int, validation_fraction: float, test_fraction: float) -> None:
    """Say what DATASET holds: patients, clips, frames, classes, frame rates, duplicates, splits."""
    from uscl.data.dataset import open_dataset
    from uscl.data.describe import describe, to_text

    fractions = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    facts = describe(open_dataset(dataset), seed=seed, **fractions)
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else to_text(facts))


@data.command()
@click.argument("dataset", type=_folder)
@click.argument("out", metavar="OUT.png", type=_file)
@click.option("--cases", type=click.IntRange(min=0), default=24, show_default=True, help="Labelled images shown.")
@click.option("--clips", type=click.IntRange(min=0), default=6, show_default=True, help="Clips shown.")
def preview(dataset: Path, out: Path, *, cases: int, clips: int) -> None:
    """Draw a contact sheet of DATASET: masks outlined on images, frames of clips in rows."""
    from uscl.data.dataset import open_dataset
    from uscl.data.preview import contact_sheet, save_png

    save_png(contact_sheet(open_dataset(dataset), num_cases=cases, num_clips=clips), out)
    click.echo(f"wrote {out}")
