"""Settings that are right one by one and impossible together, as far as that is known without the data."""

from __future__ import annotations

from uscl.errors import SpecError
from uscl.spec.networks import geometry, level_map_size, region_grid
from uscl.spec.settings import shown
from uscl.spec.speckle import refuse_speckle
from uscl.spec.sweep import Cell
from uscl.spec.trial import METHOD_SECTIONS


def refuse_impossible(cell: Cell) -> None:
    """SpecError, at the place of the setting to change, where a cell cannot be run as asked."""
    if "temporal" not in METHOD_SECTIONS[cell.spec.method]:
        _refuse_temporal_without_pretraining(cell)
    else:
        _refuse_pairs(cell)
    _refuse_geometry(cell)
    _refuse_split(cell)
    refuse_speckle(cell)


def _refuse_temporal_without_pretraining(cell: Cell) -> None:
    polarity = cell.spec.temporal.polarity
    if polarity != "none":
        raise cell.error(
            "temporal.polarity",
            f"'{polarity}' pairs frames by time, but method: {cell.spec.method} never pretrains on clips;"
            " set temporal.polarity: none",
        )


def _refuse_pairs(cell: Cell) -> None:
    temporal, contrast = cell.spec.temporal, cell.spec.contrast
    if temporal.polarity == "none":
        return
    _refuse_window(cell)
    _refuse_few_frames(cell)
    if contrast.loss == "infonce" and contrast.form == "simclr" and temporal.polarity != "negative":
        raise cell.error(
            "contrast.form",
            f"simclr takes exactly one positive per anchor, temporal.polarity: {temporal.polarity} gives several;"
            " use per_pair_neg_only or supcon_out",
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


def _refuse_geometry(cell: Cell) -> None:
    """networks.py words these errors as `setting: message`; here they get their place."""
    preset, size, decoder = cell.spec.network.preset, cell.spec.image.size, cell.spec.decoder
    if cell.spec.method in ("nnunet2d", "nnunetv2"):
        preset = "nnunet2d"
    try:
        geometry(preset, size)
        if "decoder" in METHOD_SECTIONS[cell.spec.method]:
            region_grid(level_map_size(preset, size, decoder.level), decoder.patch)
    except SpecError as error:
        name, _, message = str(error).partition(": ")
        raise cell.error(name, message) from None


def _refuse_split(cell: Cell) -> None:
    split = cell.spec.split
    if split.validation_fraction + split.test_fraction >= 1:
        raise cell.error(
            "split.test_fraction",
            "with split.validation_fraction leaves no patient to train on; their sum must be below 1",
        )
