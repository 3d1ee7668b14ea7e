"""T15. A node of a cluster dies under its trial: its cell and stages are released again and the sweep completes."""

from collections import Counter

import pytest
from sweep_fakes import journal
from sweep_processes import Driver

from uscl.store.sweeps import SweepFolder

pytestmark = pytest.mark.slow


def test_a_lost_node_costs_an_attempt_and_no_cell(tmp_path):
    driver = Driver(tmp_path, lose_after=5, script={"steps": 10, "step_s": 0.1})
    outcome = driver.end()
    assert "node lost" in driver.lines
    assert (outcome["finished"], outcome["held"], outcome["exit_code"]) == (6, 0, 0), driver.lines
    events = SweepFolder(tmp_path / "store", "fake").read_events()
    (lost,) = [line for line in events if line["event"] == "Failed"]
    assert (lost["failure"], lost["node"]) == ("lost", "second")
    later = events[events.index(lost) + 1 :]
    assert lost["cell"] in {line["cell"] for line in later if line["event"] == "CellFinished"}, "handed out again"
    assert not {line["node"] for line in later} & {"second"}
    finished = Counter(line["cell"] for line in events if line["event"] == "CellFinished")
    assert set(finished.values()) == {1} and len(finished) == 6, "every cell exactly once"
    published = [line for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 22
    started = Counter(line[1:] for line in journal(tmp_path) if line[0] == "start")
    assert sum(started.values()) == 23, "the stage that the node took with it was begun twice, no other"
