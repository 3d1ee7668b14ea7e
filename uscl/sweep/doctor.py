"""What `uscl doctor` looks at: this machine, the store, MLflow, a Ray or each node of a cluster. Knows no click.

Looking and judging are apart: `look_...` and `examine_...` touch the world, `judge_...` turn frozen facts into
findings.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from uscl.data.dataset import open_dataset
from uscl.errors import ClusterError, DataError, StoreError
from uscl.store.files import Files
from uscl.store.roots import StoreFiles, StoreRoot, open_files
from uscl.sweep.address import NO_TOKEN, RayAddress, reachable_address, token_source
from uscl.sweep.cluster import connect, quiet_environment
from uscl.sweep.findings import LOW_STORE_BYTES, Finding, Level, judge_gpu, judge_scratch
from uscl.sweep.nodes import Needs, NodeFacts, look_here, versions
from uscl.sweep.preflight import check_store, has_card, look_at_nodes

TESTED = ("ray", "torch", "optuna", "mlflow", "numpy", "pyarrow")
"""Packages whose bounds in our own metadata are what we tested."""
START_S = 120.0
# Beginnings of names of file systems that several machines share.
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "fuse.sshfs")


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store, as this machine sees it."""

    root: str
    error: str = ""
    """Why it cannot be written; empty where it can."""
    file_system: str = ""
    """`ext4`, `nfs4`; empty where unknown."""
    free_bytes: int | None = None
    flock_error: str = ""
    """Why the kernel's lock cannot be had; empty where it can. A lease by counter takes its place."""


@dataclass(frozen=True, slots=True)
class MlflowFacts:
    """Where the mirror would write."""

    uri: str
    error: str = ""
    """Why nothing is there; empty where the server answers, or the database is a file of ours."""
    database_file_system: str = ""
    """That of an embedded database; empty for a server."""


# ---- this machine


def look_at_machine() -> NodeFacts:
    """This machine, its cards included where there seem to be any."""
    return look_here(packages=[name for name in TESTED if name not in versions()], gpu=has_card())


def judge_machine(found: NodeFacts, *, card: bool) -> list[Finding]:
    """GPUs, cores and scratch space. `card`: the driver of an NVIDIA card is loaded here."""
    findings = []
    for gpu in found.gpus:
        sm = f"sm_{gpu.capability[0]}{gpu.capability[1]}"
        fine = f"{gpu.name} ({sm}, {gpu.memory_bytes / 1024**3:.0f} GB): a kernel ran"
        findings += judge_gpu(gpu, found) or [Finding(Level.FINE, "gpu", fine)]
    if not found.gpus and card:
        what = f"there is an NVIDIA card here, but torch {found.versions.get('torch', 'none')} sees none"
        fix = "install a CUDA build of torch (for a V100 a cu126 one), and see that nvidia-smi works"
        findings.append(Finding(Level.STOP, "gpu", what, fix))
    elif not found.gpus:
        findings.append(Finding(Level.FINE, "gpu", "none here: trials run on the CPU"))
    threads = os.environ.get("OMP_NUM_THREADS")
    said = f", OMP_NUM_THREADS={threads}" if threads else ""
    findings.append(Finding(Level.FINE, "cpu", f"{found.cpus} cores{said}"))
    return findings + judge_scratch(found.scratch_free_fraction)


def judge_versions(installed: Mapping[str, str], required: Sequence[str]) -> list[Finding]:
    """Installed packages against our own requirements (`torch>=2.6,<2.14`); only those of TESTED, and Python."""
    findings = []
    for text in required:
        wanted = Requirement(text)
        if wanted.name not in TESTED or wanted.marker is not None:
            continue
        bounds = f"tested {','.join(sorted(map(str, wanted.specifier), reverse=True))}"
        found = installed.get(wanted.name, "none")
        if found == "none":
            fix = f"pip install '{text}'"
            findings.append(Finding(Level.STOP, "versions", f"{wanted.name} is not installed ({bounds})", fix))
        elif not wanted.specifier.contains(found, prereleases=True):
            fix = f"pip install '{text}', or be the one who tests it"
            findings.append(Finding(Level.WARNING, "versions", f"{wanted.name} {found} ({bounds})", fix))
        else:
            findings.append(Finding(Level.FINE, "versions", f"{wanted.name} {found} ({bounds})"))
    python = installed.get("python", "none")
    return [Finding(Level.FINE, "versions", f"python {python}, uscl {installed.get('uscl', 'none')}"), *findings]


def our_requirements() -> Sequence[str]:
    """What uscl's own metadata asks for; empty in a checkout that was never installed."""
    with suppress(PackageNotFoundError):
        return requires("uscl") or ()
    return ()


def installed_versions(found: NodeFacts) -> dict[str, str]:
    """Those of a machine's facts, and of the packages that only the driver needs."""
    more = {}
    for name in TESTED:
        with suppress(PackageNotFoundError):
            more[name] = version(name)
    return more | dict(found.versions)


# ---- the store


def look_at_store(root: StoreRoot, file_system: str) -> StoreFacts:
    """Write, read and lock in the store; nothing stays there. `file_system`: the kind that holds it."""
    try:
        files = open_files(root)
        existed = files.exists(".")
        check_store(root)
    except StoreError as error:
        return StoreFacts(str(root), error=str(error), file_system=file_system)
    found = StoreFacts(str(root), "", file_system, files.free_bytes(), _flock_error(files))
    if not existed and isinstance(files, Files):
        with suppress(OSError):
            files.root.rmdir()
    return found


def _flock_error(files: StoreFiles) -> str:
    """Why `flock` cannot be had in the store; empty where it can, or where leases never ask for it: in a bucket."""
    if not isinstance(files, Files):
        return ""
    name = f"doctor-{secrets.token_hex(8)}"
    try:
        files.write(name, b"")
        with files.path(name).open("rb+") as stream:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        files.delete(name)
    return ""


def judge_store(found: StoreFacts) -> list[Finding]:
    """Whether a sweep can keep its results there."""
    if found.error:
        fix = "give --store or USCL_STORE a folder that can be written"
        return [Finding(Level.STOP, "store", found.error, fix)]
    kind = f" on {found.file_system}" if found.file_system else ""
    free = f", {found.free_bytes / 1024**3:.0f} GB free" if found.free_bytes is not None else ""
    findings = [Finding(Level.FINE, "store", f"{found.root}{kind}: writable{free}")]
    if found.free_bytes is not None and found.free_bytes < LOW_STORE_BYTES:
        what = f"{found.free_bytes / 1024**3:.1f} GB free in the store"
        findings.append(Finding(Level.WARNING, "store", what, "free some: a full store pauses the sweep"))
    if found.flock_error:
        what = f"no locks on {found.root} ({found.flock_error})"
        fix = "start drivers of one sweep on one machine: leases go by a counter, which takes 30 s to call one dead"
        findings.append(Finding(Level.WARNING, "store", what, fix))
    if found.file_system.startswith(_NETWORK):
        what = f"{found.root} is on {found.file_system}, a network mount"
        fix = "mount it `hard`, at one path on every machine; MLflow's database never lies there"
        findings.append(Finding(Level.WARNING, "store", what, fix))
    return findings


# ---- MLflow


def judge_mlflow(found: MlflowFacts, *, network: Sequence[str] = _NETWORK) -> list[Finding]:
    """Whether the mirror will write; whatever is wrong with it, no sweep is stopped by it."""
    if found.error:
        fix = "start the server or unset MLFLOW_TRACKING_URI; the sweep runs without, and `uscl sync` catches up"
        return [Finding(Level.WARNING, "mlflow", f"{found.uri}: {found.error}", fix)]
    if found.database_file_system.startswith(tuple(network)):
        what = f"{found.uri} is a database on {found.database_file_system}, whose locks SQLite cannot trust"
        return [Finding(Level.WARNING, "mlflow", what, "put it on this machine's own disk, or use a server")]
    said = f"database on {found.database_file_system or 'this machine'}" if found.database_file_system else "it answers"
    return [Finding(Level.FINE, "mlflow", f"{found.uri}: {said}")]


# ---- data


def examine_data(path: Path) -> tuple[list[Finding], dict[str, str]]:
    """A dataset's folder, and its fingerprint by folder: what every node must see."""
    try:
        dataset = open_dataset(path)
    except DataError as error:
        return [Finding(Level.STOP, "data", str(error), "give --data the folder of a dataset")], {}
    index = dataset.index
    what = f"{path}: {len(index.clips)} clips, {len(index.cases)} cases, fingerprint {index.fingerprint[:10]}"
    return [Finding(Level.FINE, "data", what)], {str(path.absolute()): index.fingerprint}


# ---- Ray


def examine_local_ray() -> list[Finding]:
    """Start a Ray of one core on this machine, run a task on it, and end it."""
    code = (
        "import logging, ray; ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False, "
        "logging_level=logging.ERROR, object_store_memory=100 * 1024**2); "
        "assert ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=60) == 42; ray.shutdown()"
    )
    quiet_environment()
    started = time.monotonic()
    fix = "its logs are in the newest session below Ray's temporary folder; is that disk full, or /dev/shm too small?"
    try:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=START_S, check=False)
    except subprocess.TimeoutExpired:
        return [Finding(Level.STOP, "ray", f"Ray does not start here within {START_S:.0f} s", fix)]
    if ran.returncode:
        said = (ran.stderr.strip().splitlines() or ["no word"])[-1][:300]
        return [Finding(Level.STOP, "ray", f"Ray does not start here: {said}", fix)]
    return [Finding(Level.FINE, "ray", f"Ray starts here and ran a task, in {time.monotonic() - started:.0f} s")]


def examine_cluster(
    address: str, *, store_root: StoreRoot, datasets: Mapping[str, str]
) -> tuple[list[Finding], list[NodeFacts]]:
    """Whether the cluster answers and in which mode, then the probe of every node: findings, and what each node has."""
    try:
        found = reachable_address(address)
    except ClusterError as error:
        return [
            Finding(
                Level.STOP,
                "ray",
                str(error),
                "start Ray there (`ray start --head`), or give the address of one that runs",
            )
        ], []
    findings = [Finding(Level.FINE, "ray", f"{found.host_port} answers as Ray"), judge_token(found, token_source())]
    quiet_environment()
    found.enter()
    import ray

    nodes: list[NodeFacts] = []
    try:
        connect(ray, found)
        judged = look_at_nodes(ray, store_root=store_root, needs=Needs(versions(), datasets), seen=nodes.append)
    except (ClusterError, StoreError) as error:
        return [
            *findings,
            Finding(Level.STOP, "ray", str(error), "mend it: a sweep would stop there too"),
        ], nodes
    finally:
        ray.shutdown()
    return [*findings, *(finding for of_node in judged.values() for finding in of_node)], nodes


def judge_token(found: RayAddress, source: str) -> Finding:
    """The cluster's mode of authentication; `source` is where our token came from."""
    if found.auth_mode == NO_TOKEN:
        what = "the cluster asks for no token: whoever reaches its ports runs code there"
        fix = "`ray get-auth-token --generate` on the head, copy ~/.ray/auth_token to every node, RAY_AUTH_MODE=token"
        return Finding(Level.WARNING, "token", what, fix)
    return Finding(Level.FINE, "token", f"the cluster takes the token of {source}")
