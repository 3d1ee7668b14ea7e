"""Resume points: the newest two of each attempt, the furthest whole one is used, a torn one never (T7)."""

import logging

import pytest
from store_damage import DAMAGES, REF

from uscl.store.stages import ProgressPoint, StageStore


def save(store, step, attempt="one"):
    files = {"model.safetensors": b"model %d of " % step + attempt.encode(), "state.json": b"{}"}
    store.save_progress(REF, attempt=attempt, step=step, files=files)
    return ProgressPoint(step, attempt, files)


def point_folder(store, step, attempt="one"):
    return store.root / "stages" / "encoder" / REF.key / "progress" / attempt / f"{step:012d}"


def test_the_newest_two_of_each_attempt_are_kept(tmp_path):
    store = StageStore(tmp_path)
    for step in (5, 10, 100, 1000):
        last = save(store, step)
    save(store, 7, attempt="two")
    assert store.load_progress(REF) == last
    assert [path.name for path in sorted(point_folder(store, 0).parent.iterdir())] == ["000000000100", "000000001000"]
    assert point_folder(store, 7, "two").is_dir()
    assert not store.has(REF)


def test_the_furthest_point_of_any_attempt_is_found(tmp_path):
    store = StageStore(tmp_path)
    further = save(store, 30, attempt="one")
    save(store, 20, attempt="two")
    assert store.load_progress(REF) == further
    store.clear_progress(REF, attempt="one")
    assert store.load_progress(REF).attempt == "two"
    store.clear_progress(REF, attempt="two")
    store.clear_progress(REF, attempt="two")
    assert store.load_progress(REF) is None


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "progress.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_resume_point_falls_back_to_the_previous_one(tmp_path, caplog, damage, name):
    store = StageStore(tmp_path)
    previous = save(store, 10)
    save(store, 20)
    DAMAGES[damage](point_folder(store, 20) / name)
    assert store.load_progress(REF) == previous
    # without its listing a point was never finished: nothing to report
    expected = [] if (name, damage) == ("progress.json", "missing") else [logging.WARNING]
    assert [record.levelno for record in caplog.records] == expected
    assert save(store, 30) == store.load_progress(REF)


def test_a_listing_cut_at_every_byte_falls_back(tmp_path):
    store = StageStore(tmp_path)
    previous = save(store, 10)
    latest = save(store, 20)
    path = point_folder(store, 20) / "progress.json"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert store.load_progress(REF) == previous, cut
    path.write_bytes(whole)
    assert store.load_progress(REF) == latest


def test_a_listing_with_stray_names_is_not_followed(tmp_path):
    store = StageStore(tmp_path)
    save(store, 10)
    path = point_folder(store, 10) / "progress.json"
    path.write_text(path.read_text().replace("state.json", "../state.json"))
    (path.parent / "state.json").rename(path.parent.parent / "state.json")
    assert store.load_progress(REF) is None


def test_saving_one_step_again_replaces_it(tmp_path):
    store = StageStore(tmp_path)
    save(store, 10)
    store.save_progress(REF, attempt="one", step=10, files={"model.safetensors": b"again"})
    assert store.load_progress(REF) == ProgressPoint(10, "one", {"model.safetensors": b"again"})
