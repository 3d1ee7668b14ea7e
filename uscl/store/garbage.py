"""What of a store nobody needs: found here, deleted by `uscl gc`.

Kept, whatever its age: every stage that a sweep declares or has proposed, and its resume points while nobody has
published it: the next start goes on from them. Datasets, MLflow's files and
the sweeps' own folders are not looked at, but for what a killed writer left there. A file or folder that was touched
within `older_than_s` may belong to a trial under way and stays: `uscl trial` holds no lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum

from uscl.errors import StoreError
from uscl.records import STAGE_KINDS, StageRef
from uscl.store.roots import StoreFiles, StoreRoot, open_files
from uscl.store.stages import MANIFEST
from uscl.store.strict_json import decode_json
from uscl.store.sweeps import SweepFolder

OLDER_THAN_S = 24 * 3600.0
"""Untouched for this long, an unfinished attempt has no writer any more: a trial saves every minute or so."""


class Waste(StrEnum):
    """Why something is not needed."""

    ATTEMPT = "attempts that published nothing"
    PROGRESS = "resume points that nothing will go on from"
    TORN = "torn outputs"
    ASIDE = "files of killed writers"
    UNREFERENCED = "published stages that no sweep declares"


@dataclass(frozen=True, slots=True)
class Garbage:
    """One file or folder that may go."""

    waste: Waste
    name: str
    """Below the store's root."""
    num_bytes: int
    kind: str = ""
    """Kind of the stage it belongs to; empty where it belongs to none."""


@dataclass(frozen=True, slots=True)
class StageLink:
    """One stage folder: a stage in the shared part of the store (namespace empty), or in one cell's corner."""

    namespace: str
    ref: StageRef

    @property
    def folder(self) -> str:
        """Its name below the store's root."""
        corner = f"unshared/{self.namespace}/" if self.namespace else ""
        return f"{corner}stages/{self.ref.kind}/{self.ref.key}"


def sweep_folders(root: str | StoreRoot) -> tuple[SweepFolder, ...]:
    """Every sweep's folder in the store, those that a first start left half made included."""
    files = open_files(root)
    return tuple(SweepFolder(root, name) for name in files.list("sweeps") if files.list(f"sweeps/{name}"))


@contextmanager
def all_leases(folders: Iterable[SweepFolder]) -> Iterator[None]:
    """The leases of all sweeps at once. LeaseHeld, which names the holder, where one of them is live."""
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(folder.acquire_lease())
        yield


def declared_stages(folders: Iterable[SweepFolder]) -> frozenset[StageLink]:
    """The stages of every cell that a sweep declares or has proposed.

    StoreError where a sweep's cells cannot be read: what they need is then not known.
    """
    cells = (cell for folder in folders for cell in folder.all_cells())
    return frozenset(StageLink(cell.namespace, ref) for cell in cells for ref in cell.stages.values())


def find_garbage(
    files: StoreFiles,
    declared: frozenset[StageLink],
    *,
    now_s: float,
    older_than_s: float = OLDER_THAN_S,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Garbage]:
    """All that may go, in the order in which to delete it; nothing is deleted here. Leave out what is to stay.

    `declared` as `declared_stages` gives it; `tell` hears of stages that are kept because they cannot be judged.
    """
    limit_s = now_s - older_than_s
    found: list[Garbage] = []
    for corner in ("", *(f"unshared/{name}/" for name in files.list("unshared"))):
        for stage in _stages(files, corner.removeprefix("unshared/").rstrip("/")):
            try:
                found += _of_stage(files, stage, declared=stage in declared, limit_s=limit_s)
            except _Unjudged as error:
                tell(str(error))
        found += _old(files, Waste.TORN, [f"{corner}torn/{name}" for name in files.list(f"{corner}torn")], limit_s)
    inside = tuple(f"{each.name}/" for each in found)
    asides = [name for part in ("stages", "sweeps", "unshared", "torn") for name in files.asides(part)]
    return found + _old(files, Waste.ASIDE, [name for name in asides if not name.startswith(inside)], limit_s)


def delete(files: StoreFiles, garbage: Iterable[Garbage]) -> None:
    """Delete it. Of a published stage the manifest goes first: without it the stage counts as absent."""
    for each in garbage:
        if each.waste is Waste.UNREFERENCED:
            files.delete(f"{each.name}/{MANIFEST}")
        files.delete(each.name)
        for left in _emptied(each):
            if files.exists(left) and not files.list(left) and not files.asides(left):
                files.delete(left)


def _emptied(gone: Garbage) -> list[str]:
    """Folders that a deletion may have left empty, innermost first: `progress`, then the stage's own."""
    if gone.waste not in (Waste.ATTEMPT, Waste.PROGRESS):
        return []
    above = gone.name.rpartition("/")[0]
    return [above, above.rpartition("/")[0]] if gone.waste is Waste.PROGRESS else [above]


class _Unjudged(StoreError):
    """A stage whose manifest cannot be read."""


def _of_stage(files: StoreFiles, stage: StageLink, *, declared: bool, limit_s: float) -> list[Garbage]:
    """What of one stage's folder may go."""
    folder, kind = stage.folder, stage.ref.kind
    winner = _winner(files, stage)
    attempts = [f"{folder}/{name}" for name in files.list(folder) if name not in (MANIFEST, "progress", winner)]
    found = _old(files, Waste.ATTEMPT, attempts, limit_s, kind=kind)
    if winner or not declared:
        points = [f"{folder}/progress/{name}" for name in files.list(f"{folder}/progress")]
        found += _old(files, Waste.PROGRESS, points, limit_s, kind=kind)
    if winner and not declared and files.modified_s(folder) < limit_s:
        rest = files.size(folder) - sum(each.num_bytes for each in found)
        found.append(Garbage(Waste.UNREFERENCED, folder, rest, kind))
    return found


def _winner(files: StoreFiles, stage: StageLink) -> str:
    """The attempt that published the stage; empty where none has."""
    content = files.read_if_there(f"{stage.folder}/{MANIFEST}")
    if content is None:
        return ""
    try:
        return str(decode_json(content)["attempt"])
    except (ValueError, TypeError, KeyError):
        raise _Unjudged(f"stage {stage.ref}: its manifest is torn; kept, the next start rebuilds it") from None


def _old(files: StoreFiles, waste: Waste, names: Iterable[str], limit_s: float, *, kind: str = "") -> list[Garbage]:
    old = (name for name in names if files.modified_s(name) < limit_s)
    return [Garbage(waste, name, files.size(name), kind) for name in old]


def _stages(files: StoreFiles, namespace: str) -> Iterator[StageLink]:
    base = f"unshared/{namespace}/stages" if namespace else "stages"
    for kind in STAGE_KINDS:
        for key in files.list(f"{base}/{kind}"):
            yield StageLink(namespace, StageRef(kind, key))
