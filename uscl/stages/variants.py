"""What each variant of the pretraining stages draws and pairs: from a stage's inputs to its sampler and its masks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from uscl.data.batches import ClipSampler, PairSampling
from uscl.data.dataset import Dataset
from uscl.data.pairs import LocalPairs, PairMasks
from uscl.data.partitions import (
    RULES,
    FrameSampler,
    PartitionSampler,
    blank_images,
    cross_clip_pairs,
    partition_masks,
    simclr_masks,
)
from uscl.spec.trial import DecoderSpec, EncoderSpec
from uscl.spec.variants import ANYWHERE, BINNED
from uscl.stages.inputs import DecoderInputs, EncoderInputs

CHAITANYA_TERMS_PER_IMAGE = 2
"""G^D- and G^D add each pair in both directions and divide by images: 6 terms / 3 and 8 terms / 4 of a frame."""


def images_per_step(section: EncoderSpec | DecoderSpec) -> int:
    """Images in a batch of a stage; `section` as `EncoderInputs` or `DecoderInputs` has it."""
    return RULES[section.variant].slots * section.clips * section.frames


def batch_sampler(
    inputs: EncoderInputs | DecoderInputs, dataset: Dataset, clips: Sequence[str], *, sampling: PairSampling
) -> ClipSampler | PartitionSampler | FrameSampler:
    """Draws the stage's batches; `sampling` counts under variant `clip` only."""
    section: EncoderSpec | DecoderSpec = inputs.encoder if isinstance(inputs, EncoderInputs) else inputs.decoder
    if section.variant in ANYWHERE:
        return FrameSampler(dataset, clips, num_frames=section.clips * section.frames, seed=inputs.seed)
    if section.variant in BINNED:
        return PartitionSampler(
            dataset,
            clips,
            num_clips=section.clips,
            parts=section.parts,
            draws=RULES[section.variant].draws,
            other_clips=isinstance(section, EncoderSpec) and section.cross_clip_positive,
            seed=inputs.seed,
        )
    return ClipSampler(
        dataset,
        clips,
        num_clips=section.clips,
        num_frames=section.frames,
        sampling=sampling,
        seed=inputs.seed,
    )


def fixed_masks(encoder: EncoderSpec) -> PairMasks | None:
    """The pairs of every batch of a Chaitanya variant, on the CPU; None under `clip`, whose pairs vary."""
    if encoder.variant == "clip":
        return None
    if encoder.variant == "GR":
        return simclr_masks(encoder.clips * encoder.frames)
    return partition_masks(
        encoder.variant, clips=encoder.clips, parts=encoder.parts, faithful_bugs=encoder.faithful_bugs
    )


def fixed_pairs(decoder: DecoderSpec) -> LocalPairs | None:
    """The pairs of every batch of L^D, on the CPU; None under the others, whose pairs follow the frames."""
    return cross_clip_pairs(clips=decoder.clips, parts=decoder.parts) if decoder.variant == "LD" else None


def blanked(section: EncoderSpec | DecoderSpec) -> Tensor | None:
    """bool (N,) images that `faithful_bugs` leaves blank; None where it leaves none."""
    if not isinstance(section, EncoderSpec) or section.variant != "GD" or not section.faithful_bugs:
        return None
    return blank_images("GD", clips=section.clips, parts=section.parts)


def loss_scale(inputs: EncoderInputs) -> int:
    """Factor from the mean InfoNCE term to the logged loss.

    Under G^D- and G^D the logged loss is the total of Chaitanya et al. 2020, the sum of all terms / (slots x frames
    of a draw), which is twice the mean; so is the chance level that `loss_over_chance` divides by: 2 ln(1 + negatives).
    """
    return CHAITANYA_TERMS_PER_IMAGE if inputs.encoder.variant in BINNED and inputs.contrast.loss == "infonce" else 1
