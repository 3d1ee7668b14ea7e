"""Where the mirror writes."""

import pytest

from uscl.errors import StoreError
from uscl.store.s3_root import S3Root
from uscl.tracking.location import file_system, find_location


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def mounts(tmp_path, kind):
    table = tmp_path / "mounts"
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nhost:/x {tmp_path}/my\\040share {kind} rw 0 0\n")
    return table


def test_the_default_is_an_absolute_database_in_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    location = find_location(tmp_path.relative_to(tmp_path) / "runs", mounts=mounts(tmp_path, "ext4"))
    assert location.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert location.artifact_root == tmp_path / "runs" / "mlartifacts"
    assert location.database == tmp_path / "runs" / "mlflow.db"


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "lustre"])
def test_on_a_shared_file_system_the_database_lies_in_the_cache(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = tmp_path / "my share" / "runs"
    location = find_location(store, mounts=mounts(tmp_path, kind))
    assert location.database.is_relative_to(tmp_path / "cache" / "uscl")
    assert location.artifact_root == store / "mlartifacts"
    other = find_location(tmp_path / "my share" / "other", mounts=mounts(tmp_path, kind))
    assert other.database != location.database


def test_file_system_of_the_nearest_mount(tmp_path):
    table = mounts(tmp_path, "nfs4")
    assert file_system(tmp_path / "my share" / "a" / "b", table) == "nfs4"
    assert file_system(tmp_path / "elsewhere", table) == "ext4"
    assert file_system(tmp_path, tmp_path / "no such file") == ""


def test_a_server_is_used_as_given(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    location = find_location(tmp_path)
    assert (location.uri, location.artifact_root, location.database) == ("http://host:5000", None, None)
    assert find_location(tmp_path, "https://other").uri == "https://other"


def test_a_relative_database_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_location(tmp_path, "sqlite:///my.db").uri == f"sqlite:///{tmp_path}/my.db"


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_refused(tmp_path, uri):
    with pytest.raises(StoreError, match="MLflow keeps no runs in a folder"):
        find_location(tmp_path, uri)


def test_for_a_store_in_a_bucket_all_lies_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    location = find_location(S3Root("bucket", "runs"))
    assert location.database.is_relative_to(tmp_path / "uscl" / "mlflow")
    assert location.artifact_root == location.database.parent / "mlartifacts"
    assert find_location(S3Root("bucket", "runs", endpoint="host:1")).database != location.database
    assert find_location(S3Root("bucket"), "http://host:5000").uri == "http://host:5000"
