"""A node of a cluster dies under its trial: its cell and stages are released again and the sweep completes."""

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
    assert [line["failure"] for line in events if line["event"] == "Failed"] == ["lost"]
    published = [line for line in journal(tmp_path) if line[0] == "publish"]
    assert len(published) == len(set(published)) == 22
