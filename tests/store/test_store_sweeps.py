"""A sweep's folder: sweep.yaml, cells.json, events.jsonl, logs, and the lookup of a cell."""

import errno
import logging
import math
import os
import re

import pytest

from uscl.errors import SpecError, StoreError
from uscl.records import CellPlan, DatasetFacts, Progress, StageRef, event_from_json, event_to_json
from uscl.store.files import StoreFull
from uscl.store.sweeps import SweepFolder, find_cell, list_sweeps


def cell(number, cell_id):
    stages = {"finetune": StageRef("finetune", cell_id)}
    return CellPlan(number, cell_id, f"cell {number}", {"seed": number}, {"seed": number, "lr": 1e-4}, stages)


CELLS = (cell(1, "12ab" * 16), cell(2, "12cd" * 16), cell(30, "1f00" * 16), cell(4, "beef" * 16))
EVENTS = [{"event": "Progress", "step": step, "values": {"loss": step / 7}} for step in range(4)]


# ---- sweep.yaml and cells.json


def test_the_resolved_sweep_round_trips(tmp_path):
    folder = SweepFolder(tmp_path, "temporal-paper")
    assert folder.read_sweep() is None
    document = {"name": "temporal", "recipe": "paper", "lr": 1e-5, "rows": [{"label": "kidney: è"}], "none": None}
    folder.write_sweep(document)
    assert SweepFolder(tmp_path, "temporal-paper").read_sweep() == document
    assert folder.path == tmp_path / "sweeps" / "temporal-paper"
    assert "kidney: è" in (folder.path / "sweep.yaml").read_text()


def test_what_is_known_of_the_dataset_round_trips(tmp_path, caplog):
    folder = SweepFolder(tmp_path, "temporal")
    assert folder.read_dataset() == DatasetFacts(), "an older release kept nothing"
    facts = DatasetFacts("kidney", {"dsc": 0.836}, "group", {"c0": "g"})
    folder.write_dataset(facts)
    assert SweepFolder(tmp_path, "temporal").read_dataset() == facts
    for torn in ('{"name": "kid', '{"other": 3}'):
        (folder.path / "dataset.json").write_text(torn)
        assert folder.read_dataset() == DatasetFacts()
        assert "dataset.json is torn" in caplog.text


def test_a_longer_grid_may_be_written_over_it(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    folder.write_sweep({"recipe": "demo", "data": "phantom", "grid": {"seed": [0]}})
    folder.write_sweep({"recipe": "demo", "data": "phantom", "grid": {"seed": [0, 1]}})
    assert folder.read_sweep()["grid"] == {"seed": [0, 1]}


@pytest.mark.parametrize("about", ["recipe", "dataset_fingerprint"])
def test_another_recipe_or_dataset_is_refused(tmp_path, about):
    folder = SweepFolder(tmp_path, "temporal")
    folder.write_sweep({about: "demo"})
    with pytest.raises(StoreError) as caught:
        folder.write_sweep({about: "paper"})
    assert str(caught.value) == (
        f"{folder.path}: holds a sweep with {about} 'demo', this one has 'paper'; "
        "give this one another name with --name"
    )
    assert folder.read_sweep() == {about: "demo"}


def test_a_moved_dataset_is_the_same_dataset(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    folder.write_sweep({"data": "/old/liver", "dataset_fingerprint": "ab"})
    folder.write_sweep({"data": "/new/liver", "dataset_fingerprint": "ab"})
    assert folder.read_sweep()["data"] == "/new/liver"


@pytest.mark.parametrize("content", [b"", b"a: [", b"just text", b"\xff\xff"])
def test_a_torn_sweep_counts_as_absent(tmp_path, caplog, content):
    folder = SweepFolder(tmp_path, "temporal")
    folder.write_sweep({"recipe": "demo"})
    (folder.path / "sweep.yaml").write_bytes(content)
    assert folder.read_sweep() is None
    assert "is torn" in caplog.text
    folder.write_sweep({"recipe": "paper"})
    assert folder.read_sweep() == {"recipe": "paper"}


def test_cells_round_trip(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    with pytest.raises(StoreError, match="no such sweep in this store; has it been run, with this --store"):
        folder.read_cells()
    folder.write_cells(CELLS)
    assert folder.read_cells() == CELLS
    path = folder.path / "cells.json"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StoreError, match=r"cells\.json is torn"):
        folder.read_cells()


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "a\n"])
def test_names_that_cannot_be_a_folder(tmp_path, name):
    with pytest.raises(SpecError, match="use letters, digits"):
        SweepFolder(tmp_path, name)


def test_sweeps_are_listed_once_started(tmp_path):
    assert list_sweeps(tmp_path) == ()
    for name in ("b", "a"):
        SweepFolder(tmp_path, name).write_sweep({"recipe": "demo"})
    SweepFolder(tmp_path, "never").log_path("c", "1")
    (tmp_path / "sweeps" / "a note.txt").write_text("")
    assert [folder.identity for folder in list_sweeps(tmp_path)] == ["a", "b"]


# ---- events (T8)


def test_events_come_back_in_order(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    assert folder.read_events() == []
    progress = Progress("encoder", "ab", 10, 200, 12.5, {"encoder/loss": math.inf}, 5)
    for event in [*EVENTS, event_to_json(progress)]:
        folder.append_event(event)
    *first, last = SweepFolder(tmp_path, "temporal").read_events()
    assert first == EVENTS
    assert event_from_json(last) == progress


def test_the_last_event_cut_at_every_byte(tmp_path, caplog):
    folder = SweepFolder(tmp_path, "temporal")
    path = folder.path / "events.jsonl"
    for event in EVENTS:
        folder.append_event(event)
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = EVENTS if cut >= len(whole) - 1 else EVENTS[:-1]
        caplog.clear()
        assert folder.read_events() == kept, cut
        torn = start < cut < len(whole) - 1
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * torn
        folder.append_event({"event": "next"})
        assert folder.read_events() == [*kept, {"event": "next"}], cut


def test_torn_lines_in_the_middle_are_counted(tmp_path, caplog):
    folder = SweepFolder(tmp_path, "temporal")
    folder.append_event(EVENTS[0])
    path = folder.path / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": \n\0\0\0\n[1, 2]\n\n')
    folder.append_event(EVENTS[1])
    assert folder.read_events() == EVENTS[:2]
    assert "3 torn lines left out" in caplog.text


def test_a_disk_that_fills_up_within_a_record(tmp_path, monkeypatch):
    folder = SweepFolder(tmp_path, "temporal")
    folder.append_event(EVENTS[0])
    write = os.write

    def half(descriptor, content):
        monkeypatch.setattr(os, "write", full)
        return write(descriptor, content[:10])

    def full(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(StoreFull, match=r"events\.jsonl: no space left"):
        folder.append_event(EVENTS[1])
    monkeypatch.setattr(os, "write", write)
    folder.append_event(EVENTS[2])
    assert folder.read_events() == [EVENTS[0], EVENTS[2]]


def test_logs_of_a_cell_by_attempt(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    assert folder.logs("aa") == []
    for name in (("aa", "2"), ("aa", "1"), ("ab", "1")):
        folder.log_path(*name).write_text("")
    assert [path.name for path in folder.logs("aa")] == ["aa-1.log", "aa-2.log"]


def test_files_of_the_report(tmp_path):
    folder = SweepFolder(tmp_path, "temporal")
    assert folder.read_report("table.md") is None and not folder.has_report("table.md")
    folder.write_report("table.md", b"| a |")
    assert folder.read_report("table.md") == b"| a |" and folder.has_report("table.md")


# ---- which cell is meant


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("30", 30), ("12a", 1), ("12AB", 1), ("beef" * 16, 4), ("1f", 30)]
)
def test_a_number_or_the_start_of_an_id(text, number):
    assert find_cell(CELLS, text).number == number


def test_two_ids_that_begin_alike():
    cells = (cell(1, "12ab" * 16), cell(2, "12ac" * 16))
    with pytest.raises(SpecError, match=re.escape("cell '12a' could be any of 2: 1 (12ab12a), 2 (12ac12a); give more")):
        find_cell(cells, "12a")


def test_a_number_comes_before_an_id():
    cells = (*CELLS, cell(12, "00" * 32))
    assert find_cell(cells, "12").number == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("99", "no cell '99': give a number that `uscl check` prints or the start of an id (numbers go from 1 to 30)"),
        ("", "no cell '': give a number that `uscl check` prints or the start of an id (numbers go from 1 to 30)"),
        ("12", "no cell '12': give a number that `uscl check` prints or the start of an id (numbers go from 1 to 30)"),
    ],
)
def test_no_cell_or_several(text, message):
    with pytest.raises(SpecError) as caught:
        find_cell(CELLS, text)
    assert str(caught.value) == message
