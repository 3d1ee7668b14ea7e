"""`uscl data import nnunet`, and the options about masks that commands of labelled images share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from uscl.cli.data_privacy import chosen_naming, name_options

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(dir_okay=False, path_type=Path)

_EMPTY = click.option(
    "--empty",
    type=click.Choice(["absent", "skip"]),
    help="What a mask without any class means: the classes are absent, or it is no annotation and is left out.",
)
_RESIZE = click.option(
    "--mask-size",
    type=click.Choice(["resize-nearest"]),
    help="Scale masks of another size than their image to it; default: refuse them.",
)
_THRESHOLD = click.option(
    "--threshold",
    type=click.IntRange(1, 255),
    help="Cut masks of one class at this grey level (anti-aliased or JPEG masks).",
)

MASK_OPTIONS = (
    _EMPTY,
    click.option(
        "--missing",
        type=click.Choice(["absent", "skip-image"]),
        help="What it means that a class has no file on an image with others (--subfolders class).",
    ),
    click.option(
        "--unlisted",
        type=click.Choice(["absent", "skip"]),
        help="What an image without any mask means; default: refuse it.",
    ),
    _THRESHOLD,
    click.option(
        "--colour-tolerance",
        type=click.IntRange(1, 255),
        help="Pixels this close to a named colour count as it (soft edges of colour masks); default: exact.",
    ),
    _RESIZE,
    click.option(
        "--mask-pattern",
        metavar="NAME",
        default="",
        help="Masks lie beside their image: {stem}_mask.png, or {stem}_mask*.png for several.",
    ),
    click.option(
        "--subfolders",
        type=click.Choice(["class", "rater"]),
        help="What the folders within masks/ are: one class each, or one rater each.",
    ),
    click.option(
        "--consensus",
        type=click.Choice(["majority"]),
        help="Add a rater `consensus`: pixels that more than half of an image's raters drew (of two: both).",
    ),
)


def mask_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of MASK_OPTIONS, for a command that hands them to `rules_of` and `layout_of`."""
    for option in reversed(MASK_OPTIONS):
        command = option(command)
    return command


def rules_of(given: dict[str, Any]) -> Any:
    """MaskRules of what the command was given. UsageError where options do not go together."""
    from uscl.data.ingest.mask_values import MaskRules

    if given.get("consensus") and given.get("subfolders") != "rater":
        raise click.UsageError("--consensus needs several raters: --subfolders rater")
    return MaskRules(
        threshold=given.get("threshold"),
        colour_tolerance=given.get("colour_tolerance") or 0,
        resize=bool(given.get("mask_size")),
        empty=given.get("empty") or "",
        unlisted=given.get("unlisted") or "",
        missing=given.get("missing") or "",
        consensus=bool(given.get("consensus")),
    )


def layout_of(given: dict[str, Any]) -> Any:
    """MaskLayout of what the command was given. UsageError where options do not go together."""
    from uscl.data.ingest.mask_layout import MaskLayout

    if given.get("mask_pattern") and given.get("subfolders"):
        raise click.UsageError("--mask-pattern and --subfolders are two ways to lay out masks; give one")
    return MaskLayout(given.get("mask_pattern") or "", given.get("subfolders") or "")


def classes_of(folder: Path, given: dict[str, Any]) -> Any:
    """The class map of --classes, else of DIR/classes.yaml; with a folder per class and neither, their names."""
    from uscl.data.ingest.mask_layout import class_folders
    from uscl.data.ingest.masks import ClassMap, parse_class_map, read_class_map

    classes, contains, ignore = given.pop("classes"), given.pop("contains"), given.pop("ignore")
    if given.get("subfolders") == "class":
        names = class_folders(folder)
        return parse_class_map(",".join(f"{n}={name}" for n, name in enumerate(names, 1)), contains, ignore)
    if classes is not None or contains or ignore is not None:
        return parse_class_map(classes or "", contains, ignore)
    found: ClassMap = read_class_map(folder / "classes.yaml")
    return found


def nnunet_command(
    finish: Callable[[Path, Sequence[str], Sequence[str]], None],
    make_progress: Callable[[], Callable[[str, int, int], None]],
) -> click.Command:
    """The command; `finish` says what was made and what was left out, as the other imports do."""

    @click.command(name="nnunet")
    @click.argument("folder", metavar="DIR", type=_folder)
    @click.argument("out", type=_folder)
    @click.option("--channel", type=click.IntRange(min=0), help="Which channel to read, where images have several.")
    @_EMPTY
    @_RESIZE
    @click.option("--strict", is_flag=True, help="Stop at the first file that cannot be read; nothing is made.")
    @click.option(
        "--csv", "csv_path", type=_file, help="Patient or group of each image (column file, image or filename)."
    )
    @click.option(
        "--size", type=click.IntRange(min=16), default=192, show_default=True, help="For clips merged in later."
    )
    @click.option("--name", metavar="NAME", default="", help="The dataset's own name; default: that of OUT.")
    @click.option("--licence", metavar="TEXT", default="", help="Licence to record; default: the CSV's.")
    @name_options
    def command(
        folder: Path,
        out: Path,
        *,
        channel: int | None,
        strict: bool,
        csv_path: Path | None,
        size: int,
        name: str,
        licence: str,
        **given: Any,
    ) -> None:
        """Import an nnU-Net folder (imagesTr, labelsTr, dataset.json) as labelled images.

        Classes and their nesting come from dataset.json, with regions given as lists; cases of labelsTs are the test
        part. Frames of a volume become one labelled image each; NIfTI files need the extra [volumes].
        """
        from uscl.data.ingest.labels import import_pictures
        from uscl.data.ingest.nnunet_folder import read_nnunet_folder
        from uscl.data.ingest.problems import problem_lines
        from uscl.data.ingest.table import read_table
        from uscl.data.writer import refuse_existing

        refuse_existing(out)
        found = read_nnunet_folder(folder, channel=channel)
        table = read_table(csv_path) if csv_path else None
        naming, said = chosen_naming(out, given)
        options: dict[str, Any] = {"class_map": found.class_map, "size": size, "table": table, "name": name}
        options |= {"licence": licence, "rules": rules_of(given), "strict": strict, "naming": naming}
        summary = import_pictures(found.pictures, folder, out, progress=make_progress(), **options)
        problems = problem_lines(summary.bad, summary.files, "image")
        finish(out, (*found.remarks, *summary.remarks, *said), problems)

    return command
