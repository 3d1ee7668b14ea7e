"""The plan of nnU-Net's 2-D recipe for a dataset: network and batch from frame size, number of cases and classes.

Re-derived from the rules of nnU-Net's planner (Isensee et al. 2021; science.md 5.2), for our own training loop: what
comes out is an nnU-Net-style baseline, never nnU-Net. The patch is given, not planned: our frames are letterboxed to
squares of `image.size`, where nnU-Net takes the median shape of the dataset.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from uscl.spec.networks import NNUNET_BASE_WIDTH, nnunet_widths
from uscl.spec.section import Section
from uscl.spec.trial import NetworkSpec, NnunetSpec

REFERENCE_FEATURES, REFERENCE_BATCH = 85_000_000, 12
"""nnU-Net's reference for 8 GB: a network of 85e6 feature values per frame trains in batches of 12."""
MAX_COVERED_FRACTION = 0.05
"""A batch holds at most this part of the training pixels, against overfitting."""
MIN_BATCH = 2
BatchRule: TypeAlias = Literal["memory", "5 % of the cases", "minimum", "nnunet.batch"]
CONVS_PER_STAGE = 2
DEVIATIONS = (
    "patch: the whole letterboxed square frame, not the dataset's median shape; so no sliding window",
    "foreground oversampling: draws the frame, not the place of a crop: a class uniformly, then a frame that has it",
    "learning rate: falls every step, not every epoch of 250 steps",
    "padding and what a rotation brings in from outside: not counted by the loss, not taken as background",
    "elastic resampling of masks: bilinear, cut at 1/2; mirrored predictions: mean of probabilities, not of logits",
    "no torch.compile, no 5 folds, no ensemble, no choice between configurations, no postprocessing",
)
"""Where this recipe differs from the package; printed with every plan."""


class NnunetPlan(Section):
    """What was planned and from what; published as `plan.json` beside the weights."""

    recipe: str = "nnU-Net-style 2-D baseline (ours): a re-implementation in uscl's loop, not the nnU-Net package"
    patch_px: tuple[int, int]
    """Height and width of a training patch."""
    num_cases: int
    num_classes: int
    widths: tuple[int, ...]
    """Channels of the stages, the finest first, the bottleneck last."""
    features_per_frame: int
    """Values of all feature maps of one frame: the planner's measure of memory."""
    batch: int
    batch_by: BatchRule
    """What decided the batch."""
    deviations: tuple[str, ...] = DEVIATIONS


def plan_nnunet(
    patch_px: tuple[int, int],
    num_cases: int,
    *,
    num_classes: int,
    base_width: int = NNUNET_BASE_WIDTH,
    batch: int | None = None,
) -> NnunetPlan:
    """The plan for `num_cases` training frames of a size (height, width) with `num_classes` foreground classes.

    Stages are added until the shorter edge is under 2 x 4 px (nnU-Net goes on along the longer one at aspects of 3 and
    more). The batch grows and shrinks with the features of a frame, is at most 5 % of the training pixels and at least
    2; a given `batch` is taken as it is.
    """
    widths = nnunet_widths(min(patch_px), base_width)
    features = features_per_frame(patch_px, widths, num_labels=num_classes + 1)
    planned, rule = _planned_batch(features, num_cases)
    is_given = batch is not None and batch != planned
    return NnunetPlan(
        patch_px=patch_px,
        num_cases=num_cases,
        num_classes=num_classes,
        widths=widths,
        features_per_frame=features,
        batch=batch if batch is not None else planned,
        batch_by="nnunet.batch" if is_given else rule,
    )


def with_planned_batch(nnunet: NnunetSpec, image_size: int, *, num_cases: int, num_classes: int) -> NnunetSpec:
    """The settings with the batch as planned where none is given, so that planned and given are one run."""
    plan = plan_nnunet(
        (image_size, image_size),
        num_cases,
        num_classes=num_classes,
        base_width=nnunet.base_width,
        batch=nnunet.batch,
    )
    return nnunet.model_copy(update={"batch": plan.batch, "longest_px": None})  # it sees image.size


def features_per_frame(patch_px: tuple[int, int], widths: tuple[int, ...], *, num_labels: int) -> int:
    """Values of all feature maps of one frame, as nnU-Net's planner counts them.

    Two convolutions per stage on the way down; on the way up a transposed and two 3 x 3 convolutions; the logits of the
    finest stage, background among the labels. Normalisation and activation work in place and do not count.
    """
    sizes = [(patch_px[0] >> stage) * (patch_px[1] >> stage) for stage in range(len(widths))]
    down = sum(CONVS_PER_STAGE * width * size for width, size in zip(widths, sizes, strict=True))
    up = sum((1 + CONVS_PER_STAGE) * width * size for width, size in zip(widths[:-1], sizes[:-1], strict=True))
    return down + up + num_labels * sizes[0]


def nnunet_network(nnunet: NnunetSpec) -> NetworkSpec:
    """nnU-Net's plain convolutional U-Net: instance norm, leaky ReLU, one head per stage for deep supervision."""
    return NetworkSpec(preset="nnunet2d", norm="instance", activation="leaky_relu", base_width=nnunet.base_width)


def _planned_batch(features: int, num_cases: int) -> tuple[int, BatchRule]:
    by_memory = round(REFERENCE_FEATURES / features * REFERENCE_BATCH)
    by_cases = round(MAX_COVERED_FRACTION * num_cases)
    if max(MIN_BATCH, min(by_memory, by_cases)) == MIN_BATCH:
        return MIN_BATCH, "minimum"
    return (by_memory, "memory") if by_memory <= by_cases else (by_cases, "5 % of the cases")
