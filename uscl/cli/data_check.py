"""`uscl data check` and `uscl data agreement`: what is wrong with a dataset, and how well its raters agree."""

from __future__ import annotations

import json
from pathlib import Path

import click

from uscl.cli.made import show_progress

_folder = click.Path(file_okay=False, path_type=Path)


@click.command("check")
@click.argument("dataset", type=_folder)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--seed", type=int, default=0, show_default=True, help="split.seed")
@click.option("--validation-fraction", type=float, default=0.2, show_default=True, help="split.validation_fraction")
@click.option("--test-fraction", type=float, default=0.2, show_default=True, help="split.test_fraction")
def check_command(dataset: Path, *, as_json: bool, seed: int, validation_fraction: float, test_fraction: float) -> int:
    """Say what is wrong with DATASET: leaks between parts of the split, repeats, odd masks, unknowns.

    Exit code 1 where the split leaks: an image, its copy or near view, or a recording is in two parts.
    """
    from uscl.data.checks.check_dataset import check_dataset, to_json
    from uscl.data.checks.finding import leaks, summary, to_text
    from uscl.data.dataset import open_dataset

    split = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    opened = open_dataset(dataset)
    findings = check_dataset(opened, seed=seed, **split, progress=show_progress())
    if as_json:
        facts = to_json(opened, findings, seed=seed, **split)
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join([to_text(findings)] * bool(findings) + [f"{opened.name}: {summary(findings)}"]))
    return int(leaks(findings))


@click.command("agreement")
@click.argument("dataset", type=_folder)
@click.option("--raters", metavar="A,B", default="", help="Which two, where the dataset has more.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--no-save", is_flag=True, help="Print only; leave dataset.json as it is.")
def agreement_command(dataset: Path, *, raters: str, as_json: bool, no_save: bool) -> None:
    """Measure how well two raters of DATASET agree: DSC, HD95 and delta SNR per class, under each empty rule.

    Means over the images that both labelled; what depends on who is the truth is the mean of both ways. The scores go
    into dataset.json: reports of sweeps on DATASET show them as the line `two raters`, from the next `uscl sweep` on.
    """
    from uscl.data.agreement import rater_agreement, save_agreement, to_text
    from uscl.data.dataset import open_dataset

    opened = open_dataset(dataset)
    names = [name.strip() for name in raters.split(",") if name.strip()]
    agreement = rater_agreement(opened, names, progress=show_progress())
    if not no_save:
        save_agreement(opened, agreement)
    if as_json:
        click.echo(json.dumps(agreement.to_json(), indent=2, ensure_ascii=False))
    else:
        click.echo(to_text(agreement, opened.classes))
