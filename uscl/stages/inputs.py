"""What each stage may read, as frozen values: its settings, with None where another setting makes one moot.

`keys.chain` fills them in and makes the content key of a stage from exactly that value; a field added after a release
declares a `neutral` value and is left out of the key where it has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from uscl.spec.regions import Containment
from uscl.spec.section import Section
from uscl.spec.trial import DecoderSpec, EncoderSpec, ImageSpec, NetworkSpec, NnunetSpec, PixelSpec, SpeckleSpec


class ContrastInputs(Section):
    """Contrastive loss; what the chosen loss does not read is None."""

    loss: Literal["infonce", "pairwise", "pixpro"]
    form: str | None
    temperature: float | None
    margin: float | None
    distance: str | None
    pixpro_power: Annotated[float | None, Field(json_schema_extra={"neutral": None})] = None
    pixpro_distance: Annotated[float | None, Field(json_schema_extra={"neutral": None})] = None
    momentum: Annotated[float | None, Field(json_schema_extra={"neutral": None})] = None


class PairInputs(Section):
    """Temporal pairs of one stage; all None, or as by default, under polarity `none`."""

    polarity: Literal["none", "positive", "negative", "positive_negative"]
    window: float | None = None
    unit: Literal["frames", "ms", "fraction"] | None = None
    guard: float | None = None
    negatives: Literal["intra", "cross", "all"] | None = None
    shuffled: bool | None = None
    density: Annotated[Literal["uniform", "decreasing"], Field(json_schema_extra={"neutral": "uniform"})] = "uniform"
    soft: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    hard_beta: Annotated[float, Field(json_schema_extra={"neutral": 0.0})] = 0.0
    curriculum: Annotated[Literal["none", "steps", "cosine"], Field(json_schema_extra={"neutral": "none"})] = "none"


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
    faithful_bugs: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False


class FinetuneInputs(Section):
    """All that fine-tuning reads besides its cases and the pretrained weights."""

    seed: int
    image: ImageSpec
    network: NetworkSpec
    finetune: FinetuneSettings
    speckle: SpeckleSpec | None
    classes: tuple[str, ...]
    contains: Annotated[Containment, Field(json_schema_extra={"neutral": ()})] = ()
    """What each class contains; read by `network.heads: softmax` alone, empty otherwise."""


class NnunetInputs(Section):
    """All that our re-implementation of nnU-Net's recipe reads besides its cases; `nnunet.batch` as planned."""

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
    """All that label-based pixel contrast reads besides its labelled cases and, where it starts from one, an encoder.

    It stands where the decoder stage does."""

    seed: int
    image: ImageSpec
    network: NetworkSpec
    pixel: PixelSpec
    classes: tuple[str, ...]
    depths: tuple[int, ...]
    """Of each class, how many classes contain it: a pixel belongs to the innermost."""


class EvaluateInputs(Section):
    """All that an evaluation reads besides its cases and the network's weights."""

    part: Literal["val", "test"]
    engine: Annotated[Literal["unet", "nnunetv2"], Field(json_schema_extra={"neutral": "unet"})] = "unet"
    """What predicts: our U-Net, or the real nnU-Net package."""
    image: ImageSpec | None
    """None where the engine works at native size and normalises by itself."""
    network: NetworkSpec | None
    """None where the engine plans its own."""
    tta: Literal["none", "flip", "mirror"]
    """`flip`: left-right; `mirror`: every combination of both axes, under nnU-Net's own augmentation only."""
    classes: tuple[str, ...]
    leaf_classes: tuple[str, ...]
    contains: Annotated[Containment, Field(json_schema_extra={"neutral": ()})] = ()
    """As in FinetuneInputs."""


TrainedInputs: TypeAlias = FinetuneInputs | NnunetInputs | PackageInputs
StageInputs: TypeAlias = EncoderInputs | DecoderInputs | PixelInputs | TrainedInputs | EvaluateInputs
