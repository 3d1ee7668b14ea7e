"""`uscl data ...`: make, join and look at datasets."""

from __future__ import annotations

import importlib.resources
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from uscl.cli.data_check import agreement_command, check_command

_EVERY_S = 10.0
"""Between two progress lines where there is no terminal."""

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(dir_okay=False, path_type=Path)

_IMPORT_OPTIONS = (
    click.option("--csv", "csv_path", type=_file, help="Who each file belongs to; default: the CSV in DIR, if any."),
    click.option("--file-column", metavar="NAME", help="Column of file paths below DIR (file, image or filename)."),
    click.option("--patient-column", metavar="NAME", help="Column of patients (patient or patient_id)."),
    click.option(
        "--group-column",
        metavar="NAME",
        help="Column of groups that no split may cut (group, split_group or near_duplicate_group).",
    ),
    click.option("--name", metavar="NAME", default="", help="The dataset's own name; default: that of OUT."),
    click.option("--licence", metavar="TEXT", default="", help="Licence to record; default: the CSV's."),
)


def _import_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_IMPORT_OPTIONS):
        command = option(command)
    return command


@click.group()
def data() -> None:
    """Make, import and look at datasets."""


data.add_command(check_command)
data.add_command(agreement_command)


@data.group(name="import")
def import_group() -> None:
    """Turn files into a dataset."""


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
    progress = _progress()
    build_phantom(spec, out, progress=lambda done, total: progress("patients", done, total))
    _say_made(out)


@import_group.command(name="clips")
@click.argument("folder", metavar="DIR", type=_folder)
@click.argument("out", type=_folder)
@click.option("--size", type=click.IntRange(min=16), default=192, show_default=True, help="Side of a frame, px.")
@click.option("--skip-unreadable", is_flag=True, help="Leave out files that cannot be read, instead of refusing.")
@_import_options
def clips_command(
    folder: Path,
    out: Path,
    *,
    size: int,
    skip_unreadable: bool,
    csv_path: Path | None,
    file_column: str | None,
    patient_column: str | None,
    group_column: str | None,
    name: str,
    licence: str,
) -> None:
    """Import the videos and DICOM cines below DIR as clips.

    Every frame is decoded; frames are kept square with their aspect, times come from the stream. Container tags,
    headers and audio are left behind. A CSV in DIR (or --csv) gives patient, group, licence and source of each file.
    """
    from uscl.data.ingest.clips import find_clips, import_clips
    from uscl.data.ingest.table import find_table

    find_clips(folder)
    columns = {"file_column": file_column, "patient_column": patient_column, "group_column": group_column}
    table = find_table(folder, given=csv_path, **columns)
    options = {"size": size, "table": table, "name": name, "licence": licence, "skip_unreadable": skip_unreadable}
    summary = import_clips(folder, out, progress=_progress(), **options)
    _say_made(out, summary.remarks)


@import_group.command(name="labels")
@click.argument("folder", metavar="DIR", type=_folder)
@click.argument("out", type=_folder)
@click.option("--classes", metavar="1=NAME,...", help="What mask values mean; default: DIR/classes.yaml. 0 is nothing.")
@click.option("--contains", metavar="OUTER=INNER,...", multiple=True, help="Pixels of INNER belong to OUTER too.")
@click.option("--ignore", type=int, help="Mask value of pixels that nobody annotated.")
@click.option("--split-column", metavar="NAME", help="Column with train, validation or test: use that split as it is.")
@click.option("--size", type=click.IntRange(min=16), default=192, show_default=True, help="For clips merged in later.")
@_import_options
def labels_command(
    folder: Path,
    out: Path,
    *,
    classes: str | None,
    contains: Sequence[str],
    ignore: int | None,
    split_column: str | None,
    size: int,
    csv_path: Path | None,
    file_column: str | None,
    patient_column: str | None,
    group_column: str | None,
    name: str,
    licence: str,
) -> None:
    """Import pairs from images/ and masks/ below DIR as labelled images at their native size.

    Equal names pair up, also in folders further down (test/images, test/masks). A picture that occurs twice is kept
    once; its copies are marked and used in no split. Near views and groups of the CSV stay in one split.
    """
    from uscl.data.ingest.labels import find_pairs, import_labels
    from uscl.data.ingest.masks import parse_class_map, read_class_map
    from uscl.data.ingest.table import find_table

    find_pairs(folder)
    given = classes is not None or contains or ignore is not None
    class_map = parse_class_map(classes or "", contains, ignore) if given else read_class_map(folder / "classes.yaml")
    columns = {"file_column": file_column, "patient_column": patient_column, "group_column": group_column}
    table = find_table(folder, given=csv_path, split_column=split_column, **columns)
    options = {"class_map": class_map, "size": size, "table": table, "name": name, "licence": licence}
    summary = import_labels(folder, out, progress=_progress(), **options)
    _say_made(out, summary.remarks)


@data.command()
@click.argument("first", metavar="A", type=_folder)
@click.argument("second", metavar="B", type=_folder)
@click.argument("out", type=_folder)
@click.option("--name", metavar="NAME", default="", help="The dataset's own name; default: that of OUT.")
def merge(first: Path, second: Path, out: Path, *, name: str) -> None:
    """Join the datasets A and B; a patient of one name in both is one patient."""
    from uscl.data.ingest.merge import merge_datasets

    summary = merge_datasets(first, second, out, name=name, progress=_progress())
    _say_made(out, summary.remarks)


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


def _say_made(out: Path, remarks: Sequence[str] = ()) -> None:
    from uscl.data.dataset import open_dataset
    from uscl.data.wording import counted

    index = open_dataset(out).index
    frames = sum(clip.num_frames for clip in index.clips)
    parts = [f"{counted(len(index.clips), 'clip')}, {counted(frames, 'frame')}"] if index.clips else []
    labelled = counted(len(index.cases), "labelled image")
    parts += [f"{labelled} ({', '.join(index.classes)})"] if index.cases else []
    click.echo(f"{out}: {'; '.join(parts)}; fingerprint {index.fingerprint[:10]}")
    for remark in remarks:
        click.echo(f"  {remark}")


def _progress() -> Callable[[str, int, int], None]:
    """Progress on stderr: one line rewritten on a terminal; elsewhere a line every 10 s, and the last where any was."""
    on_terminal = sys.stderr.isatty()
    said, lines = time.monotonic(), 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal said, lines
        now = time.monotonic()
        if on_terminal and (done == total or now - said > 0.1):
            said = now
            click.echo(f"\r\x1b[K{what} {done}/{total}" + ("\n" if done == total else ""), err=True, nl=False)
        elif not on_terminal and (now - said > _EVERY_S or (done == total and lines)):
            said, lines = now, lines + 1
            click.echo(f"{what} {done}/{total}", err=True)

    return progress
