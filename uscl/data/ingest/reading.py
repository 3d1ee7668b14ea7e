"""Read one source into its part: clip after clip, frames to disk as soon as a clip is whole."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from uscl.data.arrow_files import frame_batches
from uscl.data.content import clip_content
from uscl.data.ingest.clip_copies import clip_print
from uscl.data.ingest.formats import CLIP_FORMATS
from uscl.data.ingest.frames import DecodedClip
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.parts import PartFolder, ReadClip, without_frames
from uscl.data.schema import frame_schema
from uscl.errors import DataError


@dataclass(frozen=True)
class ClipSource:
    """A file, or a folder of images, that holds one clip or several."""

    path: Path
    name: str
    """Path below the imported folder, with forward slashes."""
    format: str
    """Name of the CLIP_FORMATS entry that reads it."""
    key: str
    """Of its part."""

    @property
    def place(self) -> Path:
        """Where it lies, to make a word of: below the imported folder; its suffix is no part of the word.

        A folder's name has none, dots or not, and the imported folder itself goes by its own name.
        """
        if not self.path.is_dir():
            return Path(self.name)
        return Path(f"{self.path.resolve().name if self.name == '.' else self.name}.folder")


@dataclass(frozen=True)
class Outcome:
    """What came of a source."""

    num_frames: int = 0
    problem: str = ""
    """Why it could not be read; empty where it was."""


def read_source(source: ClipSource, options: ClipOptions, parts: PartFolder) -> Outcome:
    """Read a source and store its part; holds one clip at a time.

    Whatever is wrong with the file is told in the outcome. OSError where the part cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decoders, about headers that are not kept
        try:
            clips = _stored(source, options, parts)
        except DataError as error:
            parts.drop(source.key)
            return Outcome(problem=_one_line(str(error), str(source.path)))
    parts.save(source.key, clips)
    return Outcome(sum(clip.num_frames for clip in clips))


def _one_line(problem: str, path: str) -> str:
    """What decoders say may have several lines; the path stays as it is."""
    start = path if problem.startswith(path) else ""
    rest = problem.removeprefix(start)
    return f"{start}{' ' if rest.startswith(' ') else ''}{' '.join(rest.split())}"


def _stored(source: ClipSource, options: ClipOptions, parts: PartFolder) -> list[ReadClip]:
    """Write the frames of every clip of a source; what else is known of each. DataError where there is none."""
    schema, clips = frame_schema(options.size), []
    with parts.frames_file(source.key).open("wb") as file:
        with pa.ipc.new_file(file, schema) as writer:
            for decoded in _decoded(source, options):
                for column in frame_batches(decoded.frames):
                    writer.write_batch(pa.RecordBatch.from_arrays([column], schema=schema))
                clips.append(_described(decoded, parts))
        file.flush()
        os.fsync(file.fileno())
    if not clips:
        raise DataError(f"{source.path}: holds no clip")
    return clips


def _described(decoded: DecodedClip, parts: PartFolder) -> ReadClip:
    content = clip_content(
        decoded.frames, times_ms=decoded.times_ms, duplicate=decoded.duplicate, sector=decoded.sector
    )
    kept = without_frames(decoded, parts.pseudonym(decoded.pseudonym_key))
    return ReadClip(kept, len(decoded.frames), content, clip_print(decoded.frames))


def _decoded(source: ClipSource, options: ClipOptions) -> Iterator[DecodedClip]:
    """The clips of a source; whatever its reader raises is a DataError, without values of the file."""
    read = next(entry.read for entry in CLIP_FORMATS if entry.name == source.format)
    try:
        yield from read(source.path, options)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{source.path}: needs more memory than there is") from error
    except Exception as error:
        raise DataError(f"{source.path}: cannot be read as {source.format} ({type(error).__name__})") from error
