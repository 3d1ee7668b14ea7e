"""The Ray that a sweep runs on: one of its own on this machine, or a cluster's. Importing this imports no Ray."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from uscl.errors import ClusterError
from uscl.spec.sweep import ResourcesSpec
from uscl.sweep.address import RayAddress, answers, reachable_address
from uscl.sweep.nodes import Needs, versions
from uscl.sweep.preflight import Placement, check_nodes, local_gpus, place, place_on_cluster
from uscl.sweep.signals import StopRequests, shielded
from uscl.sweep.study import Study

OBJECT_STORE_BYTES = 100 * 1024**2
"""Ray's shared memory: trials exchange a line of JSON, so its default (30 % of the machine) would be waste."""


HEAD_EVERY_S, HEAD_SILENT_S = 2.0, 15.0
"""How often the head is asked for a connection, and how long it may give none."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the trials are to run: an address that answers, or this machine."""

    address: RayAddress | None
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


class HeadWatch:
    """Whether the head of a cluster still answers; asked every few seconds, from the driver's main thread.

    Ray itself waits a minute and then ends the driver from C++, with lines of its own.
    """

    def __init__(self, address: RayAddress | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """None: a Ray of our own, which ends with us."""
        self._address = address
        self._clock = clock
        self._asked_s = self._heard_s = clock()

    def lost(self) -> str:
        """Why the sweep cannot go on; empty while it can."""
        now = self._clock()
        if self._address is None or now - self._asked_s < HEAD_EVERY_S:
            return ""
        self._asked_s = now
        if answers(self._address.host_port, timeout_s=HEAD_EVERY_S):
            self._heard_s = now
        silent_s = now - self._heard_s
        if silent_s < HEAD_SILENT_S:
            return ""
        return (
            f"the head of the cluster at {self._address.host_port} has not answered for {silent_s:.0f} s: the sweep "
            "ends here; what is in the store stays. Start the cluster again, then the same command goes on"
        )


@contextmanager
def running_ray(
    study: Study, site: Site, *, workers: int | None, requests: StopRequests, say: Callable[[str], None]
) -> Iterator[Placement]:
    """A Ray of our own, or a connection to a cluster, checked; shut down at the end. `Stopped` where requests come.

    Not shut down after a second signal: Tune's thread still calls Ray then, and the process is about to leave.
    """
    requests.check()
    placement = site.placement
    if placement is not None and placement.fallback:
        say("NO GPU FOUND: trials run on the CPU (resources.gpus_per_trial asks for one; --require-gpu insists)")
    say(f"connecting to Ray at {site.address.host_port}" if site.address else "starting Ray on this machine")
    quiet_environment()
    if site.address:
        site.address.enter()
    import ray

    try:
        with shielded(), _groups_of_their_own(), _without_its_handler():
            if placement is not None:
                _start_local(ray, placement, gpus=site.gpus)
            elif site.address:
                connect(ray, site.address)
        with requests.at_once():  # a cluster may keep us waiting for its first GPU
            if placement is None or placement.device == "cuda":
                placement = placement or place_on_cluster(study.resources, ray, workers=workers)
                for finding in check_nodes(ray, store_root=study.store_root, needs=needs_of(study)):
                    say(finding.line)
        say(f"trials at once: {placement.workers}, on {'GPUs' if placement.device == 'cuda' else 'the CPU'}")
        yield placement
    finally:
        if not requests.hard:
            ray.shutdown()


def quiet_environment() -> None:
    """Ray as a sweep wants it: no telemetry, no folders of its own, no words. Before Ray is imported."""
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


@contextmanager
def _without_its_handler() -> Iterator[None]:
    """ray.init would end the driver on TERM, in place of our own handler, which drains."""
    from ray._private import utils

    before = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before


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


def connect(ray: Any, address: RayAddress) -> None:
    """Join a cluster as its driver. ClusterError where it answered before and does not any more."""
    try:
        ray.init(address=address.host_port, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise ClusterError(f"--address {address.host_port}: no Ray answers there: {said}") from error


def needs_of(study: Study) -> Needs:
    """What every node must have for this study."""
    real = any(cell.planned.spec.method == "nnunetv2" for cell in study.cells)
    datasets = {
        str(plan.dataset_path): plan.dataset_fingerprint for plan in study.datasets if not plan.phantom_by_machine
    }
    return Needs(versions(["nnunetv2"] if real else []), datasets)
