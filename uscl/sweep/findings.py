"""What a look at a machine amounts to: findings, each with a line of what to do. Pure: no Ray, no files, no clock."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from uscl.sweep.nodes import NO_DATASET, GpuFacts, Needs, NodeFacts

CLOCK_S = 5.0
"""How far a node's clock may be off before it is worth a word: logs and attempt names are sorted by it."""
LOW_STORE_BYTES = 5 * 1024**3
LOW_SCRATCH_FRACTION = 0.05
"""Ray's own limit: its raylet refuses work on a file system that is fuller."""
VOLTA = (7, 0)


class Level(StrEnum):
    """STOP would end or spoil a sweep, WARNING may, FINE is said for completeness."""

    FINE = "fine"
    WARNING = "warning"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    topic: str
    """`gpu`, `store`, `versions`, ..."""
    what: str
    fix: str = ""
    """What to do; never empty where the level is not FINE."""

    @property
    def line(self) -> str:
        """`what; fix`."""
        return f"{self.what}; {self.fix}" if self.fix else self.what


def judge_node(found: NodeFacts, needs: Needs, *, asked_s: float, answered_s: float, store: str) -> list[Finding]:
    """A node's facts against what the sweep needs; `store` is what a message calls the store.

    `asked_s` and `answered_s` are the driver's Unix times around the question: between them the node's clock must be.
    """
    where = f"node {found.host}: "
    findings = [*_judge_store(found, where, store), *_judge_datasets(found, needs, where)]
    findings += _judge_versions(found, needs, where)
    findings += [finding for gpu in found.gpus for finding in judge_gpu(gpu, found, where)]
    skew = max(asked_s - found.clock_s, found.clock_s - answered_s, 0.0)
    if skew > CLOCK_S:
        what = f"{where}its clock is {skew:.0f} s off ours"
        findings.append(Finding(Level.WARNING, "clock", what, "set it by NTP; logs and attempts are sorted by it"))
    return findings or [Finding(Level.FINE, "node", f"{where}fit")]


def _judge_store(found: NodeFacts, where: str, store: str) -> Iterator[Finding]:
    if found.store:
        what = f"{where}cannot see what the driver wrote to {store} ({found.store})"
        yield Finding(Level.STOP, "store", what, "every node must mount it at the same path, or use an s3:// store")
    elif found.store_free_bytes is not None and found.store_free_bytes < LOW_STORE_BYTES:
        what = f"{where}{found.store_free_bytes / 1024**3:.1f} GB free in the store"
        yield Finding(Level.WARNING, "store", what, "free some: a full store pauses the sweep")
    yield from judge_scratch(found.scratch_free_fraction, where)


def judge_scratch(free_fraction: float, where: str = "") -> list[Finding]:
    """The file system of Ray's temporary folder."""
    if free_fraction >= LOW_SCRATCH_FRACTION:
        return []
    what = f"{where}{free_fraction:.0%} free under Ray's temporary folder"
    return [Finding(Level.STOP, "scratch", what, "Ray starts no work below 5%: free some, or set RAY_TMPDIR elsewhere")]


def _judge_datasets(found: NodeFacts, needs: Needs, where: str) -> Iterator[Finding]:
    for path, fingerprint in needs.datasets.items():
        there = found.datasets.get(path, NO_DATASET)
        fix = "every node must see the same folder"
        if there.startswith(NO_DATASET):
            yield Finding(Level.STOP, "dataset", f"{where}no dataset at {path}", fix)
        elif there != fingerprint:
            what = f"{where}another dataset at {path} (fingerprint {there[:10]}, planned with {fingerprint[:10]})"
            yield Finding(Level.STOP, "dataset", what, fix)


def _judge_versions(found: NodeFacts, needs: Needs, where: str) -> Iterator[Finding]:
    for name, here in needs.versions.items():
        there = found.versions.get(name, "none")
        if there.split("+")[0] != here.split("+")[0]:
            yield Finding(Level.STOP, "versions", f"{where}{name} {there}, here {here}", "install the same everywhere")
        elif there != here:  # cu126 there, cu130 or cpu here
            what = f"{where}{name} {there}, here {here}: another build of one version"
            yield Finding(Level.WARNING, "versions", what, "kernels may round differently; one build is safer")


def judge_gpu(gpu: GpuFacts, found: NodeFacts, where: str = "") -> list[Finding]:
    """A kind of card, against torch's list of architectures and by the kernel that was run on it."""
    torch, sm = found.versions.get("torch", "torch"), f"sm_{gpu.capability[0]}{gpu.capability[1]}"
    lacking = bool(found.arches) and not runs_on(gpu.capability, found.arches)
    if not lacking and not gpu.kernel_error:
        return []
    reason = f"torch {torch} holds no kernels for it ({', '.join(found.arches)})" if lacking else gpu.kernel_error
    fix = f"install a build of torch that lists {sm}"
    if gpu.capability <= VOLTA:
        fix = f"install torch from its cu126 builds, which still hold {sm}: docs/cluster.md has the command"
    elif not lacking:
        fix = "is the card free, and its driver new enough for this torch? nvidia-smi shows both"
    return [Finding(Level.STOP, "gpu", f"{where}{gpu.name} ({sm}) runs no kernel: {reason}", fix)]


def runs_on(capability: tuple[int, int], arches: Collection[str]) -> bool:
    """Whether kernels built for `arches` (`sm_70`, `compute_90`, `sm_90a`) run on a card of that capability.

    Compiled code (sm) runs on its own major version, from its minor upwards; PTX (compute) on all later cards;
    an `a` binds to one card, an `f` to a family. NVIDIA, CUDA C++ programming guide, "compute capability".
    """
    for arch in arches:
        parsed = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if parsed is None:
            continue
        built = (int(parsed[2]), int(parsed[3]))
        if parsed[4] == "a":
            fits = built == capability
        elif parsed[1] == "compute" and not parsed[4]:
            fits = built <= capability
        else:
            fits = built[0] == capability[0] and built[1] <= capability[1]
        if fits:
            return True
    return False
