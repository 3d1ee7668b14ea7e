"""Options of an import for names and burned-in text, and `uscl data check-privacy`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from uscl.cli.made import show_progress

_file = click.Path(dir_okay=False, path_type=Path)


class _Share(click.ParamType):
    """`10%` or `0.1` as a fraction in [0, 1)."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The fraction."""
        text = str(value).strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share < 1:
            hint = f"; did you mean {text}%?" if text.isdecimal() and 1 <= int(text) < 100 else ""
            self.fail(f"{text!r} is no share of the picture; expected one like 10%{hint}", param, ctx)
        return share


_NAME_OPTIONS = (
    click.option(
        "--salt", type=_file, help="Makes pseudonyms; made where missing. Default: uscl-import.salt beside OUT."
    ),
    click.option("--keep-names", is_flag=True, help="Call clips and cases as their files: where names tell nothing."),
    click.option("--hash-patients", is_flag=True, help="Pseudonyms for patients and groups of the CSV, too."),
)
_OVERLAY_OPTIONS = (
    click.option(
        "--blank-top", type=_Share(), default="0%", metavar="SHARE", help="Blank that much of pictures from above: 10%."
    ),
    click.option("--keep-overlay", is_flag=True, help="You have looked: burned-in text names nobody. Blank nothing."),
)


def name_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --salt, --keep-names and --hash-patients; for `chosen_naming`."""
    for option in reversed(_NAME_OPTIONS):
        command = option(command)
    return command


def overlay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --blank-top and --keep-overlay, for ClipOptions."""
    for option in reversed(_OVERLAY_OPTIONS):
        command = option(command)
    return command


def chosen_naming(out: Path, given: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The Naming of an import into `out`, and what its user should know of it; takes its options out of `given`.

    Makes the salt where it is missing. DataError where `out` exists, before anything is made.
    """
    from uscl.data.ingest.naming import SALT_FILE, Naming, names_path, read_salt
    from uscl.data.writer import refuse_existing

    salt, keep_names, hash_patients = (given.pop(key) for key in ("salt", "keep_names", "hash_patients"))
    refuse_existing(out)
    path = salt or out.with_name(SALT_FILE)
    value, made = read_salt(path)
    said = [f"salt of the pseudonyms {'made' if made else 'read'}: {path}; keep it to yourself, and for later imports"]
    if not keep_names:
        said.append(
            f"clips and images have pseudonyms, so that names of files do not get in; {names_path(out)} alone says "
            "which is which (--keep-names: as the files are called)"
        )
    return Naming(value, keep_names, hash_patients), tuple(said)


@click.command(name="check-privacy")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def check_privacy(folder: Path, *, as_json: bool) -> None:
    """List what in the files below DIR could identify somebody, and what an import does about it.

    Says which kinds of entries are there and how many, never what they hold. Exit code 1 where there is any.
    """
    from uscl.data.ingest.privacy import check_folder, report_lines

    report = check_folder(folder, progress=show_progress())
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in report_lines(report):
            click.echo(line)
    if report.found:
        raise SystemExit(1)
