"""What is refused before the first trial, and who is placed where."""

import pytest

from uscl.errors import ClusterError, StoreError
from uscl.spec.sweep import ResourcesSpec
from uscl.sweep.preflight import Placement, _tell_tenths, check_store, place, place_on_cluster, probe_node, versions


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


def test_a_probe_tells_what_its_node_sees(tmp_path):
    (tmp_path / "nonce").write_text("x")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "dataset.json").write_text("{}")
    found = probe_node(str(tmp_path / "nonce"), [str(tmp_path), str(tmp_path / "there")], False)
    assert (
        found["store"]
        and found["no_dataset"] == [str(tmp_path)]
        and found["versions"] == versions()
        and found["kernel"] == ""
    )


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
