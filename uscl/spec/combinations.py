"""Settings that are right one by one and impossible together, as far as that is known without the data."""

from __future__ import annotations

from importlib.util import find_spec

from uscl.errors import SpecError
from uscl.spec.methods import sections_read
from uscl.spec.networks import geometry, level_map_size, region_grid
from uscl.spec.settings import shown
from uscl.spec.speckle import refuse_speckle
from uscl.spec.sweep import Cell
from uscl.spec.variants import clip_stages, refuse_variants


def refuse_impossible(cell: Cell) -> None:
    """SpecError, at the place of the setting to change, where a cell cannot be run as asked."""
    _refuse_missing_package(cell)
    if "temporal" not in sections_read(cell.spec.method, cell.spec.pixel.start):
        _refuse_temporal_without_pretraining(cell)
    else:
        _refuse_pairs(cell)
    refuse_variants(cell, clip_stages(cell.spec))
    _refuse_geometry(cell)
    if "finetune" in sections_read(cell.spec.method, cell.spec.pixel.start):
        _refuse_finetune(cell)
    _refuse_split(cell)
    refuse_speckle(cell)


def _refuse_missing_package(cell: Cell) -> None:
    if cell.spec.method == "nnunetv2" and find_spec("nnunetv2") is None:
        raise cell.error("method", "nnunetv2 needs the real package: pip install 'uscl[nnunet]'")


def _refuse_temporal_without_pretraining(cell: Cell) -> None:
    polarity, method = cell.spec.temporal.polarity, cell.spec.method
    said, cure = f"method: {method} never pretrains on clips", "set temporal.polarity: none"
    if method == "pixel_supcon":
        said, cure = f"method: {method} with pixel.start: random reads no clip", f"{cure}, or pixel.start: encoder"
    if polarity != "none":
        raise cell.error("temporal.polarity", f"'{polarity}' pairs frames by time, but {said}; {cure}")


def _refuse_pairs(cell: Cell) -> None:
    temporal, contrast = cell.spec.temporal, cell.spec.contrast
    if temporal.polarity == "none":
        return
    _refuse_negatives_of_pixpro(cell)
    _refuse_decoder_pairs_of_pixels(cell)
    _refuse_window(cell)
    _refuse_few_frames(cell)
    _refuse_sampling(cell)
    if contrast.loss == "infonce" and contrast.form == "simclr" and temporal.polarity != "negative":
        raise cell.error(
            "contrast.form",
            f"simclr takes exactly one positive per anchor, temporal.polarity: {temporal.polarity} gives several;"
            " use per_pair_neg_only or supcon_out",
        )


def _refuse_negatives_of_pixpro(cell: Cell) -> None:
    polarity = cell.spec.temporal.polarity
    if cell.spec.contrast.loss == "pixpro" and polarity != "positive":
        raise cell.error(
            "temporal.polarity",
            f"'{polarity}' makes far frames negatives, and contrast.loss: pixpro has no negatives;"
            " use positive or none",
        )


def _refuse_decoder_pairs_of_pixels(cell: Cell) -> None:
    stage = cell.spec.temporal.stage
    if cell.spec.method == "pixel_supcon" and stage != "encoder":
        raise cell.error(
            "temporal.stage",
            f"'{stage}' pairs frames in the decoder stage, where method: pixel_supcon contrasts labelled pixels;"
            " set temporal.stage: encoder",
        )


def _refuse_window(cell: Cell) -> None:
    temporal = cell.spec.temporal
    if temporal.unit == "frames" and temporal.window < 1:
        raise cell.error("temporal.window", f"{shown(temporal.window)} frames hold no other frame; expected at least 1")
    if temporal.unit == "fraction" and temporal.window >= 1:
        raise cell.error(
            "temporal.window", f"{shown(temporal.window)} is a fraction of a clip's length; expected less than 1"
        )


def _refuse_few_frames(cell: Cell) -> None:
    """An anchor and a near frame make two; where far frames of the clip are negatives, a far one makes three."""
    temporal = cell.spec.temporal
    needed = 2 if temporal.polarity == "positive" or temporal.negatives == "cross" else 3
    for stage, frames in (("encoder", cell.spec.encoder.frames), ("decoder", cell.spec.decoder.frames)):
        if temporal.stage in (stage, "both") and frames < needed:
            raise cell.error(
                f"{stage}.frames",
                f"temporal.polarity: {temporal.polarity} needs at least {needed} frames of a clip, got '{frames}'",
            )


def _refuse_sampling(cell: Cell) -> None:
    """Re-weighted negatives stand in a denominator, and a curriculum moves far negatives: both must be there."""
    temporal, loss = cell.spec.temporal, cell.spec.contrast.loss
    if temporal.hard_beta > 0 and loss != "infonce":
        raise cell.error(
            "temporal.hard_beta",
            f"{shown(temporal.hard_beta)} weights the negatives of an InfoNCE denominator, and contrast.loss: {loss}"
            " has none; use contrast.loss: infonce or temporal.hard_beta: 0",
        )
    if temporal.soft and loss == "pixpro":
        raise cell.error(
            "temporal.soft", "true weights near frames, and contrast.loss: pixpro weights no pair; set false"
        )
    if temporal.curriculum == "none":
        return
    reason = "temporal.negatives: cross" if temporal.negatives == "cross" else ""
    if temporal.polarity == "positive":
        reason = "temporal.polarity: positive"
    if reason:
        raise cell.error(
            "temporal.curriculum",
            f"'{temporal.curriculum}' moves the distance of far negatives, and {reason} has none;"
            " use temporal.polarity: negative or positive_negative with temporal.negatives: intra or all",
        )


def _refuse_geometry(cell: Cell) -> None:
    """networks.py words these errors as `setting: message`; here they get their place."""
    preset, size, decoder = cell.spec.network.preset, cell.spec.image.size, cell.spec.decoder
    if cell.spec.method == "nnunetv2":  # works at native size and plans its own network
        return
    if cell.spec.method == "nnunet2d":
        preset = "nnunet2d"
    try:
        geometry(preset, size)
        if "decoder" in sections_read(cell.spec.method, cell.spec.pixel.start):
            map_size = level_map_size(preset, size, decoder.level)
            if cell.spec.contrast.loss != "pixpro":  # it compares pixels, not regions
                region_grid(map_size, decoder.patch)
    except SpecError as error:
        name, _, message = str(error).partition(": ")
        raise cell.error(name, message) from None


def _refuse_finetune(cell: Cell) -> None:
    finetune = cell.spec.finetune
    if finetune.loss == "dice_background" and cell.spec.network.heads != "softmax":
        raise cell.error(
            "finetune.loss", "dice_background needs a background of its own; set network.heads: softmax, or use dice"
        )
    if finetune.augment == "chaitanya" and finetune.faithful_bugs and finetune.batch < 2:
        raise cell.error(
            "finetune.faithful_bugs", "deforms a last part of the batch only, which one frame has not; set false"
        )


def _refuse_split(cell: Cell) -> None:
    split = cell.spec.split
    if split.validation_fraction + split.test_fraction >= 1:
        raise cell.error(
            "split.test_fraction",
            "with split.validation_fraction leaves no patient to train on; their sum must be below 1",
        )
