"""The options that every command on a sweep file takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from uscl.store.roots import StoreRoot, store_root

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


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --recipe, --data, --name, --set and --store; they arrive as `recipe`, `data`, `name`, `sets`, `store`."""
    for option in (store_option, *reversed(_OPTIONS)):
        command = option(command)
    return command
