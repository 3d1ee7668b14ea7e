"""Whether the speckle term of a plan can ever compare a region: asked once the data is there, before any trial."""

from __future__ import annotations

from uscl.data.dataset import Dataset
from uscl.errors import SpecError
from uscl.spec.trial import SpeckleSpec
from uscl.stages.inputs import FinetuneInputs, NnunetInputs, PackageInputs
from uscl.sweep.plan import PlannedCell, SweepPlan


def refuse_unfit_speckle(plan: SweepPlan, dataset: Dataset) -> None:
    """SpecError, at speckle.min_pixels, where no training case of a cell holds a region large enough to fit.

    Looks at cases until one will do, mostly the first, at the size that is trained on (nnunetv2: native) and without
    augmentation, by the rule of the loss itself. Areas are not in the dataset's index, and a phantom has none before it
    is built: so it is asked here.
    """
    asked: set[object] = set()
    for planned in plan.cells:
        stage = planned.chain.stage("finetune")
        inputs = stage.inputs
        if not isinstance(inputs, FinetuneInputs | NnunetInputs | PackageInputs) or inputs.speckle is None:
            continue
        size = None if isinstance(inputs, PackageInputs) else inputs.image.size
        question = (stage.data.cases, size, inputs.speckle)
        if question not in asked and not _can_fit(dataset, *question, classes=inputs.classes):
            raise _refusal(plan, planned, inputs.speckle, size=size, num_cases=len(stage.data.cases))
        asked.add(question)


def _can_fit(
    dataset: Dataset, cases: tuple[str, ...], size: int | None, speckle: SpeckleSpec, *, classes: tuple[str, ...]
) -> bool:
    # here: loading torch takes seconds that a sweep without a speckle term need not wait for
    import torch

    from uscl.data.labelled import load_labelled
    from uscl.losses.speckle import valid_regions

    numbers = [classes.index(name) for name in speckle.classes]
    for name in cases:
        if size is None:
            case = dataset.case(name)
            stacked = (case.image[None] / 255.0, case.masks[None], case.known[None])
            raw, truth, known = (torch.from_numpy(plane.astype("float32")) for plane in stacked)
        else:
            frame = load_labelled(dataset, (name,), size=size, norm="none", device=torch.device("cpu"))
            raw, truth, known = frame.raw_N1HW[:, 0], frame.truth_NKHW, frame.known_N1HW[:, 0]
        if bool(valid_regions(raw, truth, known, speckle=speckle, classes=numbers).any()):
            return True
    return False


def _refusal(
    plan: SweepPlan, planned: PlannedCell, speckle: SpeckleSpec, *, size: int | None, num_cases: int
) -> SpecError:
    where = {
        "mask": "",
        "band": f" in a band of {speckle.band_px} px",
        "patch": f" in a patch of {speckle.patch_px} px",
    }
    scale = "native size" if size is None else f"image.size {size}"
    message = (
        f"no region of {' or '.join(speckle.classes)} has {speckle.min_pixels} pixels of speckle{where[speckle.region]}"
        f" at {scale} in the {num_cases} training cases, so speckle.model: {speckle.model} cannot be fitted;"
        " set a smaller min_pixels, other speckle.classes, or speckle.weight: 0"
    )
    cell = next(cell for cell in plan.spec.grid if cell.number == planned.plan.number)
    return cell.error("speckle.min_pixels", message)
