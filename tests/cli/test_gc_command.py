"""`uscl gc` as a user meets it."""

import json
import os
import time

import pytest
from click.testing import CliRunner

from uscl.cli.gc import size_text
from uscl.cli.main import uscl
from uscl.errors import LeaseHeld, SpecError, StoreError
from uscl.records import CellPlan, Outcome, StageRef
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder

MINE, NOBODYS = StageRef("encoder", "a" * 64), StageRef("encoder", "b" * 64)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of last week: a declared encoder, one that `uscl trial` made, and resume points of both."""
    monkeypatch.chdir(tmp_path)
    store = StageStore("runs")
    for ref in (MINE, NOBODYS):
        store.publish(
            ref, attempt="a", files={"weights.safetensors": b"w" * 1000}, outcome=Outcome.DONE, inputs={},
            parent=None, metrics={}, flags=(), provenance={},
        )  # fmt: skip
        store.save_progress(ref, attempt="b", step=1, files={"weights.safetensors": b"w" * 3000})
    SweepFolder("runs", "grid").write_cells([CellPlan(1, MINE.key, "", {}, {}, {"encoder": MINE})])
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 7 * 86_400, time.time() - 7 * 86_400))
    return store


def call(*arguments):
    result = CliRunner().invoke(uscl, ["gc", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_dry_run_says_what_would_go_and_touches_nothing(store):
    lines = call("--dry-run").splitlines()
    assert lines[0].startswith("resume points that nothing will go on from: 2 (2 encoder), 6.")
    assert lines[1].startswith("would free 6.") and lines[1].endswith("kB; nothing was deleted")
    assert lines[2].startswith("kept, as training them cost time: published stages that no sweep declares: 1 (1 encod")
    assert store.load_progress(MINE) and store.load_progress(NOBODYS)


def test_it_deletes_and_a_second_time_there_is_nothing(store):
    assert "freed 6." in call()
    assert store.load_progress(MINE) is None and store.has(MINE) and store.has(NOBODYS)
    assert call().splitlines()[0] == "freed 0 B"


def test_unreferenced_stages_go_only_when_asked_for(store):
    document = json.loads(call("--unreferenced", "--json"))
    assert document["deleted"] and document["kept_unreferenced"] == []
    assert [entry["name"] for entry in document["garbage"] if entry["what"].startswith("published")] == [
        f"stages/encoder/{NOBODYS.key}"
    ]
    assert store.has(MINE) and not store.has(NOBODYS)


def test_it_refuses_while_a_sweep_runs(store):
    with SweepFolder("runs", "grid").acquire_lease(), pytest.raises(LeaseHeld, match="sweep grid is being run by"):
        call()
    assert store.load_progress(MINE)


def test_the_day_can_only_be_made_longer(store):
    assert "would free 0 B" in call("--dry-run", "--older-than", "8d")
    with pytest.raises(SpecError, match="--older-than 1h: at least 24h, so that no trial under way is hurt"):
        call("--older-than", "1h")


def test_a_place_without_a_store_is_named(tmp_path):
    with pytest.raises(StoreError, match="no store there; give another --store"):
        call("--store", str(tmp_path))


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (999, "999 B"), (4_000, "4.0 kB"), (1.25e9, "1.2 GB"), (3e12, "3.0 TB")]
)
def test_sizes(size, text):
    assert size_text(size) == text
