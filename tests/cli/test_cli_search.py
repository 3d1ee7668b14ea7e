"""`uscl search` over a search of fake trials, and what its report says."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))
from search_fakes import SIX, search_plan, search_spec
from test_search_dispatch import run

from uscl.cli.main import uscl
from uscl.errors import SpecError
from uscl.report.page import stored_report
from uscl.report.render import to_text
from uscl.spec.sweep import ReportSpec
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A search of six points that has ended."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    found = search_plan(tmp_path, search_spec(SIX, trials=12), faults={"none 1.0": "diverge in finetune"})
    run(found)
    return found


def call(plan, *words):
    """Standard output of `uscl search ...`."""
    result = CliRunner().invoke(uscl, ["search", *words, "--store", str(plan.store_root)], catch_exceptions=False,
                                standalone_mode=False)  # fmt: skip
    return result.output


def test_show_prints_every_proposal_and_the_winner(plan):
    lines = call(plan, "show", "fake").splitlines()
    assert lines[0].split() == ["proposal", "temporal.polarity", "labels.fraction", "val/dsc", "state", "cells"]
    assert sum(line.split()[4:5] == ["best"] for line in lines) == 1
    assert sum("diverged" in line for line in lines) >= 1
    assert lines[-2] == "fake: best of 6 proposals, chosen on validation:"
    assert "val/dsc 0.9600; test/dsc 0.9600; cell " in lines[-1]


def test_show_gives_json(plan):
    document = json.loads(call(plan, "show", "fake", "--json"))
    assert document["looked_at"] == 6 and document["search"]["trials"] == 12
    (best,) = (p for p in document["proposals"] if p["proposal"] in document["best"])
    assert best["values"] == {"val/dsc": pytest.approx(0.96)} and best["feasible"] and len(best["cells"]) == 1


def test_export_and_figures_write_files(plan, tmp_path):
    assert "optuna-dashboard sqlite:///" in call(plan, "export", "fake", str(tmp_path / "o.db"))
    with pytest.raises(SpecError, match="--force"):
        call(plan, "export", "fake", str(tmp_path / "o.db"))
    assert "wrote" in call(plan, "figures", "fake", str(tmp_path / "figures"))
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["search_history.png"]


def test_its_report_has_a_test_score_for_the_winner_alone_and_says_how_many_were_looked_at(plan):
    spec = ReportSpec(rows=("temporal.polarity", "labels.fraction"), values=("val/dsc", "test/dsc"))
    text = to_text(stored_report(StageStore(plan.store_root), SweepFolder(plan.store_root, "fake"), spec).sheets())
    assert "a search looked at 6 proposals by their validation scores" in text
    tested = text.split("test/dsc")[1].split("\n\n")[0].splitlines()[3:]
    assert sum("0.960" in line for line in tested) == 1
    assert sum(line.split()[2].startswith("-") for line in tested) == 5, tested
