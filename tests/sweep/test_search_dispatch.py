"""A search driven to its end by a loop that plays Tune, over fake trials and a real store."""

import random

import pytest
from search_fakes import FRACTION, POLARITY, SIX, WINDOW, FakeMaker, search_plan, search_spec
from sweep_fakes import NAME, journal
from test_dispatch import Recorder, play

from uscl.errors import SpecError
from uscl.records import CellFinished
from uscl.store.sweeps import SweepFolder
from uscl.sweep.books import State
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.folders import write_plans
from uscl.sweep.growing import growth_of
from uscl.sweep.order import RUNNING
from uscl.sweep.proposals import goes_on, grown, known_proposals, standing
from uscl.sweep.queue import CellState
from uscl.sweep.study import queue_of, study_of
from uscl.sweep.terms import Terms


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    """Nobody pulls the plug here, and thousands of small files are written."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


class Cells(Recorder):
    """A sink that keeps the cells as well."""

    cells = ()

    def on_cells(self, cells):
        self.cells = cells


def start(plan, *sinks, slots=1):
    """A dispatch as run_study makes it."""
    study = study_of([grown(plan)])
    growth = growth_of(study)
    study = study_of([growth.first()])
    write_plans(study, lambda line: None)
    folder = SweepFolder(plan.store_root, plan.identity)
    session = folder.path / "session-x"
    session.write_bytes(RUNNING)
    terms = Terms("cpu", 1, NAME, session)
    return Dispatch(study, queue_of(study, slots=slots), sinks=sinks, terms=terms, growth=growth, slots=slots)


def run(plan, *sinks, slots=1, **how):
    """A start that is played to its end, or until it is drained."""
    dispatch = start(plan, *sinks, slots=slots)
    play(dispatch, slots=slots, **how)
    return dispatch


def proposed(plan):
    """What was proposed, in order."""
    return [(p.params, p.same_as, p.refused) for p in SweepFolder(plan.store_root, "fake").read_proposals()]


def entries(plan):
    return standing(plan, known_proposals(plan))


@pytest.mark.parametrize("slots", [1, 3])
def test_a_search_makes_its_proposals_scores_them_on_validation_and_only_the_winner_on_test(tmp_path, slots):
    plan = search_plan(tmp_path, search_spec(trials=11))
    sink = Cells()
    dispatch = run(plan, sink, slots=slots)
    assert len(dispatch.cells_in(CellState.FINISHED)) == 11
    assert dispatch.trained["evaluate"] == 12, "11 validations and one test"
    best = max(entries(plan), key=lambda entry: entry.values)
    tested = [cell for cell in sink.cells if "evaluate/test" in cell.stages]
    assert [cell.proposal for cell in tested] == [best.proposal.index] and tested[0].is_winner
    assert [cell.number for cell in sink.cells] == list(range(1, 12))
    assert SweepFolder(plan.store_root, "fake").read_cells() == tuple(sink.cells)
    assert not goes_on(plan) and {e.event.result.outcome for e in sink.events if isinstance(e.event, CellFinished)}
    assert len(journal(tmp_path)) == 2 * sum(dispatch.trained.values())
    again = run(plan)
    assert not again.trained, "a second start has nothing to do"


def test_a_space_of_six_trains_six_cells_and_ends(tmp_path):
    plan = search_plan(tmp_path, search_spec(SIX, trials=60))
    dispatch = run(plan)
    assert len(dispatch.cells_in(CellState.FINISHED)) == 6 and dispatch.trained["finetune"] == 6
    assert len({cell for entry in entries(plan) for cell in entry.proposal.cells}) == 6
    assert len([p for p in proposed(plan) if p[1] is None]) == 6
    assert not goes_on(plan)


def test_a_search_may_be_made_longer(tmp_path):
    run(search_plan(tmp_path, search_spec(trials=3)))
    longer = search_plan(tmp_path, search_spec(trials=5))
    assert goes_on(longer)
    assert run(longer).trained["finetune"] == 2


def test_a_moot_setting_makes_no_second_proposal(tmp_path):
    plan = search_plan(tmp_path, search_spec((POLARITY, WINDOW), trials=10))
    dispatch = run(plan)
    assert dispatch.trained["finetune"] == 2
    assert len([p for p in proposed(plan) if p[1] is None]) == 2
    assert not goes_on(plan), "forty points are two cells, and all were looked at"


def test_a_search_stopped_again_and_again_proposes_what_an_undisturbed_one_does(tmp_path):
    spec = search_spec(trials=12)
    undisturbed = search_plan(tmp_path / "one", spec)
    run(undisturbed)
    killed = search_plan(tmp_path / "two", spec)
    rng = random.Random(7)
    starts = 0
    while goes_on(killed):
        starts += 1
        play(start(killed), slots=1, drain_after=rng.randrange(4, 20))
    assert starts > 5
    assert not goes_on(killed)
    assert proposed(killed) == proposed(undisturbed)


def test_repeats_are_seeds_one_apart_and_an_objective_is_their_mean(tmp_path):
    plan = search_plan(tmp_path, search_spec(trials=2, repeats=3))
    dispatch = run(plan)
    assert dispatch.trained["finetune"] == 6 and dispatch.trained["evaluate"] == 6 + 3
    for entry in entries(plan):
        fraction, polarity = entry.proposal.params["labels.fraction"], entry.proposal.params["temporal.polarity"]
        away = (fraction - 0.3) ** 2 + 0.2 * (polarity != "positive")
        assert entry.values == (pytest.approx(1 - away + 0.01),)


def test_a_failed_proposal_is_told_as_such_and_the_next_start_tries_it_again(tmp_path):
    spec = search_spec(SIX, trials=6, sampler="random")
    plan = search_plan(tmp_path, spec, faults={"positive 0.5": "error in finetune"})
    dispatch = run(plan)
    assert len(dispatch.cells_in(CellState.HELD)) == 1 and len(dispatch.cells_in(CellState.FINISHED)) == 5
    held = {cell.key for cell in dispatch.cells_in(CellState.HELD)}
    won = [cell for cell in grown(plan, held=held).cells if cell.plan.is_winner]
    assert [cell.plan.axes["labels.fraction"] for cell in won] == [0.1], "the winner need not wait for it"
    assert goes_on(plan), "it is pending again"
    mended = run(search_plan(tmp_path, spec))
    assert mended.trained["finetune"] == 1
    assert not goes_on(plan)


def test_a_diverged_proposal_is_a_result_and_never_wins(tmp_path):
    plan = search_plan(tmp_path, search_spec(SIX, trials=6), faults={"positive 0.1": "diverge in finetune"})
    run(plan, slots=3)
    states = {tuple(e.proposal.params.values()): e.state for e in entries(plan) if e.proposal.counts}
    assert states[("positive", 0.1)] is State.DIVERGED
    assert not goes_on(plan)
    assert [c.plan.axes["labels.fraction"] for c in grown(plan).cells if c.plan.is_winner] == [0.5]


def test_a_bug_that_fails_every_proposal_ends_the_start_early(tmp_path):
    faults = {f"{p} {f}": "error in finetune" for p in ("none", "positive") for f in (0.1, 0.5, 1.0)}
    plan = search_plan(tmp_path, search_spec(SIX, trials=6), faults=faults)
    dispatch = run(plan)
    assert len(dispatch.cells_in(CellState.HELD)) == 5
    held = {cell.key for cell in dispatch.cells_in(CellState.HELD)}
    assert "5 proposals all failed" in growth_of(dispatch.study).why_over(held)


def test_refused_proposals_are_kept_with_why_and_do_not_count(tmp_path):
    maker = FakeMaker(lambda params: "no pairs" if params["temporal.polarity"] == "positive" else "")
    plan = search_plan(tmp_path, search_spec(trials=6), maker=maker)
    dispatch = run(plan)
    assert dispatch.trained["finetune"] == 6
    refused = [why for _, _, why in proposed(plan) if why]
    assert refused and set(refused) == {"fake.yaml:7: no pairs"}


@pytest.mark.parametrize("space", [SIX, (POLARITY, FRACTION)])
def test_a_space_where_everything_is_refused_is_an_error_in_one_line(tmp_path, space):
    plan = search_plan(tmp_path, search_spec(space), maker=FakeMaker(lambda params: "no pairs"))
    with pytest.raises(SpecError, match=r"^fake.yaml: every proposal of the search is refused: fake.yaml:7: no pairs$"):
        start(plan)
    with pytest.raises(SpecError):  # as often as it is started
        start(plan)


def test_an_edited_file_sets_the_old_proposals_aside(tmp_path):
    run(search_plan(tmp_path, search_spec(trials=4)))
    narrower = search_plan(tmp_path, search_spec((POLARITY, FRACTION, WINDOW), trials=4))
    known = known_proposals(narrower)
    assert (known.proposals, known.set_aside, known.next_index) == ((), 4, 4)
    run(narrower)
    assert len(known_proposals(narrower).proposals) >= 4 and not goes_on(narrower)
