"""`uscl data import kidneyus` and `manifest`: known layouts, and any other by a table of its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import click

from uscl.cli.data_labels import classes_of, rules_of
from uscl.cli.data_privacy import chosen_naming, name_options, overlay_options

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
        options: dict[str, Any] = {"size": size, "name": name, "strict": strict, "progress": make_progress()}
        summary = import_kidneyus(folder, out, majority=consensus is not None, **options)
        problems = problem_lines(summary.bad, summary.files, "image")
        finish(out, summary.remarks, problems, skip_unreadable=skip_unreadable)

    return command


def manifest_command(
    finish: FinishImport, make_progress: Callable[[], Callable[[str, int, int], None]]
) -> click.Command:
    """The command; it says what was made and how far it is as the other imports do."""

    @click.command(name="manifest")
    @click.argument("path", metavar="DIR/manifest.csv", type=click.Path(dir_okay=False, path_type=Path))
    @click.argument("out", type=_folder)
    @click.option("--classes", metavar="1=NAME,...", help="What mask values mean; default: classes.yaml beside it.")
    @click.option("--contains", metavar="OUTER=INNER,...", multiple=True, help="Pixels of INNER belong to OUTER too.")
    @click.option("--ignore", type=int, help="Mask value of pixels that nobody annotated.")
    @click.option("--empty", type=click.Choice(["absent", "skip"]), help="What a mask without any class means.")
    @click.option("--threshold", type=click.IntRange(1, 255), help="Cut masks of one class at this grey level.")
    @click.option("--colour-tolerance", type=click.IntRange(1, 255), help="Pixels this close to a named colour are it.")
    @click.option("--mask-size", type=click.Choice(["resize-nearest"]), help="Scale masks to their images.")
    @click.option("--consensus", type=click.Choice(["majority"]), help="Add a rater `consensus`: what most drew.")
    @overlay_options
    @name_options
    @click.option("--size", type=click.IntRange(min=16), default=192, show_default=True, help="Side of a frame, px.")
    @click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that read.")
    @click.option("--strict", is_flag=True, help="Stop at the first file that lacks or cannot be read.")
    @click.option("--name", metavar="NAME", default="", help="The dataset's own name; default: that of OUT.")
    @click.option("--licence", metavar="TEXT", default="", help="Licence to record; default: the CSV's.")
    def command(
        path: Path, out: Path, *, size: int, workers: int, strict: bool, name: str, licence: str, **given: Any
    ) -> None:
        """Import any data set by a table of its files: clips, labelled images, labelled frames of clips.

        Columns, all but the files and patient or group optional: clip or image, frame (from 0), label (a mask file),
        patient, group, split, rater, quality, view, fps, licence, attribution, source_url. Paths are relative to the
        manifest. What is wrong with a row is said with its line.
        """
        from uscl.data.ingest.manifest import ManifestOptions, import_manifest
        from uscl.data.ingest.manifest_table import read_manifest
        from uscl.data.ingest.problems import problem_lines

        labelled = any(row.label for row in read_manifest(path).rows)
        overlay = {key: given.pop(key) for key in ("blank_top", "keep_overlay")}
        consensus = bool(given.pop("consensus"))
        class_map = classes_of(path.parent, given) if labelled else None
        rules = replace(rules_of(given), consensus=consensus)
        naming, said = chosen_naming(out, given)
        in_processes = 0 if workers == 1 else workers
        options = ManifestOptions(size, class_map, rules, licence, strict, in_processes, naming, **overlay)
        summary = import_manifest(path, out, options=options, name=name, progress=make_progress())
        finish(out, (*said, *summary.remarks), problem_lines(summary.bad, summary.files))

    return command
