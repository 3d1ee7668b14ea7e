"""StageStore in one process: publish, read, torn stages, namespaces."""

import logging
import math

import pytest
from store_damage import DAMAGES, REF

from uscl.errors import StoreError
from uscl.records import Outcome, ParentRef, StageManifest, StageRef
from uscl.store.stages import StageStore, TornStage, new_attempt

WEIGHTS = bytes(range(256)) * 40


def publish(store, ref=REF, *, attempt="one", files=None, **changes):
    fields = {
        "outcome": Outcome.DONE,
        "inputs": {"lr": 1e-3, "widths": [16, 32]},
        "parent": None,
        "metrics": {"encoder/loss": 0.5},
        "flags": (),
        "provenance": {"host": "a"},
    }
    files = {"weights.safetensors": WEIGHTS, "metrics.parquet": b"curve"} if files is None else files
    return store.publish(ref, attempt=attempt, files=files, **(fields | changes))


def in_torn(store):
    return sorted(str(path.relative_to(store.root / "torn")) for path in (store.root / "torn").rglob("*.*"))


# ---- publish and read


def test_nothing_is_there_before_it_is_published(tmp_path):
    store = StageStore(tmp_path / "runs")
    assert store.manifest(REF) is None
    assert not store.has(REF)
    assert store.refs("encoder") == []
    assert store.load_progress(REF) is None
    assert not (tmp_path / "runs").exists()
    with pytest.raises(StoreError, match=f"^stage encoder/ababababab is not in the store at {tmp_path}/runs$"):
        store.read(REF, "weights.safetensors")


def test_what_is_published_is_what_another_reader_finds(tmp_path):
    parent = ParentRef("encoder", "cd" * 32, "zero", "12" * 32)
    published = publish(StageStore(tmp_path), parent=parent, flags=("collapsed",))
    store = StageStore(tmp_path)
    assert store.manifest(REF) == published
    assert isinstance(published, StageManifest)
    assert (published.ref, published.attempt, published.parent) == (REF, "one", parent)
    assert published.flags == ("collapsed",)
    assert published.inputs == {"lr": 1e-3, "widths": [16, 32]}
    assert store.read(REF, "weights.safetensors") == WEIGHTS
    assert store.folder(REF) == tmp_path / "stages" / "encoder" / REF.key / "one"
    assert (store.folder(REF) / "metrics.parquet").read_bytes() == b"curve"
    with pytest.raises(StoreError, match=r"has no file 'x'; it has metrics\.parquet, weights\.safetensors$"):
        store.read(REF, "x")


def test_a_diverged_stage_keeps_its_non_finite_metrics(tmp_path):
    metrics = {"encoder/loss": math.nan, "encoder/grad": math.inf}
    publish(StageStore(tmp_path), outcome=Outcome.DIVERGED, files={}, metrics=metrics)
    found = StageStore(tmp_path).manifest(REF)
    assert found.outcome is Outcome.DIVERGED
    assert math.isnan(found.metrics["encoder/loss"])
    assert found.metrics["encoder/grad"] == math.inf
    assert b"NaN" not in (tmp_path / "stages" / "encoder" / REF.key / "manifest.json").read_bytes()


def test_the_first_to_publish_wins_and_the_loser_leaves_nothing(tmp_path):
    store = StageStore(tmp_path)
    first = publish(store)
    assert publish(store, attempt="two", files={"weights.safetensors": b"other"}) == first
    assert store.read(REF, "weights.safetensors") == WEIGHTS
    assert not (store.folder(REF).parent / "two").exists()


def test_publishing_again_under_the_same_name_changes_nothing(tmp_path):
    store = StageStore(tmp_path)
    first = publish(store)
    assert publish(store, files={"weights.safetensors": b"other"}) == first
    assert store.read(REF, "weights.safetensors") == WEIGHTS


def test_a_race_lost_at_the_last_moment(tmp_path, monkeypatch):
    store = StageStore(tmp_path)
    link_first = type(store._files).link_first

    def beaten(files, name, content):
        monkeypatch.setattr(type(store._files), "link_first", link_first)
        publish(StageStore(tmp_path), attempt="rival")
        return link_first(files, name, content)

    monkeypatch.setattr(type(store._files), "link_first", beaten)
    assert publish(store, attempt="slow", files={"weights.safetensors": b"other"}).attempt == "rival"
    assert store.read(REF, "weights.safetensors") == WEIGHTS
    assert not (store.folder(REF).parent / "slow").exists()


def test_the_manifest_is_written_after_every_file(tmp_path, monkeypatch):
    store = StageStore(tmp_path)
    seen = []
    for kind in ("write", "link_first"):
        real = getattr(type(store._files), kind)

        def noting(files, name, content, real=real):
            seen.append(name.rsplit("/", 1)[1])
            return real(files, name, content)

        monkeypatch.setattr(type(store._files), kind, noting)
    publish(store)
    assert seen == ["weights.safetensors", "metrics.parquet", "manifest.json"]


def test_refs_lists_only_what_is_published(tmp_path):
    store = StageStore(tmp_path)
    publish(store)
    other = StageRef("encoder", "00" * 32)
    publish(store, other)
    store.save_progress(StageRef("encoder", "ff" * 32), attempt="one", step=1, files={"a": b"1"})
    (tmp_path / "stages" / "encoder" / "notes of mine.txt").write_text("not a stage")
    (tmp_path / "stages" / "encoder" / "notes.txt").write_text("not a stage")
    assert store.refs("encoder") == [other, REF]
    assert store.refs("decoder") == []


@pytest.mark.parametrize("name", ["../weights", "a/b", "", ".hidden", "a\n", ".."])
def test_names_that_lead_elsewhere_are_refused_before_anything_is_written(tmp_path, name):
    store = StageStore(tmp_path)
    with pytest.raises(ValueError, match="a name in the store is letters, digits"):
        publish(store, files={name: b"1"})
    with pytest.raises(ValueError, match="a name in the store is letters, digits"):
        publish(store, attempt=name)
    assert list(tmp_path.iterdir()) == []


def test_attempts_are_unique_and_sort_by_time():
    attempts = [new_attempt() for _ in range(200)]
    assert len(set(attempts)) == 200
    assert [attempt[:23] for attempt in attempts] == sorted(attempt[:23] for attempt in attempts)


# ---- torn stages (T8)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_does_not_match_is_never_read(tmp_path, caplog, damage):
    store = StageStore(tmp_path)
    publish(store)
    DAMAGES[damage](store.folder(REF) / "weights.safetensors")
    reason = "is missing" if damage == "missing" else "does not match its sha256"
    with pytest.raises(TornStage, match=f"^stage encoder/ababababab: weights.safetensors {reason}; moved to .*/torn/"):
        store.read(REF, "weights.safetensors")
    assert not store.has(REF)
    assert not (tmp_path / "stages" / "encoder" / REF.key / "one").exists()
    assert any(name.endswith("/manifest.json") for name in in_torn(store))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert publish(store, attempt="two").attempt == "two"
    assert store.read(REF, "weights.safetensors") == WEIGHTS


def test_a_damaged_neighbour_does_not_touch_a_whole_file(tmp_path):
    store = StageStore(tmp_path)
    publish(store)
    DAMAGES["flipped"](store.folder(REF) / "metrics.parquet")
    assert store.read(REF, "weights.safetensors") == WEIGHTS
    assert store.has(REF)


def test_a_manifest_cut_at_every_byte_counts_as_absent(tmp_path):
    store = StageStore(tmp_path)
    publish(store)
    path = tmp_path / "stages" / "encoder" / REF.key / "manifest.json"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert store.manifest(REF) is None, cut
        assert not path.exists()
    path.write_bytes(whole)
    assert store.manifest(REF).attempt == "one"


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'"x"', b"\0" * 64, b"\xff\xfe"])
def test_json_that_is_no_manifest_counts_as_absent(tmp_path, content):
    store = StageStore(tmp_path)
    publish(store)
    path = tmp_path / "stages" / "encoder" / REF.key / "manifest.json"
    path.write_bytes(content)
    assert not store.has(REF)
    assert publish(store, attempt="two").attempt == "two"


@pytest.mark.parametrize("edit", [(REF.key, "cd" * 32), ('"one"', '"../one"'), ('"weights.', '"../weights.')])
def test_a_manifest_of_another_stage_or_with_stray_names_counts_as_absent(tmp_path, edit):
    store = StageStore(tmp_path)
    publish(store)
    path = tmp_path / "stages" / "encoder" / REF.key / "manifest.json"
    path.write_text(path.read_text().replace(*edit))
    assert not store.has(REF)


def test_a_stage_rebuilt_meanwhile_is_not_moved_away(tmp_path, monkeypatch):
    """Two readers find one stage torn; the slower one meets the manifest of the attempt that rebuilt it."""
    slow, quick = StageStore(tmp_path), StageStore(tmp_path)
    publish(slow)
    DAMAGES["flipped"](slow.folder(REF) / "weights.safetensors")
    move = type(slow._files).move

    def late(files, name, target):
        monkeypatch.setattr(type(slow._files), "move", move)
        with pytest.raises(TornStage):
            quick.read(REF, "weights.safetensors")
        publish(quick, attempt="rebuilt")
        return move(files, name, target)

    monkeypatch.setattr(type(slow._files), "move", late)
    with pytest.raises(TornStage):
        slow.read(REF, "weights.safetensors")
    assert slow.manifest(REF).attempt == "rebuilt"
    assert slow.read(REF, "weights.safetensors") == WEIGHTS


def test_a_torn_manifest_in_the_way_does_not_stop_the_publisher(tmp_path, monkeypatch):
    store = StageStore(tmp_path)
    path = tmp_path / "stages" / "encoder" / REF.key / "manifest.json"
    link_first = type(store._files).link_first

    def beaten(files, name, content):
        monkeypatch.setattr(type(store._files), "link_first", link_first)
        path.write_bytes(b"{")
        return link_first(files, name, content)

    monkeypatch.setattr(type(store._files), "link_first", beaten)
    assert publish(store).attempt == "one"
    assert store.read(REF, "weights.safetensors") == WEIGHTS


# ---- namespaces and roots


def test_a_namespace_shares_nothing(tmp_path):
    store = StageStore(tmp_path)
    publish(store)
    own = store.scoped("cell-1")
    assert not own.has(REF)
    assert publish(own, attempt="mine").attempt == "mine"
    assert own.folder(REF) == tmp_path / "unshared" / "cell-1" / "stages" / "encoder" / REF.key / "mine"
    assert store.manifest(REF).attempt == "one"
    assert own.scoped("cell-2").manifest(REF) is None
    assert own.scoped("").manifest(REF).attempt == "one"
    with pytest.raises(ValueError, match="a name in the store"):
        store.scoped("../elsewhere")


def test_a_file_where_the_store_should_be_is_one_clear_line(tmp_path):
    root = tmp_path / "runs"
    root.write_text("")
    with pytest.raises(StoreError, match=r"weights\.safetensors: cannot write: Not a directory; is --store a folder"):
        publish(StageStore(root))


def test_a_remote_store_of_another_kind_is_refused():
    with pytest.raises(StoreError, match=r"^gs://bucket: no folder; a store is a local or shared folder, or s3://"):
        StageStore("gs://bucket")
