"""What a search has found, read back from its folder; and its copy for Optuna's own tools."""

import optuna
import pytest
from search_fakes import SIX, FakeMaker, search_plan, search_spec
from test_search_dispatch import run

from uscl.errors import SpecError, StoreError
from uscl.spec.space import Bound, SearchSpec
from uscl.sweep.books import State
from uscl.sweep.search_export import LEAST, export_search, importance
from uscl.sweep.search_results import best_so_far, search_results

OBJECTIVES = {"val/dsc": "maximize", "val/delta_snr": "minimize"}


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def ended(tmp_path):
    """A search of six points with two objectives and a bound: one point fails, one is refused."""

    def refused(params):
        return "too few labels" if params == {"temporal.polarity": "none", "labels.fraction": 0.1} else ""

    spec = search_spec(SIX, trials=12, objectives=OBJECTIVES, constraints={"val/delta_snr": Bound(high=0.9)})
    plan = search_plan(tmp_path, spec, maker=FakeMaker(refused), faults={"none 0.5": "error in finetune"})
    run(plan)
    return plan


def test_a_search_is_read_back_without_its_file(ended):
    results = search_results(ended.store_root, "fake")
    assert results.spec == ended.spec.search
    states = {tuple(e.proposal.params.values()): e.state for e in results.entries if e.proposal.same_as is None}
    assert states[("none", 0.1)] is State.REFUSED and states[("none", 0.5)] is State.FAILED
    assert results.looked_at == 5
    front = {tuple(entry.proposal.params.values()) for entry in results.leaders}
    assert front == {("positive", 0.1)}, "0.1 has the better SNR and, by 0.2 squared either way, no worse DSC"
    (winner,) = results.leaders
    assert results.test_scores(winner) == {"test/dsc": pytest.approx(0.96), "test/delta_snr": pytest.approx(0.1)}
    assert results.numbers(winner) == (results.cells[winner.proposal.cells[0]].number,)


def test_the_best_so_far_never_gets_worse_and_leaves_out_what_breaks_a_bound(tmp_path):
    plan = search_plan(tmp_path, search_spec(trials=12, constraints={"val/delta_snr": Bound(high=0.2)}))
    run(plan)
    rows = best_so_far(search_results(plan.store_root, "fake"), "val/dsc")
    known = [best for _, _, best in rows if best == best]
    assert known and known == sorted(known)
    assert max(value for _, value, _ in rows) > max(known), "the best of all is out of bounds"


def test_optuna_reads_the_exported_database(ended, tmp_path):
    target = tmp_path / "fake.db"
    results = search_results(ended.store_root, "fake")
    assert export_search(results, target) == len(results.entries)
    storage = optuna.storages.RDBStorage(f"sqlite:///{target}")
    study = optuna.load_study(study_name="fake", storage=storage)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial, entry in zip(study.trials, results.entries, strict=True):
        assert trial.params == dict(entry.proposal.params)
        assert (trial.state.name == "COMPLETE") == (entry.state is State.COMPLETE)
        assert trial.values == (list(entry.values) or None)
        assert trial.user_attrs["cells"] == list(entry.proposal.cells)
        assert trial.system_attrs.get("constraints", []) == list(entry.violations)
    refused = [trial for trial in study.trials if "too few labels" in trial.user_attrs.get("why", "")]
    assert refused and {trial.state.name for trial in refused} == {"FAIL"}
    assert {t.user_attrs["proposal"] for t in study.best_trials} >= {e.proposal.index for e in results.leaders}
    storage.remove_session()
    storage.engine.dispose()
    with pytest.raises(SpecError, match="is there already; --force replaces it"):
        export_search(results, target)
    assert export_search(results, target, force=True) == len(results.entries)
    with pytest.raises(SpecError, match="no such folder"):
        export_search(results, tmp_path / "nowhere" / "fake.db")


def test_the_setting_that_matters_is_told_from_the_one_that_does_not(tmp_path):
    few = search_plan(tmp_path / "few", search_spec(trials=LEAST - 1))
    run(few)
    assert importance(search_results(few.store_root, "fake")) == {}
    many = search_plan(tmp_path / "many", search_spec(sampler="random", trials=40))
    run(many)
    shares = importance(search_results(many.store_root, "fake"))["val/dsc"]
    assert sum(shares.values()) == pytest.approx(1.0) and list(shares.values()) == sorted(shares.values(), reverse=True)
    assert shares.keys() == {"temporal.polarity", "labels.fraction"}
    snr = search_spec(sampler="random", trials=40, objectives={"val/delta_snr": "minimize"})
    run(search_plan(tmp_path / "many", snr))
    shares = importance(search_results(many.store_root, "fake"))["val/delta_snr"]
    assert shares["labels.fraction"] > 0.8, "the only one that delta SNR depends on"


def test_what_is_no_search_says_so(tmp_path, ended):
    with pytest.raises(StoreError, match="no such sweep"):
        search_results(tmp_path / "elsewhere", "fake")
    folder = ended.store_root / "sweeps" / "fake" / "sweep.yaml"
    folder.write_text("name: fake\n")
    with pytest.raises(SpecError, match="fake: is no search"):
        search_results(ended.store_root, "fake")
    folder.write_text("name: fake\nsearch: {sampler: tpe}\n")
    with pytest.raises(StoreError, match="the search cannot be read"):
        search_results(ended.store_root, "fake")


def test_a_search_is_read_back_as_it_was_written():
    spec = search_spec(SIX, constraints={"val/hd95": Bound(low=1.0)}, repeats=3, seed=5)
    assert SearchSpec.from_json(spec.to_json()) == spec
