"""What has changed since a sweep's last start: versions of stage code, the dataset. Read from the sweep's folder.

A stage's key holds the version of its code and its parent's key, so a raised version gives new keys to that kind of
stage and to all above it; old outputs stay and are read no more. Here that is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from uscl.errors import StoreError
from uscl.records import STAGE_KINDS, CellPlan
from uscl.stages.keys import STAGE_VERSION
from uscl.store.sweeps import SweepFolder
from uscl.sweep.folders import folder_of
from uscl.sweep.outlook import cell_store, link
from uscl.sweep.plan import SweepPlan


def edition_notes(plan: SweepPlan) -> list[str]:
    """Lines that a user should read before a start; none where nothing has changed, or the sweep never ran.

    Call it before the folder is written anew.
    """
    folder = folder_of(plan)
    stored = folder.read_sweep()
    if stored is None:
        return []
    notes = _dataset_note(stored, plan)
    anew = _trained_anew(plan, folder)
    changed = _changed_versions(stored)
    if changed:
        notes.append(f"stage versions since the last start: {changed}; {_counted(anew)}")
    elif changed is None and anew:
        notes.append(
            "stages have other keys than at the last start, whose versions of the stage code are unknown (not "
            f"recorded then); {_counted(anew)}"
        )
    return notes


def _dataset_note(stored: Mapping[str, object], plan: SweepPlan) -> list[str]:
    before = stored.get("dataset_fingerprint", plan.dataset_fingerprint)
    if before == plan.dataset_fingerprint:
        return []
    return ["the dataset's contents have changed since the last start; `uscl sweep` needs another --name for them"]


def _changed_versions(stored: Mapping[str, object]) -> str | None:
    """`decoder 2 -> 3, evaluate 2 -> 3`; empty where none changed, None where the last start recorded none."""
    before = stored.get("stage_versions")
    if not isinstance(before, dict):
        return None
    changes = [
        f"{kind} {before.get(kind, 'unknown')} -> {STAGE_VERSION[kind]}"
        for kind in STAGE_KINDS
        if before.get(kind) != STAGE_VERSION[kind]
    ]
    return ", ".join(changes)


def _counted(anew: Mapping[str, int]) -> str:
    """How many outputs of which kind there are to make, that the store holds under their old keys."""
    if not anew:
        return "no output of this sweep is affected"
    kinds = ", ".join(f"{anew[kind]} {kind}" for kind in STAGE_KINDS if anew.get(kind))
    outputs = "1 output is" if sum(anew.values()) == 1 else f"{sum(anew.values())} outputs are"
    return f"{outputs} made anew because of it ({kinds}); the old ones stay in the store and are not read"


def _trained_anew(plan: SweepPlan, folder: SweepFolder) -> Counter[str]:
    """Stage kind -> outputs that are missing, while those of the same settings under an old key are published."""
    try:
        known = folder.read_cells()
    except StoreError:  # it never got as far, or is torn: the next start writes it
        return Counter()
    cells = [planned.plan for planned in plan.cells]
    shared_names = _names_of(known) & _names_of(cells)  # a release may have added settings
    before = {(cell.namespace, _settings(cell, shared_names)): cell for cell in known}
    anew: dict[str, str] = {}
    for cell in cells:
        old = before.get((cell.namespace, _settings(cell, shared_names)))
        for name in _moved(cell, old, plan) if old is not None else ():
            anew[link(cell, cell.stages[name])] = cell.stages[name].kind
    return Counter(anew.values())


def _moved(cell: CellPlan, old: CellPlan, plan: SweepPlan) -> list[str]:
    """Stages of a cell that the store holds under the old key, and not under the new one."""
    store, was = cell_store(plan.store_root, cell), cell_store(plan.store_root, old)
    return [
        name
        for name, ref in cell.stages.items()
        if name in old.stages and old.stages[name] != ref and was.has(old.stages[name]) and not store.has(ref)
    ]


def _names_of(cells: Sequence[CellPlan]) -> frozenset[str]:
    return frozenset(cells[0].settings) if cells else frozenset()


def _settings(cell: CellPlan, names: frozenset[str]) -> tuple[str, ...]:
    """As text: a list of a stored cell is a tuple in a planned one."""
    return tuple(str(_plain(cell.settings.get(name))) for name in sorted(names))


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
