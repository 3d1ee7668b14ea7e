"""`uscl data import kidneyus` and `manifest`: known layouts, and any other by a table of its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import click

_folder = click.Path(file_okay=False, path_type=Path)


class FinishImport(Protocol):
    """Says what was made and left out, and ends the command with the exit code for that."""

    def __call__(
        self, out: Path, remarks: Sequence[str], problems: Sequence[str], *, skip_unreadable: bool = False
    ) -> None:
        """See `uscl.cli.data_import.finish_import`."""


def kidneyus_command(
    finish: FinishImport, make_progress: Callable[[], Callable[[str, int, int], None]]
) -> click.Command:
    """The command; it says what was made and how far it is as the other imports do."""

    @click.command(name="kidneyus")
    @click.argument("folder", metavar="DIR", type=_folder)
    @click.argument("out", type=_folder)
    @click.option("--consensus", type=click.Choice(["majority"]), help="Add a rater `consensus`: what both drew.")
    @click.option("--strict", is_flag=True, help="Stop at the first thing that is wrong; nothing is made.")
    @click.option(
        "--skip-unreadable", is_flag=True, help="Exit with 0, not 1, where files were left out: they are known."
    )
    @click.option(
        "--size", type=click.IntRange(min=16), default=192, show_default=True, help="For clips merged in later."
    )
    @click.option("--name", metavar="NAME", default="", help="The dataset's own name; default: that of OUT.")
    def command(
        folder: Path, out: Path, *, consensus: str | None, strict: bool, skip_unreadable: bool, size: int, name: str
    ) -> None:
        """Import the Open Kidney Ultrasound Data Set as its owners deliver it.

        DIR holds reviewed_labels_1.csv and reviewed_labels_2.csv (in labels/, or anywhere below) and the images, which
        their owners hand out after registration. Both raters are kept apart as raters 1 and 2; renamed copies of a
        picture are one patient, and marked. With a TransducerInfo.csv, saved from the spreadsheet, pixel sizes too.
        """
        from uscl.data.ingest.kidneyus import import_kidneyus
        from uscl.data.ingest.problems import problem_lines

        if strict and skip_unreadable:
            raise click.UsageError("--strict stops at a file that --skip-unreadable leaves out: give one of them")
        options = {"size": size, "name": name, "strict": strict, "progress": make_progress()}
        summary = import_kidneyus(folder, out, majority=consensus is not None, **options)
        problems = problem_lines(summary.bad, summary.files, "image")
        finish(out, summary.remarks, problems, skip_unreadable=skip_unreadable)

    return command
