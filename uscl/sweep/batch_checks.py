"""Whether the clips of a dataset can fill the batches that a cell asks for."""

from __future__ import annotations

from collections.abc import Sequence

from uscl.data.schema import ClipEntry, DatasetIndex
from uscl.spec.sweep import Cell
from uscl.spec.variants import ANYWHERE, BINNED, clip_stages, decoder_settings, encoder_settings


def check_batches(cell: Cell, clips: Sequence[ClipEntry], index: DatasetIndex) -> None:
    """SpecError where a batch of a pretraining stage would hold a clip or a frame twice, and take them for two.

    `clips` are those of the dataset that pretraining may read.
    """
    if len(clips) < 2:
        said = f"dataset '{index.name}' has {len(clips)} outside validation and test; use method: supervised"
        raise cell.error("method", f"{cell.spec.method} pretrains on 2 clips or more; {said}")
    for stage in clip_stages(cell.spec):
        section = encoder_settings(cell.spec) if stage == "encoder" else decoder_settings(cell.spec)
        if section.variant in ANYWHERE:
            _check_frames_in_all(cell, stage, section.clips * section.frames, clips)
            continue
        _check_clips(cell, stage, section.clips, clips, index)
        if section.variant in BINNED:
            _check_bins(cell, stage, section.parts, clips)
        else:
            _check_frames(cell, stage, section.frames, clips)


def _check_clips(cell: Cell, stage: str, asked: int, clips: Sequence[ClipEntry], index: DatasetIndex) -> None:
    if asked > len(clips):
        said = f"{asked} clips in a batch, but dataset '{index.name}' has {len(clips)} for pretraining"
        raise cell.error(f"{stage}.clips", f"{said}; set at most {len(clips)}")


def _check_frames(cell: Cell, stage: str, asked: int, clips: Sequence[ClipEntry]) -> None:
    longest = max(clip.num_frames for clip in clips)
    if asked > longest:
        said = f"{asked} frames of a clip in a batch, but the longest clip has {longest}"
        raise cell.error(f"{stage}.frames", f"{said}; set at most {longest}")


def _check_frames_in_all(cell: Cell, stage: str, asked: int, clips: Sequence[ClipEntry]) -> None:
    there = sum(clip.num_frames for clip in clips)
    if asked > there:
        said = f"clips x {stage}.frames are {asked} different frames in a batch, but all clips together have {there}"
        raise cell.error(f"{stage}.clips", said)


def _check_bins(cell: Cell, stage: str, parts: int, clips: Sequence[ClipEntry]) -> None:
    shortest = min(clips, key=lambda clip: clip.num_frames)
    if parts > shortest.num_frames:
        said = f"{parts} time bins, but clip {shortest.clip} has {shortest.num_frames} frames"
        raise cell.error(f"{stage}.parts", f"{said}; set at most {shortest.num_frames}, or leave short clips out")
