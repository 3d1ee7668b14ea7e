"""What the doctor makes of facts written by hand, and what it finds on this machine."""

import socket

import pytest

from uscl.sweep import doctor
from uscl.sweep.address import RayAddress
from uscl.sweep.doctor import (
    MlflowFacts,
    StoreFacts,
    examine_cluster,
    examine_data,
    installed_versions,
    judge_machine,
    judge_mlflow,
    judge_store,
    judge_token,
    judge_versions,
    look_at_machine,
    look_at_store,
    our_requirements,
)
from uscl.sweep.findings import Level
from uscl.sweep.nodes import GpuFacts, NodeFacts

HERE = NodeFacts(host="here", versions={"torch": "2.13.0+cu130"}, cpus=8, clock_s=0.0)


def said(findings):
    """Level and line of each; every finding that is not fine says what to do."""
    assert all(finding.fix for finding in findings if finding.level is not Level.FINE)
    return [f"{finding.level.value}: {finding.line}" for finding in findings]


def test_versions_within_and_outside_of_what_was_tested():
    required = ["ray[tune]<2.61,>=2.55", "torch<2.14,>=2.6", "optuna<6,>=4.9", "click<9", 'mlflow>=3; extra == "x"']
    installed = {"python": "3.11.9", "uscl": "0.1.0", "ray": "2.61.0", "torch": "2.13.0+cu126", "optuna": "none"}
    assert said(judge_versions(installed, required)) == [
        "fine: python 3.11.9, uscl 0.1.0",
        "warning: ray 2.61.0 (tested >=2.55,<2.61); pip install 'ray[tune]<2.61,>=2.55', or be the one who tests it",
        "fine: torch 2.13.0+cu126 (tested >=2.6,<2.14)",
        "stop: optuna is not installed (tested >=4.9,<6); pip install 'optuna<6,>=4.9'",
    ]


def test_our_own_environment_is_within_its_bounds():
    found = judge_versions(installed_versions(look_at_machine()), our_requirements())
    assert {finding.level for finding in found} == {Level.FINE} and len(found) == 1 + len(doctor.TESTED)


def test_a_v100_here_whose_torch_lacks_sm_70():
    v100 = GpuFacts("Tesla V100", (7, 0), 16 * 1024**3)
    found = judge_machine(NodeFacts("h", HERE.versions, 8, 0.0, gpus=(v100,), arches=("sm_80", "sm_90")), card=True)
    assert said(found)[0].startswith("stop: Tesla V100 (sm_70) runs no kernel: torch 2.13.0+cu130 holds no kernels for")
    assert "cu126" in found[0].fix
    right = judge_machine(NodeFacts("h", HERE.versions, 8, 0.0, gpus=(v100,), arches=("sm_70",)), card=True)
    assert said(right)[0] == "fine: Tesla V100 (sm_70, 16 GB): a kernel ran"


def test_a_card_that_torch_does_not_see_and_a_machine_without_one():
    assert said(judge_machine(HERE, card=True))[0].startswith(
        "stop: there is an NVIDIA card here, but torch 2.13.0+cu130 sees none; install a CUDA build"
    )
    assert said(judge_machine(HERE, card=False))[0] == "fine: none here: trials run on the CPU"
    full = NodeFacts("h", {}, 8, 0.0, scratch_free_fraction=0.01)
    assert said(judge_machine(full, card=False))[-1].startswith("stop: 1% free under Ray's temporary folder")


def test_a_store_that_is_looked_at_stays_as_it_was(tmp_path):
    found = look_at_store(tmp_path / "new", "ext4")
    assert not found.error and not found.flock_error and found.free_bytes > 0
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine").write_text("x")
    look_at_store(tmp_path / "old", "ext4")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["mine"]


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (line,) = said(judge_store(look_at_store(tmp_path / "file", "")))
    assert line.startswith("stop: ") and str(tmp_path / "file") in line and "--store" in line


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({"file_system": "xfs", "free_bytes": 50 * 1024**3}, ["fine: /s on xfs: writable, 50 GB free"]),
        ({"free_bytes": 2**30}, ["fine: /s: writable, 1 GB free", "warning: 1.0 GB free in the store; free some"]),
        (
            {"flock_error": "No locks available"},
            ["fine: /s: writable", "warning: no locks on /s (No locks available);"],
        ),
        ({"file_system": "nfs4"}, ["fine: /s on nfs4: writable", "warning: /s is on nfs4, a network mount; mount it"]),
    ],
)
def test_stores(facts, lines):
    found = said(judge_store(StoreFacts("/s", **facts)))
    assert len(found) == len(lines) and all(line.startswith(start) for line, start in zip(found, lines, strict=True))


def test_mlflow_never_stops_a_sweep():
    assert said(judge_mlflow(MlflowFacts("http://h:5000"))) == ["fine: http://h:5000: it answers"]
    assert said(judge_mlflow(MlflowFacts("sqlite:////s/m.db", "", "ext4"))) == [
        "fine: sqlite:////s/m.db: database on ext4"
    ]
    (dead,) = said(judge_mlflow(MlflowFacts("http://h:5000", "nobody answers (refused)")))
    assert dead.startswith("warning: http://h:5000: nobody answers (refused); start the server or unset")
    (shared,) = said(judge_mlflow(MlflowFacts("sqlite:////s/m.db", "", "nfs4")))
    assert shared.startswith(
        "warning: sqlite:////s/m.db is a database on nfs4, whose locks SQLite cannot trust; put it"
    )


def test_a_dataset_and_a_folder_that_is_none(tmp_path):
    (finding,), found = examine_data(tmp_path)
    assert finding.level is Level.STOP and "is not a dataset" in finding.what and found == {}


def test_tokens():
    assert (
        judge_token(RayAddress("h:1", "token"), "RAY_AUTH_TOKEN").line
        == "the cluster takes the token of RAY_AUTH_TOKEN"
    )
    open_to_all = judge_token(RayAddress("h:1", "disabled"), "")
    assert open_to_all.level is Level.WARNING and "get-auth-token --generate" in open_to_all.fix


def test_an_address_where_nobody_is(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (finding,), nodes = examine_cluster(f"127.0.0.1:{port}", store_root=tmp_path, datasets={})
    assert finding.level is Level.STOP and "no Ray answers there" in finding.what and not nodes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_ray_is_started_and_ended(monkeypatch):
    (finding,) = doctor.examine_local_ray()
    assert finding.level is Level.FINE, finding.line
    monkeypatch.setenv("RAY_TMPDIR", "/proc/nowhere")
    (finding,) = doctor.examine_local_ray()
    assert finding.level is Level.STOP and "Ray does not start here" in finding.what and finding.fix
