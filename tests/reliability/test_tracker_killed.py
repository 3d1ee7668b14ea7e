"""kill -9 of a real driver whose sweep is never started again: `uscl sync` closes what it left RUNNING."""

import pytest
from click.testing import CliRunner
from sweep_processes import Driver
from tracked_sweep import client_of, runs_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own


def test_sync_closes_the_runs_of_a_killed_driver(tmp_path):
    from uscl.cli.main import uscl
    from uscl.tracking.location import find_location

    script = {"pause_at": "during evaluation", "step_s": 0.02}
    driver = Driver(tmp_path, mirror=True, grid={"polarities": ["none"], "fractions": [1.0]}, script=script)
    driver.wait_for((tmp_path / "dataset" / "hit-during evaluation").exists)
    database = find_location(tmp_path / "store")
    driver.wait_for(database.database.exists)
    client = client_of(database.uri)

    def states():
        return {run.data.tags["uscl.number"]: run.info.status for run in runs_of(client, "fake")}

    wait_for(lambda: states() == {"0000": "RUNNING", "0001": "RUNNING"})
    driver.kill()
    assert set(states().values()) == {"RUNNING"}, "nobody ended them"
    result = CliRunner().invoke(uscl, ["sync", "--store", str(tmp_path / "store")])
    assert result.exit_code == 0, result.output
    assert states() == {"0000": "KILLED", "0001": "KILLED"}
