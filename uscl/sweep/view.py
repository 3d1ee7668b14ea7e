"""What runs, in the terminal: a live picture where there is one, plain lines where there is not. A Sink."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Sequence

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from uscl.records import CellFinished, CellPlan, Drained, Failed, Outcome, Progress, StagePublished, SweepEvent
from uscl.sweep.board import Board, BoardCell, Running, SearchCell, duration
from uscl.sweep.order import log_lines, resumes
from uscl.sweep.outlook import survey
from uscl.sweep.study import Study

PLAIN_EVERY_S = 15.0
"""Without a terminal: seconds between two lines about stages under way."""
_BAR_CELLS = 16
_SHOWN_TRIALS = 24
_LABEL_CELLS, _OTHER_COLUMNS_CELLS, _TRIAL_CELLS = 12, 76, 5


class SweepView(logging.Handler):
    """Shows a study; also takes warnings of `logging` as its lines, so that they do not tear the picture."""

    def __init__(self, study: Study, console: Console, *, live: bool = True) -> None:
        """Starts the live picture where the console is a terminal, unless `live` is False."""
        super().__init__(logging.WARNING)
        self._board = Board(study.cells, survey([cell.planned for cell in study.cells], study.store_root))
        self._cells: dict[str, BoardCell] = {cell.key: cell for cell in study.cells}
        self._study = study
        self._console = console
        self._guard = threading.RLock()
        self._last_plain_s = 0.0
        self._live: Live | None = None
        if live and console.is_terminal:
            self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4)
            self._live.start()

    def on_event(self, event: SweepEvent) -> None:
        """Take in an event; without a terminal, print what a reader of a log would want."""
        with self._guard:
            self._board.on_event(event)
            line = self._line(event)
        if line:
            self.say(line)

    def on_cells(self, cells: Sequence[CellPlan]) -> None:
        """Take in what a search has proposed."""
        shown = [SearchCell(cell, (self._study.identity,)) for cell in cells]
        with self._guard:
            self._cells = {cell.key: cell for cell in shown}
            self._board.replace(shown)

    def say(self, line: str) -> None:
        """A line above the picture."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        """A warning of ours."""
        self.say(record.getMessage())

    def close(self) -> None:
        """Leave the last picture on the screen. A second call does nothing."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        super().close()

    def _line(self, happened: SweepEvent) -> str:
        event, cell = happened.event, self._cells[happened.cell]
        lines = functools.partial(log_lines, number=cell.plan.number, names=cell.plan.stage_names, series=cell.series)
        if isinstance(event, Failed):
            return f"{cell.title} | failed ({event.failure}) | {event.message.splitlines()[0][:300]}"
        if isinstance(event, CellFinished) and event.result.outcome is Outcome.DIVERGED:
            return f"{cell.title} | diverged: a result, shown as such in the table"
        if isinstance(event, Drained) or resumes(event):
            return lines(event)[-1]
        if self._live is not None:
            return ""
        if isinstance(event, Progress):
            if happened.time_s - self._last_plain_s < PLAIN_EVERY_S:
                return ""
            self._last_plain_s = happened.time_s
        if isinstance(event, (Progress, StagePublished)):
            return lines(event)[-1]
        if isinstance(event, CellFinished):
            self._last_plain_s = happened.time_s
            return f"{lines(event)[-1]} | {self._summary()}"
        return ""

    def _summary(self) -> str:
        counts = self._board.counts()
        left = self._board.seconds_left()
        parts = [f"{counts['finished']}/{sum(counts.values())} cells finished"]
        parts += [f"{counts[state]} {state}" for state in ("running", "waiting", "failed") if counts[state]]
        return ", ".join(parts) + (f", about {duration(left)} left" if left else "")

    # ---- the picture

    def _picture(self) -> Group:
        with self._guard:
            running = sorted(self._board.running.values(), key=lambda trial: trial.position)
            head = Text(f"{self._study.identity}: {self._summary()}", style="bold")
            trials = _trials(running, self._board.frames_per_s(), width=self._console.width)
            return Group(head, *self._sweeps(), self._stages(), trials)

    def _sweeps(self) -> list[Text]:
        """How far each is, where there are several; a cell of two counts in both."""
        if len(self._study.plans) == 1:
            return []
        counts = {plan.identity: self._board.finished_of(plan.identity) for plan in self._study.plans}
        parts = [f"{sweep} {finished}/{cells}" for sweep, (finished, cells) in counts.items()]
        return [Text("sweeps: " + ", ".join(parts), style="dim")]

    def _stages(self) -> Text:
        parts = []
        for tally in self._board.tallies():
            shared = f" for {tally.uses} cells" if tally.kind != "evaluate" and tally.uses > tally.total else ""
            parts.append(f"{tally.kind} {tally.done}/{tally.total}{shared}")
        return Text("stages: " + ", ".join(parts), style="dim")


def _trials(running: list[Running], frames_per_s: float, *, width: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=bool(running))
    # `12`, and where several sweeps run as one `temporal 12`
    titles = [trial.cell.title.removeprefix("trial ") for trial in running]
    others = _OTHER_COLUMNS_CELLS + max((len(trial.node) for trial in running), default=0)
    others += max(0, max(map(len, titles), default=0) - _TRIAL_CELLS)
    label_width = max(_LABEL_CELLS, width - others)
    for name in ("trial", "cell", "where", "stage", "", "loss", f"{frames_per_s:.0f} frames/s"):
        justify: JustifyMethod = "right" if name == "loss" else "left"
        max_width = label_width if name == "cell" else None  # the one that gives way on a narrow terminal
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify=justify, max_width=max_width)
    for title, trial in zip(titles[:_SHOWN_TRIALS], running, strict=False):
        loss = "" if trial.loss is None else f"{trial.loss:.3g}"
        speed = f"{trial.frames_per_s:.0f}" if trial.frames_per_s else ""
        label = trial.cell.plan.label
        table.add_row(title, label, trial.node, trial.stage, bar(trial.step, trial.steps), loss, speed)
    if len(running) > _SHOWN_TRIALS:
        table.add_row("", f"and {len(running) - _SHOWN_TRIALS} more")
    return table


def bar(step: int, steps: int) -> str:
    """`########-------- 500/1000`; empty before the first step."""
    if not steps:
        return ""
    full = round(_BAR_CELLS * min(step, steps) / steps)
    return "#" * full + "-" * (_BAR_CELLS - full) + f" {step}/{steps}"
