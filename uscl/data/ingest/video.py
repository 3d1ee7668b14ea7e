"""Video files as clips: every frame decoded in order, true times, container tags and audio left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from uscl.data.ingest.colour import is_colour
from uscl.data.ingest.frames import DecodedClip, FrameCollector, NativeFrame
from uscl.data.ingest.options import ClipOptions
from uscl.errors import DataError

VIDEO_SUFFIXES = frozenset(
    (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
)


_COLOUR_EVERY = 25
"""Frames between two whose colour is looked at: a Doppler box stays for longer."""
COLOUR_NOTE = "colour (Doppler?)"


def read_video(path: Path, *, size: int, options: ClipOptions | None = None) -> DecodedClip:
    """Decode `path` in order to frames of `size` px. DataError, naming the file, where it has no readable frame.

    With `options`, text outside the sector is blanked (`FrameCollector`); without, pixels are as the file has them.

    The header's frame count and rate are never used (data-formats.md 3): frames are counted by decoding, times
    taken from presentation stamps, and unknown where a stamp is missing or does not rise.
    """
    with _opened(path) as container:
        return _decode(path, container, size, options)


def video_frames(path: Path) -> Iterator[NativeFrame]:
    """Every frame of `path` in order, at its own size. DataError where it has no readable frame."""
    with _opened(path) as container:
        ratio = container.streams.video[0].sample_aspect_ratio
        count = 0
        for frame in container.decode(container.streams.video[0]):
            count += 1
            yield NativeFrame(frame.to_ndarray(format="gray"), aspect=float(ratio) if ratio else 1.0)
    if not count:
        raise DataError(f"{path}: holds no frame that can be decoded")


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    """An open container with a video stream; what libav says against it as a DataError."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream")
            yield container
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read as a video: {reason}") from error


def _decode(path: Path, container: av.container.InputContainer, size: int, options: ClipOptions | None) -> DecodedClip:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    ratio = stream.sample_aspect_ratio
    collector = FrameCollector(size, aspect=float(ratio) if ratio else 1.0, options=options)
    coloured = False
    stamps: list[float | None] = []
    for frame in container.decode(stream):
        if collector.count % _COLOUR_EVERY == 0 and not frame.format.name.startswith("gray"):
            coloured |= is_colour(frame.to_ndarray(format="rgb24"))
        collector.add(frame.to_ndarray(format="gray"))
        stamps.append(None if frame.pts is None else float(frame.pts * frame.time_base * 1000))
    if not collector.count:
        raise DataError(f"{path}: holds no frame that can be decoded")
    times = rising_times(stamps)
    notes = () if ratio else ("pixel aspect ratio unknown, taken as square",)
    notes += () if times is not None else ("frame times missing or unsorted: unknown",)
    notes += (COLOUR_NOTE,) if coloured else ()
    return collector.finish(times_ms=times, notes=notes)


def rising_times(stamps: list[float | None]) -> np.ndarray | None:
    """(T,) float64 ms from the first frame; None where a stamp is missing or they do not rise."""
    if None in stamps:
        return None
    times = np.array(stamps, np.float64)
    times -= times[0]
    return times if np.all(np.diff(times) > 0) else None
