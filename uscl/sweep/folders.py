"""The folders of the sweeps that one start drives: their leases, their session files, what they hold of their plans."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from uscl.errors import LeaseHeld, StoreError
from uscl.stages.keys import STAGE_VERSION
from uscl.store.roots import StoreRoot
from uscl.store.strict_json import decode_json, encode_json
from uscl.store.sweeps import SweepFolder
from uscl.sweep.order import RUNNING
from uscl.sweep.plan import SweepPlan
from uscl.sweep.signals import StopRequests
from uscl.sweep.study import Study


def folder_of(plan: SweepPlan) -> SweepFolder:
    """Where a sweep keeps its own."""
    return SweepFolder(plan.store_root, plan.identity)


def knows(plan: SweepPlan) -> bool:
    """Whether the sweep's folder holds exactly this plan, and no driver of it was killed: its sinks have heard all."""
    folder = folder_of(plan)
    return not folder.sessions() and _holds(plan, folder)


@contextmanager
def leased(study: Study, requests: StopRequests | None = None) -> Iterator[None]:
    """The right to drive every sweep of the study, or LeaseHeld and none.

    They are taken in the order of their names, whatever that of the files: of two commands one gets all it asks for.
    `Stopped` where `requests` come meanwhile: without flock, a lease left behind is watched for half a minute.
    """
    with ExitStack() as stack:
        for plan in sorted(study.plans, key=lambda plan: plan.identity):
            try:
                with requests.at_once() if requests else nullcontext():
                    lease = folder_of(plan).acquire_lease()
                if requests:
                    lease.when_taken(lambda: requests.ask("another driver, which has taken over the lease,"))
                stack.enter_context(lease)
            except LeaseHeld as error:
                if len(study.plans) == 1:
                    raise
                raise LeaseHeld(f"{error}; no sweep of this command has been started") from error
        yield


@contextmanager
def session(study: Study, requests: StopRequests) -> Iterator[StoreRoot]:
    """The file through which trials hear that the study drains: that of its first sweep.

    Every sweep's folder has one. One left behind tells of a driver that was killed.
    """
    name = f"session-{secrets.token_hex(8)}"
    folders = [folder_of(plan) for plan in study.plans]
    for folder in folders:
        for stale in folder.sessions():
            folder.remove_session(stale)
        for scratch in folder.scratch.glob("tune-*") if folder.scratch else ():
            shutil.rmtree(scratch, ignore_errors=True)
        folder.clear_live()  # a killed driver's
    paths = [folder.write_session(name, RUNNING) for folder in folders]
    try:
        yield paths[0]
    finally:
        for folder in () if requests.hard else folders:
            folder.remove_session(name)


def write_plans(study: Study, say: Callable[[str], None]) -> None:
    """Each sweep's sweep.yaml, cells.json and dataset facts; `say` hears which cells changed since the last start.

    StoreError, with nothing written, where a folder belongs to a sweep with another recipe or dataset.
    """
    documents = {plan.identity: _document(plan) for plan in study.plans}
    for plan in study.plans:
        folder_of(plan).require_same(documents[plan.identity])
    for plan in study.plans:
        folder = folder_of(plan)
        folder.write_sweep(documents[plan.identity])
        changed = _changed(plan, folder)
        if changed:
            say(changed)
        folder.write_cells([planned.plan for planned in plan.cells])
        folder.write_dataset(plan.facts)


def _document(plan: SweepPlan) -> dict[str, object]:
    data = plan.spec.data if plan.spec.data == "phantom" else str(plan.dataset_path)
    known = {"dataset_fingerprint": plan.dataset_fingerprint, "stage_versions": dict(STAGE_VERSION)}
    return {**plan.spec.to_json(), "data": data, **known}


def _holds(plan: SweepPlan, folder: SweepFolder) -> bool:
    try:
        known = [cell.to_json() for cell in folder.read_cells()]
    except StoreError:
        return False
    report = plan.spec.to_json().get("report")
    if (folder.read_sweep() or {}).get("report", report) != report:
        return False
    return bool(known == decode_json(encode_json([planned.plan.to_json() for planned in plan.cells])))


def _changed(plan: SweepPlan, folder: SweepFolder) -> str:
    """How the cells differ from those of the last start; empty where they do not."""
    try:
        known = {cell.cell for cell in folder.read_cells()}
    except StoreError:
        return ""
    now = {planned.plan.cell for planned in plan.cells}
    gone, new = len(known - now), len(now - known)
    if not gone:
        return f"{plan.identity}: {new} cells are new since the last start" if new else ""
    return (
        f"{plan.identity}: {gone} of {len(known)} cells of the last start are no longer declared (their results stay "
        f"in the store), {new} are new; --name keeps the two apart"
    )
