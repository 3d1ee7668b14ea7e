"""What a machine's facts amount to. No card and no cluster: the facts are written by hand."""

from dataclasses import replace

import pytest

from uscl.sweep.findings import CLOCK_S, Level, judge_gpu, judge_node, runs_on
from uscl.sweep.nodes import GpuFacts, Needs, NodeFacts

VERSIONS = {"ray": "2.60.0", "torch": "2.13.0+cu130", "python": "3.11.9"}
# What torch's builds list; the first as of CUDA 13, the second as of cu126.
CU130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
V100 = GpuFacts("Tesla V100-SXM2-16GB", (7, 0), 16 * 1024**3, "RuntimeError: CUDA error: no kernel image is available")
NODE = NodeFacts(host="n1", versions=VERSIONS, cpus=8, clock_s=100.0, datasets={"/d": "f" * 64})
NEEDS = Needs(VERSIONS, {"/d": "f" * 64})


def judged(found, needs=NEEDS):
    """Level and line of each finding."""
    findings = judge_node(found, needs, asked_s=99.0, answered_s=101.0, store="/store")
    assert all(finding.fix for finding in findings if finding.level is not Level.FINE)
    return [(finding.level.value, finding.line) for finding in findings]


def test_a_node_that_has_all():
    assert judged(NODE) == [("fine", "node n1: fit")]


def test_a_v100_whose_torch_lacks_its_kernels_is_told_in_plain_words():
    """Before any trial, and by the list of architectures alone where no kernel was tried."""
    for card in (V100, replace(V100, kernel_error="")):
        assert judged(replace(NODE, gpus=(card,), num_gpus=1, arches=CU130)) == [
            (
                "stop",
                "node n1: Tesla V100-SXM2-16GB (sm_70) runs no kernel: torch 2.13.0+cu130 holds no kernels for it "
                "(sm_75, sm_80, sm_86, sm_90, sm_100, sm_120, compute_120); install torch from its cu126 builds, which "
                "still hold sm_70: docs/cluster.md has the command",
            )
        ]
    assert not judge_gpu(replace(V100, kernel_error=""), replace(NODE, arches=CU126))


def test_a_kernel_that_fails_for_another_reason_is_not_blamed_on_the_build():
    card = GpuFacts("NVIDIA H100", (9, 0), 80 * 1024**3, "RuntimeError: CUDA driver version is insufficient")
    (finding,) = judge_gpu(card, replace(NODE, arches=CU130))
    assert "insufficient" in finding.what and "nvidia-smi" in finding.fix and "cu126" not in finding.fix
    (new,) = judge_gpu(GpuFacts("next", (13, 0), 1), replace(NODE, arches=("sm_90", "sm_120")))
    assert new.fix == "install a build of torch that lists sm_130"


@pytest.mark.parametrize(
    ("capability", "arches", "fits"),
    [
        ((7, 0), ["sm_70"], True),
        ((7, 5), ["sm_70"], True),  # a later minor of one major runs it
        ((7, 0), ["sm_75"], False),
        ((8, 6), ["sm_80"], True),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["compute_80"], True),  # PTX is compiled on the spot
        ((7, 0), ["compute_80"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120"], True),
        ((10, 3), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),
        ((7, 0), [], False),
        ((7, 0), ["gfx90a"], False),
    ],
)
def test_which_builds_run_on_which_cards(capability, arches, fits):
    assert runs_on(capability, arches) is fits


@pytest.mark.parametrize(
    ("found", "level", "said"),
    [
        ({"store": "no such file"}, "stop", "node n1: cannot see what the driver wrote to /store (no such file)"),
        ({"datasets": {"/d": "no: nothing"}}, "stop", "node n1: no dataset at /d; every node must see the same folder"),
        ({"datasets": {}}, "stop", "node n1: no dataset at /d"),
        ({"datasets": {"/d": "a" * 64}}, "stop", "another dataset at /d (fingerprint aaaaaaaaaa, planned with "),
        ({"versions": VERSIONS | {"ray": "2.59.0"}}, "stop", "node n1: ray 2.59.0, here 2.60.0; install the same"),
        ({"versions": {}}, "stop", "node n1: ray none, here 2.60.0"),
        ({"versions": VERSIONS | {"torch": "2.13.0+cu126"}}, "warning", "torch 2.13.0+cu126, here 2.13.0+cu130"),
        ({"scratch_free_fraction": 0.02}, "stop", "node n1: 2% free under Ray's temporary folder; Ray starts no work"),
        ({"store_free_bytes": 1024**3}, "warning", "node n1: 1.0 GB free in the store"),
        ({"clock_s": 101.1 + CLOCK_S}, "warning", "node n1: its clock is 5 s off ours; set it by NTP"),
        ({"clock_s": 98.9 - CLOCK_S}, "warning", "node n1: its clock is 5 s off ours"),
    ],
)  # fmt: skip
def test_each_thing_that_can_be_wrong_with_a_node(found, level, said):
    (only, *others) = judged(replace(NODE, **found))
    assert only[0] == level and said in only[1]
    assert bool(others) == (found == {"versions": {}})
