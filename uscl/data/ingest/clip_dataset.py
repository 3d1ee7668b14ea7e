"""From the parts of an import to its dataset: whose each clip is, which are copies, where their frames lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from uscl.data.ingest.assembly import FrameFile
from uscl.data.ingest.clip_copies import ClipPrint, SameRecording, find_same_recordings
from uscl.data.ingest.grouping import join_groups
from uscl.data.ingest.parts import PartFolder, ReadClip
from uscl.data.ingest.table import FileRow
from uscl.data.schema import SAME_FRAMES, SAME_RECORDING, UNKNOWN_PATIENT
from uscl.data.wording import counted
from uscl.data.writer import DatasetWriter, StoredFrames


@dataclass(frozen=True)
class ReadSource:
    """A source whose part is whole: the part's key, a plain word for it, and what the table says."""

    key: str
    name: str
    row: FileRow
    path: str
    """Below the imported folder."""


@dataclass(frozen=True)
class WrittenClips:
    """What was written, and what the user should know of it."""

    clips: int
    frames: int
    remarks: tuple[str, ...]
    names: tuple[tuple[str, str], ...] = ()
    """Of each clip, with the path that it comes from."""


@dataclass(frozen=True)
class _Tie:
    """What all clips together say of one."""

    group: str
    note: str = ""


def write_clips(
    writer: DatasetWriter, parts: PartFolder, sources: Sequence[ReadSource], files: Sequence[FrameFile]
) -> WrittenClips:
    """Add every clip of `sources`, in order; their frames lie in `files` in the same order."""
    row = 0
    for file in files:
        entry = file.entry
        assert entry is not None
        writer.adopt_frames(file.path, rows=file.num_frames, entry=entry)
    ties, remarks = _ties(parts, sources)
    pseudonyms: dict[str, str] = {}
    for clip, source, read in _clips(parts, sources):
        owner = parts.patient(read.decoded.pseudonym_key, pseudonyms) or source.row.group
        patient = source.row.patient or owner or f"{UNKNOWN_PATIENT}{source.name}"
        _add(writer, clip, read, patient=patient, tie=ties[clip], first_row=row)
        row += read.num_frames
        remarks.update(read.decoded.notes)
        unknown = patient.startswith(UNKNOWN_PATIENT)
        remarks["patient unknown: each such clip counts as a patient of its own"] += unknown
    total = counted(len(ties), "clip")
    told = tuple(f"{count} of {total}: {text}" for text, count in _by_kind(remarks) if count)
    names = tuple((clip, source.path) for clip, source, _ in _clips(parts, sources))
    return WrittenClips(len(ties), row, told, names)


def _clips(parts: PartFolder, sources: Sequence[ReadSource]) -> Iterator[tuple[str, ReadSource, ReadClip]]:
    """Every clip with its name; those of a file that holds several are numbered."""
    for source in sources:
        read = parts.load(source.key)
        for number, clip in enumerate(read):
            yield source.name if len(read) == 1 else f"{source.name}-{number + 1}", source, clip


def _add(writer: DatasetWriter, clip: str, read: ReadClip, *, patient: str, tie: _Tie, first_row: int) -> None:
    decoded = read.decoded
    writer.add_clip(
        StoredFrames(read.num_frames, first_row),
        clip=clip,
        patient=patient,
        group=tie.group,
        times_ms=decoded.times_ms,
        duplicate=decoded.duplicate,
        sector=decoded.sector,
        source_size=decoded.source_size,
        spacing_mm=decoded.spacing_mm,
        note="; ".join(filter(None, (*decoded.notes, tie.note))),
        content=read.content,
    )


def _ties(parts: PartFolder, sources: Sequence[ReadSource]) -> tuple[dict[str, _Tie], Counter[str]]:
    """Group and note of each clip, those of one recording being in one group; remarks and how many they concern."""
    clips: list[str] = []
    groups: list[str] = []
    prints: list[ClipPrint] = []
    for clip, source, read in _clips(parts, sources):
        clips.append(clip)
        groups.append(source.row.group)
        prints.append(read.print)
    found = find_same_recordings(prints)
    joined = join_groups(clips, groups, [(pair.first, pair.second) for pair in found])
    noted = {pair.second: pair for pair in reversed(found)}  # exact ones come first and win
    ties = {}
    for position, clip in enumerate(clips):
        pair = noted.get(position)
        note = "" if pair is None else (SAME_FRAMES if pair.exact else SAME_RECORDING) + clips[pair.first]
        ties[clip] = _Tie(joined[position], note)
    return ties, Counter(dict(_copy_remarks(clips, list(noted.values()))))


def _copy_remarks(clips: Sequence[str], found: Sequence[SameRecording]) -> Iterator[tuple[str, int]]:
    for exact, what in ((True, "exact copy of another"), (False, "another crop or encoding of one recording")):
        pairs = [pair for pair in found if pair.exact == exact]
        if pairs:
            example = min(pairs, key=lambda pair: pair.second)
            named = f"{clips[example.second]} of {clips[example.first]}"
            yield f"{what} ({named}): kept in one group, so in one split", len(pairs)


def _by_kind(remarks: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Remarks that differ in numbers only are one, with N for the numbers: `colour (Doppler?) in N of N frames`."""
    kinds: dict[str, list[str]] = {}
    for text in remarks:
        kinds.setdefault(re.sub(r"\d+", "N", text), []).append(text)
    for kind, texts in kinds.items():
        yield texts[0] if len(texts) == 1 else kind, sum(remarks[text] for text in texts)
