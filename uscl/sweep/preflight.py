"""What must hold before the first trial: a store that can be written, a device, nodes that agree.

Called before Ray starts (`check_store`, `place`), and once it runs (`check_nodes`, where there are GPUs or a cluster).
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.data.dataset import open_dataset
from uscl.errors import ClusterError, DataError
from uscl.spec.sweep import ResourcesSpec
from uscl.store.roots import StoreRoot, open_files, read_file
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


def local_gpus() -> int:
    """GPUs of this machine that CUDA shows us."""
    if not any(path.exists() for path in _GPU_FILES):
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
    """Who runs where on a cluster that is up; GPUs are awaited. ClusterError where none comes within the deadline."""
    per_trial, deadline = resources.gpus_per_trial, time.monotonic() + GPU_DEADLINE_S
    while per_trial > 0 and ray.cluster_resources().get("GPU", 0) < min(1, per_trial):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"no GPU in the cluster after {GPU_DEADLINE_S:.0f} s; does `ray status` show nodes with GPUs? "
                "For CPU nodes set resources.gpus_per_trial: 0"
            )
        time.sleep(2.0)
    total = ray.cluster_resources()
    largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if resources.cpus_per_trial > largest:
        raise ClusterError(
            f"resources.cpus_per_trial: {resources.cpus_per_trial:g}, but the cluster's largest node has {largest:g}"
        )
    by_cpu = int(total.get("CPU", 0) // resources.cpus_per_trial)
    by_gpu = int(total.get("GPU", 0) / per_trial + 1e-9) if per_trial else by_cpu
    slots = workers or resources.workers or max(1, min(by_cpu, by_gpu))
    return Placement("cuda" if per_trial else "cpu", per_trial, resources.cpus_per_trial, slots, False)


def check_nodes(ray: Any, *, store_root: StoreRoot, dataset_paths: Sequence[Path]) -> None:
    """Every node sees the store and the datasets, has our versions, and runs a kernel on its GPUs.

    ClusterError names the node and what is wrong there.
    """
    files, name = open_files(store_root), f"preflight-{secrets.token_hex(8)}"
    files.write(name, name.encode())
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        probes = [_start_probe(ray, node, files.path(name), dataset_paths) for node in nodes]
        here = versions()
        for node, probe in zip(nodes, probes, strict=True):
            found = _result(ray, probe, node["NodeManagerHostname"])
            _judge(found, here, store_root=store_root)
    finally:
        files.delete(name)


def _start_probe(ray: Any, node: dict[str, Any], nonce: StoreRoot, dataset_paths: Sequence[Path]) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    # a GPU of its own, so that Ray shows the task one; the trials have not started yet
    gpus = 1 if node["Resources"].get("GPU", 0) >= 1 else 0
    remote = ray.remote(num_cpus=0, num_gpus=gpus, scheduling_strategy=where, max_retries=0, max_calls=1)(probe_node)
    return remote.remote(str(nonce), [str(path) for path in dataset_paths], gpus > 0)


def _result(ray: Any, probe: Any, host: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = ray.get(probe, timeout=PROBE_DEADLINE_S)
    except Exception as error:
        raise ClusterError(f"node {host}: the preflight failed there: {type(error).__name__}: {error}") from error
    return found


def _judge(found: dict[str, Any], here: dict[str, str], *, store_root: StoreRoot) -> None:
    host = found["host"]
    if not found["store"]:
        raise ClusterError(f"node {host}: cannot see what the driver wrote to {store_root}; every node must mount it")
    if found["no_dataset"]:
        raise ClusterError(f"node {host}: no dataset at {found['no_dataset'][0]}; every node must see the same folder")
    for name, version in here.items():
        if found["versions"].get(name) != version:
            other = found["versions"].get(name, "none")
            raise ClusterError(f"node {host}: {name} {other}, here {version}; install the same on every node")
    if found["kernel"]:
        raise ClusterError(
            f"node {host}: its GPU runs no kernel of this torch: {found['kernel']}; a V100 needs a cu126 build of torch"
        )


def probe_node(nonce: str, dataset_paths: Sequence[str], gpu: bool) -> dict[str, Any]:
    """What a node sees; runs there."""
    import socket

    deadline = time.monotonic() + 30.0  # NFS may show a new file late
    while (seen := read_file(nonce)) is None and time.monotonic() < deadline:
        time.sleep(0.5)
    return {
        "host": socket.gethostname(),
        "store": seen is not None,
        "no_dataset": [path for path in dataset_paths if not (Path(path) / "dataset.json").exists()],
        "versions": versions(),
        "kernel": _kernel_error() if gpu else "",
    }


def _kernel_error() -> str:
    import torch

    try:
        values = torch.arange(8.0, device="cuda")
        return "" if float((values * 2).sum()) == 56.0 else "wrong result"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def versions() -> dict[str, str]:
    """What must be the same on every node."""
    from importlib.metadata import version

    return {name: version(name) for name in ("ray", "torch", "numpy", "pyarrow")} | {
        "python": ".".join(map(str, sys.version_info[:3]))
    }
