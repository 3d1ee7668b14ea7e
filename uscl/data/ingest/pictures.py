"""Grey pictures in the order of time -> clips: where something breaks the course of time, the next clip begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from uscl.data.ingest.colour import colour_note
from uscl.data.ingest.frames import DecodedClip, FrameCollector
from uscl.data.ingest.options import ClipOptions
from uscl.data.letterbox import Letterbox

STILLS_CORRELATION = 0.85
"""Neighbours that agree less, as a median, are stills or steps: .58 to .78 in such sets, .93 and more in clips
(data-formats.md 4)."""
_VIEW_PX = 64
_LARGEST_NUMBER = 1_000_000
"""Larger numbers of files are dates or times rather than places in a recording; they are not repeated in notes."""


@dataclass(frozen=True)
class Picture:
    """One frame as its file holds it, upright."""

    grey: np.ndarray
    """(H, W) uint8, of its own: nothing else refers to it."""
    aspect: float = 1.0
    """A pixel's width over its height."""
    row_mm: float | None = None
    time_ms: float | None = None
    """Presentation time; None where the file has none."""
    number: int | None = None
    """In the recording, where files are numbered."""
    coloured: bool = False


@dataclass(frozen=True)
class Break:
    """What lies before the next picture is not its neighbour in time."""

    reason: str
    """Noted of the clip that begins after it."""


@dataclass
class _Clip:
    """A clip on its way."""

    collector: FrameCollector
    shape: tuple[int, ...]
    row_mm: float | None
    notes: list[str]
    times: list[float | None] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)
    coloured: int = 0


def clips_from(
    pictures: Iterable[Picture | Break], options: ClipOptions, *, notes: Iterable[str] = (), find_stills: bool = False
) -> Iterator[DecodedClip]:
    """The clips that pictures make up, each as soon as it ends; one, unless there is a break or their size changes.

    Times are those of the pictures where all have one and they rise, else by the options' frame rate, else unknown.
    `notes` go with each clip. `find_stills` notes where neighbours are too unlike for a clip.
    """
    said, clip, likeness = list(notes), None, _Likeness()
    pending: list[str] = []
    for picture in pictures:
        resized = isinstance(picture, Picture) and clip is not None and picture.grey.shape != clip.shape
        if resized or isinstance(picture, Break):
            pending.append("begins where the frame size changes" if isinstance(picture, Picture) else picture.reason)
            if clip is not None:
                yield _finished(clip, options, likeness if find_stills else None)
            clip, likeness = None, _Likeness()
        if isinstance(picture, Picture):
            if clip is None:
                clip, pending = _begun(picture, options, said + pending), []
            _add(clip, picture)
            if find_stills:
                likeness.add(picture.grey)
    if clip is not None:
        clip.notes += pending
        yield _finished(clip, options, likeness if find_stills else None)


def rising_times(stamps: list[float | None]) -> np.ndarray | None:
    """(T,) float64 ms from the first frame; None where a stamp is missing or they do not rise."""
    if None in stamps:
        return None
    times = np.array(stamps, np.float64)
    times -= times[0]
    return times if np.all(np.diff(times) > 0) else None


def _begun(picture: Picture, options: ClipOptions, notes: list[str]) -> _Clip:
    collector = FrameCollector(options.size, aspect=picture.aspect, options=options)
    return _Clip(collector, picture.grey.shape, picture.row_mm, list(dict.fromkeys(notes)))


def _add(clip: _Clip, picture: Picture) -> None:
    clip.collector.add(picture.grey)
    clip.times.append(picture.time_ms)
    clip.numbers.append(picture.number)
    clip.coloured += picture.coloured


def _finished(clip: _Clip, options: ClipOptions, likeness: _Likeness | None) -> DecodedClip:
    notes = [*clip.notes, colour_note(clip.coloured, clip.collector.count) if clip.coloured else ""]
    numbers = None if None in clip.numbers else np.array(clip.numbers, np.int64)
    step = 1 if numbers is None or len(numbers) < 2 else int(numbers[1] - numbers[0])
    times = rising_times(clip.times)
    if times is None and options.frame_rate_hz:
        step_ms = 1000 / options.frame_rate_hz * (step / options.index_step if numbers is not None else 1)
        times = np.arange(clip.collector.count) * step_ms
        notes.append("frame times by the given frame rate")
    notes.append("" if times is not None else "frame times missing or unsorted: unknown")
    notes.append("" if numbers is None else _numbering(int(numbers[0]), step, options))
    if likeness is not None and likeness.looks_like_stills:
        notes.append("neighbouring frames are unlike: stills or steps rather than a clip?")
    return clip.collector.finish(times_ms=times, row_mm=clip.row_mm, notes=tuple(filter(None, notes)))


def _numbering(first: int, step: int, options: ClipOptions) -> str:
    """The real frame numbers, in a form that gives them all."""
    if step == options.index_step and first in (0, 1):
        return ""
    start = f"from {first}" if first < _LARGEST_NUMBER else ""
    return " ".join(filter(None, ("frame numbers", start, f"in steps of {step}")))


class _Likeness:
    """How much neighbouring pictures agree, at a small size."""

    def __init__(self) -> None:
        self._previous: np.ndarray | None = None
        self._values: list[float] = []

    def add(self, grey: np.ndarray) -> None:
        view = Letterbox.of(grey, _VIEW_PX).to_square(grey).astype(np.float32)
        if self._previous is not None and view.std() > 0 and self._previous.std() > 0:
            self._values.append(float(cv2.matchTemplate(view, self._previous, cv2.TM_CCOEFF_NORMED)[0, 0]))
        self._previous = view

    @property
    def looks_like_stills(self) -> bool:
        return bool(self._values) and float(np.median(self._values)) < STILLS_CORRELATION
