"""What a command that makes a dataset shows: how far it is, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

_EVERY_S = 10.0
"""Between two progress lines where there is no terminal."""
_SURE_AFTER_S = 2.0
"""Before that, nothing is said of the time left."""


def say_made(out: Path, remarks: Sequence[str] = ()) -> None:
    """What OUT holds, and below it what the user should know of it."""
    from uscl.data.dataset import open_dataset
    from uscl.data.wording import counted

    index = open_dataset(out).index
    frames = sum(clip.num_frames for clip in index.clips)
    parts = [f"{counted(len(index.clips), 'clip')}, {counted(frames, 'frame')}"] if index.clips else []
    labelled = counted(len(index.cases), "labelled image")
    parts += [f"{labelled} ({', '.join(index.classes)})"] if index.cases else []
    click.echo(f"{out}: {'; '.join(parts)}; fingerprint {index.fingerprint[:10]}")
    for remark in remarks:
        click.echo(f"  {remark}")


def show_progress() -> Callable[[str, int, int], None]:
    """Progress on stderr: one line rewritten on a terminal; elsewhere a line every 10 s, and the last where any was."""
    on_terminal = sys.stderr.isatty()
    said, lines, clock = time.monotonic(), 0, _Clock()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal said, lines
        now = time.monotonic()
        text = f"{what} {done}/{total}{clock.time_left(done, total, now)}"
        if on_terminal and (done == total or now - said > 0.1):
            said = now
            click.echo(f"\r\x1b[K{text}" + ("\n" if done == total else ""), err=True, nl=False)
        elif not on_terminal and (now - said > _EVERY_S or (done == total and lines)):
            said, lines = now, lines + 1
            click.echo(text, err=True)

    return progress


class _Clock:
    """Says how long a piece of work will still take, once it has run for a few seconds."""

    def __init__(self) -> None:
        self._total, self._done, self._begun = -1, 0, 0.0

    def time_left(self, done: int, total: int, now: float) -> str:
        """`, 12 min left`; empty while nobody can say. Less done, or another total, is other work."""
        if total != self._total or done < self._done:
            self._total, self._done, self._begun = total, done, now
        did, took = done - self._done, now - self._begun
        if did <= 0 or took < _SURE_AFTER_S or done >= total:
            return ""
        return f", {_duration(took / did * (total - done))} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
