"""`uscl doctor`: what would stop a sweep, and what to do about it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from uscl.cli.options import store_option
from uscl.errors import StoreError
from uscl.store.roots import StoreRoot
from uscl.sweep import doctor as examine
from uscl.sweep.findings import Finding, Level
from uscl.sweep.nodes import NodeFacts
from uscl.sweep.preflight import has_card
from uscl.tracking.location import SHARED_FILE_SYSTEMS, file_system, find_location

ANSWER_S = 5.0


@click.command()
@click.option("--address", metavar="ADDRESS", help="A running Ray cluster: 'auto' or host:port; each node is probed.")
@store_option
@click.option("--data", type=click.Path(path_type=Path), metavar="DATASET", help="A dataset's folder to look for.")
@click.option("--ray", "start_ray", is_flag=True, help="Start a Ray on this machine too; takes some seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(address: str | None, store: StoreRoot, data: Path | None, *, start_ray: bool, as_json: bool) -> int:
    """Say what would stop a sweep here or on a cluster, and what to do.

    Exit code 0 where nothing would, 2 where something would; warnings do not count. Nothing is left in the store.
    """
    machine = examine.look_at_machine()
    findings = examine.judge_versions(examine.installed_versions(machine), examine.our_requirements())
    findings += examine.judge_machine(machine, card=has_card())
    findings += examine.judge_store(examine.look_at_store(store, _file_system(store)))
    findings += _mlflow(store)
    datasets: dict[str, str] = {}
    if data is not None:
        found, datasets = examine.examine_data(data)
        findings += found
    if start_ray:
        findings += examine.examine_local_ray()
    nodes: Sequence[NodeFacts] = ()
    if address is not None:
        found, nodes = examine.examine_cluster(address, store_root=store, datasets=datasets)
        findings += found
    stops = sum(finding.level is Level.STOP for finding in findings)
    if as_json:
        document = {"stop": stops > 0, "findings": [asdict(f) for f in findings], "nodes": [asdict(n) for n in nodes]}
        click.echo(json.dumps(document, indent=1))
    else:
        _print(findings, nodes, stops)
    return 2 if stops else 0


def _file_system(store: StoreRoot) -> str:
    return file_system(store) if isinstance(store, Path) else ""


def _mlflow(store: StoreRoot) -> list[Finding]:
    try:
        location = find_location(store)
    except StoreError as error:
        return [Finding(Level.STOP, "mlflow", str(error), "or unset it: the store then has a database of its own")]
    if location.database is not None:
        facts = examine.MlflowFacts(location.uri, database_file_system=file_system(location.database))
    else:
        facts = examine.MlflowFacts(location.uri, error=_server_error(location.uri))
    return examine.judge_mlflow(facts, network=SHARED_FILE_SYSTEMS)


def _server_error(uri: str) -> str:
    """Why the MLflow server does not answer; empty where it does."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_S):
            return ""
    except urllib.error.HTTPError as error:
        return f"it answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return f"nobody answers ({getattr(error, 'reason', error)})"


def _print(findings: Sequence[Finding], nodes: Sequence[NodeFacts], stops: int) -> None:
    for finding in findings:
        click.echo(f"{finding.level.value:8} {finding.topic:9} {finding.what}")
        if finding.fix:
            click.echo(f"{'':8} {'-> do':9} {finding.fix}")
    if nodes:
        click.echo(f"\n{'node':24} {'CPUs':>4}  {'torch':14} GPUs")
    for node in nodes:
        cards = ", ".join(f"{gpu.name} (sm_{gpu.capability[0]}{gpu.capability[1]})" for gpu in node.gpus)
        shown = f"{node.num_gpus} x {cards}" if node.gpus else "none"
        click.echo(f"{node.host:24} {node.cpus:>4}  {node.versions.get('torch', 'none'):14} {shown}")
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    end = f"{stops} findings would stop a sweep" if stops else "nothing would stop a sweep"
    click.echo(f"\n{end}; {warnings} warnings")
