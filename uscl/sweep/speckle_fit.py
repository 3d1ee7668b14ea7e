"""Whether the speckle term of a plan can ever compare a region: asked once the data is there, before any trial."""

from __future__ import annotations

from uscl.data.dataset import Dataset
from uscl.errors import SpecError
from uscl.spec.trial import SpeckleSpec
from uscl.stages.inputs import FinetuneInputs, NnunetInputs
from uscl.sweep.plan import PlannedCell, SweepPlan


def refuse_unfit_speckle(plan: SweepPlan, dataset: Dataset) -> None:
    """SpecError, at speckle.min_pixels, where no training case of a cell holds a region large enough to fit.

    Looks at cases until one will do, mostly the first, at network size and without augmentation, by the rule of the
    loss itself. Areas are not in the dataset's index, and a phantom has none before it is built: so it is asked here.
    """
    asked: set[object] = set()
    for planned in plan.cells:
        stage = planned.chain.stage("finetune")
        inputs = stage.inputs
        at_network_size = isinstance(inputs, FinetuneInputs) or (
            isinstance(inputs, NnunetInputs) and inputs.engine == "nnunet2d"
        )
        if not at_network_size or inputs.speckle is None:
            continue
        question = (stage.data.cases, inputs.image.size, inputs.speckle)
        if question not in asked and not _can_fit(dataset, *question, classes=inputs.classes):
            raise _refusal(plan, planned, inputs.speckle, size=inputs.image.size, num_cases=len(stage.data.cases))
        asked.add(question)


def _can_fit(
    dataset: Dataset, cases: tuple[str, ...], size: int, speckle: SpeckleSpec, *, classes: tuple[str, ...]
) -> bool:
    # here: loading torch takes seconds that a sweep without a speckle term need not wait for
    import torch

    from uscl.data.labelled import load_labelled
    from uscl.losses.speckle import valid_regions

    numbers = [classes.index(name) for name in speckle.classes]
    for case in cases:
        frame = load_labelled(dataset, (case,), size=size, norm="none", device=torch.device("cpu"))
        planes = (frame.raw_N1HW[:, 0], frame.truth_NKHW, frame.known_N1HW[:, 0])
        if bool(valid_regions(*planes, speckle=speckle, classes=numbers).any()):
            return True
    return False


def _refusal(plan: SweepPlan, planned: PlannedCell, speckle: SpeckleSpec, *, size: int, num_cases: int) -> SpecError:
    where = {
        "mask": "",
        "band": f" in a band of {speckle.band_px} px",
        "patch": f" in a patch of {speckle.patch_px} px",
    }
    message = (
        f"no region of {' or '.join(speckle.classes)} has {speckle.min_pixels} pixels of speckle{where[speckle.region]}"
        f" at image.size {size} in the {num_cases} training cases, so speckle.model: {speckle.model} cannot be fitted;"
        " set a smaller min_pixels, other speckle.classes, or speckle.weight: 0"
    )
    cell = next(cell for cell in plan.spec.grid if cell.number == planned.plan.number)
    return cell.error("speckle.min_pixels", message)
