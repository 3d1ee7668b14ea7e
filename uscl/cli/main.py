"""The `uscl` command. A command's module is imported when it is called, so that `uscl --help` answers at once."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import click

from uscl.errors import UsclError


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is, and its first line of help (which a test compares with the command's own)."""

    where: str
    """`module:attribute` below uscl.cli."""
    help: str


COMMANDS: Mapping[str, LazyCommand] = {
    "sweep": LazyCommand("sweep:sweep", "Run what is missing of sweep files; print their tables."),
    "check": LazyCommand("check:check", "Check sweep files; print their cells, and what each would reuse."),
    "schema": LazyCommand("check:schema", "Print the JSON Schema of a sweep file, for editors."),
    "trial": LazyCommand("trial:trial", "Run one cell of a sweep file in this process, without Ray."),
    "status": LazyCommand("status:status", "Say how sweeps stand: cells, what runs where, hours, time left."),
    "why": LazyCommand("status:why", "Say what happened to a cell, attempt by attempt."),
    "stop": LazyCommand("stop:stop", "Drain a running sweep, from any machine that sees its store."),
    "report": LazyCommand("report:report", "Print a sweep's report from the store."),
    "search": LazyCommand("search:search", "What a search has proposed and found."),
    "logs": LazyCommand("trial:logs", "Print the log of a cell's last attempt."),
    "export": LazyCommand("export:export", "Write a finished cell's network as a folder that needs no store."),
    "predict": LazyCommand(
        "export:predict", "Masks of images, DICOM files and video clips, by an exported model or a cell."
    ),
    "gc": LazyCommand("gc:gc", "Delete what nothing needs: dead attempts, spent resume points."),
    "doctor": LazyCommand("doctor:doctor", "Say what would stop a sweep here or on a cluster, and what to do."),
    "data": LazyCommand("data:data", "Make, import and look at datasets."),
    "sensitivity": LazyCommand(
        "sensitivity:sensitivity", "Say what a boundary 1 or 10 px off costs in DSC, per class."
    ),
    "ui": LazyCommand("ui:ui", "Bring MLflow up to date, then serve its pages."),
    "sync": LazyCommand("ui:sync", "Bring MLflow up to date with the store."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and none to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].where.split(":")
        command: click.Command = getattr(importlib.import_module(f"uscl.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from COMMANDS alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="uscl")
def uscl() -> None:
    """Which contrastive pretraining helps ultrasound segmentation? Sweeps of pretraining and fine-tuning trials.

    `uscl sweep sweeps/temporal.yaml` answers on a simulated phantom, out of the box. CELL is a number that
    `uscl check` prints, or the start of a cell's id.
    """


def main() -> None:
    """Entry point. A UsclError is one line on stderr and its own exit code; a bug keeps its traceback."""
    try:
        code = uscl.main(standalone_mode=False)
    except UsclError as error:
        click.echo(f"uscl: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("uscl: interrupted", err=True)
        code = 130
    except BrokenPipeError:  # `uscl check x.yaml | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
