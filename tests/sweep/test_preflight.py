"""What is refused before the first trial, and who is placed where."""

import json
import sys
from types import ModuleType

import pytest

from uscl.data.schema import DATASET_FORMAT, DATASET_VERSION
from uscl.errors import ClusterError, StoreError
from uscl.spec.sweep import ResourcesSpec
from uscl.sweep import preflight
from uscl.sweep.nodes import Needs, versions
from uscl.sweep.preflight import Placement, _tell_tenths, check_store, place, place_on_cluster, unfit_here


def placed(gpus, *, cpus=8, workers=None, require_gpu=False, **resources):
    """`place` with defaults."""
    return place(ResourcesSpec(**resources), workers=workers, gpus=gpus, cpus=cpus, require_gpu=require_gpu)


def test_one_gpu_per_trial_and_as_many_trials_as_gpus():
    assert placed(4) == Placement("cuda", 1.0, 1.0, 4, False)
    assert placed(2, gpus_per_trial=0.5).workers == 4
    assert placed(4, workers=2).workers == 2 and placed(4, workers=9).workers == 4


def test_without_gpus_trials_fall_back_to_the_cpu():
    assert placed(0) == Placement("cpu", 0.0, 1.0, 8, True)
    assert placed(0, cpus_per_trial=3).workers == 2
    assert placed(0, workers=3).workers == 3, "--workers is taken at its word on a CPU"
    assert not placed(0, gpus_per_trial=0).fallback and placed(2, gpus_per_trial=0).device == "cpu"


@pytest.mark.parametrize(
    ("gpus", "resources", "message"),
    [
        (0, {"require_gpu": True}, "--require-gpu: there is none here"),
        (1, {"require_gpu": True, "gpus_per_trial": 0}, "--require-gpu: resources.gpus_per_trial is 0"),
        (1, {"gpus_per_trial": 2}, "resources.gpus_per_trial: 2, but this machine has 1"),
        (0, {"cpus": 2, "cpus_per_trial": 64}, "resources.cpus_per_trial: 64, but this machine has 2 cores"),
        (1, {"cpus": 2, "cpus_per_trial": 4}, "resources.cpus_per_trial: 4, but this machine has 2 cores"),
    ],
)
def test_machines_too_small_for_a_trial(gpus, resources, message):
    with pytest.raises(ClusterError, match=message):
        placed(gpus, **resources)


def test_a_store_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError) as refused:
        check_store(tmp_path / "file")
    assert str(tmp_path / "file") in str(refused.value) and "\n" not in str(refused.value)
    check_store(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def dataset(folder, fingerprint):
    """A folder that says it is a dataset."""
    folder.mkdir()
    document = {"format": DATASET_FORMAT, "version": DATASET_VERSION, "fingerprint": fingerprint}
    (folder / "dataset.json").write_text(json.dumps(document))
    return str(folder)


def test_a_node_that_joined_late_finds_out_by_itself(tmp_path, monkeypatch):
    """It lacks the store, sees another dataset, has another uscl: in words, and no trial starts there."""
    monkeypatch.setattr(preflight, "LATE_S", 0.0)
    path = dataset(tmp_path / "set", "a" * 64)
    (tmp_path / "session").write_text("running")
    there = str(tmp_path / "session")
    here = versions()
    assert unfit_here(Needs(here, {path: "a" * 64}), session_path=there, gpu=False) == ""
    lacking = unfit_here(Needs(here, {}), session_path=str(tmp_path / "gone"), gpu=False)
    assert "cannot see what the driver wrote to the store" in lacking and "gone is not there" in lacking
    other = unfit_here(Needs(here, {path: "b" * 64}), session_path=there, gpu=False)
    assert f"another dataset at {path} (fingerprint aaaaaaaaaa, planned with bbbbbbbbbb)" in other
    older = unfit_here(Needs(here | {"uscl": "0.1.0 (12345678)"}), session_path=there, gpu=False)
    assert "uscl 0.1.0 (" in older and "here 0.1.0 (12345678); install the same everywhere" in older


class ThreeCores:
    """A cluster of two CPU nodes."""

    @staticmethod
    def cluster_resources():
        return {"CPU": 3.0}

    @staticmethod
    def nodes():
        return [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in (1.0, 2.0)]


def test_a_trial_larger_than_every_node_would_wait_for_ever():
    assert place_on_cluster(ResourcesSpec(gpus_per_trial=0, cpus_per_trial=2), ThreeCores, workers=None).workers == 1
    with pytest.raises(ClusterError, match="cpus_per_trial: 3, but the cluster's largest node has 2"):
        place_on_cluster(ResourcesSpec(gpus_per_trial=0, cpus_per_trial=3), ThreeCores, workers=None)


def test_a_long_phantom_build_says_how_far_it_is(monkeypatch):
    said, clock = [], iter(range(0, 10_000, 15))
    monkeypatch.setattr("uscl.sweep.preflight.time.monotonic", lambda: float(next(clock)))
    progress = _tell_tenths(said.append)
    for done in range(1, 41):
        progress(done, 40)
    assert said[0].startswith("phantom: 8/40 patients, ")
    assert [line.split(" ")[1] for line in said] == [f"{done}/40" for done in range(8, 40, 4)]


class Autoscaled:
    """A head without resources; the third look finds the node that was asked for."""

    def __init__(self, resources):
        self.looks, self.resources = 0, resources

    def nodes(self):
        self.looks += 1
        up = [{"Alive": True, "Resources": self.resources}] if self.looks > 3 else []
        return [{"Alive": True, "Resources": {}}, *up]

    def cluster_resources(self):
        return self.resources


@pytest.fixture
def asked(monkeypatch):
    """What an autoscaler is asked for."""
    asked, sdk = [], ModuleType("ray.autoscaler.sdk")
    sdk.request_resources = lambda *, bundles: asked.append(bundles)
    for name, module in (("ray", ModuleType("ray")), ("ray.autoscaler", ModuleType("")), ("ray.autoscaler.sdk", sdk)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("uscl.sweep.preflight.time.sleep", lambda seconds: None)
    return asked


@pytest.mark.parametrize(
    ("settings", "node", "bundle"),
    [
        ({"gpus_per_trial": 0.5, "cpus_per_trial": 1.5}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 2, "GPU": 1}),
        ({"gpus_per_trial": 0}, {"CPU": 8.0}, {"CPU": 1}),
    ],
)
def test_an_idle_autoscaler_is_asked_for_nodes_and_let_go(asked, settings, node, bundle):
    placement = place_on_cluster(ResourcesSpec(**settings), Autoscaled(node), workers=4)
    assert placement.workers == 4, "more than are up: Tune's waiting trials make the autoscaler start the rest"
    assert asked == [[bundle] * 4, []]


def test_a_gpu_that_never_comes(asked, monkeypatch):
    monkeypatch.setattr(preflight, "GPU_DEADLINE_S", -1.0)
    with pytest.raises(ClusterError, match=r"no node with 1 GPU in the cluster after .*gpus_per_trial: 0"):
        place_on_cluster(ResourcesSpec(), ThreeCores, workers=None)
    assert asked[-1] == [], "and nothing is asked for any more"
