"""A folder of clips -> a dataset: read in parallel, resumed after a stop, the same whatever the number of processes."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from uscl.data.ingest.clip_dataset import ReadSource, write_clips
from uscl.data.ingest.gathering import Gathered, Gathering
from uscl.data.ingest.naming import READABLE, Naming, file_id, names_path, write_names
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.parts import PartFolder, part_folder
from uscl.data.ingest.problems import BadFile, bad_file, problem_lines
from uscl.data.ingest.progress import Progress
from uscl.data.ingest.sources import FoundClips, find_sources_of_clips
from uscl.data.ingest.table import FileRow, FileTable, licence_text, match_rows, source_list
from uscl.data.writer import DatasetWriter, refuse_existing
from uscl.errors import DataError


@dataclass(frozen=True)
class ImportSummary:
    """What an import did, for the line at its end; `remarks` are what the user should know of the data."""

    clips: int = 0
    frames: int = 0
    cases: int = 0
    remarks: tuple[str, ...] = ()
    bad: tuple[BadFile, ...] = ()
    """What was left out."""
    files: int = 0
    """Files, or pairs of files, that were looked at."""


def import_clips(
    folder: Path,
    out: Path,
    *,
    size: int,
    options: ClipOptions | None = None,
    table: FileTable | None = None,
    name: str = "",
    licence: str = "",
    workers: int = 0,
    strict: bool = False,
    naming: Naming = READABLE,
    only: Collection[str] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ImportSummary:
    """Import every clip of a known format below `folder` into a dataset at `out`, frames `size` px square.

    `options` says what else readers are asked for; `only` names the clips that are meant, where not all are. `table`
    gives patients, groups and sources; without it a patient number of a header is replaced by a running one, or with
    the salt of `naming` by a pseudonym, and any other clip is its own patient. Where `naming` hides file names,
    `names_path(out)` gets the key to them. `workers` processes read one file each; 0: this process does. Files that
    cannot be read are left out and named in the summary. A stopped import goes on where it was when it is called
    again; the dataset is the same to the bit. DataError, with nothing at `out`, where no file can be read, one cannot
    and `strict`, or one is missing from the table.
    """
    refuse_existing(out)
    options = replace(options or ClipOptions(size), size=size)
    found = find_sources_of_clips(folder, options)
    found = found if only is None else found.only(only)
    if strict and found.bad:
        raise DataError(f"{folder / found.bad[0].name}: {found.bad[0].reason}")
    matched = match_rows(table, [source.name for source in found.sources], folder)
    with _ending_on_sigterm(), part_folder(out, folder, options, naming) as parts, _keeping_parts(out, parts):
        gathered = Gathering(options, parts, workers, strict, progress).run(found.sources)
        bad = _left_out(folder, found, gathered)
        writer = DatasetWriter(
            out,
            name=name or out.name,
            classes=(),
            size=size,
            licence=licence or licence_text(source_list(matched.rows)),
            sources=source_list(matched.rows),
            aside=parts.dataset,
        )
        with writer:
            good = _read_sources(found, gathered, [naming.of_row(row) for row in matched.rows], naming)
            written = write_clips(writer, parts, good, gathered.files)
        if naming.hides_names:
            write_names(names_path(out), written.names)
        parts.remove()
    remarks = matched.remarks + found.remarks + written.remarks
    files = len(found.sources) + len(found.bad)
    return ImportSummary(written.clips, written.frames, remarks=remarks, bad=bad, files=files)


def find_clips(folder: Path) -> list[Path]:
    """Files and folders of images anywhere below `folder` that hold clips, sorted. DataError if none."""
    return [source.path for source in find_sources_of_clips(folder, ClipOptions(1)).sources]


def clip_names(paths: Sequence[Path]) -> list[str]:
    """A plain word for each of several files, no two alike: with the suffix where needed, else with a number."""
    words = [file_id(path) for path in paths]
    shared = {word for word, count in Counter(words).items() if count > 1}
    words = [
        f"{word}-{path.suffix[1:].lower() or 'file'}" if word in shared else word
        for word, path in zip(words, paths, strict=True)
    ]
    taken: set[str] = set()
    names = []
    for word in words:
        name, number = word, 1
        while name in taken or (number > 1 and name in words):
            number += 1
            name = f"{word}-{number}"
        taken.add(name)
        names.append(name)
    return names


def _read_sources(found: FoundClips, gathered: Gathered, rows: Sequence[FileRow], naming: Naming) -> list[ReadSource]:
    """Those that could be read, named as they would be if all could."""
    names = clip_names([source.place for source in found.sources])
    if naming.hides_names:
        names = [naming.of_file(Path(source.name), "clip") for source in found.sources]
    sources = zip(found.sources, names, rows, strict=True)
    return [
        ReadSource(source.key, name, row, source.name)
        for source, name, row in sources
        if source.name not in gathered.problems
    ]


def _left_out(folder: Path, found: FoundClips, gathered: Gathered) -> tuple[BadFile, ...]:
    """Every file without a clip in the dataset. DataError where that is all of them."""
    paths = {source.name: source.path for source in found.sources if source.name in gathered.problems}
    bad = (*found.bad, *(bad_file(path, folder, gathered.problems[name]) for name, path in paths.items()))
    if len(paths) == len(found.sources):
        lines = problem_lines(bad, len(bad))[1:]
        raise DataError(f"{folder}: no file can be read; {'; '.join(line.strip() for line in lines)}")
    return bad


@contextlib.contextmanager
def _keeping_parts(out: Path, parts: PartFolder) -> Iterator[None]:
    """What is read stays for the next start, unless that is nothing; a full disk is a DataError."""
    try:
        yield
    except OSError as error:
        kept = f"what is read so far is kept in {parts.path} for the next start"
        raise DataError(f"{out}: cannot be written: {error.strerror or error}; {kept}") from error
    finally:
        if parts.path.exists() and not parts.any_whole():
            parts.remove()


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the processes that read, as Ctrl-C does, and then this one; where signals can be caught at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)
