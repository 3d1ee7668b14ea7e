"""`uscl gc`: free the space of what nothing needs any more."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from uscl.cli.options import store_option
from uscl.errors import SpecError, StoreError
from uscl.records import STAGE_KINDS
from uscl.spec.moments import parse_span
from uscl.store.garbage import (
    OLDER_THAN_S,
    Garbage,
    Waste,
    all_leases,
    declared_stages,
    delete,
    find_garbage,
    sweep_folders,
)
from uscl.store.roots import StoreRoot, open_files, store_root


@click.command("gc")
@store_option
@click.option("--dry-run", is_flag=True, help="Say what would go; delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="An object: categories with names and bytes, freed_bytes, ...")
@click.option("--unreferenced", is_flag=True, help="Also trained stages that no sweep declares, as `uscl trial` makes.")
@click.option("--older-than", metavar="SPAN", default="24h", show_default=True, help="Untouched for so long; at least.")
def gc(store: StoreRoot, *, dry_run: bool, as_json: bool, unreferenced: bool, older_than: str) -> None:
    """Delete what nothing needs: dead attempts, spent resume points.

    Never touches datasets, MLflow, a stage that a sweep declares or proposes, or anything younger than 24 hours.
    Refuses while a sweep of the store is running.
    """
    older_than_s = parse_span(older_than, where="--older-than")
    if older_than_s < OLDER_THAN_S:
        raise SpecError(f"--older-than {older_than}: at least 24h, so that no trial under way is hurt")
    files = open_files(store)
    if not files.list("stages") and not files.list("sweeps"):
        raise StoreError(f"{store_root(store)}: no store there; give another --store")
    notes: list[str] = []
    with all_leases(folders := sweep_folders(store)):
        declared = declared_stages(folders)
        found = find_garbage(files, declared, now_s=time.time(), older_than_s=older_than_s, tell=notes.append)
        chosen = [each for each in found if unreferenced or each.waste is not Waste.UNREFERENCED]
        if not dry_run:
            delete(files, chosen)
    left = [each for each in found if each not in chosen]
    if as_json:
        click.echo(json.dumps(_document(chosen, left, notes, store=store, deleted=not dry_run), indent=2))
        return
    for line in (*notes, *_lines(chosen, left, deleted=not dry_run)):
        click.echo(line)


def _lines(chosen: Sequence[Garbage], left: Sequence[Garbage], *, deleted: bool) -> list[str]:
    """One line per kind of waste, the sum, and what `--unreferenced` would add."""
    lines = [f"{waste}: {_counted(own)}" for waste in Waste if (own := [g for g in chosen if g.waste is waste])]
    total = size_text(sum(each.num_bytes for each in chosen))
    lines.append(f"freed {total}" if deleted else f"would free {total}; nothing was deleted")
    if left:
        lines.append(
            f"kept, as training them cost time: {Waste.UNREFERENCED}: {_counted(left)}; --unreferenced deletes them too"
        )
    return lines


def _counted(garbage: Sequence[Garbage]) -> str:
    """`3 (1 encoder, 2 finetune), 1.2 GB`."""
    counts = {kind: sum(each.kind == kind for each in garbage) for kind in STAGE_KINDS}
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"{len(garbage)}{f' ({kinds})' if kinds else ''}, {size_text(sum(each.num_bytes for each in garbage))}"


def _document(
    chosen: Sequence[Garbage], left: Sequence[Garbage], notes: Sequence[str], *, store: StoreRoot, deleted: bool
) -> dict[str, Any]:
    return {
        "store": str(store),
        "deleted": deleted,
        "freed_bytes": sum(each.num_bytes for each in chosen),
        "garbage": [_entry(each) for each in chosen],
        "kept_unreferenced": [_entry(each) for each in left],
        "notes": list(notes),
    }


def _entry(garbage: Garbage) -> dict[str, Any]:
    return {"what": garbage.waste, "kind": garbage.kind, "name": garbage.name, "bytes": garbage.num_bytes}


def size_text(num_bytes: float) -> str:
    """`0 B`, `4.0 kB`, `1.2 GB`: powers of 1000, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
