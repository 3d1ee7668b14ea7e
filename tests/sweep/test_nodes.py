"""What a machine sees of itself."""

import json
import pickle

import pytest

from uscl.data.schema import DATASET_FORMAT, DATASET_VERSION
from uscl.sweep import nodes
from uscl.sweep.nodes import look_here, probe_node, versions


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """A nonce that is not there stays away."""
    monkeypatch.setattr(nodes, "LATE_S", 0.0)


def test_a_probe_reads_the_nonce_and_the_fingerprints(tmp_path):
    (tmp_path / "nonce").write_text("nonce")
    (tmp_path / "set").mkdir()
    document = {"format": DATASET_FORMAT, "version": DATASET_VERSION, "fingerprint": "f" * 64}
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(document))
    found = probe_node(tmp_path, "nonce", [str(tmp_path / "set"), str(tmp_path)], ["pip", "nnunetv9"], False)
    assert found.store == "" and found.store_free_bytes > 0
    assert found.datasets[str(tmp_path / "set")] == "f" * 64
    assert found.datasets[str(tmp_path)].startswith(f"no: {tmp_path} is not a dataset")
    assert found.versions["pip"] != "none" and found.versions["nnunetv9"] == "none"
    assert found.gpus == () and 0 < found.scratch_free_fraction < 1
    assert pickle.loads(pickle.dumps(found)) == found, "it travels"


def test_a_probe_says_what_it_finds_in_place_of_the_nonce(tmp_path):
    assert "cannot read" in probe_node(tmp_path, "nonce", [], [], False).store
    (tmp_path / "nonce").write_text("of another driver")
    assert probe_node(tmp_path, "nonce", [], [], False).store == "it reads something else there"


def test_versions_tell_a_checkout_of_yesterday(tmp_path, monkeypatch):
    """The version number alone would not."""
    package = tmp_path / "uscl" / "sweep"
    package.mkdir(parents=True)
    (package / "nodes.py").write_text("x = 1")
    monkeypatch.setattr(nodes, "__file__", str(package / "nodes.py"))
    first = nodes._source.__wrapped__()
    (package / "nodes.py").write_text("x = 2")
    assert nodes._source.__wrapped__() != first
    assert {"ray", "torch", "numpy", "pyarrow", "python", "uscl"} == set(versions())
    assert look_here(gpu=False).versions == versions()
