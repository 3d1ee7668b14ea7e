"""Settings of a cell that only the data can refuse: sizes, classes, windows, label fractions."""

from __future__ import annotations

from collections.abc import Sequence

from uscl.data.schema import ClipEntry, DatasetIndex
from uscl.errors import DataError, SpecError
from uscl.spec.sweep import Cell, SweepSpec
from uscl.spec.variants import clip_stages
from uscl.stages.keys import Chain, chain
from uscl.sweep.batch_checks import check_batches


def check_against_data(cell: Cell, links: Chain, index: DatasetIndex) -> None:
    """SpecError, at the setting to change, where the cell's stages ask for what the dataset does not have."""
    spec = cell.spec
    if spec.image.size > index.size and spec.method != "nnunetv2":  # which reads labelled images at native size
        raise cell.error(
            "image.size",
            f"{spec.image.size} is larger than the {index.size} px frames of dataset '{index.name}'; "
            f"set at most {index.size}, or make the dataset larger",
        )
    if spec.speckle.weight and spec.speckle.permuted and len(links.stage("finetune").data.cases) < 2:
        said = f"true takes the speckle of another case, and labels.fraction {spec.labels.fraction:g} keeps one"
        raise cell.error("speckle.permuted", f"{said}; keep more, or set false")
    if spec.method == "pixel_supcon" and not spec.pixel.background and len(index.classes) < 2:
        said = f"false leaves one class, and dataset '{index.name}' has no other to contrast it with; set true"
        raise cell.error("pixel.background", said)
    if clip_stages(spec):
        read = set(links.stage("encoder").data.clips)
        clips = [clip for clip in index.clips if clip.clip in read]
        check_batches(cell, clips, index)
        if spec.temporal.polarity != "none":
            _check_window(cell, clips)


def placed(error: DataError, cell: Cell, sweep: SweepSpec, index: DatasetIndex) -> SpecError:
    """Why a cell has no training cases, at the setting to change: the label fraction, or else the dataset."""
    whole = cell.spec.labels.model_copy(update={"fraction": 1.0})
    try:
        chain(cell.spec.model_copy(update={"labels": whole}), index)
    except DataError:
        return sweep.error("phantom.patients" if sweep.data == "phantom" else "data", str(error))
    return cell.error("labels.fraction", str(error))


def check_content(cell: Cell, index: DatasetIndex) -> None:
    """That there is something to pretrain on, where the method pretrains, and something to fine-tune on.

    DataError or SpecError; the latter also where a setting names a class that the dataset lacks.
    """
    if all(case.excluded for case in index.cases):
        raise DataError(
            f"dataset '{index.name}' has no labelled images to fine-tune on; merge one with labels (uscl data merge)"
        )
    if clip_stages(cell.spec) and not index.clips:
        said = f"dataset '{index.name}' has no clips to pretrain on; merge one with clips (uscl data merge)"
        raise cell.error("method", f"{said}, or set method: supervised")
    _check_classes(cell, index)


def _check_classes(cell: Cell, index: DatasetIndex) -> None:
    unknown = [name for name in cell.spec.speckle.classes if name not in index.classes]
    if unknown:
        said = f"'{unknown[0]}' is no class of dataset '{index.name}'; it has {', '.join(index.classes)}"
        raise cell.error("speckle.classes", said)


def _check_window(cell: Cell, clips: Sequence[ClipEntry]) -> None:
    unit, window = cell.spec.temporal.unit, cell.spec.temporal.window
    timeless = next((clip.clip for clip in clips if not clip.has_times), None)
    if unit == "ms" and timeless is not None:
        raise cell.error("temporal.unit", f"ms needs frame times (column time_ms), and clip {timeless} has none")
    longest = max((_extent(clip, unit) for clip in clips), default=0.0)
    if window > longest:
        said = f"{window:g} {unit} is longer than every clip; the longest spans {longest:g} {unit}"
        raise cell.error("temporal.window", said)
    apart = min((_extent(clip, unit) / (clip.num_frames - 1) for clip in clips if clip.num_frames > 1), default=0.0)
    if window < apart * (1 - 1e-6):  # every clip would count as too short for temporal pairs
        said = f"{window:g} {unit} holds no other frame; frames of a clip are {apart:g} {unit} apart or more"
        raise cell.error("temporal.window", said)
    _check_far(cell, longest)


def _check_far(cell: Cell, longest: float) -> None:
    """Where far frames are negatives, some clip must have a frame beyond window and guard."""
    temporal = cell.spec.temporal
    if temporal.polarity not in ("negative", "positive_negative") or temporal.negatives == "cross":
        return
    if longest <= temporal.window or longest < temporal.window + temporal.guard:
        raise cell.error(
            "temporal.window",
            f"no clip has a frame beyond window {temporal.window:g} and guard {temporal.guard:g} to be a negative; "
            f"the longest spans {longest:g} {temporal.unit}",
        )


def _extent(clip: ClipEntry, unit: str) -> float:
    gaps = clip.num_frames - 1
    if unit == "frames":
        return float(gaps)
    return gaps * clip.frame_time_ms if unit == "ms" else gaps / clip.num_frames
