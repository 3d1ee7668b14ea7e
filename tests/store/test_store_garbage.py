"""What of a store may go: exactly that, and nothing younger than a day."""

import os
from pathlib import Path

import pytest

from uscl.errors import LeaseHeld, StoreError
from uscl.records import CellPlan, Outcome, StageRef
from uscl.store.files import Files
from uscl.store.garbage import Waste, all_leases, declared_stages, delete, find_garbage, sweep_folders
from uscl.store.stages import StageStore
from uscl.store.strict_json import encode_json
from uscl.store.sweeps import SweepFolder

NOW_S = 2_000_000_000.0
DAY_S = 24 * 3600.0


def ref(kind, letter):
    return StageRef(kind, letter * 64)


def cell(number, *refs, namespace=""):
    stages = {each.kind: each for each in refs}
    return CellPlan(number, refs[-1].key, f"cell {number}", {}, {}, stages, namespace=namespace)


def publish(store, stage, *, attempt="won"):
    store.publish(
        stage, attempt=attempt, files={"weights.safetensors": b"w" * 100}, outcome=Outcome.DONE, inputs={},
        parent=None, metrics={}, flags=(), provenance={},
    )  # fmt: skip


def leave(store, stage, *, attempt="dead"):
    """What a killed trial leaves: half an attempt, and resume points."""
    Files(store.root / "unshared" / store.namespace if store.namespace else store.root).write(
        f"stages/{stage.kind}/{stage.key}/{attempt}/weights.safetensors", b"w" * 10
    )
    store.save_progress(stage, attempt=attempt, step=1, files={"weights.safetensors": b"w" * 10})


def age(root: Path, seconds: float) -> None:
    for path in (root, *root.rglob("*")):
        os.utime(path, (NOW_S - seconds, NOW_S - seconds))


@pytest.fixture
def store(tmp_path):
    """One sweep of two cells, of which one is finished; a cell that no sweep declares; leavings at every stage."""
    store = StageStore(tmp_path)
    folder = SweepFolder(tmp_path, "grid")
    folder.write_sweep({"name": "grid"})
    folder.write_cells([cell(1, ref("encoder", "a"), ref("finetune", "b")), cell(2, ref("finetune", "c"))])
    for stage in (ref("encoder", "a"), ref("finetune", "b"), ref("finetune", "d")):
        publish(store, stage)
        leave(store, stage)
    leave(store, ref("finetune", "c"))  # declared, under way
    leave(store, ref("finetune", "e"))  # undeclared, unfinished
    Files(tmp_path).write("torn/x-encoder-f/manifest.json", b"{")
    (tmp_path / "stages" / "encoder" / ("a" * 64) / ".manifest.json.12-0123abcd").write_bytes(b"half")
    (tmp_path / "sweeps" / "grid" / ".cells.json.99-0123abcd").write_bytes(b"half")
    Files(tmp_path).write("data/phantom/.x.12-0123abcd", b"a dataset's own business")
    Files(tmp_path).write("mlflow.db", b"sqlite")
    age(tmp_path, 2 * DAY_S)
    return store


def found(root, **options):
    declared = declared_stages(sweep_folders(root))
    return find_garbage(Files(root), declared, now_s=NOW_S, **options)


def named(garbage, waste):
    return {each.name.removeprefix("stages/") for each in garbage if each.waste is waste}


def test_exactly_the_leavings_are_found(store):
    garbage = found(store.root)
    keys = {letter: letter * 64 for letter in "abcde"}
    encoder, b, c, d, e = (f"{'encoder' if x == 'a' else 'finetune'}/{key}" for x, key in keys.items())
    assert named(garbage, Waste.ATTEMPT) == {f"{each}/dead" for each in (encoder, b, c, d, e)}
    assert named(garbage, Waste.PROGRESS) == {f"{each}/progress/dead" for each in (encoder, b, d, e)}  # not c: declared
    assert named(garbage, Waste.TORN) == {"torn/x-encoder-f"}
    assert named(garbage, Waste.ASIDE) == {
        f"{encoder}/.manifest.json.12-0123abcd",
        "sweeps/grid/.cells.json.99-0123abcd",
    }
    assert named(garbage, Waste.UNREFERENCED) == {d}


def test_deleting_all_of_it_keeps_exactly_what_a_sweep_needs(store):
    before = Files(store.root).size(".")
    garbage = found(store.root)
    delete(Files(store.root), garbage)
    assert before - Files(store.root).size(".") == sum(each.num_bytes for each in garbage)
    assert store.read(ref("encoder", "a"), "weights.safetensors") and store.has(ref("finetune", "b"))
    assert store.load_progress(ref("finetune", "c")).step == 1
    assert not store.has(ref("finetune", "d"))
    assert Files(store.root).list("stages/finetune") == ["b" * 64, "c" * 64]
    assert (store.root / "data/phantom/.x.12-0123abcd").exists() and (store.root / "mlflow.db").exists()
    assert found(store.root) == []


@pytest.mark.parametrize("seconds, goes", [(DAY_S - 60, False), (DAY_S + 60, True)])
def test_what_was_touched_within_a_day_stays(store, seconds, goes):
    age(store.root, seconds)
    assert bool(found(store.root)) is goes


def test_one_fresh_file_keeps_its_attempt_and_an_unreferenced_stage(store):
    fresh = store.root / "stages" / "finetune" / ("d" * 64) / "progress" / "dead" / f"{1:012d}" / "weights.safetensors"
    os.utime(fresh, (NOW_S, NOW_S))
    kept = {f"finetune/{'d' * 64}/progress/dead", f"finetune/{'d' * 64}"}
    assert not kept & {each.name.removeprefix("stages/") for each in found(store.root)}


def test_a_longer_limit_keeps_more(store):
    assert found(store.root, older_than_s=3 * DAY_S) == []


def test_corners_of_cells_that_share_nothing_are_judged_by_their_own_declarations(tmp_path):
    corner, shared = StageStore(tmp_path, namespace="n1"), StageStore(tmp_path)
    publish(corner, ref("encoder", "a"))
    publish(shared, ref("encoder", "a"))
    leave(corner, ref("finetune", "b"))
    SweepFolder(tmp_path, "own").write_cells([cell(1, ref("encoder", "a"), ref("finetune", "c"), namespace="n1")])
    age(tmp_path, 2 * DAY_S)
    assert {each.name for each in found(tmp_path)} == {
        f"stages/encoder/{'a' * 64}",
        f"unshared/n1/stages/finetune/{'b' * 64}/dead",
        f"unshared/n1/stages/finetune/{'b' * 64}/progress/dead",
    }


def test_a_proposal_declares_its_cells_and_a_cut_last_line_none(store):
    folder = store.root / "sweeps" / "grid"
    record = encode_json({"index": 0, "cells": [cell(3, ref("finetune", "d")).to_json()]})
    (folder / "proposals.jsonl").write_bytes(record + b"\n" + record[: len(record) // 2])
    assert named(found(store.root), Waste.UNREFERENCED) == set()
    (folder / "proposals.jsonl").write_bytes(record[: len(record) // 2] + b"\n" + record)
    with pytest.raises(StoreError, match=r"grid/proposals.jsonl: record 1 is torn"):
        found(store.root)


@pytest.mark.parametrize("damage", [b"", b"[{", None])
def test_a_sweep_whose_cells_cannot_be_read_stops_everything(store, damage):
    cells = store.root / "sweeps" / "grid" / "cells.json"
    cells.unlink() if damage is None else cells.write_bytes(damage)
    with pytest.raises(StoreError, match="grid"):
        found(store.root)


def test_a_folder_that_a_first_start_left_empty_declares_nothing(store):
    SweepFolder(store.root, "began").acquire_lease().release()
    assert declared_stages(sweep_folders(store.root)) == declared_stages([SweepFolder(store.root, "grid")])


def test_a_torn_manifest_keeps_the_stage_and_is_said(store):
    manifest = store.root / "stages" / "finetune" / ("d" * 64) / "manifest.json"
    manifest.write_bytes(b"{")
    age(store.root, 2 * DAY_S)
    said = []
    assert not [each for each in found(store.root, tell=said.append) if "d" * 64 in each.name]
    assert said == ["stage finetune/dddddddddd: its manifest is torn; kept, the next start rebuilds it"]
    assert manifest.exists()


def test_a_live_lease_of_any_sweep_is_refused_by_name(store):
    SweepFolder(store.root, "another").write_cells([])
    with (
        SweepFolder(store.root, "another").acquire_lease(),
        pytest.raises(LeaseHeld, match="sweep another is being run"),
        all_leases(sweep_folders(store.root)),
    ):
        pass
    with all_leases(sweep_folders(store.root)), pytest.raises(LeaseHeld):
        SweepFolder(store.root, "grid").acquire_lease()
