"""What one machine sees and has, as a frozen value: looked at on a node of a cluster, or here. Knows no Ray.

The value is judged elsewhere (findings.py), so that a V100 can be judged where there is none.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from uscl.data.dataset import read_document
from uscl.errors import DataError, StoreError
from uscl.store.roots import StoreFiles, open_files

SAME_PACKAGES = ("ray", "torch", "numpy", "pyarrow")
"""Packages of one version on every node, besides Python and uscl itself: they decide what a trial computes."""
LATE_S = 30.0
"""How long NFS may take to show a new file on another machine."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a sweep needs of every node; plain values, so that it travels as JSON."""

    versions: Mapping[str, str]
    """Package -> version here, as `versions` gives them."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Folder -> fingerprint of the dataset planned with."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One kind of card, and whether this torch runs on it."""

    name: str
    capability: tuple[int, int]
    """(7, 0) for a V100: what torch calls sm_70."""
    memory_bytes: int
    kernel_error: str = ""
    """What a kernel of one addition said; empty where it gave the right result."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a machine has."""

    host: str
    versions: Mapping[str, str]
    cpus: int
    clock_s: float
    """Unix time there, when it answered."""
    store: str = ""
    """Why it cannot read what the driver wrote into the store; empty where it can."""
    store_free_bytes: int | None = None
    """None where the store has no such figure (S3)."""
    scratch_free_fraction: float = 1.0
    """Of the file system under Ray's temporary folder; Ray refuses work where less than 0.05 is free."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Folder -> fingerprint found there; where there is none, why not, behind `no: `."""
    gpus: tuple[GpuFacts, ...] = ()
    """One of each kind."""
    num_gpus: int = 0
    arches: tuple[str, ...] = ()
    """`torch.cuda.get_arch_list()`; empty where torch was not asked."""


NO_DATASET = "no: "


def probe_node(store_root: Any, nonce: str, datasets: Collection[str], packages: Collection[str], gpu: bool) -> Any:
    """What a node of a cluster sees; runs there. `nonce` is a name that the driver wrote into the store."""
    files = open_files(store_root)
    store = _read_nonce(files, nonce)  # first: a store that is mounted late shows its datasets late too
    return replace(look_here(datasets, packages, gpu=gpu), store=store, store_free_bytes=_free_bytes(files))


def look_here(datasets: Collection[str] = (), packages: Collection[str] = (), *, gpu: bool) -> NodeFacts:
    """This machine, without the store. `gpu`: look at its cards too, which imports torch."""
    cards, arches, num_gpus = look_at_gpus() if gpu else ((), (), 0)
    return NodeFacts(
        host=socket.gethostname(),
        versions=versions(packages),
        cpus=os.cpu_count() or 1,
        scratch_free_fraction=scratch_free_fraction(),
        datasets={path: fingerprint_at(path) for path in datasets},
        gpus=cards,
        num_gpus=num_gpus,
        arches=arches,
        clock_s=time.time(),
    )


def _read_nonce(files: StoreFiles, nonce: str) -> str:
    deadline = time.monotonic() + LATE_S
    while True:
        try:
            if files.read(nonce).decode() == nonce:
                return ""
            reason = "it reads something else there"
        except (StoreError, UnicodeDecodeError) as error:
            reason = str(error)
        if time.monotonic() > deadline:
            return reason
        time.sleep(0.5)


def _free_bytes(files: StoreFiles) -> int | None:
    with suppress(StoreError):
        return files.free_bytes()
    return None


def scratch_free_fraction() -> float:
    """Free share of the file system under Ray's temporary folder."""
    usage = shutil.disk_usage(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    return usage.free / usage.total


def fingerprint_at(path: str) -> str:
    """The fingerprint of the dataset in a folder, or why there is none, behind `no: `."""
    try:
        return str(read_document(Path(path))["fingerprint"])
    except (DataError, KeyError) as error:
        return f"{NO_DATASET}{error}"


def versions(packages: Collection[str] = ()) -> dict[str, str]:
    """What must be the same on every node: SAME_PACKAGES, the given ones, Python and uscl with a hash of its source."""
    found = {name: _version(name) for name in (*SAME_PACKAGES, *packages)}
    return found | {"python": ".".join(map(str, sys.version_info[:3])), "uscl": f"{_version('uscl')} ({_source()})"}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


@functools.cache
def _source() -> str:
    """A hash of uscl's modules: a node with yesterday's checkout has the same version."""
    package, summed = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        summed.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return summed.hexdigest()[:8]


def look_at_gpus() -> tuple[tuple[GpuFacts, ...], tuple[str, ...], int]:
    """One card of each kind that CUDA shows, with a kernel run on it; torch's list of architectures; how many cards."""
    import torch  # here: it takes seconds, and machines without a card need not wait

    kinds: dict[str, GpuFacts] = {}
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        if card.name not in kinds:
            error = _kernel_error(torch, index)
            kinds[card.name] = GpuFacts(card.name, (card.major, card.minor), card.total_memory, error)
    return tuple(kinds.values()), tuple(torch.cuda.get_arch_list()), torch.cuda.device_count()


def _kernel_error(torch: Any, index: int) -> str:
    try:
        values = torch.arange(8.0, device=f"cuda:{index}")
        return "" if float((values * 2).sum()) == 56.0 else "wrong result"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
