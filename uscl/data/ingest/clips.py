"""A folder of videos and DICOM cines -> a dataset of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.clip_copies import ClipPrint, clip_print, find_same_recordings
from uscl.data.ingest.dicom import DICOM_SUFFIXES, is_dicom, read_dicom
from uscl.data.ingest.frames import DecodedClip
from uscl.data.ingest.grouping import join_groups
from uscl.data.ingest.naming import READABLE, Naming, names_path, write_names
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.table import FileTable, licence_text, match_rows, source_list
from uscl.data.ingest.video import VIDEO_SUFFIXES, read_video
from uscl.data.schema import SAME_FRAMES, SAME_RECORDING, UNKNOWN_PATIENT
from uscl.data.wording import counted
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import did, for the line at its end; `remarks` are what the user should know of the data."""

    clips: int = 0
    frames: int = 0
    cases: int = 0
    remarks: tuple[str, ...] = ()


def import_clips(
    folder: Path,
    out: Path,
    *,
    size: int,
    table: FileTable | None = None,
    name: str = "",
    licence: str = "",
    skip_unreadable: bool = False,
    options: ClipOptions | None = None,
    naming: Naming = READABLE,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import every video and DICOM file below `folder` into a dataset at `out`, frames `size` px square.

    `table` gives patients, groups and sources. Without it a DICOM file's patient number is replaced by a running
    one, or with the salt of `naming` by a pseudonym, and a video is its own patient. `options` for what readers may
    do beyond `size`. Where `naming` hides file names, `names_path(out)` gets the key to them.
    DataError, with nothing left at `out`, where a file cannot be read
    (unless `skip_unreadable`), is missing from the table, or there is none.
    """
    files = find_clips(folder)
    matched = match_rows(table, [file.relative_to(folder).as_posix() for file in files], folder)
    rows = dict(zip(files, matched.rows, strict=True))
    sources = source_list(matched.rows)
    frames, bad, remarks = 0, [], Counter[str]()
    prints: dict[str, tuple[str, ClipPrint]] = {}
    pseudonyms: dict[str, str] = {}
    names: list[tuple[str, str]] = []
    writer = DatasetWriter(
        out, name=name or out.name, classes=(), size=size, licence=licence or licence_text(sources), sources=sources
    )
    with writer:
        for file, decoded in _decode_all(files, options or ClipOptions(size), bad, progress):
            clip = naming.of_file(file.relative_to(folder), "clip")
            row = naming.of_row(rows[file])
            header = naming.of_key(decoded.pseudonym_key) or _pseudonym(pseudonyms, decoded.pseudonym_key)
            patient = row.patient or header or row.group or f"{UNKNOWN_PATIENT}{clip}"
            _add(writer, decoded, clip=clip, patient=patient, group=row.group)
            prints[clip] = (row.group, clip_print(decoded.frames))
            names.append((clip, file.relative_to(folder).as_posix()))
            frames += len(decoded.frames)
            remarks.update(decoded.notes)
            remarks["patient unknown: each such clip counts as a patient of its own"] += patient.startswith(
                UNKNOWN_PATIENT
            )
        if bad and not (skip_unreadable and len(bad) < len(files)):
            raise DataError(_unreadable(bad))
        remarks.update(_tie_copies(writer, prints))
    if naming.hides_names:
        write_names(names_path(out), names)
    remarks.update({f"unreadable, skipped: {'; '.join(bad)}": len(bad)} if bad else {})
    told = matched.remarks + tuple(
        f"{count} of {counted(len(files), 'clip')}: {text}" for text, count in remarks.items() if count
    )
    return ImportSummary(clips=len(files) - len(bad), frames=frames, remarks=told)


def find_clips(folder: Path) -> list[Path]:
    """Videos by suffix, DICOM by suffix or (without one) by content, anywhere below `folder`. DataError if none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    clips = [path for path in files if _is_clip(path)]
    if not clips:
        raise DataError(f"{folder}: holds no video and no DICOM file")
    return clips


def _is_clip(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES | DICOM_SUFFIXES or (not suffix and path.name != "DICOMDIR" and is_dicom(path))


def _decode_all(
    files: Sequence[Path], options: ClipOptions, bad: list[str], progress: Progress
) -> Iterator[tuple[Path, DecodedClip]]:
    """Each file that can be read; of the others, `bad` gets the reason."""
    for number, file in enumerate(files):
        progress("clips", number, len(files))
        try:
            video = file.suffix.lower() in VIDEO_SUFFIXES
            read = read_video if video else read_dicom
            yield file, read(file, size=options.size, options=options)
        except DataError as error:
            bad.append(str(error))
    progress("clips", len(files), len(files))


def _add(writer: DatasetWriter, decoded: DecodedClip, *, clip: str, patient: str, group: str) -> None:
    writer.add_clip(
        decoded.frames,
        clip=clip,
        patient=patient,
        group=group,
        times_ms=decoded.times_ms,
        duplicate=decoded.duplicate,
        sector=decoded.sector,
        source_size=decoded.source_size,
        spacing_mm=decoded.spacing_mm,
        note="; ".join(decoded.notes),
    )


def _tie_copies(writer: DatasetWriter, prints: Mapping[str, tuple[str, ClipPrint]]) -> dict[str, int]:
    """Put the clips of one recording into one group, note it on each later one; remarks and how many they concern."""
    clips = list(prints)
    found = find_same_recordings([clip for _, clip in prints.values()])
    groups = join_groups(clips, [group for group, _ in prints.values()], [(pair.first, pair.second) for pair in found])
    noted = {pair.second: pair for pair in reversed(found)}  # exact ones come first and win
    for position, clip in enumerate(clips):
        pair = noted.get(position)
        note = "" if pair is None else (SAME_FRAMES if pair.exact else SAME_RECORDING) + clips[pair.first]
        if note or groups[position] != prints[clip][0]:
            writer.amend_clip(clip, group=groups[position], note=note)
    remarks = {}
    for exact, what in ((True, "exact copy of another"), (False, "another crop or encoding of one recording")):
        pairs = [pair for pair in noted.values() if pair.exact == exact]
        if pairs:
            example = min(pairs, key=lambda pair: pair.second)
            named = f"{clips[example.second]} of {clips[example.first]}"
            remarks[f"{what} ({named}): kept in one group, so in one split"] = len(pairs)
    return remarks


def _pseudonym(pseudonyms: dict[str, str], key: str) -> str:
    return pseudonyms.setdefault(key, f"patient-{len(pseudonyms) + 1:04}") if key else ""


def _unreadable(bad: Sequence[str]) -> str:
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    return f"{'; '.join(bad[:3])}{more}. Mend or remove what cannot be read, or leave it out with --skip-unreadable"
