"""What must hold before the first trial: a store that can be written, a device, nodes that agree.

Called before Ray starts (`check_store`, `place`), and once it runs (`check_nodes`, where there are GPUs or a cluster).
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uscl.data.dataset import open_dataset
from uscl.errors import ClusterError, DataError, StoreError
from uscl.spec.sweep import ResourcesSpec
from uscl.store.roots import StoreRoot, open_files, read_file
from uscl.sweep.findings import Finding, Level, judge_node
from uscl.sweep.nodes import LATE_S, SAME_PACKAGES, Needs, NodeFacts, look_here, probe_node
from uscl.sweep.plan import SweepPlan
from uscl.sweep.speckle_fit import refuse_unfit_speckle

GPU_DEADLINE_S = 600.0
"""How long a cluster may take to show its first GPU; a node from a cloud comes up in minutes."""
PROBE_DEADLINE_S = 120.0
QUIET_BUILD_S = 20.0
"""A phantom that takes longer than this to build says how far it is."""
# Any NVIDIA card shows one of these (Linux driver, WSL): where neither is, importing torch to count is not worth 2 s.
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


@dataclass(frozen=True, slots=True)
class Placement:
    """What each trial is given, and how many run at once."""

    device: str
    """`cuda` or `cpu`."""
    gpus_per_trial: float
    cpus_per_trial: float
    workers: int
    fallback: bool
    """GPUs were asked for and there are none: trials run on the CPU."""


def check_store(root: StoreRoot) -> None:
    """Write, read back and remove a file in the store. StoreError, with where and why, where that fails."""
    files, name = open_files(root), f"preflight-{secrets.token_hex(8)}"
    files.write(name, name.encode())
    try:
        files.read(name)
    finally:
        files.delete(name)


def have_data(plan: SweepPlan, say: Callable[[str], None]) -> None:
    """Build the phantom where it is asked for and not there. DataError where the dataset is another than planned.

    SpecError where a cell's speckle term could never be fitted to it.
    """
    if plan.spec.data == "phantom" and not plan.dataset_path.exists():
        # here: rendering loads what an idle second run need not wait for
        from uscl.data.phantom import build_phantom
        from uscl.data.phantom_cache import cached_phantom

        phantom, started, workers = plan.spec.phantom, time.monotonic(), os.cpu_count() or 1
        say(f"building the phantom: {phantom.patients} patients, {phantom.size} px, in {plan.dataset_path}")
        if plan.phantom_by_machine:
            cached_phantom(phantom, progress=_tell_tenths(say), workers=workers)
        else:
            build_phantom(phantom, plan.dataset_path, progress=_tell_tenths(say), workers=workers)
        say(f"phantom built in {time.monotonic() - started:.0f} s")
    dataset = open_dataset(plan.dataset_path)
    if dataset.index.fingerprint != plan.dataset_fingerprint:
        raise DataError(f"{plan.dataset_path}: its contents changed since the sweep was planned; start again")
    refuse_unfit_speckle(plan, dataset)


def _tell_tenths(say: Callable[[str], None]) -> Callable[[int, int], None]:
    """Progress of a long build: a line whenever another tenth is done, none within the first seconds."""
    started, told = time.monotonic(), 0

    def progress(done: int, total: int) -> None:
        """After each patient."""
        nonlocal told
        tenth = 10 * done // total
        if tenth > told and done < total and time.monotonic() - started > QUIET_BUILD_S:
            say(f"phantom: {done}/{total} patients, {time.monotonic() - started:.0f} s")
        told = max(told, tenth)

    return progress


def has_card() -> bool:
    """Whether the driver of an NVIDIA card is loaded here; says nothing of what torch makes of it."""
    return any(path.exists() for path in _GPU_FILES)


def local_gpus() -> int:
    """GPUs of this machine that CUDA shows us."""
    if not has_card():
        return 0
    import torch  # here: it takes seconds, and machines without a card need not wait

    return torch.cuda.device_count()


def place(resources: ResourcesSpec, *, workers: int | None, gpus: int, cpus: int, require_gpu: bool) -> Placement:
    """Who runs where on this machine. ClusterError where GPUs are insisted upon, or too few for one trial."""
    wanted = workers or resources.workers
    per_trial = resources.gpus_per_trial
    if require_gpu and (gpus == 0 or per_trial == 0):
        reason = "there is none here" if gpus == 0 else "resources.gpus_per_trial is 0"
        raise ClusterError(f"--require-gpu: {reason}; run where nvidia-smi shows a GPU, or drop the option")
    if resources.cpus_per_trial > cpus:
        raise ClusterError(f"resources.cpus_per_trial: {resources.cpus_per_trial:g}, but this machine has {cpus} cores")
    if per_trial > 0 and gpus > 0:
        if per_trial > gpus:
            raise ClusterError(f"resources.gpus_per_trial: {per_trial:g}, but this machine has {gpus}")
        slots = int(gpus / per_trial + 1e-9)
        return Placement("cuda", per_trial, resources.cpus_per_trial, min(wanted or slots, slots), False)
    slots = int(cpus // resources.cpus_per_trial)
    return Placement("cpu", 0.0, resources.cpus_per_trial, wanted or slots, fallback=per_trial > 0)


def place_on_cluster(resources: ResourcesSpec, ray: Any, *, workers: int | None) -> Placement:
    """Who runs where on a cluster that is up; a node that holds a trial is awaited, and asked of an autoscaler.

    ClusterError where none comes within the deadline, or a trial is larger than every node.
    """
    per_trial, wanted = resources.gpus_per_trial, workers or resources.workers
    if per_trial > 0 or not _largest(ray, "CPU"):
        _await_node(resources, ray, wanted=wanted or 1)
    if resources.cpus_per_trial > _largest(ray, "CPU"):
        raise ClusterError(
            f"resources.cpus_per_trial: {resources.cpus_per_trial:g}, but the cluster's largest node has "
            f"{_largest(ray, 'CPU'):g}"
        )
    total = ray.cluster_resources()
    by_cpu = int(total.get("CPU", 0) // resources.cpus_per_trial)
    by_gpu = int(total.get("GPU", 0) / per_trial + 1e-9) if per_trial else by_cpu
    slots = wanted or max(1, min(by_cpu, by_gpu))
    return Placement("cuda" if per_trial else "cpu", per_trial, resources.cpus_per_trial, slots, False)


def _largest(ray: Any, resource: str) -> float:
    return max((float(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]), default=0.0)


def _await_node(resources: ResourcesSpec, ray: Any, *, wanted: int) -> None:
    """Until a node holds the GPUs (or, without, the CPUs) of a trial. An idle autoscaler starts none unasked."""
    what, count = ("GPU", resources.gpus_per_trial) if resources.gpus_per_trial else ("CPU", 1.0)
    if _largest(ray, what) >= count:
        return
    from ray.autoscaler.sdk import request_resources

    # whole numbers only: two trials of half a GPU ask for one each, which the autoscaler takes back when idle
    bundle = {"CPU": math.ceil(resources.cpus_per_trial)} | ({"GPU": math.ceil(count)} if what == "GPU" else {})
    request_resources(bundles=[bundle] * wanted)
    try:
        deadline = time.monotonic() + GPU_DEADLINE_S
        while _largest(ray, what) < count:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"no node with {count:g} {what} in the cluster after {GPU_DEADLINE_S:.0f} s; does `ray status` "
                    "show one? For CPU nodes set resources.gpus_per_trial: 0"
                )
            time.sleep(2.0)
    finally:
        request_resources(bundles=[])


def check_nodes(ray: Any, *, store_root: StoreRoot, needs: Needs) -> list[Finding]:
    """Every node sees the store and the datasets, has our versions, and runs a kernel on each kind of its GPUs.

    ClusterError names the first node that would end a sweep, what is wrong there and what to do; the rest is returned.
    """
    judged = look_at_nodes(ray, store_root=store_root, needs=needs)
    found = [finding for findings in judged.values() for finding in findings]
    for finding in found:
        if finding.level is Level.STOP:
            raise ClusterError(finding.line)
    return [finding for finding in found if finding.level is Level.WARNING]


def unfit_here(needs: Needs, *, session_path: str, gpu: bool) -> str:
    """Why no trial can run on this machine; empty where one can. A node that joined after the preflight asks itself.

    `session_path` is a file that the driver keeps in the store.
    """
    deadline = time.monotonic() + LATE_S
    while not (there := _is_there(session_path)) and time.monotonic() < deadline:
        time.sleep(0.5)
    store = "" if there else f"{session_path} is not there"
    packages = [name for name in needs.versions if name not in ("python", "uscl", *SAME_PACKAGES)]
    found = replace(look_here(needs.datasets, packages, gpu=gpu), store=store)
    findings = judge_node(found, needs, asked_s=0.0, answered_s=math.inf, store="the store")
    return next((finding.line for finding in findings if finding.level is Level.STOP), "")


def _is_there(address: str) -> bool:
    with suppress(StoreError):
        return read_file(address) is not None
    return False


def look_at_nodes(
    ray: Any, *, store_root: StoreRoot, needs: Needs, seen: Callable[[NodeFacts], None] = lambda facts: None
) -> dict[str, list[Finding]]:
    """Findings of each live node, by its name; `seen` gets what every node that answered has."""
    files, nonce = open_files(store_root), f"preflight-{secrets.token_hex(8)}"
    files.write(nonce, nonce.encode())
    try:
        asked_s = time.time()
        nodes = [node for node in ray.nodes() if node["Alive"]]
        probes = [_start_probe(ray, node, store_root, nonce, needs) for node in nodes]
        judged: dict[str, list[Finding]] = {}
        for node, probe in zip(nodes, probes, strict=True):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            judged[name] = _judged(ray, probe, name, needs, asked_s=asked_s, store=str(store_root), seen=seen)
        return judged
    finally:
        files.delete(nonce)


def _start_probe(ray: Any, node: dict[str, Any], store_root: Path, nonce: str, needs: Needs) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(
        # No GPU is taken: those of a cluster may be busy with another sweep, and a kernel of one addition fits beside.
        num_cpus=0, num_gpus=0, max_retries=0, max_calls=1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}},  # which would hide the cards otherwise
    )(probe_node)  # fmt: skip
    packages = [name for name in needs.versions if name not in ("python", "uscl", *SAME_PACKAGES)]
    return remote.remote(store_root, nonce, list(needs.datasets), packages, node["Resources"].get("GPU", 0) > 0)


def _judged(
    ray: Any, probe: Any, name: str, needs: Needs, *, asked_s: float, store: str, seen: Callable[[NodeFacts], None]
) -> list[Finding]:
    try:
        found: NodeFacts = ray.get(probe, timeout=PROBE_DEADLINE_S)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[-1][:300]
        what = f"node {name}: the preflight failed there: {type(error).__name__}: {first}"
        return [Finding(Level.STOP, "node", what, "is uscl installed there, in the Python that Ray runs?")]
    seen(found)
    return judge_node(found, needs, asked_s=asked_s, answered_s=time.time(), store=store)
