"""TrialSpec: every setting of one trial, as frozen, fully validated sections.

A recipe gives every value that has no default here. Dots name settings (`temporal.window`); the same name is
the YAML path, the `--set` argument, the MLflow parameter and the report column. Section 5 of the design lists
the settings; science.md explains each.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from uscl.spec.labels import EvaluateSpec, LabelsSpec, SplitSpec
from uscl.spec.section import Count, Fraction, Positive, Section


class SeedSpec(Section):
    """Seeds by what they drive. `seed: 3` in a sweep file sets both, and `labels.draw`."""

    pretrain: Annotated[int, Field(ge=0)] = 0
    """Initial weights, batches and augmentation of the encoder and decoder stage."""
    finetune: Annotated[int, Field(ge=0)] = 0
    """The segmentation tail's initial weights, batches and augmentation of fine-tuning."""


class ImageSpec(Section):
    """What the network sees of a frame."""

    size: Annotated[int, Field(ge=16, multiple_of=16)]
    """Side of the square network input, px."""
    norm: Literal["minmax", "zscore", "none"] = "minmax"
    """`minmax`: 1st to 99th percentile of the frame to [0, 1], not clipped (Chaitanya 2020); `none`: grey / 255.
    `method: nnunet2d` always takes `zscore`, as nnU-Net does."""


class NetworkSpec(Section):
    """The U-Net; presets are in models/unet.py with their parameter counts."""

    preset: Literal["tiny", "chaitanya", "nnunet2d"]
    """`tiny`: under 0.15 M parameters, for the demo; `chaitanya`: 2.10 M; `nnunet2d`: 33 M at 256 px."""
    norm: Literal["batch", "instance", "group"] = "batch"
    """`batch` leaks clip identity through batch statistics on clip-structured batches (docs/methods.md)."""
    activation: Literal["relu", "leaky_relu", "elu", "silu"] = "relu"
    """After each normalisation."""
    base_width: Annotated[int, Field(ge=8, multiple_of=8, json_schema_extra={"neutral": 32})] = 32
    """Channels of the finest level of `nnunet2d`, doubling downwards to at most 512; other presets have their own."""
    heads: Annotated[Literal["sigmoid", "softmax"], Field(json_schema_extra={"neutral": "sigmoid"})] = "sigmoid"
    """`sigmoid`: each class against the rest, nested classes stay whole; `softmax`: background and each class minus
    what it contains, a containing class is scored as the union (Chaitanya 2020). Never pretrained."""


class ContrastSpec(Section):
    """The contrastive loss of both pretraining stages."""

    loss: Literal["infonce", "pairwise", "pixpro"] = "infonce"
    """`pairwise`: eq. 1 of the paper (Chopra et al. 2005); `pixpro`: pixels of two crops agree (Xie et al. 2021)."""
    form: Literal["per_pair_neg_only", "supcon_out", "simclr"] = "per_pair_neg_only"
    """InfoNCE denominator (docs/methods.md); `simclr` allows exactly one positive per anchor."""
    temperature: Positive = 0.1
    """InfoNCE: cosine similarities are divided by it."""
    margin: Positive = 1.0
    """Pairwise: negatives are pushed apart to this distance (v of the paper's eq. 1)."""
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Pairwise: distance of L2-normalised embeddings, or 1 - cosine."""
    pixpro_power: Annotated[float, Field(ge=1.0)] = 2.0
    """PixPro: sharpness of propagation, whose weights are max(cosine, 0) to this power."""
    pixpro_distance: Positive = 0.7
    """PixPro: pixels closer than this in the original image are positives, in diagonals of a feature cell."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    """PixPro: how slowly the momentum branch follows at first; rises to 1 as a half cosine over the steps."""


class EncoderSpec(Section):
    """The global stage: one embedding per frame."""

    variant: Literal["clip", "GR", "GDminus", "GD"] = "clip"
    """`clip`: the pair rule of `temporal` over clip-structured batches. Chaitanya et al. 2020, read where the stage's
    polarity is `none`: `GR` frames from anywhere, `GDminus` and `GD` one frame per time bin (docs/methods.md)."""
    steps: Count
    """Optimiser steps."""
    lr: Positive
    """Peak learning rate of Adam."""
    clips: Annotated[int, Field(ge=2)]
    """Clips per batch; under `GR` a batch is clips x frames frames from anywhere."""
    frames: Annotated[int, Field(ge=1)]
    """Frames per clip in a batch; each gives two views. Not read under `GDminus` and `GD`: one frame per bin."""
    head: Literal["gap", "flatten"] = "gap"
    """Projection head: pooled (any image size), or flattened (Chaitanya 2020; tied to `image.size`)."""
    augment: Annotated[Literal["us_safe", "chaitanya"], Field(json_schema_extra={"neutral": "us_safe"})] = "us_safe"
    """`us_safe`: mild zoom, shift, rotation, h-flip; `chaitanya`: a crop of 100 of 192 px, grey levels to [0, 1.5]."""
    parts: Annotated[int, Field(ge=2, json_schema_extra={"neutral": 4})] = 4
    """`GDminus` and `GD`: equal time bins of a clip, which stand for the partitions of a volume (4: Chaitanya 2020)."""
    cross_clip_positive: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """`GD`: the second draw is of other clips, the original; else of the same ones: free-hand clips share no phase."""
    faithful_bugs: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Defects of the official code (docs/methods.md): `GD` blanks its last clip, `GDminus` skips by 4, not `parts`."""


class DecoderSpec(Section):
    """The local stage: one embedding per region of a decoder level; the encoder is frozen."""

    variant: Literal["clip", "LR", "LD"] = "clip"
    """`clip`: the pair rule of `temporal`, region by region (docs/methods.md); Chaitanya et al. 2020, read where the
    stage's polarity is `none`: `LR` frames from anywhere, `LD` one frame per time bin, positives across clips."""
    steps: Count
    """Optimiser steps."""
    lr: Positive
    """Peak learning rate of Adam."""
    clips: Annotated[int, Field(ge=2)]
    """Clips per batch, 3 or more under `LD`; under `LR` a batch is clips x frames frames from anywhere."""
    frames: Annotated[int, Field(ge=1)]
    """Frames per clip in a batch; each gives two views. Not read under `LD`: one frame per bin."""
    level: Annotated[int, Field(ge=1, le=7)]
    """Decoder blocks that are trained, counted from the bottleneck."""
    regions: Literal["grid13"] = "grid13"
    """Fixed region positions: 3 x 3 corners, mids and centre, and 4 quarter points (Chaitanya 2020)."""
    patch: Literal[1, 3] = 3
    """Side of a region on the feature map, cells."""
    num_negatives: Annotated[int, Field(ge=1, le=12)] = 5
    """Nearest other regions that serve as negatives, in both maps of a pair."""
    cross_clip_negative: bool = False
    """Adds the same region of other clips as negatives: the control for learning coordinates (docs/methods.md)."""
    augment: Annotated[Literal["us_safe", "chaitanya"], Field(json_schema_extra={"neutral": "us_safe"})] = "us_safe"
    """Grey levels only, so that regions stay aligned; `chaitanya` also cuts them to [0, 1.5]."""
    parts: Annotated[int, Field(ge=2, json_schema_extra={"neutral": 4})] = 4
    """`LD`: equal time bins of a clip, which stand for the partitions of a volume (4: Chaitanya 2020)."""


class TemporalSpec(Section):
    """Which frames of a clip form pairs (docs/methods.md)."""

    window: Annotated[float, Field(gt=0)] = 5
    """d: frames at most this far from the anchor are near, in `unit`; the paper's 5 frames."""
    unit: Literal["frames", "ms", "fraction"] = "frames"
    """`fraction` of the clip's length."""
    polarity: Literal["none", "positive", "negative", "positive_negative"] = "none"
    """`positive`: near frames attract, far ones are ignored; `negative`: far ones repel; `positive_negative`: both."""
    stage: Literal["encoder", "decoder", "both"] = "both"
    """Which pretraining stage uses temporal pairs; the other keeps pairs of two views of one frame."""
    negatives: Literal["intra", "cross", "all"] = "all"
    """Where negatives come from under `negative` and `positive_negative`: far frames of the clip, other clips, both."""
    guard: Annotated[float, Field(ge=0)] = 0
    """Frames between window and window + guard are ignored, in `unit`."""
    shuffled: bool = False
    """Control: the same sampler on frame numbers permuted within each clip."""
    density: Literal["uniform", "decreasing"] = "uniform"
    """`decreasing`: near frames at distance t are drawn with weight 1 - t/T, 0 just past the window (CVRL)."""
    soft: bool = False
    """Near positives count exp(-distance / window) in the loss instead of 1: from 1 down to 1/e."""
    hard_beta: Annotated[float, Field(ge=0)] = 0.0
    """InfoNCE weights negatives by exp(hard_beta x similarity / temperature) (HCL, 0.5 to 2 there); 0: equally."""
    curriculum: Literal["none", "steps", "cosine"] = "none"
    """Distance of far negatives: 20-40 % of the clip, from 40 % of the steps on 10-15 %, from 80 % on 3-7 % (US_UCL);
    `cosine` goes from the first range to the last smoothly."""


class FinetuneSpec(Section):
    """Supervised training on the labelled fraction."""

    steps: Count
    """Optimiser steps."""
    budget: Literal["own", "total"] = "own"
    """Under `method: supervised`: `total` adds the steps that the encoder and decoder stage would have had."""
    lr: Positive
    """Peak learning rate of Adam."""
    batch: Count
    """Labelled frames per batch."""
    loss: Literal["dice_ce", "dice", "ce", "dice_background"] = "dice_ce"
    """Soft Dice of the classes, cross-entropy, or their sum; `dice_background`: soft Dice with background, where a
    class absent from a frame costs 1 (Chaitanya 2020; `network.heads: softmax` only)."""
    augment: Literal["none", "flip", "us_safe", "chaitanya"] = "us_safe"
    """`us_safe` keeps the depth axis: h-flip, rotation to 15 degrees, scale, intensity; `chaitanya`: one of rotation
    to 15 degrees, scale, h-flip, multiples of 45 degrees, none; then elastic deformation and intensity (2.4)."""
    faithful_bugs: bool = False
    """`augment: chaitanya` as the authors' code does it: no intensity changes, and only a random last part of the batch
    is deformed (docs/methods.md)."""
    freeze: Literal["none", "encoder"] = "none"
    """What of the network keeps its weights."""
    transfer_bn_stats: bool = True
    """Whether running statistics of batch norm come along with the pretrained weights (docs/methods.md)."""
    select: Literal["last", "best_val"] = "best_val"
    """Which step is kept: the last, or the one with the best mean DSC on the validation split."""
    select_every: Count = 50
    """Steps between two looks at the validation split, under `best_val`."""


class NnunetSpec(Section):
    """The nnU-Net recipe (Isensee et al. 2021), read by `method: nnunet2d` and `method: nnunetv2`."""

    steps: Count = 250_000
    """Optimiser steps: 1000 epochs of 250."""
    lr: Positive = 0.01
    """Initial learning rate of SGD (Nesterov momentum 0.99, weight decay 3e-5), falling as (1 - step / steps)^0.9."""
    batch: Count | None = None
    """Frames per batch; null: as planned from patch size and number of training cases."""
    base_width: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """Channels of the finest level, doubling downwards to at most 512."""
    longest_px: Annotated[int | None, Field(ge=32, json_schema_extra={"neutral": None})] = None
    """`nnunetv2`: what the package sees is shrunk to this longest side, for budgets that a CPU allows; null: native."""
    augment: Literal["us_safe", "nnunet"] = "us_safe"
    """`nnunet`: its own list, with rotations to 180 degrees and both mirrors; `us_safe` keeps the depth axis: 15
    degrees, left-right mirror. Predictions are averaged over the same mirrors, whatever `evaluate.tta` says."""


class PixelSpec(Section):
    """Label-based pixel contrast before fine-tuning (Zhao et al. 2021), read by `method: pixel_supcon`."""

    steps: Count = 10_001
    """Optimiser steps."""
    lr: Positive = 1e-3
    """Peak learning rate of Adam."""
    batch: Annotated[int, Field(ge=2)] = 20
    """Labelled frames per batch; each gives two views."""
    scope: Literal["within", "cross", "batch"] = "within"
    """Whose pixels an anchor is compared with: the other view of its image; also that of one more image; of all."""
    temperature: Positive = 0.07
    """Cosine similarities are divided by it (Khosla et al. 2020)."""
    per_class: Annotated[int, Field(ge=2)] = 512
    """Pixels drawn at most per view and class; a class with fewer than 2 is skipped there."""
    background: bool = True
    """Background is a class of its own; `false`: its pixels are left out."""
    start: Literal["random", "encoder"] = "random"
    """`encoder`: the encoder stage, with its contrast and temporal pairs, comes first; `random`: no clip is read."""


class SpeckleSpec(Section):
    """The speckle term of fine-tuning (paper, section 2.2)."""

    weight: Annotated[float, Field(ge=0)] = 0.0
    """0 switches the term off. Not comparable between models, forms or domains; under `balance: ema` it nearly is."""
    model: Annotated[
        Literal["nakagami", "rayleigh", "gamma", "histogram"], Field(json_schema_extra={"neutral": "nakagami"})
    ] = "nakagami"
    """What is fitted to a region; `histogram` fits nothing: the control for whether the model matters."""
    estimator: Literal["moment", "log_moment"] = "moment"
    """`moment`: eq. 3 and 4 of the paper; `log_moment`: half the spread at small m. Read by `nakagami` alone."""
    form: Literal["euclidean", "log", "kl", "jeffreys", "literal"] = "euclidean"
    """Distance of the parameters of prediction and ground truth (docs/methods.md); histograms have one of their own."""
    region: Annotated[Literal["mask", "band", "patch"], Field(json_schema_extra={"neutral": "mask"})] = "mask"
    """Whole masks, as the paper; a band along the annotated boundary; or patch by patch, a map of parameters."""
    band_px: Annotated[int, Field(ge=1, json_schema_extra={"neutral": 3})] = 3
    """`region: band`: pixels on either side of the boundary, at network size."""
    patch_px: Annotated[int, Field(ge=2, json_schema_extra={"neutral": 16})] = 16
    """`region: patch`: side of a patch, px at network size; m of 256 pixels is known to 0.13 (docs/methods.md)."""
    domain: Annotated[Literal["bmode", "decompressed"], Field(json_schema_extra={"neutral": "bmode"})] = "bmode"
    """Grey levels as displayed, as the paper; or the amplitude behind their log compression."""
    dynamic_range_db: Annotated[
        Annotated[float, Field(gt=0, le=120)] | None, Field(json_schema_extra={"neutral": None})
    ] = None
    """`domain: decompressed`: decibels between black and white, as the scanner was set (usually 40 to 80)."""
    balance: Annotated[Literal["fixed", "ema"], Field(json_schema_extra={"neutral": "fixed"})] = "fixed"
    """`ema`: the speckle term is brought to the running mean of the segmentation loss, then weighted."""
    classes: tuple[str, ...] = ()
    """Empty: every class that contains no other class."""
    min_pixels: Count = 64
    """Ground-truth regions (or their part of a patch or band) below this give no term: m is noise there."""
    warmup: Fraction = 0.0
    """Fraction of the steps over which the weight rises linearly from 0."""
    permuted: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Control: target parameters are those of another case of the batch, same class."""


class TrialSpec(Section):
    """Everything one trial depends on."""

    method: Literal["contrastive", "supervised", "pixel_supcon", "nnunet2d", "nnunetv2"] = "contrastive"
    """`contrastive`: encoder and decoder stage, then fine-tuning; `supervised`: fine-tuning from random weights;
    `pixel_supcon`: contrast of labelled pixels, then fine-tuning; `nnunet2d`: a re-implementation of nnU-Net's 2-D
    recipe in our loop; `nnunetv2`: the real nnU-Net package (extra `[nnunet]`)."""
    data: str
    """`phantom`, or the folder of a dataset made by `uscl data import`."""
    seed: SeedSpec = SeedSpec()
    image: ImageSpec
    network: NetworkSpec
    contrast: ContrastSpec = ContrastSpec()
    encoder: EncoderSpec
    decoder: DecoderSpec
    temporal: TemporalSpec = TemporalSpec()
    pixel: PixelSpec = PixelSpec()
    finetune: FinetuneSpec
    nnunet: NnunetSpec = NnunetSpec()
    speckle: SpeckleSpec = SpeckleSpec()
    labels: LabelsSpec = LabelsSpec()
    split: SplitSpec = SplitSpec()
    evaluate: EvaluateSpec = EvaluateSpec()

    @model_validator(mode="before")
    @classmethod
    def _one_seed_for_all(cls, fields: Any) -> Any:
        """`seed: 3` sets seed.pretrain, seed.finetune and labels.draw; a more specific key wins."""
        if not isinstance(fields, dict) or not isinstance(fields.get("seed"), int):
            return fields
        seed = fields["seed"]
        labels = fields.get("labels", {})
        if isinstance(labels, dict):
            labels = {"draw": seed} | labels
        return fields | {"seed": {"pretrain": seed, "finetune": seed}, "labels": labels}


def flatten(section: Section | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name, in declaration order: {'temporal.window': 5, ...}."""
    fields = section.model_dump(mode="json") if isinstance(section, Section) else section
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
