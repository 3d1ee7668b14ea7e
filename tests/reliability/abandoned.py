"""A driver that is abandoned at a given turn, as `kill -9` leaves it: in this process, without Ray, with a real store.

The loop plays Tune. When it stops nobody is told: no trial saves, no claim is released.
"""

import random
from collections import Counter
from pathlib import Path

from sweep_fakes import NAME, journal, steps_taken

from uscl.records import Failed
from uscl.store.sweeps import SweepFolder
from uscl.sweep import study
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.order import LAST_EVENTS, RUNNING, work
from uscl.sweep.outlook import to_do
from uscl.sweep.queue import Turn
from uscl.sweep.terms import Terms


class Start:
    """One start of a driver over a plan."""

    def __init__(self, plan, *, slots=2, seed=0):
        whole, folder = study.study_of([plan]), SweepFolder(plan.store_root, plan.identity)
        folder.path.mkdir(parents=True, exist_ok=True)
        session = folder.path / "session-x"
        session.write_bytes(RUNNING)
        terms = Terms("cpu", 1, NAME, session)
        self.dispatch = Dispatch(whole, study.queue_of(whole, slots=slots), sinks=(), terms=terms)
        self.live = {}
        self._slots, self._rng, self._trials = slots, random.Random(seed), 0

    def turn(self) -> bool:
        """Fill the slots, then advance one live trial by one event; False where the sweep has ended."""
        while len(self.live) < self._slots:
            self._trials += 1
            order = self.dispatch.take(str(self._trials))
            if isinstance(order, Turn):
                break
            self.live[str(self._trials)] = work(order)
        if not self.live:
            assert order is Turn.FINISHED
            return False
        trial = self._rng.choice(sorted(self.live))
        event = next(self.live[trial])
        self.dispatch.event(trial, event, node="here")
        if isinstance(event, LAST_EVENTS):
            del self.live[trial]
        return True

    def run(self, turns=None) -> bool:
        """So many turns, or to the end; whether it ended."""
        for _ in range(10_000 if turns is None else turns):
            if not self.turn():
                return True
        assert turns is not None, "never finished"
        return False

    def kill_worker(self, trial) -> None:
        """A trial's process dies; Tune tells."""
        self.live.pop(trial).close()
        self.dispatch.gone(trial, Failed("lost", "killed", ""))

    def abandon(self) -> None:
        """The driver and its workers are gone."""
        for generator in self.live.values():
            generator.close()


def check_each_stage_once(root: Path, plan) -> None:
    """Every cell is finished, and no stage was begun again after it was published, or published twice."""
    assert all(cell.finished for cell in to_do(plan))
    published = Counter()
    for what, *stage in journal(root):
        assert not (what == "start" and published[tuple(stage)]), f"{stage} was trained again"
        published[tuple(stage)] += what == "publish"
    assert set(published.values()) == {1}
    events = SweepFolder(plan.store_root, plan.identity).read_events()
    ends = Counter(event["cell"] for event in events if event["event"] == "CellFinished")
    assert set(ends) <= {planned.plan.cell for planned in plan.cells} and max(ends.values()) == 1


def check_lost_steps(root: Path, at_most: int) -> None:
    """No more steps than that were taken twice."""
    taken = Counter(step[:3] for step in steps_taken(root))
    lost = sum(count - 1 for count in taken.values())
    assert lost <= at_most, f"{lost} steps were taken again, at most {at_most} should"
