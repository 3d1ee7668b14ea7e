"""What each stage may read, as frozen values: its settings, with None where another setting makes one moot.

`keys.chain` fills them in and makes the content key of a stage from exactly that value; a field added after a release
declares a `neutral` value and is left out of the key where it has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from uscl.spec.trial import (
    DecoderSpec,
    EncoderSpec,
    ImageSpec,
    NetworkSpec,
    NnunetSpec,
    PixelSpec,
    Section,
    SpeckleSpec,
)


class ContrastInputs(Section):
    """Contrastive loss; what the chosen loss does not read is None."""

    loss: Literal["infonce", "pairwise"]
    form: str | None
    temperature: float | None
    margin: float | None
    distance: str | None


class PairInputs(Section):
    """Temporal pairs of one stage; all None under polarity `none`."""

    polarity: Literal["none", "positive", "negative", "positive_negative"]
    window: float | None = None
    unit: Literal["frames", "ms", "fraction"] | None = None
    guard: float | None = None
    negatives: Literal["intra", "cross", "all"] | None = None
    shuffled: bool | None = None


class EncoderInputs(Section):
    """All that the encoder stage reads besides its clips."""

    seed: int
    image: ImageSpec
    network: NetworkSpec
    contrast: ContrastInputs
    pairs: PairInputs
    encoder: EncoderSpec


class DecoderInputs(Section):
    """All that the decoder stage reads besides its clips and the encoder's weights."""

    seed: int
    image: ImageSpec
    network: NetworkSpec
    contrast: ContrastInputs
    pairs: PairInputs
    decoder: DecoderSpec


class FinetuneSettings(Section):
    """FinetuneSpec with None where another setting makes one moot."""

    steps: int
    lr: float
    batch: int
    loss: str
    augment: str
    freeze: str | None
    transfer_bn_stats: bool | None
    select: str
    select_every: int | None


class FinetuneInputs(Section):
    """All that fine-tuning reads besides its cases and the pretrained weights."""

    seed: int
    image: ImageSpec
    network: NetworkSpec
    finetune: FinetuneSettings
    speckle: SpeckleSpec | None
    classes: tuple[str, ...]


class NnunetInputs(Section):
    """All that our re-implementation of nnU-Net's recipe reads besides its cases."""

    engine: Literal["nnunet2d"]
    seed: int
    image: ImageSpec
    nnunet: NnunetSpec
    speckle: SpeckleSpec | None
    classes: tuple[str, ...]


class PackageInputs(Section):
    """All that the real nnU-Net package reads besides its cases, which it sees at native size."""

    engine: Literal["nnunetv2"]
    seed: int
    nnunet: NnunetSpec
    speckle: SpeckleSpec | None
    classes: tuple[str, ...]
    contains: Mapping[str, tuple[str, ...]]
    """Class -> classes that lie within it: its regions."""


class PixelInputs(Section):
    """All that label-based pixel contrast reads besides its labelled cases; it stands where the decoder stage does."""

    seed: int
    image: ImageSpec
    network: NetworkSpec
    pixel: PixelSpec
    classes: tuple[str, ...]


class EvaluateInputs(Section):
    """All that an evaluation reads besides its cases and the network's weights."""

    part: Literal["val", "test"]
    engine: Annotated[Literal["unet", "nnunetv2"], Field(json_schema_extra={"neutral": "unet"})] = "unet"
    """What predicts: our U-Net, or the real nnU-Net package."""
    image: ImageSpec | None
    """None where the engine works at native size and normalises by itself."""
    network: NetworkSpec | None
    """None where the engine plans its own."""
    tta: str
    classes: tuple[str, ...]
    leaf_classes: tuple[str, ...]


TrainedInputs: TypeAlias = FinetuneInputs | NnunetInputs | PackageInputs
StageInputs: TypeAlias = EncoderInputs | DecoderInputs | PixelInputs | TrainedInputs | EvaluateInputs
