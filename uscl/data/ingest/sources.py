"""Which files and folders below a folder hold clips, who reads each, and the name of its part."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.formats import CLIP_FORMATS
from uscl.data.ingest.found import find_files, printable
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.parts import part_key
from uscl.data.ingest.problems import BadFile
from uscl.data.ingest.reading import ClipSource
from uscl.errors import DataError


@dataclass(frozen=True)
class FoundClips:
    """Sources in the order of their paths, files that may not be read, and what was passed over."""

    sources: tuple[ClipSource, ...]
    bad: tuple[BadFile, ...] = ()
    remarks: tuple[str, ...] = ()

    def only(self, names: Collection[str]) -> FoundClips:
        """Those of these names."""
        sources = tuple(source for source in self.sources if source.name in names)
        return FoundClips(sources, tuple(entry for entry in self.bad if entry.name in names), self.remarks)


def find_sources_of_clips(folder: Path, options: ClipOptions) -> FoundClips:
    """Every clip file below `folder`, each by the first format that takes it. DataError where there is none."""
    found = find_files(folder)
    files = [file for file in found.files if os.access(file, os.R_OK)]
    closed = sorted(set(found.files) - set(files))
    bad = tuple(BadFile(_name(file, folder), "may not be read (permission denied)") for file in closed)
    owners: dict[Path, str] = {}
    for entry in CLIP_FORMATS:
        for path in entry.find([file for file in files if file not in owners]):
            owners.setdefault(path, entry.name)
    if not owners:
        known = ", ".join(entry.name for entry in CLIP_FORMATS)
        told = "; ".join([*map(str, bad), *found.remarks])
        raise DataError(f"{folder}: holds no clip ({known})" + (f"; {told}" if told else ""))
    stamps = _stamps(files)
    sources = [_source(path, folder, owners[path], stamps, options) for path in sorted(owners)]
    return FoundClips(tuple(sources), bad, found.remarks)


def _source(
    path: Path, folder: Path, owner: str, stamps: dict[Path, list[tuple[str, int, int]]], options: ClipOptions
) -> ClipSource:
    """Its key holds the state of its file and those of the same stem beside it (.mhd and .raw), or all in a folder."""
    name = path.relative_to(folder).as_posix()
    own = stamps[path] if path in stamps else stamps[path.with_suffix("")]
    return ClipSource(path, name, owner, part_key(f"{owner}/{name}", own, options))


def _stamps(files: Sequence[Path]) -> dict[Path, list[tuple[str, int, int]]]:
    """Name, size and time of change of files by folder, and by folder with stem."""
    stamps: dict[Path, list[tuple[str, int, int]]] = {}
    for file in files:
        state = file.stat()
        for place in {file.parent, file.with_suffix("")}:
            stamps.setdefault(place, []).append((file.name, state.st_size, state.st_mtime_ns))
    return stamps


def _name(file: Path, folder: Path) -> str:
    return printable(file.relative_to(folder).as_posix())
