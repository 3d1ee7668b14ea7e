"""What holds for a store in a folder and in a bucket alike."""

import logging
import threading
import time

import pytest

from uscl.errors import LeaseHeld, StoreError
from uscl.records import Outcome, StageRef
from uscl.store import lease as lease_module
from uscl.store.garbage import OLDER_THAN_S, StageLink, Waste, delete, find_garbage
from uscl.store.lease import acquire_lease
from uscl.store.roots import open_files, read_file, store_root
from uscl.store.stages import MANIFEST, ProgressPoint, StageStore, TornStage
from uscl.store.sweeps import SweepFolder, list_sweeps, shared_log

REF = StageRef("encoder", "ab" * 32)
FOLDER = f"stages/encoder/{REF.key}"


def publish(store, *, attempt="one", files=None):
    return store.publish(
        REF, attempt=attempt, files={"weights.safetensors": b"w" * 1000} if files is None else files,
        outcome=Outcome.DONE, inputs={}, parent=None, metrics={}, flags=(), provenance={},
    )  # fmt: skip


def save(store, step, attempt="one"):
    files = {"model.safetensors": b"model %d of " % step + attempt.encode(), "state.json": b"{}"}
    store.save_progress(REF, attempt=attempt, step=step, files=files)
    return ProgressPoint(step, attempt, files)


@pytest.fixture(autouse=True)
def quick_leases(monkeypatch):
    monkeypatch.setattr(lease_module.acquire_lease, "__kwdefaults__", {"beat_s": 0.1, "stale_s": 0.6})


# ---- files


def test_write_read_list_delete(any_root):
    files = open_files(any_root)
    assert files.list("") == [] and files.read_if_there("a/b.bin") is None and not files.exists("a")
    files.write("a/b.bin", b"one")
    files.write("a/b.bin", b"two")
    files.write("a/empty", b"")
    assert files.read("a/b.bin") == b"two" and files.read("a/empty") == b""
    assert files.list("a") == ["b.bin", "empty"] and files.list("") == ["a"]
    assert files.exists("a/b.bin") and files.exists("a") and not files.exists("a/b")
    assert read_file(files.path("a/b.bin")) == read_file(str(files.path("a/b.bin"))) == b"two"
    files.delete("a/empty")
    assert files.list("a") == ["b.bin"]
    files.delete("a")
    files.delete("a")
    assert not files.exists("a") and files.list("a") == []
    with pytest.raises(StoreError, match=r"a/b\.bin: cannot read: "):
        files.read("a/b.bin")


def test_sizes_and_times(any_root):
    files, before = open_files(any_root), time.time()
    files.write("a/b/one", b"123")
    files.write("a/two", b"45")
    assert (files.size("a"), files.size("a/two"), files.size("none")) == (5, 2, 0)
    assert before - 2 < files.modified_s("a") < time.time() + 2
    assert files.modified_s("none") == 0.0
    assert files.asides("a") == ()
    assert files.free_bytes() is None or files.free_bytes() > 0


def test_the_first_link_wins(any_root):
    files = open_files(any_root)
    assert files.link_first("m.json", b"first") is True
    assert files.link_first("m.json", b"second") is False
    assert files.read("m.json") == b"first"


def test_moving_a_file_and_a_folder(any_root):
    files = open_files(any_root)
    files.write("a", b"1")
    files.write("folder/x/y", b"2")
    files.write("folder/z", b"3")
    assert files.move("a", "torn/a") and not files.move("a", "torn/b")
    assert files.move("folder", "torn/folder") and not files.exists("folder/z")
    assert (files.read("torn/a"), files.read("torn/folder/x/y"), files.read("torn/folder/z")) == (b"1", b"2", b"3")


def test_lines_are_added_to_a_file_that_ends_torn(any_root):
    files = open_files(any_root)
    files.write("log", b"one\ntor")
    files.append("log", b"two")
    files.append("log", b"three", soon=True)
    files.flush("log")
    assert files.read("log") == b"one\ntor\ntwo\nthree\n"
    files.append("new", b"one")
    assert files.read("new") == b"one\n"


def test_a_root_reads_back_as_it_prints(any_root):
    root = store_root(any_root)
    assert store_root(str(root)) == root == store_root(root)
    assert (root / "a/b").parent.parent == root and (root / "a/b").name == "b"


# ---- stages


def test_publish_and_read(any_root):
    store = StageStore(any_root)
    assert store.manifest(REF) is None and store.refs("encoder") == [] and store.load_progress(REF) is None
    first = publish(store)
    assert StageStore(any_root).manifest(REF) == first and store.refs("encoder") == [REF]
    assert store.read(REF, "weights.safetensors") == b"w" * 1000
    assert publish(store, attempt="two", files={"weights.safetensors": b"other"}) == first
    own = store.scoped("cell-1")
    assert not own.has(REF) and publish(own, attempt="mine").attempt == "mine"
    assert store.manifest(REF).attempt == "one"
    assert read_file(own.folder(REF) / "weights.safetensors") == b"w" * 1000


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_torn_stage_is_moved_aside_and_rebuilt(any_root, damage):
    store, files = StageStore(any_root), open_files(any_root)
    publish(store)
    if damage == "missing":
        files.delete(f"{FOLDER}/one/weights.safetensors")
    else:
        files.write(f"{FOLDER}/one/weights.safetensors", b"w" * 999)
    with pytest.raises(TornStage, match=r"^stage encoder/ababababab: weights\.safetensors .*; moved to .*/torn/"):
        store.read(REF, "weights.safetensors")
    assert not store.has(REF)
    (kept,) = files.list("torn")
    assert MANIFEST in files.list(f"torn/{kept}")
    assert publish(store, attempt="two").attempt == "two"
    assert store.read(REF, "weights.safetensors") == b"w" * 1000


def test_a_torn_manifest_counts_as_absent(any_root):
    store, files = StageStore(any_root), open_files(any_root)
    publish(store)
    whole = files.read(f"{FOLDER}/{MANIFEST}")
    for content in (b"", b"{}", whole[:-2], b"\xff\xfe"):
        files.write(f"{FOLDER}/{MANIFEST}", content)
        assert store.manifest(REF) is None
    assert publish(store, attempt="two").attempt == "two"


def test_a_stage_published_while_it_is_judged_torn_stays(any_root, monkeypatch):
    store, files = StageStore(any_root), open_files(any_root)
    publish(store)
    files.write(f"{FOLDER}/one/weights.safetensors", b"torn")
    move = type(files).move

    def late(self, name, target):
        monkeypatch.setattr(type(files), "move", move)
        files.delete(f"{FOLDER}/{MANIFEST}")
        publish(StageStore(any_root), attempt="rebuilt")
        return move(self, name, target)

    monkeypatch.setattr(type(files), "move", late)
    with pytest.raises(TornStage):
        store.read(REF, "weights.safetensors")
    assert store.manifest(REF).attempt == "rebuilt"
    assert store.read(REF, "weights.safetensors") == b"w" * 1000


def test_resume_points(any_root):
    store, files = StageStore(any_root), open_files(any_root)
    for step in (5, 10, 100):
        last = save(store, step)
    assert files.list(f"{FOLDER}/progress/one") == ["000000000010", "000000000100"]
    assert store.load_progress(REF) == last
    files.write(f"{FOLDER}/progress/one/000000000100/state.json", b"torn")
    assert store.load_progress(REF).step == 10
    further = save(store, 200, attempt="two")
    assert store.load_progress(REF) == further
    store.clear_progress(REF, attempt="two")
    store.clear_progress(REF, attempt="one")
    store.clear_progress(REF, attempt="one")
    assert store.load_progress(REF) is None


def test_racers_agree_on_one_winner(any_root):
    """In a bucket two may both think for a moment that they won; what is there afterwards can be read by all."""
    for number in range(5):
        key = StageRef("encoder", f"{number:064x}")
        gate, said = threading.Barrier(4), []

        def race(name, key=key, gate=gate, said=said):
            gate.wait()
            said.append(
                StageStore(any_root).publish(
                    key, attempt=name, files={"w": name.encode() * 50}, outcome=Outcome.DONE, inputs={}, parent=None,
                    metrics={}, flags=(), provenance={},
                )
            )  # fmt: skip

        racers = [threading.Thread(target=race, args=(f"racer-{n}",)) for n in range(4)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        store = StageStore(any_root)
        winner = store.manifest(key).attempt
        assert store.read(key, "w") == winner.encode() * 50
        for manifest in said:  # whatever a racer was told, those files are there
            assert read_file(store.folder(key).parent / manifest.attempt / "w") == manifest.attempt.encode() * 50


def test_whoever_put_a_manifest_that_was_overwritten_keeps_its_files(bucket, monkeypatch):
    """Its own put may still be the one that stays, as far as it can know."""
    store, files = StageStore(bucket), open_files(bucket)
    publish(store, attempt="rival")
    rival = files.read(f"{FOLDER}/{MANIFEST}")
    files.delete(f"{FOLDER}/{MANIFEST}")
    link_first = type(files).link_first

    def overwritten(self, name, content):
        won = link_first(self, name, content)
        self.write(name, rival)
        return won

    monkeypatch.setattr(type(files), "link_first", overwritten)
    assert publish(store, attempt="slow").attempt == "rival"
    assert files.exists(f"{FOLDER}/slow/weights.safetensors")


def test_gc_deletes_what_is_old_and_keeps_the_rest(any_root):
    store, files = StageStore(any_root), open_files(any_root)
    publish(store)
    files.write(f"{FOLDER}/dead/weights.safetensors", b"w" * 10)
    save(store, 5)
    now_s = time.time() + 2 * OLDER_THAN_S
    declared = frozenset({StageLink("", REF)})
    assert find_garbage(files, declared, now_s=time.time()) == []
    garbage = find_garbage(files, declared, now_s=now_s)
    assert [(each.waste, each.num_bytes > 0) for each in garbage] == [(Waste.ATTEMPT, True), (Waste.PROGRESS, True)]
    delete(files, garbage)
    assert store.read(REF, "weights.safetensors") == b"w" * 1000
    assert not files.exists(f"{FOLDER}/dead/weights.safetensors") and store.load_progress(REF) is None


# ---- a sweep's folder


def test_a_sweeps_folder(any_root):
    folder = SweepFolder(any_root, "temporal")
    assert folder.read_sweep() is None and list_sweeps(any_root) == ()
    folder.write_sweep({"recipe": "demo"})
    assert SweepFolder(any_root, "temporal").read_sweep() == {"recipe": "demo"}
    assert [each.identity for each in list_sweeps(any_root)] == ["temporal"]
    with pytest.raises(StoreError, match="holds a sweep with recipe 'demo', this one has 'paper'"):
        folder.write_sweep({"recipe": "paper"})
    folder.write_report("table.md", b"| a |")
    assert folder.read_report("table.md") == b"| a |" and folder.has_report("table.md")


def test_events_are_there_once_the_lease_is_given_back(any_root):
    folder = SweepFolder(any_root, "temporal")
    for start in range(2):
        with folder.acquire_lease():
            for number in range(50):
                folder.append_event({"number": 50 * start + number})
    assert [event["number"] for event in SweepFolder(any_root, "temporal").read_events()] == list(range(100))


def test_logs_by_attempt_and_shared(any_root):
    folders = [SweepFolder(any_root, name) for name in ("one", "two")]
    for attempt in ("2", "1"):
        where = shared_log(folders, "aa", attempt)
        open_files(where).write("", b"line\n")
    assert [path.name for path in folders[0].logs("aa")] == ["aa-1.log", "aa-2.log"]
    assert [read_file(path) for path in folders[0].logs("aa")] == [b"line\n"] * 2
    assert [path.name for path in folders[1].logs("aa")] == ["aa-1.log", "aa-2.log"]
    assert folders[0].logs("bb") == []


def test_session_files(any_root):
    folder = SweepFolder(any_root, "one")
    where = folder.write_session("session-a", b"running\n")
    assert folder.sessions() == ["session-a"] and read_file(where) == b"running\n"
    folder.remove_session("session-a")
    assert folder.sessions() == []


def test_one_driver_at_a_time(any_root):
    folder = SweepFolder(any_root, "temporal")
    with folder.acquire_lease():
        with pytest.raises(LeaseHeld, match="sweep temporal is being run by process"):
            folder.acquire_lease()
        SweepFolder(any_root, "another").acquire_lease().release()
    folder.acquire_lease().release()


def test_a_lease_taken_over_is_not_taken_back(bucket, caplog):
    where = store_root(bucket) / "lease.json"
    with acquire_lease(where, sweep="temporal", beat_s=0.1, stale_s=0.5):
        open_files(where).write("", b'{"pid": 1, "host": "other", "token": "x", "counter": 3}')
        with caplog.at_level(logging.WARNING):
            time.sleep(0.5)
        assert "taken over" in caplog.text
    assert b'"other"' in read_file(where), "neither the beat nor the release writes over another's"


def test_a_counter_that_stands_still_is_taken_when_stale(bucket):
    where = store_root(bucket) / "lease.json"
    open_files(where).write("", b'{"pid": 1, "host": "gone", "since": "then", "token": "x", "counter": 7}')
    start = time.monotonic()
    acquire_lease(where, sweep="temporal", beat_s=0.1, stale_s=0.5).release()
    assert time.monotonic() - start >= 0.5
    assert read_file(where) == b""
