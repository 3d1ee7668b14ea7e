"""What all orders of a start have in common, and the order for one attempt."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from uscl.store.roots import StoreRoot
from uscl.sweep.nodes import Needs
from uscl.sweep.order import TrialOrder
from uscl.sweep.outlook import link
from uscl.sweep.queue import CellQueue
from uscl.sweep.study import Study, StudyCell


@dataclass(frozen=True, slots=True)
class Terms:
    """What every order of this start has in common."""

    device: str
    cpus: float
    run_trial: str
    session_path: StoreRoot
    needs: Needs | None = None
    """What a node must have that joins after the preflight; None: none does."""


def order_of(
    study: Study, cell: StudyCell, attempt: str, log_path: StoreRoot, terms: Terms, queue: CellQueue
) -> TrialOrder:
    """The order for one attempt at a cell, as the store stands by the queue's books."""
    plan, resources = cell.planned.plan, study.resources
    return TrialOrder(
        number=plan.number,
        cell=plan.cell,
        spec=cell.planned.spec.model_dump(mode="json"),
        store_root=str(study.store_root),
        namespace=plan.namespace,
        dataset_path=str(cell.dataset_path),
        attempt=attempt,
        present=tuple(ref.key for ref in plan.stages.values() if queue.is_present(link(plan, ref))),
        log_path=str(log_path),
        session_path=str(terms.session_path),
        device=terms.device,
        cpus=terms.cpus,
        amp=resources.amp,
        progress_every_s=resources.progress_every_s,
        run_trial=terms.run_trial,
        gpus=resources.gpus_per_trial,
        names=plan.stage_names,
        parts=plan.parts,
        series=cell.series,
        also=cell.also,
        needs=asdict(terms.needs) if terms.needs else {},
        phantom=cell.phantom,
    )
