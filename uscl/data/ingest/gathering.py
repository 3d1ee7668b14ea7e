"""Read every source of an import into its part, then join the parts to frame files; both in several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.assembly import FrameFile, assemble, lacking, plan_files
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.parts import PartFolder
from uscl.data.ingest.progress import FrameMeter, Progress
from uscl.data.ingest.reading import ClipSource, Outcome, read_source
from uscl.data.ingest.workers import Crash, run_each
from uscl.errors import DataError


@dataclass(frozen=True)
class Gathered:
    """What has become of the sources."""

    files: tuple[FrameFile, ...]
    """The frames of all that could be read, in the order of the sources."""
    problems: dict[str, str]
    """Name of a source that could not be read -> why."""


@dataclass(frozen=True)
class Gathering:
    """How the sources of an import are read."""

    options: ClipOptions
    parts: PartFolder
    workers: int
    """Processes; 0: this one."""
    strict: bool
    """The first file that cannot be read ends it."""
    progress: Progress

    def run(self, sources: Sequence[ClipSource]) -> Gathered:
        """Read what has not been read, join it. DataError, naming the file, where `strict` and one cannot be read."""
        problems = self._read(sources, [source for source in sources if not self.parts.whole(source.key)])
        while True:
            frames = self._frames([source for source in sources if source.name not in problems])
            files = plan_files(self.parts, frames, self.options.size)
            missing = lacking(self.parts, files)
            if not missing:
                break
            problems |= self._read(sources, [source for source in sources if source.key in missing])
        self._join(files)
        return Gathered(tuple(files), problems)

    def _read(self, sources: Sequence[ClipSource], waiting: Sequence[ClipSource]) -> dict[str, str]:
        problems: dict[str, str] = {}
        meter = FrameMeter(self.progress, done=len(sources) - len(waiting), total=len(sources))
        pieces = [(source, self.options, self.parts) for source in waiting]
        workers = min(self.workers, len(waiting))
        with contextlib.closing(run_each(read_source, pieces, workers=workers)) as results:
            for position, result in results:
                outcome = Outcome(problem=result.reason) if isinstance(result, Crash) else result
                source = waiting[position]
                if outcome.problem:
                    problems[source.name] = outcome.problem
                if outcome.problem and self.strict:
                    raise DataError(_with_path(source.path, outcome.problem))
                meter.add(outcome.num_frames)
        return problems

    def _frames(self, sources: Sequence[ClipSource]) -> dict[str, int]:
        return {source.key: sum(clip.num_frames for clip in self.parts.load(source.key)) for source in sources}

    def _join(self, files: Sequence[FrameFile]) -> None:
        waiting = [file for file in files if file.entry is None]
        pieces = [(self.parts, file, self.options.size) for file in waiting]
        workers = min(self.workers, len(waiting)) if len(waiting) > 1 else 0
        for number, (_, result) in enumerate(run_each(assemble, pieces, workers=workers)):
            if isinstance(result, Crash):
                raise DataError(f"the frames read cannot be joined: {result.reason}")
            self.progress("joining files", number + 1, len(waiting))


def _with_path(path: Path, problem: str) -> str:
    return problem if problem.startswith(str(path)) else f"{path}: {problem}"
