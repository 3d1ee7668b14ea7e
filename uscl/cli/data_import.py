"""`uscl data import ...`: from a folder of files to a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from uscl.cli.data_labels import classes_of, layout_of, mask_options, nnunet_command, rules_of
from uscl.cli.data_layouts import kidneyus_command, manifest_command
from uscl.cli.data_outlines import outlines_command
from uscl.cli.data_privacy import chosen_naming, name_options, overlay_options
from uscl.cli.made import say_made, show_progress

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


@click.group(name="import")
def import_group() -> None:
    """Turn files into a dataset."""


_ERROR_OPTIONS = (
    click.option("--strict", is_flag=True, help="Stop at the first file that cannot be read; nothing is made."),
    click.option(
        "--skip-unreadable", is_flag=True, help="Exit with 0, not 1, where files were left out: they are known."
    ),
)


def _error_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_ERROR_OPTIONS):
        command = option(command)
    return command


def finish_import(out: Path, remarks: Sequence[str], problems: Sequence[str], *, skip_unreadable: bool = False) -> None:
    """Say what was made and, on stderr, what was left out; exit with 1 where anything was."""
    say_made(out, remarks)
    for line in problems:
        click.echo(line, err=True)
    if problems and not skip_unreadable:
        click.get_current_context().exit(1)


@import_group.command(name="clips")
@click.argument("folder", metavar="DIR", type=_folder)
@click.argument("out", type=_folder)
@click.option("--size", type=click.IntRange(min=16), default=192, show_default=True, help="Side of a frame, px.")
@click.option(
    "--fps",
    "frame_rate_hz",
    type=click.FloatRange(min=0, min_open=True),
    help="Frames per second of files that do not say; without it their times stay unknown.",
)
@overlay_options
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read; default: one per core.")
@_error_options
@_import_options
@name_options
def clips_command(
    folder: Path,
    out: Path,
    *,
    size: int,
    frame_rate_hz: float | None,
    blank_top: float,
    keep_overlay: bool,
    workers: int | None,
    strict: bool,
    skip_unreadable: bool,
    csv_path: Path | None,
    file_column: str | None,
    patient_column: str | None,
    group_column: str | None,
    name: str,
    licence: str,
    **given: Any,
) -> None:
    """Import the clips below DIR: videos, DICOM cines and stills.

    Every frame is decoded; frames are kept square with their aspect, times come from the stream. Container tags,
    headers and audio are left behind. A CSV in DIR (or --csv) gives patient, group, licence and source of each file.

    A file that cannot be read is named and left out, and the exit code is 1. A stopped import goes on when the same
    command is given again.
    """
    from uscl.data.ingest.clips import find_clips, import_clips
    from uscl.data.ingest.options import ClipOptions
    from uscl.data.ingest.problems import problem_lines
    from uscl.data.ingest.table import find_table

    _check_errors_asked(strict, skip_unreadable)
    find_clips(folder)
    columns = {"file_column": file_column, "patient_column": patient_column, "group_column": group_column}
    settings: dict[str, Any] = {"table": find_table(folder, given=csv_path, **columns), "name": name}
    naming, said = chosen_naming(out, given)
    settings |= {"licence": licence, "size": size, "strict": strict, "workers": workers or _cores(), "naming": naming}
    options = ClipOptions(size, frame_rate_hz=frame_rate_hz, blank_top=blank_top, keep_overlay=keep_overlay)
    try:
        summary = import_clips(folder, out, options=options, progress=show_progress(), **settings)
    except (KeyboardInterrupt, SystemExit):
        click.echo("\nstopped; the same command goes on from here", err=True)
        raise
    problems = problem_lines(summary.bad, summary.files)
    finish_import(out, (*summary.remarks, *said), problems, skip_unreadable=skip_unreadable)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_errors_asked(strict: bool, skip_unreadable: bool) -> None:
    if strict and skip_unreadable:
        raise click.UsageError("--strict stops at a file that --skip-unreadable leaves out: give one of them")


@import_group.command(name="labels")
@click.argument("folder", metavar="DIR", type=_folder)
@click.argument("out", type=_folder)
@click.option("--classes", metavar="1=NAME,...", help="What mask values mean; default: DIR/classes.yaml. 0 is nothing.")
@click.option("--contains", metavar="OUTER=INNER,...", multiple=True, help="Pixels of INNER belong to OUTER too.")
@click.option("--ignore", type=int, help="Mask value of pixels that nobody annotated.")
@click.option("--split-column", metavar="NAME", help="Column with train, validation or test: use that split as it is.")
@click.option("--size", type=click.IntRange(min=16), default=192, show_default=True, help="For clips merged in later.")
@mask_options
@_error_options
@_import_options
@name_options
def labels_command(
    folder: Path,
    out: Path,
    *,
    split_column: str | None,
    size: int,
    strict: bool,
    skip_unreadable: bool,
    csv_path: Path | None,
    file_column: str | None,
    patient_column: str | None,
    group_column: str | None,
    name: str,
    licence: str,
    **given: Any,
) -> None:
    """Import pairs from images/ and masks/ below DIR as labelled images at their native size.

    Equal names pair up, also in folders further down (test/images, test/masks). A picture that occurs twice is kept
    once; its copies are marked and used in no split. Near views and groups of the CSV stay in one split. A mask
    without any class, or an image without a mask, is refused until --empty or --unlisted says what it means. A pair
    that cannot be used is named and left out, and the exit code is 1.
    """
    from uscl.data.ingest.labels import import_labels
    from uscl.data.ingest.mask_layout import find_pictures
    from uscl.data.ingest.problems import problem_lines
    from uscl.data.ingest.table import find_table

    _check_errors_asked(strict, skip_unreadable)
    layout, rules = layout_of(given), rules_of(given)
    find_pictures(folder, layout)
    class_map = classes_of(folder, given)
    columns = {"file_column": file_column, "patient_column": patient_column, "group_column": group_column}
    table = find_table(folder, given=csv_path, split_column=split_column, **columns)
    options: dict[str, Any] = {"class_map": class_map, "size": size, "table": table, "name": name, "licence": licence}
    naming, said = chosen_naming(out, given)
    options |= {"layout": layout, "rules": rules, "strict": strict, "naming": naming}
    summary = import_labels(folder, out, progress=show_progress(), **options)
    problems = problem_lines(summary.bad, summary.files, "pair")
    finish_import(out, (*summary.remarks, *said), problems, skip_unreadable=skip_unreadable)


import_group.add_command(nnunet_command(finish_import, show_progress))
import_group.add_command(outlines_command(say_made, show_progress))
import_group.add_command(kidneyus_command(finish_import, show_progress))
import_group.add_command(manifest_command(finish_import, show_progress))
