"""Whether a Ray answers at `--address`, asked before anything of the sweep is made.

`ray.init` at an address where nobody answers waits a minute, prints its own lines and kills the process from C++;
asking first, from a process of its own, costs seconds and ends in one line. Imports no Ray.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from uscl.errors import ClusterError

CONNECT_S = 5.0
ANSWER_S = 20.0
"""How long the other side may take to answer as Ray; importing Ray is in it."""


def reachable_address(address: str) -> str:
    """`host:port` of the Ray meant by `--address`, which answers there. ClusterError where none does."""
    found = _resolve(address)
    said = f"--address {address}" + (f" ({found})" if found != address else "")
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ClusterError(f"{said}: expected 'auto' or host:port, as `ray start --head` prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"{said}: no Ray answers there ({error}); is `ray start --head` still running?") from error
    if not _is_ray(found):
        raise ClusterError(f"{said}: something listens there, but it does not answer as Ray; check host and port")
    return found


def _resolve(address: str) -> str:
    """'auto' is RAY_ADDRESS, or what `ray start` noted on this machine."""
    if address != "auto":
        return address
    if os.environ.get("RAY_ADDRESS", "auto") not in ("", "auto"):
        return os.environ["RAY_ADDRESS"]
    # as ray._common.utils.get_ray_address_file; Ray's own search would also find the private Ray of another sweep
    note = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
    try:
        return note.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ClusterError(
            "--address auto: no Ray was started on this machine; run `ray start --head`, set RAY_ADDRESS, "
            "or drop the option for a Ray of the sweep's own"
        ) from error


def _is_ray(address: str) -> bool:
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check", "--address", address]
    try:
        return subprocess.run(ask, capture_output=True, timeout=ANSWER_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
