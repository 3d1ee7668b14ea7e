"""Which labelled cases a trial reads, who is trained on and measured, and how it is scored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from uscl.spec.section import Section


class LabelsSpec(Section):
    """Which labelled cases count, and how many of them fine-tuning may see."""

    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Of the training cases; at least one case of each class, or an error."""
    draw: Annotated[int, Field(ge=0)] = 0
    """Which nested order of training cases the fraction is taken from."""
    rater: Annotated[str, Field(json_schema_extra={"neutral": ""})] = ""
    """Whose masks train and score, where several raters drew on one image: a name that the dataset has, or `consensus`.
    Empty: the dataset's only rater, else the first by name."""
    quality: Annotated[tuple[str, ...], Field(json_schema_extra={"neutral": ()})] = ()
    """Images of these qualities only (`[Good, Fair]`), as the dataset names them. Empty: all."""


class SplitSpec(Section):
    """Train, validation and test by patient (or group), over those with labelled cases."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Which split."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Of the patients; for `finetune.select: best_val` and `val/...`."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Of the patients; scored once, as `test/...`."""


class EvaluateSpec(Section):
    """How a fine-tuned network is scored."""

    tta: Literal["none", "flip"] = "none"
    """Test-time augmentation: mean over the frame and its mirror image (left-right; depth is never flipped)."""
