"""Files are whole or absent; of two that link one name the first wins; every failure is one clear line."""

import errno
import os
import subprocess
import sys

import pytest

from uscl.errors import StoreError
from uscl.store.files import Files, StoreFull
from uscl.store.roots import open_files


def test_write_read_list_delete(tmp_path):
    files = Files(tmp_path / "not" / "there" / "yet")
    files.write("a/b.bin", b"one")
    files.write("a/b.bin", b"two")
    assert files.read("a/b.bin") == b"two"
    assert files.list("a") == ["b.bin"]
    assert files.exists("a/b.bin")
    files.delete("a")
    files.delete("a")
    assert not files.exists("a")
    assert files.list("a") == []
    assert files.read_if_there("a/b.bin") is None


def test_the_first_link_wins(tmp_path):
    files = Files(tmp_path)
    assert files.link_first("m.json", b"first") is True
    assert files.link_first("m.json", b"second") is False
    assert files.read("m.json") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_without_hard_links_the_first_still_wins(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    test_the_first_link_wins(tmp_path)


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    files = Files(tmp_path)
    files.write("a", b"old")
    seen = []
    fsync = os.fsync

    def looking(descriptor):
        seen.append((files.list(""), files.read("a")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    files.write("a", b"new")
    assert seen == [(["a"], b"old"), (["a"], b"new")]  # the file before its rename, the folder after it


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, code):
    files = Files(tmp_path)
    files.write("a", b"old")

    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull, match=r"no space left .* nothing is lost"):
        files.write("a", b"new")
    assert files.read("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "runs").write_text("a file where the store should be")
    files = Files(tmp_path / "runs")
    with pytest.raises(StoreError) as caught:
        files.write("a", b"")
    assert str(caught.value) == (
        f"{tmp_path}/runs/a: cannot write: Not a directory; is --store a folder that you may write to?"
    )


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(StoreError, match=r"a\.bin: cannot read: No such file or directory$"):
        Files(tmp_path).read("a.bin")


@pytest.mark.parametrize("root", ["gs://bucket", "s3:/bucket", "hdfs://host/store"])
def test_other_remote_stores_are_refused(root):
    with pytest.raises(StoreError, match="no folder; a store is a local or shared folder, or s3://bucket/prefix"):
        open_files(root)


def test_a_file_address_is_refused():
    with pytest.raises(StoreError, match="give the store as a plain path"):
        Files("file:///tmp/store")


def test_the_root_does_not_follow_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = Files("runs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    files.write("a", b"1")
    assert (tmp_path / "runs" / "a").read_bytes() == b"1"


def test_moving_what_is_gone(tmp_path):
    files = Files(tmp_path)
    files.write("a", b"1")
    assert files.move("a", "torn/a") is True
    assert files.move("a", "torn/b") is False
    assert files.read("torn/a") == b"1"


def test_the_room_imports_neither_torch_nor_ray_nor_mlflow():
    code = (
        "import sys, uscl.store.stages, uscl.store.sweeps, uscl.store.curves;"
        "print(sorted({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
