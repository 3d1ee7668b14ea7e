"""Clips that are one recording, and labelled stills that are frames of clips of somebody else."""

# T frames of a clip, M stills

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from uscl.data.checks.finding import Finding, Level, found
from uscl.data.checks.parts import HELD_OUT, PRETRAINING, Parts
from uscl.data.checks.shortlist import coarse, coarse_agreement, top
from uscl.data.checks.survey import VIEW_PX, ClipSurvey, PictureSurvey, Progress
from uscl.data.dataset import Dataset
from uscl.data.ingest.clip_copies import find_same_recordings
from uscl.data.ingest.copies import aligned_correlation

FRAME_CORRELATION = 0.99
"""A still and the frame it was made of, enlarged and with noise of 6 grey levels, correlate at .999 or more on 132
stills of `pocus`; stills and clips of different patients, all healthy lungs of one scanner, at up to .971."""
LIKE_CORRELATION = 0.95
"""From here a person should look: a still cropped by a tenth correlates at .92 to .98 with its frame (ibid.)."""

NEAREST_CLIPS = 6
"""Clips that each still is compared with closely."""

_TIE = "give both one patient or group and import again, or leave the clip out"
_WORST = 0.5
"""Share of a clip's frames that repeat their predecessor, from which the clip is worth a look."""


@dataclass(frozen=True)
class FrameMatch:
    """A picture that a clip of another unit shows, with the frame that is most like it."""

    picture: str
    clip: str
    frame: int
    correlation: float


def check_recordings(clips: Sequence[ClipSurvey], parts: Parts) -> list[Finding]:
    """Clips that show one recording: leaks where pretraining reads one and the other is held out."""
    pairs = [
        (clips[pair.first].clip, clips[pair.second].clip)
        for pair in find_same_recordings([clip.prints for clip in clips])
    ]
    across = [pair for pair in pairs if (parts.clips[pair[0]] == PRETRAINING) != (parts.clips[pair[1]] == PRETRAINING)]
    named = [f"{one} ({parts.clips[one]}) and {other} ({parts.clips[other]})" for one, other in across]
    message = f"pretraining reads {len(across)} recordings of held-out patients, under another name"
    findings = found("split_recordings", Level.STOP, message, named, advice=_TIE)
    rest = [pair for pair in pairs if pair not in across]
    tied = [pair for pair in rest if parts.clip_units[pair[0]] == parts.clip_units[pair[1]]]
    loose = [f"{one} and {other}" for one, other in rest if (one, other) not in tied]
    message = f"{len(loose)} pairs of clips are one recording and nothing ties them: another split may part them"
    findings += found("untied_recordings", Level.WARNING, message, loose, advice=_TIE)
    message = f"{len(tied)} pairs of clips are one recording; patient or group keeps them together"
    advice = "remove one of each, or its frames count twice in pretraining"
    return findings + found("tied_recordings", Level.NOTE, message, [f"{a} and {b}" for a, b in tied], advice=advice)


def check_frames(dataset: Dataset) -> list[Finding]:
    """Frames that repeat their predecessor, and the clips where most do."""
    shares = {clip: float(where.duplicate.mean()) for clip, where in dataset.clip_table.items()}
    total = sum(where.num_frames for where in dataset.clip_table.values())
    repeats = sum(int(where.duplicate.sum()) for where in dataset.clip_table.values())
    worst = sorted((clip for clip in shares if shares[clip] >= _WORST), key=lambda clip: -shares[clip])
    named = [f"{clip} ({100 * shares[clip]:.0f} %)" for clip in worst]
    message = f"{len(worst)} clips repeat at least half of their frames: their real frame rate is half or less"
    advice = "they are marked, and no temporal pair is made of them; look whether the clip was exported at a wrong rate"
    findings = found("mostly_repeated_frames", Level.WARNING, message, named, advice=advice)
    some = [clip for clip in shares if shares[clip]]
    message = f"{repeats} of {total} frames repeat their predecessor, in {len(some)} clips; they are marked"
    return findings + found("repeated_frames", Level.NOTE, message, some)


def match_stills(
    dataset: Dataset, pictures: Sequence[PictureSurvey], clips: Sequence[ClipSurvey], parts: Parts, progress: Progress
) -> list[FrameMatch]:
    """Pictures that a clip of another unit shows: each is compared closely with the likest frame of the likest clips.

    Where the picture was cut from the clip in another size or crop than the clip was stored in, it is not found.
    """
    if not pictures or not clips:
        return []
    score_MC, place_MC = _best_frames(pictures, clips, parts)
    matches = []
    for still, picture in enumerate(pictures):
        progress("stills in clips", still, len(pictures))
        chosen = [clip for clip in top(score_MC[still][None], NEAREST_CLIPS)[0].tolist() if score_MC[still, clip] > -2]
        found_here = [_closest(dataset, picture, clips[clip], int(place_MC[still, clip])) for clip in chosen]
        matches += [match for match in found_here if match.correlation >= LIKE_CORRELATION]
    progress("stills in clips", len(pictures), len(pictures))
    return sorted(matches, key=lambda match: (-round(match.correlation, 4), match.picture, match.clip))


def check_stills(dataset: Dataset, matches: Sequence[FrameMatch], parts: Parts) -> list[Finding]:
    """Stills of validation and test that pretraining sees as frames of a clip; such that another split would."""
    seen, like = {}, []
    for match in matches:
        what = f"frame {match.frame}, {match.correlation:.3f}"
        if match.correlation >= FRAME_CORRELATION:
            seen[match.picture, match.clip] = what
        elif parts.pictures.get(match.picture, "") in HELD_OUT and parts.clips[match.clip] == PRETRAINING:
            like.append(f"{match.picture} ({parts.pictures[match.picture]}) in {match.clip} ({what})")
    seen |= _stated(dataset, parts)
    examples: dict[bool, list[str]] = {True: [], False: []}
    held: set[str] = set()
    for (picture, clip), what in seen.items():
        part = parts.pictures.get(picture, "")
        leaking = part in HELD_OUT and parts.clips[clip] == PRETRAINING
        held |= {picture} if leaking else set()
        examples[leaking].append(f"{picture} ({part or 'no split'}) in {clip} ({what})")
    message = f"pretraining sees {len(held)} labelled images of validation or test: they are frames of its clips"
    findings = found("split_stills_in_clips", Level.STOP, message, examples[True], advice=_TIE)
    message = f"{len(examples[False])} labelled images are frames of a clip that nothing ties them to"
    advice = "give both one patient or group and import again: another split may put them in test"
    findings += found("untied_stills_in_clips", Level.WARNING, message, examples[False], advice=advice)
    message = f"{len(like)} times a labelled image of validation or test looks much like a frame of a pretraining clip"
    advice = f"look at them; where they are one recording, {_TIE}"
    return findings + found("like_stills_in_clips", Level.WARNING, message, like, advice=advice)


def _stated(dataset: Dataset, parts: Parts) -> Mapping[tuple[str, str], str]:
    """Labelled frames whose row names a clip of the dataset, of another unit."""
    stated = {}
    for entry, row in zip(dataset.index.cases, dataset.case_rows, strict=True):
        clip = row["clip"]
        if clip in parts.clip_units and parts.clip_units[clip] != parts.picture_units[entry.picture]:
            stated[entry.picture, clip] = f"frame {row['frame']}, as the import says"
    return stated


def _best_frames(
    pictures: Sequence[PictureSurvey], clips: Sequence[ClipSurvey], parts: Parts
) -> tuple[np.ndarray, np.ndarray]:
    """(M, C) agreement of each still with the likest frame of each clip, -2 for clips of its own unit; which frame."""
    stills = coarse([picture.view for picture in pictures])
    units = np.array([parts.picture_units[picture.picture] for picture in pictures], str)
    scores = np.full((len(pictures), len(clips)), -2, np.float32)
    places = np.zeros(scores.shape, np.int32)
    for number, clip in enumerate(clips):
        agreement = coarse_agreement(clip.coarse, stills)
        places[:, number] = clip.numbers[agreement.argmax(axis=0)]
        scores[:, number] = np.where(units == parts.clip_units[clip.clip], -2, agreement.max(axis=0))
    return scores, places


def _closest(dataset: Dataset, picture: PictureSurvey, clip: ClipSurvey, place: int) -> FrameMatch:
    """The frame around `place` that is most like the picture, as far as the frames not looked at yet reach."""
    where = dataset.clip_table[clip.clip]
    reach = int(np.diff(clip.numbers).max(initial=1)) - 1
    numbers = np.arange(max(0, place - reach), min(where.num_frames, place + reach + 1))
    frames = dataset.frames(where.first_row + numbers)
    best = int(coarse_agreement(coarse(frames), coarse([picture.view]))[:, 0].argmax())
    view = cv2.resize(frames[best], (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_AREA)
    correlation = aligned_correlation(view.astype(np.float32), picture.view.astype(np.float32))[0]
    return FrameMatch(picture.picture, clip.clip, int(numbers[best]), round(correlation, 6))
