"""What `--skip-failed` does not try again: stages at which an earlier start failed for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from uscl.records import StageRef
from uscl.sweep.failures import RETRIED, policy_of
from uscl.sweep.folders import folder_of
from uscl.sweep.outlook import link
from uscl.sweep.study import Study, StudyCell

_ENDS = ("CellFinished", "Drained", "Failed")


def failed_links(study: Study, say: Callable[[str], None]) -> set[str]:
    """Links at which a cell's last attempt failed: by a bug, for want of memory, or once too often by a lost process.

    Holding one holds every cell that needs it, as in the start in which it failed. `say` hears how many cells failed.
    """
    links: set[str] = set()
    cells: set[str] = set()
    for plan in study.plans:
        last = {
            record["cell"]: record
            for record in folder_of(plan).read_events()
            if record.get("event") in _ENDS and "cell" in record
        }
        for cell in study.cells_of(plan):
            record = last.get(cell.declared[plan.identity].cell)
            if record is not None and _for_good(record):
                links.add(_link(cell, record))
                cells.add(cell.key)
    if cells:
        counted = "1 cell is" if len(cells) == 1 else f"{len(cells)} cells are"
        say(f"--skip-failed: {counted} not tried again after an earlier failure, nor what stands on the same stage")
    return links


def _for_good(record: Mapping[str, Any]) -> bool:
    if record["event"] != "Failed":
        return False
    failure = str(record.get("failure", ""))
    if policy_of(failure).pauses:
        return False
    return failure not in RETRIED or bool(record.get("held"))


def _link(cell: StudyCell, record: Mapping[str, Any]) -> str:
    """The stage the record blames; one of an older release blames none, and only the cell itself is held."""
    plan = cell.planned.plan
    key = record.get("key")
    ref = next((ref for ref in plan.stages.values() if ref.key == key), StageRef("finetune", plan.cell))
    return link(plan, ref)
