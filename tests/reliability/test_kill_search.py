"""kill -9 of a search's driver, with a real Ray: taken up again, it proposes what an undisturbed one does."""

import pytest
from search_fakes import search_plan, search_spec
from sweep_processes import Driver

from uscl.store.sweeps import SweepFolder
from uscl.sweep.proposals import goes_on, grown

pytestmark = pytest.mark.slow

SEARCH = {"trials": 14, "repeats": 2}
SCRIPT = {"step_s": 0.05}


class SearchDriver(Driver):
    """A driver of a search."""

    script = "search_driver.py"


def proposals(root):
    """What was proposed, in order, with Optuna's notes."""
    plan = search_plan(root, search_spec(**SEARCH), **SCRIPT)
    return plan, SweepFolder(plan.store_root, "fake").read_proposals()


def test_a_search_whose_driver_is_killed_proposes_what_an_undisturbed_one_does(tmp_path):
    undisturbed = SearchDriver(tmp_path / "whole", search=SEARCH, script=SCRIPT)
    killed = tmp_path / "killed"
    for number in (9, 25):  # events: in the first proposal or the next, then further on
        driver = SearchDriver(killed, search=SEARCH, script=SCRIPT)
        driver.wait_for_event(number)
        driver.kill()
    last = SearchDriver(killed, search=SEARCH, script=SCRIPT)
    assert undisturbed.end()["exit_code"] == 0 and last.end()["exit_code"] == 0
    (_, expected), (plan, found) = proposals(tmp_path / "whole"), proposals(killed)
    assert found == expected and len(found) >= 14
    assert not goes_on(plan)
    folder = SweepFolder(plan.store_root, "fake")
    ends = [event["cell"] for event in folder.read_events() if event["event"] == "CellFinished"]
    winners = {planned.plan.cell for planned in grown(plan).cells if planned.plan.is_winner}
    assert len(winners) == 2, "one proposal, two repeats"
    assert all(ends.count(cell) <= 1 + (cell in winners) for cell in ends), "finished is finished"
    idle = SearchDriver(killed, search=SEARCH, script=SCRIPT).end()
    assert (idle["trained"], idle["ray"], idle["exit_code"]) == ({}, False, 0)
