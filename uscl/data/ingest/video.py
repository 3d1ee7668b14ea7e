"""Video files as clips: every frame decoded in order, true times, container tags and audio left behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import Image

from uscl.data.ingest.frames import DecodedClip, NativeFrame
from uscl.data.ingest.limits import MAX_FRAME_PIXELS, check_frame_size
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.pictures import Break, Picture, clips_from, rising_times
from uscl.data.ingest.video_frame import FramePixels, display_matrix, turned
from uscl.errors import DataError

__all__ = ["VIDEO_SUFFIXES", "find_videos", "read_video", "rising_times", "video_clips", "video_frames"]

VIDEO_SUFFIXES = frozenset(
    (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
)
_CONTAINERS = "avi,asf,flv,gif,matroska,mov,mp4,mpeg,mpegts,mpegvideo,ogg,webm"
"""Formats by content, whatever the suffix says. Not those that name other files: concat, hls, image sequences."""
_OPENING = {"format_whitelist": _CONTAINERS, "max_pixels": str(MAX_FRAME_PIXELS)}
_DECODER = {"err_detect": "explode", "max_pixels": str(MAX_FRAME_PIXELS)}
"""A damaged frame is an error, not a frame patched up from others; a frame too large is not begun."""


def find_videos(files: Sequence[Path]) -> list[Path]:
    """Those with a suffix of a video."""
    return [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]


def video_clips(path: Path, options: ClipOptions) -> Iterator[DecodedClip]:
    """Decode `path` in order to clips of frames of `options.size` px: one, unless frames in its middle are damaged or
    their size changes; then the next clip begins there, for what is left is not adjacent in time.

    The header's frame count and rate are never used (data-formats.md 3): frames are counted by decoding, times
    taken from presentation stamps, and unknown where a stamp is missing or does not rise. Limited range luma is put
    on the full range. DataError, naming the file, where it has no readable frame.
    """
    with _opened(path) as video:
        notes = ("pixel aspect ratio unknown, taken as square",) if video.aspect is None else ()
        notes += ("several video streams: the first one is read",) if video.streams > 1 else ()
        yield from clips_from(_pictures(video), options, notes=notes)


def read_video(path: Path, *, size: int, options: ClipOptions | None = None) -> DecodedClip:
    """The clip of `path`, the longest where it has several; without `options` with its overlay. DataError as
    `video_clips`."""
    clips = video_clips(path, options or ClipOptions(size, keep_overlay=True))
    return max(clips, key=lambda clip: len(clip.frames))


def video_frames(path: Path) -> Iterator[NativeFrame]:
    """Every frame of `path` in order, upright, at its own size. DataError where it has no readable frame."""
    with _opened(path) as video:
        for picture in _pictures(video):
            if isinstance(picture, Picture):
                yield NativeFrame(picture.grey, aspect=picture.aspect)


@dataclass(frozen=True)
class _Video:
    """An open file."""

    path: Path
    container: av.container.InputContainer
    stream: av.VideoStream
    streams: int
    aspect: float | None
    """A pixel's width over its height, None where the file does not say."""
    timed: bool


@contextmanager
def _opened(path: Path) -> Iterator[_Video]:
    """An open file with a video stream; what libav says against it as a DataError."""
    try:
        with av.open(str(path), options=_OPENING) as container:
            yield _video(path, container)
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read as a video: {reason}") from error


def _video(path: Path, container: av.container.InputContainer) -> _Video:
    streams = [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]
    if not streams:
        raise DataError(f"{path}: holds no video stream")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise DataError(f"{path}: its codec is not one that can be decoded; export it as H.264 in MP4")
    if context.codec_tag.lower().startswith("enc"):
        raise DataError(f"{path}: is encrypted; export it without protection")
    check_frame_size(context.height, context.width)
    context.options = _DECODER
    stream.thread_type = "NONE"  # one file per process; and errors come where they belong
    ratio = stream.sample_aspect_ratio
    return _Video(path, container, stream, len(streams), float(ratio) if ratio else None, _is_timed(path, container))


def _is_timed(path: Path, container: av.container.InputContainer) -> bool:
    """False for a GIF without delays: players, and libav, make 10 frames/s of it."""
    if container.format.name != "gif":
        return True
    with Image.open(path) as image:
        return bool(image.info.get("duration"))


def _pictures(video: _Video) -> Iterator[Picture | Break]:
    """Each frame in order; a break where some could not be decoded, up to the next that needs no other.

    DataError where there is none at all.
    """
    pixels, lost, count, sized = FramePixels(), 0, 0, video.stream.codec_context.width > 0
    for frame in _decoded(video):
        if frame is None:
            lost += 1
        elif lost and not frame.key_frame:
            continue  # made from frames that are lost
        else:
            if lost:
                yield Break(_DAMAGED)
            lost = 0
            count += 1
            yield _picture(video, frame, pixels)
    if not count:
        what = "holds only damaged frames" if lost else "holds no frame that can be decoded"
        what = what if sized else "declares no frame size, or one of more than 100 million pixels"
        raise DataError(f"{video.path}: {what}")
    if lost:
        yield Break(_CUT)


_DAMAGED = "begins after damaged frames, which are left out"
_CUT = "damaged at its end: frames left out"


def _decoded(video: _Video) -> Iterator[av.VideoFrame | None]:
    """Frames as the decoder gives them; None for each piece of the file that it cannot decode."""
    packets = video.container.demux(video.stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # the container is cut off
            yield None
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            yield None
            continue
        yield from (None if frame.is_corrupt else frame for frame in frames)


def _picture(video: _Video, frame: av.VideoFrame, pixels: FramePixels) -> Picture:
    matrix = display_matrix(frame)
    aspect = video.aspect or 1.0
    time_ms = None if frame.pts is None or not video.timed else float(frame.pts * frame.time_base * 1000)
    return Picture(
        turned(pixels.grey(frame), matrix),
        aspect=1 / aspect if matrix and abs(matrix[0]) < abs(matrix[1]) else aspect,
        time_ms=time_ms,
        coloured=pixels.coloured(frame),
    )
