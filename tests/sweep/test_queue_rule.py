"""The queue against its rule, written down as simply as can be: everything worked out anew at every call."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from uscl.sweep.failures import MAX_DEATHS
from uscl.sweep.queue import CellQueue, CellState, QueueCell, Turn


class Rule:
    """What `CellQueue` must answer. O(cells) per call."""

    def __init__(self, cells, *, present, diverged=(), slots=None):
        self.cells = {}
        self.present, self.diverged, self.slots = set(present), set(diverged), slots
        self.held, self.deaths, self.live, self.draining = set(), Counter(), {}, False
        self.add(cells)

    def add(self, cells):
        self.cells |= {cell.cell: cell for cell in cells}

    def widen(self, name, evaluated):
        cell = self.cells[name]
        more = tuple(link for link in evaluated if link not in cell.evaluated)
        self.cells[name] = replace(cell, evaluated=cell.evaluated + more)

    def missing(self, name):
        cell = self.cells[name]
        needed = [link for link in cell.evaluated if link not in self.present]
        for link in reversed(cell.trained) if needed else ():
            if link in self.present:
                if link in self.diverged:
                    return ()
                break
            needed.insert(0, link)
        return tuple(needed)

    def state(self, name):
        if name in self.live.values():
            return CellState.RUNNING
        missing = self.missing(name)
        if not missing:
            return CellState.FINISHED
        return CellState.HELD if self.held.intersection(missing) else CellState.WAITING

    def waiting(self):
        return [name for name in self.cells if self.state(name) is CellState.WAITING]

    def take(self, trial):
        waiting = [] if self.draining else self.waiting()
        if not waiting and not self.live:
            return Turn.FINISHED
        claimed = {link for name in self.live.values() for link in self.missing(name)}
        ready = [name for name in waiting if self.missing(name)[0] not in claimed]
        if not ready or (self.slots is not None and len(self.live) >= self.slots):
            return Turn.WAIT
        demand = Counter(link for name in waiting for link in self.missing(name))
        order = list(self.cells)
        self.live[trial] = min(
            ready,
            key=lambda name: (self.cells[name].block, [-demand[x] for x in self.missing(name)], order.index(name)),
        )
        return self.live[trial]

    def published(self, link, *, diverged=False):
        before = self.waiting() if diverged else []
        self.present.add(link)
        self.diverged |= {link} if diverged else set()
        return tuple(name for name in before if not self.missing(name))

    def end(self, trial, *, failure=None, absent=()):
        name = self.live.pop(trial, None)
        if name is not None and failure is not None:
            missing = self.missing(name)
            link = missing[0] if missing else self.cells[name].trained[-1]
            self.deaths[link] += failure != "full"
            if failure in ("error", "oom") or (failure != "full" and self.deaths[link] >= MAX_DEATHS):
                self.held.add(link)
        if name is not None:
            self.present.difference_update(absent)
        return name

    def drain(self):
        self.draining = True


@st.composite
def cells(draw, first=0, most=10):
    """Chains over few links, so that much is shared: also such that no sweep makes, a fine-tune under two decoders."""
    found = []
    for number in range(first, first + draw(st.integers(1, most))):
        encoder, decoder = draw(st.sampled_from("EFG")), draw(st.sampled_from("ST"))
        decoder = decoder if draw(st.integers(0, 3)) == 0 else encoder + decoder
        finetune = draw(st.sampled_from(["x", "y", f"{decoder}{number}", f"{decoder}{number}"]))
        trained = (f"e/{encoder}", f"d/{decoder}", f"f/{finetune}")[draw(st.sampled_from([0, 0, 0, 1, 2])) :]
        evaluated = tuple(f"v/{part}-{finetune}" for part in "vt"[: draw(st.integers(1, 2))])
        found.append(QueueCell(f"{number}", draw(st.integers(0, 2)), trained, evaluated))
    return found


class Both:
    """The queue and its rule, told the same; their answers must be the same."""

    def __init__(self, cells, **options):
        self.queue, self.rule = CellQueue(cells, **options), Rule(cells, **options)
        self.trials = 0

    def same(self, method, *args, **kwargs):
        answer, expected = (getattr(one, method)(*args, **kwargs) for one in (self.queue, self.rule))
        assert answer == expected, (method, args, kwargs)
        return answer

    def compare(self):
        for name in self.rule.cells:
            assert self.queue.state(name) is self.rule.state(name)
            assert self.queue.missing(name) == self.rule.missing(name)
        assert self.queue.live == self.rule.live


def links_of(rule):
    return sorted({link for cell in rule.cells.values() for link in (*cell.trained, *cell.evaluated)})


def act(both, draw):
    """One random thing that may happen to a queue."""
    what = draw(st.sampled_from(["take"] * 4 + ["publish next"] * 4 + ["publish any", "end", "fail", "add", "widen"]))
    live = sorted(both.rule.live)
    if what == "take":
        both.trials += 1
        both.same("take", f"t{both.trials}")
    elif what == "publish any":
        both.same("published", draw(st.sampled_from(links_of(both.rule))), diverged=draw(st.booleans()))
    elif what == "add":
        both.same("add", draw(cells(first=len(both.rule.cells), most=3)))
    elif what == "widen":
        name = draw(st.sampled_from(sorted(both.rule.cells)))
        both.same("widen", name, (f"v/t-{name}", f"v/more-{name}"))
    elif live:
        trial = draw(st.sampled_from(live))
        missing = both.rule.missing(both.rule.live[trial])
        if what == "publish next" and missing:
            both.same("published", missing[0], diverged=draw(st.integers(0, 7)) == 0)
        elif what == "fail":
            absent = draw(st.lists(st.sampled_from(links_of(both.rule)), max_size=2))
            both.same(
                "end", trial, failure=draw(st.sampled_from(["lost", "store", "error", "oom", "full"])), absent=absent
            )
        else:
            both.same("end", trial)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_queue_answers_as_its_rule_does(data: st.DataObject):
    known = data.draw(cells())
    links = sorted({link for cell in known for link in (*cell.trained, *cell.evaluated)})
    present = data.draw(st.sets(st.sampled_from(links), max_size=3))
    diverged = [link for link in sorted(present) if data.draw(st.integers(0, 4)) == 0]
    slots = data.draw(st.sampled_from([None, 1, 3]))
    both = Both(known, present=present, diverged=diverged, slots=slots)
    for _ in range(data.draw(st.integers(5, 40))):
        act(both, data.draw)
        both.compare()
    if data.draw(st.booleans()):
        both.same("drain")
    for number in range(200):
        if both.same("take", f"last{number}") is Turn.FINISHED:
            return
        if both.rule.live:
            trial = sorted(both.rule.live)[0]
            for link in both.rule.missing(both.rule.live[trial]):
                both.same("published", link)
            both.same("end", trial)


def chains(num_cells, num_encoders):
    """A grid: cells of one encoder share it and one decoder."""
    found = []
    for number in range(num_cells):
        shared = number % num_encoders
        trained = (f"e/{shared}", f"d/{shared}", f"f/{number}")
        found.append(QueueCell(f"{number}", 0, trained, (f"v/{number}", f"t/{number}")))
    return found


class Counting(CellQueue):
    """Counts how often a cell is looked at."""

    looks = 0

    def _update(self, place):
        self.looks += 1
        super()._update(place)

    def _rank(self, place):
        self.looks += 1
        return super()._rank(place)


def run(queue, slots):
    """To the end, with so many slots; how many times a slot asked."""
    live, asked = [], 0
    while True:
        asked += 1
        turn = queue.take(f"{asked}")
        if turn is Turn.FINISHED:
            return asked
        if not isinstance(turn, Turn):
            live.append(f"{asked}")
        if len(live) == slots or turn is Turn.WAIT:
            trial = live.pop(0)
            cell = queue.cell_of(trial)
            queue.published(queue.missing(cell)[0])
            if queue.missing(cell):
                live.append(trial)
            else:
                queue.end(trial)


def test_thousands_of_cells_cost_a_few_looks_each():
    for num_encoders in (1, 100, 2_000):
        queue = Counting(chains(2_000, num_encoders), present=())
        asked = run(queue, 64)
        assert queue.looks < 40 * 2_000, (num_encoders, queue.looks)
        assert asked < 6 * 2_000 + 10
        assert {queue.state(f"{n}") for n in range(2_000)} == {CellState.FINISHED}
