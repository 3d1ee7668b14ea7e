"""Variants of both pretraining stages (Chaitanya et al. 2020): what of its settings a stage reads, and what is refused.

A variant other than `clip` replaces the pair rule and the sampler of polarity `none` (science.md 3.1). In a recipe it
is moot where the stage is temporal; named by a sweep file or `--set` there, it is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from uscl.spec.methods import sections_read
from uscl.spec.sweep import Cell
from uscl.spec.trial import ContrastSpec, DecoderSpec, EncoderSpec, TemporalSpec, TrialSpec

PretrainingStage: TypeAlias = Literal["encoder", "decoder"]
Polarity: TypeAlias = Literal["none", "positive", "negative", "positive_negative"]
Negatives: TypeAlias = Literal["intra", "cross", "all"]

BINNED = ("GDminus", "GD", "LD")
"""Variants with one frame per time bin."""
ANYWHERE = ("GR", "LR")
"""Variants with frames from anywhere; one positive per anchor and nothing ignored, so all InfoNCE forms are one."""
LD_MIN_CLIPS = 3
"""L^D has positives in two other clips."""
_SYMBOLS = {"GR": "G^R", "GDminus": "G^D-", "GD": "G^D", "LR": "L^R", "LD": "L^D"}


def is_temporal(temporal: TemporalSpec, stage: PretrainingStage) -> bool:
    """Whether a pretraining stage pairs frames by time."""
    return temporal.polarity != "none" and temporal.stage in (stage, "both")


def active_variant(spec: TrialSpec, stage: PretrainingStage) -> str:
    """The variant that a stage runs: `clip` wherever it is temporal, or compares pixels (pixpro)."""
    if is_temporal(spec.temporal, stage) or spec.contrast.loss == "pixpro":
        return "clip"
    return spec.encoder.variant if stage == "encoder" else spec.decoder.variant


def encoder_settings(spec: TrialSpec) -> EncoderSpec:
    """What the encoder stage reads: its section, with one value for everything that its variant makes moot."""
    encoder, variant = spec.encoder, active_variant(spec, "encoder")
    read = _batch_settings(encoder, variant)
    if variant != "GD":
        read["cross_clip_positive"] = False
    if not (variant == "GD" or (variant == "GDminus" and encoder.parts != EncoderSpec.model_fields["parts"].default)):
        read["faithful_bugs"] = False
    if spec.contrast.loss == "pixpro":  # it projects pixels and has no use for a head of whole frames
        read["head"] = EncoderSpec.model_fields["head"].default
    return encoder.model_copy(update=read)


def decoder_settings(spec: TrialSpec) -> DecoderSpec:
    """What the decoder stage reads: its section, with one value for everything that its variant makes moot."""
    read = _batch_settings(spec.decoder, active_variant(spec, "decoder"))
    if spec.contrast.loss == "pixpro":  # it compares pixels: no regions, no negatives
        unread = ("regions", "patch", "num_negatives", "cross_clip_negative")
        read |= {name: DecoderSpec.model_fields[name].default for name in unread}
    return spec.decoder.model_copy(update=read)


def contrast_settings(spec: TrialSpec, stage: PretrainingStage) -> ContrastSpec:
    """The loss of a stage: under G^R and L^R every InfoNCE form is the same, and counts as one.

    `simclr` of regions is `per_pair_neg_only`: a term has the one positive of its pair of maps."""
    if active_variant(spec, stage) in ANYWHERE or (stage == "decoder" and spec.contrast.form == "simclr"):
        return spec.contrast.model_copy(update={"form": "per_pair_neg_only"})
    return spec.contrast


def pair_rule(temporal: TemporalSpec, stage: PretrainingStage) -> tuple[Polarity, Negatives | None]:
    """Polarity and negatives of a stage's temporal pairs, one value for each rule that goes by two names."""
    if temporal.polarity == "positive" or (temporal.polarity == "positive_negative" and temporal.negatives == "cross"):
        return "positive", None  # far frames are ignored, other clips repel
    if stage == "decoder" and temporal.negatives == "intra":
        return temporal.polarity, "all"  # what other clips do is for decoder.cross_clip_negative to say
    return temporal.polarity, temporal.negatives


def _batch_settings(section: EncoderSpec | DecoderSpec, variant: str) -> dict[str, Any]:
    """Frames of a clip are its bins where frames are drawn by bin; frames from anywhere count as clips of one frame."""
    if variant in BINNED:
        return {"variant": variant, "frames": section.parts}
    unread = {"variant": variant, "parts": type(section).model_fields["parts"].default}
    if variant in ANYWHERE:
        return unread | {"clips": section.clips * section.frames, "frames": 1}
    return unread


def clip_stages(spec: TrialSpec) -> tuple[PretrainingStage, ...]:
    """The stages of a trial that pretrain on clips, in order."""
    stages: tuple[PretrainingStage, ...] = ("encoder", "decoder")
    read = sections_read(spec.method, spec.pixel.start)
    return tuple(stage for stage in stages if stage in read)


def refuse_variants(cell: Cell, stages: Sequence[PretrainingStage]) -> None:
    """SpecError where a variant cannot be what a cell asks for, as far as that is known without the data."""
    for stage in stages:
        _refuse_temporal(cell, stage)
        _refuse_pixpro(cell, stage)
        _refuse_form(cell, stage)
        _refuse_grey_levels(cell, stage)
    if "decoder" in stages and active_variant(cell.spec, "decoder") == "LD":
        _refuse_cross_clip(cell)


def _refuse_temporal(cell: Cell, stage: PretrainingStage) -> None:
    name, temporal = f"{stage}.variant", cell.spec.temporal
    asked = cell.spec.encoder.variant if stage == "encoder" else cell.spec.decoder.variant
    if asked != "clip" and name in cell.asked and is_temporal(temporal, stage):
        other = "decoder" if stage == "encoder" else "encoder"
        raise cell.error(
            name,
            f"{_SYMBOLS[asked]} with a temporal polarity ({temporal.polarity}): it has pairs of its own;"
            f" set temporal.polarity: none, temporal.stage: {other}, or {name}: clip",
        )


def _refuse_pixpro(cell: Cell, stage: PretrainingStage) -> None:
    name = f"{stage}.variant"
    asked = cell.spec.encoder.variant if stage == "encoder" else cell.spec.decoder.variant
    if asked != "clip" and name in cell.asked and cell.spec.contrast.loss == "pixpro":
        raise cell.error(
            name, f"{_SYMBOLS[asked]} pairs whole frames or regions, contrast.loss: pixpro pairs pixels; use clip"
        )


def _refuse_form(cell: Cell, stage: PretrainingStage) -> None:
    variant, contrast = active_variant(cell.spec, stage), cell.spec.contrast
    if variant in BINNED and contrast.loss == "infonce" and contrast.form != "per_pair_neg_only":
        raise cell.error(
            "contrast.form",
            f"{_SYMBOLS[variant]} ({stage}.variant: {variant}) has one positive in each denominator,"
            f" got '{contrast.form}'; use per_pair_neg_only, or {stage}.variant: clip",
        )


def _refuse_grey_levels(cell: Cell, stage: PretrainingStage) -> None:
    augment = cell.spec.encoder.augment if stage == "encoder" else cell.spec.decoder.augment
    if augment == "chaitanya" and cell.spec.image.norm == "zscore":
        raise cell.error(
            f"{stage}.augment",
            "chaitanya cuts grey levels to [0, 1.5]; image.norm: zscore has half of them below 0, use minmax or none",
        )


def _refuse_cross_clip(cell: Cell) -> None:
    decoder = cell.spec.decoder
    if decoder.clips < LD_MIN_CLIPS:
        raise cell.error(
            "decoder.clips", f"L^D has positives in two other clips; expected at least 3, got '{decoder.clips}'"
        )
    if decoder.cross_clip_negative:
        raise cell.error(
            "decoder.cross_clip_negative",
            "true repels regions of other clips that L^D attracts; set it to false, or decoder.variant: LR",
        )
