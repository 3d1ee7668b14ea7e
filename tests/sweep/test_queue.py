"""The queue against a simulation of slots, deaths and bugs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uscl.sweep.failures import MAX_DEATHS
from uscl.sweep.queue import CellQueue, CellState, QueueCell, Turn


def cell(name: str, encoder: str, decoder: str, *, block: int = 0) -> QueueCell:
    """A cell with a shared encoder and decoder and a fine-tune of its own."""
    trained = (f"encoder/{encoder}", f"decoder/{decoder}", f"finetune/{name}")
    return QueueCell(name, block, trained, (f"evaluate/val-{name}", f"evaluate/test-{name}"))


GRID = [cell("a", "E", "D"), cell("b", "E", "D"), cell("c", "F", "G"), cell("d", "E", "H")]


def finish(queue: CellQueue, trial: str) -> None:
    """Publish all that the trial's cell misses, then end it."""
    for link in queue.missing(queue.cell_of(trial)):
        queue.published(link)
    queue.end(trial)


def test_a_cell_waits_while_its_first_missing_stage_is_claimed():
    queue = CellQueue(GRID, present=())
    assert queue.take("1") == "a"
    assert queue.take("2") == "c"
    assert queue.take("3") is Turn.WAIT
    queue.published("encoder/E")
    assert queue.take("3") == "d", "decoder D is still claimed by trial 1"
    queue.published("decoder/D")
    assert queue.take("4") == "b"
    assert queue.take("5") is Turn.WAIT


def test_the_cell_that_unlocks_most_goes_first_and_whole_seed_blocks_before_it():
    cells = [cell("x", "X", "X"), cell("a", "E", "D"), cell("b", "E", "D"), cell("late", "E", "D", block=1)]
    queue = CellQueue(cells, present=())
    assert [queue.take("1"), queue.take("2")] == ["a", "x"]
    later = [cell("y", "Y", "Y", block=1), *[cell(f"z{n}", "Z", "Z", block=1) for n in range(5)], cell("x", "X", "X")]
    assert CellQueue(later, present=()).take("1") == "x"


def test_finished_only_when_nothing_is_live_and_nothing_left():
    queue = CellQueue(GRID[:1], present=())
    assert queue.take("1") == "a"
    assert queue.take("2") is Turn.WAIT
    finish(queue, "1")
    assert queue.take("2") is Turn.FINISHED


def test_what_is_missing_is_found_from_the_end_of_the_chain():
    queue = CellQueue(GRID[:1], present=("finetune/a",))
    assert queue.missing("a") == ("evaluate/val-a", "evaluate/test-a")
    assert CellQueue(GRID[:1], present=("encoder/E",)).missing("a")[0] == "decoder/D"
    both = CellQueue(GRID[:1], present=("evaluate/val-a", "evaluate/test-a"))
    assert both.missing("a") == () and both.state("a") is CellState.FINISHED


def test_a_bug_holds_back_every_cell_above_the_failing_stage_and_no_other():
    queue = CellQueue(GRID, present=())
    queue.take("1")
    queue.published("encoder/E")
    assert queue.end("1", failure="error") == "a"
    assert [queue.state(name) for name in "abcd"] == [
        CellState.HELD,
        CellState.HELD,
        CellState.WAITING,
        CellState.WAITING,
    ]


def test_infrastructure_deaths_are_retried_until_the_third():
    queue = CellQueue(GRID[:1], present=())
    for attempt in range(MAX_DEATHS):
        assert queue.take(str(attempt)) == "a"
        queue.end(str(attempt), failure="lost")
    assert queue.take("last") is Turn.FINISHED
    assert queue.state("a") is CellState.HELD


def test_deaths_are_counted_per_stage_so_progress_clears_the_count():
    queue = CellQueue(GRID[:1], present=())
    for attempt, link in enumerate(GRID[0].trained):
        queue.take(str(attempt))
        queue.end(str(attempt), failure="lost")
        queue.published(link)
    assert queue.state("a") is CellState.WAITING


def test_a_diverged_stage_finishes_the_waiting_cells_above_it_without_a_trial():
    queue = CellQueue(GRID, present=())
    queue.take("1")
    assert queue.published("encoder/E", diverged=True) == ("b", "d")
    queue.end("1")
    assert queue.take("2") == "c"
    finish(queue, "2")
    assert queue.take("3") is Turn.FINISHED


def test_a_torn_stage_is_missing_again():
    queue = CellQueue(GRID[:1], present=("encoder/E", "decoder/D"))
    queue.take("1")
    queue.end("1", failure="store", absent=("decoder/D",))
    assert queue.missing("a")[0] == "decoder/D" and queue.take("2") == "a"


def test_a_trial_that_tune_forgot_is_lost_after_three_looks():
    queue = CellQueue(GRID[:2], present=())
    queue.take("1")
    assert queue.lost({"1": True}) == queue.lost({}) == queue.lost({"1": False}) == ()
    assert queue.lost({}) == ("1",)
    queue.end("1", failure="lost")
    assert queue.take("2") == "a"


def test_draining_hands_out_nothing_and_ends_with_the_last_live_trial():
    queue = CellQueue(GRID, present=())
    queue.take("1")
    queue.drain()
    assert queue.take("2") is Turn.WAIT
    queue.end("1")
    assert queue.take("2") is Turn.FINISHED
    assert queue.state("a") is CellState.WAITING


def test_ending_twice_is_harmless():
    queue = CellQueue(GRID[:1], present=())
    queue.take("1")
    assert queue.end("1", failure="lost") == "a"
    assert queue.end("1", failure="lost") is None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_schedule_trains_each_stage_once_and_ends(data: st.DataObject):
    """Random grids, slots, deaths: no stage is under two trials at once, and every cell is finished or held."""
    names = data.draw(st.lists(st.tuples(st.sampled_from("EF"), st.sampled_from("GH")), min_size=1, max_size=8))
    cells = [cell(f"{n}", e, e + d, block=n % 2) for n, (e, d) in enumerate(names)]
    queue, trained, counter = CellQueue(cells, present=()), [], 0
    for _ in range(500):
        counter += 1
        turn = queue.take(str(counter))
        if turn is Turn.FINISHED:
            break
        owners = [queue.missing(name) for name in queue.live.values()]
        working = [links[0] for links in owners if links]
        assert len(working) == len(set(working))
        assert queue.live, "WAIT with nothing live would wait for ever"
        trial = data.draw(st.sampled_from(sorted(queue.live)))
        links = queue.missing(queue.live[trial])
        if data.draw(st.integers(0, 5)) == 0:
            queue.end(trial, failure=data.draw(st.sampled_from(["lost", "error"])))
            continue
        trained.append(links[0])
        queue.published(links[0])
        if len(links) == 1:
            queue.end(trial)
    else:
        pytest.fail("the queue never ended")
    assert len(trained) == len(set(trained))
    assert {queue.state(c.cell) for c in cells} <= {CellState.FINISHED, CellState.HELD}
