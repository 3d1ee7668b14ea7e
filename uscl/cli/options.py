"""The options that commands on sweeps share, and how they find a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from uscl.errors import StoreError
from uscl.spec.reader import load_sweep
from uscl.store.roots import StoreRoot, store_root
from uscl.store.sweeps import SweepFolder, list_sweeps

_OPTIONS = (
    click.option(
        "--recipe", metavar="NAME", help="Sizes and schedules instead of the file's: demo, small, paper, or a file."
    ),
    click.option("--data", metavar="DATASET", help="'phantom', or a dataset's folder, instead of the file's."),
    click.option("--name", metavar="NAME", help="The sweep's identity: its folder and MLflow experiment."),
    click.option("--set", "sets", multiple=True, metavar="A.B=C", help="A setting of every cell; a list multiplies."),
)


def _store(ctx: click.Context, option: click.Parameter, value: str) -> StoreRoot:
    """The store's folder as given, or its address in a bucket; refused in words where it is something else."""
    root = store_root(value)
    return Path(value) if isinstance(root, Path) else root


store_option = click.option(
    "--store",
    metavar="STORE",
    callback=_store,
    default="runs",
    envvar="USCL_STORE",
    show_default=True,
    help="Where stage outputs live: a folder or s3://bucket/prefix; also USCL_STORE.",
)


json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for other programs.")


def sweep_identity(text: str) -> str:
    """The sweep meant by its name, or by its file (as the file names it, without options)."""
    return load_sweep(Path(text)).identity if Path(text).suffix in (".yaml", ".yml") else text


def stored_sweep(store: StoreRoot, text: str) -> SweepFolder:
    """The folder of a sweep that has been started, by name or file. StoreError, with those there are, if it has not."""
    folder = SweepFolder(store, sweep_identity(text))
    known = {other.identity for other in list_sweeps(store)}
    if folder.identity not in known:
        there = f"it has {', '.join(sorted(known))}" if known else "no sweep has been run in it"
        raise StoreError(f"{folder.identity}: no such sweep in the store at {store}; {there}")
    return folder


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --recipe, --data, --name, --set and --store; they arrive as `recipe`, `data`, `name`, `sets`, `store`."""
    for option in (store_option, *reversed(_OPTIONS)):
        command = option(command)
    return command
