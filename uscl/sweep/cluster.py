"""The Ray that a sweep runs on: one of its own on this machine, or a cluster's. Importing this imports no Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from uscl.errors import ClusterError
from uscl.spec.sweep import ResourcesSpec
from uscl.sweep.address import reachable_address
from uscl.sweep.preflight import Placement, check_nodes, local_gpus, place, place_on_cluster
from uscl.sweep.signals import StopRequests, shielded
from uscl.sweep.study import Study

OBJECT_STORE_BYTES = 100 * 1024**2
"""Ray's shared memory: trials exchange a line of JSON, so its default (30 % of the machine) would be waste."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the trials are to run: an address that answers, or this machine."""

    address: str | None
    gpus: int
    placement: Placement | None
    """Known of this machine; that of a cluster is known once it is connected."""


def find_site(resources: ResourcesSpec, *, address: str | None, workers: int | None, require_gpu: bool) -> Site:
    """Asked before anything is made. ClusterError where no Ray answers at the address, or this machine is too small."""
    if address is not None:
        return Site(reachable_address(address), 0, None)
    gpus = local_gpus()
    placement = place(resources, workers=workers, gpus=gpus, cpus=os.cpu_count() or 1, require_gpu=require_gpu)
    return Site(None, gpus, placement)


@contextmanager
def running_ray(
    study: Study, site: Site, *, workers: int | None, requests: StopRequests, say: Callable[[str], None]
) -> Iterator[Placement]:
    """A Ray of our own, or a connection to a cluster, checked; shut down at the end.

    Not after a second signal: Tune's thread still calls Ray then, and the process is about to leave.
    """
    placement = site.placement
    if placement is not None and placement.fallback:
        say("NO GPU FOUND: trials run on the CPU (resources.gpus_per_trial asks for one; --require-gpu insists)")
    say("starting Ray on this machine" if placement else f"connecting to Ray at {site.address}")
    _quiet_environment()
    import ray

    try:
        with shielded(), _groups_of_their_own():
            if placement is not None:
                _start_local(ray, placement, gpus=site.gpus)
            else:
                _connect(ray, str(site.address))
        if placement is None or placement.device == "cuda":
            placement = placement or place_on_cluster(study.resources, ray, workers=workers)
            shared = [plan.dataset_path for plan in study.datasets if not plan.phantom_by_machine]
            check_nodes(ray, store_root=study.store_root, dataset_paths=shared)
        say(f"trials at once: {placement.workers}, on {'GPUs' if placement.device == 'cuda' else 'the CPU'}")
        yield placement
    finally:
        if not requests.hard:
            ray.shutdown()


def _quiet_environment() -> None:
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        "TUNE_RESULT_DELIM": "/",
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": str(10**9),
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }.items():
        os.environ.setdefault(name, value)
    # a stray call after the end must not look for a Ray to join: it would find somebody else's
    os.environ |= {"RAY_ENABLE_AUTO_CONNECT": "0", "TUNE_DISABLE_AUTO_INIT": "1"}


@contextmanager
def _groups_of_their_own() -> Iterator[None]:
    """Ray's daemons started inside get process groups of their own.

    timeout(1) and batch systems send TERM to the driver's whole group; without Ray no trial could save its progress.
    """
    from ray._private import services

    before = services.ConsolePopen

    class Apart(before):  # type: ignore[misc, valid-type]
        """As Ray's own, in a new group."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **({"process_group": 0} | kwargs))

    services.ConsolePopen = Apart
    try:
        yield
    finally:
        services.ConsolePopen = before


def _start_local(ray: Any, placement: Placement, *, gpus: int) -> None:
    ray.init(
        address="local",
        num_cpus=max(1, -int(-placement.workers * placement.cpus_per_trial // 1)),
        num_gpus=gpus if placement.device == "cuda" else 0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"--address {address}: no Ray answers there: {str(error).splitlines()[0]}") from error
