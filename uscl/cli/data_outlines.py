"""`uscl data import outlines`: outlines drawn in VIA, LabelMe, CVAT or saved as COCO, and the images under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from uscl.cli.data_privacy import chosen_naming, name_options

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(dir_okay=False, path_type=Path)
_SHOWN = 20
"""Problems that the end of an import spells out."""
_FORMATS = ("auto", "via-csv", "via-json", "coco", "labelme", "cvat")

_OPTIONS = (
    click.option("--images", type=_folder, required=True, help="Where the images and videos are."),
    click.option("--classes", metavar="REGION=CLASS,...", help="What names of regions mean."),
    click.option("--class-file", type=_file, help="The same as YAML: classes, contains, ignore, unknown."),
    click.option("--contains", metavar="OUTER=INNER,...", multiple=True, help="Pixels of INNER belong to OUTER too."),
    click.option("--ignore", metavar="REGION", multiple=True, help="Leave regions of this name out."),
    click.option("--unknown", metavar="REGION", multiple=True, help="Nobody annotated the pixels of such regions."),
    click.option("--empty", type=click.Choice(("absent", "skip")), help="Images listed without any region."),
    click.option("--missing", type=click.Choice(("absent", "skip-image")), help="A class not on an image with others."),
    click.option("--overlaps", type=click.Choice(("join", "cancel")), default="join", show_default=True,
                 help="Where outlines of one class overlap: cancel makes holes."),
    click.option("--interpolated", is_flag=True, help="Take frames between keyframes, which nobody drew."),
    click.option("--format", "file_format", type=click.Choice(_FORMATS), default="auto", help="Default: by content."),
    click.option("--class-key", metavar="NAME", help="VIA: the attribute of a region that names its class."),
    click.option("--csv", "csv_path", type=_file, help="Who each image belongs to."),
    click.option("--file-column", metavar="NAME", help="Its column of paths below --images."),
    click.option("--patient-column", metavar="NAME", help="Its column of patients."),
    click.option("--group-column", metavar="NAME", help="Its column of groups that no split may cut."),
    click.option("--split-column", metavar="NAME", help="Its column with train, validation or test."),
    click.option("--size", type=click.IntRange(min=16), default=192, show_default=True, help="Of clips merged in."),
    click.option("--name", metavar="NAME", default="", help="The dataset's own name; default: that of OUT."),
    click.option("--licence", metavar="TEXT", default="", help="Licence to record; default: the CSV's."),
    click.option("--strict", is_flag=True, help="Stop at the first thing that is wrong, instead of leaving it out."),
)  # fmt: skip


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def outlines_command(
    say_made: Callable[[Path, Sequence[str]], None], make_progress: Callable[[], Callable[[str, int, int], None]]
) -> click.Command:
    """The command; it says what was made and how far it is as the other imports do."""

    @click.command(name="outlines")
    @click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
    @click.argument("out", type=_folder)
    @_options
    @name_options
    def command(files: Sequence[Path], out: Path, **given: Any) -> None:
        """Import outlines of one rater as labelled images: VIA, COCO, LabelMe or CVAT files, or folders of them.

        What was not drawn is never guessed: where an image has no region, or lacks a class, --empty and --missing
        say what that means. Images in no file are left out. What cannot be read is left out and named at the end,
        with exit code 1.
        """
        naming, said = chosen_naming(out, given)
        summary = _import(files, out, make_progress(), naming=naming, **given)
        say_made(out, (*summary.remarks, *said))
        for problem in summary.problems[:_SHOWN]:
            click.echo(f"left out: {problem}", err=True)
        if len(summary.problems) > _SHOWN:
            click.echo(f"left out: {len(summary.problems) - _SHOWN} more", err=True)
        if summary.problems:
            raise SystemExit(1)

    return command


def _import(files: Sequence[Path], out: Path, progress: Callable[[str, int, int], None], **given: Any) -> Any:
    from uscl.data.ingest.annotations import read_annotation_files
    from uscl.data.ingest.class_names import parse_class_names, read_class_names
    from uscl.data.ingest.outline_choices import Choices
    from uscl.data.ingest.outlines import OutlineOptions, import_outlines
    from uscl.data.ingest.table import read_table
    from uscl.errors import SpecError

    if (given["classes"] is None) == (given["class_file"] is None):
        raise SpecError("what do names of regions mean? give either --classes REGION=CLASS,... or --class-file FILE")
    lists = {key: given[key] for key in ("ignore", "unknown")}
    if given["class_file"] and any([*lists.values(), given["contains"]]):
        raise SpecError("--contains, --ignore and --unknown are written in the --class-file")
    class_names = (
        parse_class_names(given["classes"], given["contains"], **lists)
        if given["class_file"] is None
        else read_class_names(given["class_file"])
    )
    columns = {key: given[key] for key in ("file_column", "patient_column", "group_column", "split_column")}
    if given["csv_path"] is None and any(columns.values()):
        raise SpecError("a column needs a CSV; give one with --csv")
    table = read_table(given["csv_path"], **columns) if given["csv_path"] else None
    choices = Choices(given["empty"], given["missing"], given["interpolated"])
    options = OutlineOptions(class_names, choices, even_odd=given["overlaps"] == "cancel")
    annotations = read_annotation_files(files, format=given["file_format"], class_key=given["class_key"])
    rest = {key: given[key] for key in ("size", "name", "licence", "strict", "naming")}
    return import_outlines(annotations, given["images"], out, options=options, table=table, progress=progress, **rest)
