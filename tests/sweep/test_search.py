"""What a search asks for: pure, over made-up results."""

import math

import pytest
from search_fakes import FRACTION, POLARITY, SIX, search_spec

from uscl.records import Proposal
from uscl.spec.space import Bound, Choice, Dimension, FloatRange, IntRange, SearchSpec
from uscl.sweep.books import RE_ASKS, CellVerdict, Entry, State, entries_of, why_ended, why_paused, winners
from uscl.sweep.points import belongs, point_key
from uscl.sweep.search import ask, study_of_entries

SAMPLERS = ("tpe", "random", "gp", "nsga2")
STAGE = Dimension("temporal.stage", Choice(("encoder", "decoder", "both")))
SPACE = (
    Dimension("temporal.polarity", Choice(("none", "positive"))),
    Dimension("temporal.window", IntRange(1, 20, step=3), {"temporal.polarity": ("positive",)}),
    Dimension("temporal.guard", IntRange(1, 64, log=True), {"temporal.polarity": ("positive",)}),
    Dimension("temporal.soft", Choice((True, False)), {"temporal.window": (1, 4, 7)}),
    Dimension("speckle.weight", FloatRange(1e-3, 1.0, log=True)),
    Dimension("contrast.temperature", FloatRange(0.1, 0.55, step=0.1)),
    Dimension("speckle.classes", Choice((("cortex",), ("cortex", "medulla")))),
)


def play(spec: SearchSpec, score, *, num: int, before=()) -> list[Entry]:
    """Ask and answer in turn; `score` gives an entry's fields from its params."""
    entries = list(before)
    while len(entries) < num:
        index = len(entries)
        asked = ask(spec, entries, index)
        cells = (point_key(asked.params),)
        same_as = next((entry.proposal.index for entry in entries if entry.proposal.cells == cells), None)
        proposal = Proposal(index, asked.params, asked.distributions, asked.system_attrs, cells=cells, same_as=same_as)
        entries.append(Entry(proposal, **score(asked.params)))
    return entries


def done(*values, violations=()):
    return {"state": State.COMPLETE, "values": values, "violations": violations}


def hill(params):
    """Best at weight 0.03 and temperature 0.3, with pairs."""
    away = abs(math.log10(params["speckle.weight"]) + 1.5) + abs(params["contrast.temperature"] - 0.3)
    return done(1 - away - (params["temporal.polarity"] == "none"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_stays_in_the_space_conditions_steps_and_logarithms_included(sampler):
    entries = play(search_spec(SPACE, sampler=sampler, trials=24), hill, num=24)
    for entry in entries:
        assert belongs(entry.proposal.params, SPACE), entry.proposal.params
        assert entry.proposal.distributions.keys() == entry.proposal.params.keys()
        again = Proposal.from_json(entry.proposal.to_json())
        assert belongs(again.params, SPACE)
    asked = [set(entry.proposal.params) for entry in entries]
    assert {"temporal.window" in names for names in asked} == {True, False}
    assert {"temporal.soft" in names for names in asked} == {True, False}
    assert {type(entry.proposal.params["speckle.classes"]) for entry in entries} == {tuple}


def test_a_sampler_that_learns_does_better_than_chance():
    means = {}
    for sampler in ("tpe", "gp", "random"):
        late = play(search_spec(SPACE, sampler=sampler, trials=40), hill, num=40)[25:]
        means[sampler] = sum(entry.values[0] for entry in late) / len(late)
    assert means["tpe"] > means["random"] + 0.2
    assert means["gp"] > means["random"] + 0.2


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("objectives", [1, 2])
def test_a_search_taken_up_after_any_proposal_goes_on_as_an_undisturbed_one(sampler, objectives):
    names = {"val/dsc": "maximize", "val/delta_snr": "minimize"}
    spec = search_spec(SPACE, sampler=sampler, trials=24, objectives=dict(list(names.items())[:objectives]))

    def score(params):
        return done(*(*hill(params)["values"], params["speckle.weight"])[:objectives])

    whole = play(spec, score, num=24)
    for kept in range(0, 24, 3):
        read_back = [
            Entry(Proposal.from_json(entry.proposal.to_json()), entry.state, entry.values) for entry in whole[:kept]
        ]
        asked = ask(spec, read_back, kept)
        assert asked.params == whole[kept].proposal.params
        assert asked.system_attrs == whole[kept].proposal.system_attrs


def test_another_seed_is_another_search():
    first, other = (play(search_spec(SPACE, seed=seed), hill, num=3)[-1].proposal.params for seed in (0, 1))
    assert first != other


def test_nsga2_keeps_its_generation_and_breeds_from_the_one_before():
    spec = search_spec((FRACTION, STAGE), sampler="nsga2", trials=24)
    entries = play(spec, lambda params: done(-abs(params["labels.fraction"] - 0.3)), num=24)
    key = "NSGAIISampler:generation"
    assert [entry.proposal.system_attrs[key] for entry in entries] == [at // 6 for at in range(24)]
    first = {entry.proposal.params["labels.fraction"] for entry in entries[:6]}
    inherited = [entry.proposal.params["labels.fraction"] in first for entry in entries[6:12]]
    assert sum(inherited) >= 3, "crossover passes settings on"
    forgetful = [Entry(Proposal(e.proposal.index, e.proposal.params, cells=e.proposal.cells), e.state, e.values)
                 for e in entries[:12]]  # fmt: skip
    assert ask(spec, forgetful, 12).system_attrs[key] == 0, "without Optuna's notes it starts over"


def test_pending_proposals_are_known_to_the_sampler():
    spec = search_spec((Dimension("speckle.weight", FloatRange(0.0, 1.0)),), trials=40)
    entries = play(spec, lambda params: done(-abs(params["speckle.weight"] - 0.5)), num=20)
    asked = ask(spec, entries, 20)
    waiting = [
        Entry(Proposal(at, asked.params, asked.distributions, asked.system_attrs, (str(at),)), State.PENDING)
        for at in range(20, 28)
    ]
    told = study_of_entries(spec, [*entries, *waiting]).trials[-1]
    assert (told.state.name, told.params) == ("RUNNING", asked.params)
    assert ask(spec, [*entries, *waiting], 28).params != ask(spec, entries, 28).params


@pytest.mark.parametrize("state", [State.FAILED, State.DIVERGED, State.REFUSED])
def test_what_has_no_score_is_told_as_fail(state):
    spec = search_spec(SIX)
    entry = Entry(Proposal(0, {"temporal.polarity": "none", "labels.fraction": 0.1}, cells=("a",)), state)
    assert study_of_entries(spec, [entry]).trials[0].state.name == "FAIL"


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_bounds_steer_the_sampler(sampler):
    weight = Dimension("speckle.weight", FloatRange(0.0, 1.0))
    space = (weight, STAGE, Dimension("temporal.window", IntRange(1, 20)))
    bounded = search_spec(space, sampler=sampler, trials=40, constraints={"val/delta_snr": Bound(high=0.3)})

    def score(params, *, violated):
        value = params["speckle.weight"]
        return done(value, violations=(value - 0.3,) if violated else ())

    late = {}
    for violated in (True, False):  # the higher the better, but above 0.3 it is out of bounds
        entries = play(bounded, lambda params, v=violated: score(params, violated=v), num=40)
        late[violated] = sum(entry.values[0] for entry in entries[25:]) / 15
    assert late[True] < late[False] - 0.15


def test_a_sampler_that_repeats_itself_is_given_an_unseen_point():
    spec = search_spec(SIX, trials=60)
    first = {"temporal.polarity": "none", "labels.fraction": 0.1}
    stuck = [Entry(Proposal(0, first, cells=("a",)), State.COMPLETE, (0.5,))]
    stuck += [
        Entry(Proposal(at, first, cells=("a",), same_as=0), State.COMPLETE, (0.5,)) for at in range(1, RE_ASKS + 1)
    ]
    asked = ask(spec, stuck, RE_ASKS + 1)
    assert asked.params != first and belongs(asked.params, SIX)
    assert asked == ask(spec, stuck, RE_ASKS + 1)


def test_a_finite_space_ends_when_every_point_is_known():
    spec = search_spec(SIX, trials=60)
    entries: list[Entry] = []
    while not why_ended(spec, entries):
        entries = play(spec, lambda params: done(params["labels.fraction"]), num=len(entries) + 1, before=entries)
    assert len({entry.proposal.cells for entry in entries}) == 6
    assert why_ended(spec, entries) == "the space holds no more than 6 different proposals"
    assert len(entries) < 60


# ---- how proposals stand


def verdicts(**metrics):
    """Cell id -> its verdict."""
    return lambda cell: metrics[cell]


def complete(**metrics):
    return CellVerdict(State.COMPLETE, {f"val/{name}": value for name, value in metrics.items()})


def one_entry(spec, *cells):
    proposal = Proposal(0, {"labels.fraction": 0.1}, cells=tuple("abc"[: len(cells)]))
    return entries_of(spec, [proposal], verdicts(**dict(zip("abc", cells, strict=False))))[0]


def test_an_objective_is_the_mean_over_the_repeats():
    entry = one_entry(search_spec(repeats=3), complete(dsc=0.1), complete(dsc=0.2), complete(dsc=0.6))
    assert entry.values == (pytest.approx(0.3),)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_repeat_without_a_finite_score_makes_the_proposal_a_bad_one(value):
    assert one_entry(search_spec(), complete(dsc=0.1), complete(dsc=value)).state is State.DIVERGED
    assert one_entry(search_spec(), complete(dsc=0.1), complete(other=0.1)).state is State.DIVERGED


@pytest.mark.parametrize("state", [State.FAILED, State.DIVERGED, State.PENDING])
def test_one_repeat_that_is_not_complete_decides(state):
    assert one_entry(search_spec(), complete(dsc=0.1), CellVerdict(state)).state is state


def test_a_failed_repeat_counts_more_than_a_pending_one():
    assert one_entry(search_spec(), CellVerdict(State.PENDING), CellVerdict(State.FAILED)).state is State.FAILED


def test_bounds_are_measured_by_how_far_they_are_broken():
    spec = search_spec(constraints={"val/hd95": Bound(1.0, 10.0)})
    inside, above = (one_entry(spec, complete(dsc=0.5, hd95=value)) for value in (4.0, 12.0))
    assert inside.violations == (-6.0, -3.0) and inside.is_feasible
    assert above.violations == (2.0, -11.0) and not above.is_feasible
    assert one_entry(spec, complete(dsc=0.5)).state is State.DIVERGED


def scored(index, *values, violations=(), same_as=None):
    return Entry(Proposal(index, {"labels.fraction": index / 10}, cells=(str(index),), same_as=same_as),
                 State.COMPLETE, values, violations)  # fmt: skip


def test_the_winner_is_the_best_feasible_proposal_and_the_first_of_equals():
    entries = [
        scored(0, 0.5),
        scored(1, 0.9, violations=(0.1,)),
        scored(2, 0.7),
        scored(3, 0.7),
        scored(4, 0.7, same_as=2),
    ]
    assert [e.proposal.index for e in winners(search_spec(), entries)] == [2]
    lowest = search_spec(objectives={"val/hd95": "minimize"})
    assert [e.proposal.index for e in winners(lowest, entries)] == [0]
    assert winners(search_spec(), entries[1:2]) == ()


def test_with_two_objectives_the_feasible_front_wins():
    spec = search_spec(objectives={"val/dsc": "maximize", "val/delta_snr": "minimize"})
    entries = [
        scored(0, 0.9, 0.5), scored(1, 0.8, 0.2), scored(2, 0.8, 0.3), scored(3, 0.5, 0.1),
        scored(4, 1.0, 0.0, violations=(1.0,)), scored(5, 0.5, 0.1), scored(6, 0.4, 0.4),
    ]  # fmt: skip
    assert [e.proposal.index for e in winners(spec, entries)] == [0, 1, 3, 5]


def test_failures_in_a_row_pause_a_search_and_divergence_does_not():
    failed = [Entry(Proposal(at, {"labels.fraction": 0.1}, cells=(str(at),)), State.FAILED) for at in range(5)]
    assert not why_paused(failed[:4])
    assert why_paused(failed)
    diverged = Entry(Proposal(9, {"labels.fraction": 0.1}, cells=("9",)), State.DIVERGED)
    assert not why_paused([*failed[:4], diverged])


def test_a_point_is_of_a_space_only_with_exactly_its_settings_and_values():
    whole = {"temporal.polarity": "none", "labels.fraction": 0.5}
    assert belongs(whole, (POLARITY, FRACTION))
    assert not belongs(whole, (POLARITY,))
    assert not belongs({"temporal.polarity": "none"}, (POLARITY, FRACTION))
    assert not belongs(whole | {"labels.fraction": 1.5}, (POLARITY, FRACTION))
    assert not belongs(whole | {"temporal.polarity": "sideways"}, (POLARITY, FRACTION))
    assert not belongs({"temporal.window": 3}, (Dimension("temporal.window", IntRange(1, 9, step=3)),))
    assert not belongs({"temporal.soft": 1}, (Dimension("temporal.soft", Choice((True, False))),))
