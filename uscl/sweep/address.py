"""Whether a Ray answers at `--address`, and how it wants to be spoken to, asked before anything of the sweep is made.

`ray.init` at an address where nobody answers waits a minute, prints its own lines and kills the process from C++;
asking first, from a process of its own, costs seconds and ends in one line. Imports no Ray.

Ray 2.60 knows two modes, and a driver must be in that of its cluster: without the token it is refused, and with a
token in a cluster that has none its actors die unseen. RAY_AUTH_MODE says which; unset, a driver that names an address
sends no token even where it has one. So the cluster is asked, not the environment.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from uscl.errors import ClusterError

CONNECT_S = 5.0
ANSWER_S = 20.0
"""How long the other side may take to answer as Ray; importing Ray is in it."""
TOKEN, NO_TOKEN = "token", "disabled"
"""Values of RAY_AUTH_MODE."""


@dataclass(frozen=True, slots=True)
class RayAddress:
    """A Ray that answered."""

    host_port: str
    auth_mode: str
    """What RAY_AUTH_MODE must be in a driver that joins it: `token` or `disabled`."""

    def enter(self) -> None:
        """Make this process speak as the cluster does; before Ray is imported."""
        os.environ["RAY_AUTH_MODE"] = self.auth_mode


class Answer(Enum):
    """What a health check came back with."""

    RAY = "ray"
    REFUSED = "refused"
    """A Ray that wants another token, or one at all."""
    OTHER = "other"


def reachable_address(address: str) -> RayAddress:
    """The Ray meant by `--address`, which answers there. ClusterError where none does, or it refuses our token."""
    found = _resolve(address)
    said = f"--address {address}" + (f" ({found})" if found != address else "")
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ClusterError(f"{said}: expected 'auto' or host:port, as `ray start --head` prints it")
    if not answers(found):
        raise ClusterError(f"{said}: no Ray answers there; is `ray start --head` still running?")
    mode = _auth_mode(found)
    if mode is None:
        raise ClusterError(f"{said}: something listens there, but it does not answer as Ray; check host and port")
    if not mode:
        raise ClusterError(f"{said}: {_token_trouble()}")
    return RayAddress(found, mode)


def answers(host_port: str, timeout_s: float = CONNECT_S) -> bool:
    """Whether somebody takes connections there."""
    host, _, port = host_port.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
    except (OSError, OverflowError):
        return False
    return True


def token_source() -> str:
    """Where this machine has a token for Ray, in Ray's own order of search; empty where nowhere."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named:
        return f"RAY_AUTH_TOKEN_PATH={named}" if Path(named).is_file() else ""
    default = Path.home() / ".ray" / "auth_token"
    return "~/.ray/auth_token" if default.is_file() else ""


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


def _auth_mode(found: str) -> str | None:
    """The mode in which the Ray there answers; empty where it refuses our token, None where it is no Ray."""
    plain = _ask(found, NO_TOKEN)
    if plain is not Answer.REFUSED:
        return NO_TOKEN if plain is Answer.RAY else None
    return TOKEN if token_source() and _ask(found, TOKEN) is Answer.RAY else ""


def _token_trouble() -> str:
    source = token_source()
    right = "on the head `ray get-auth-token` prints it; put it into ~/.ray/auth_token here, or into RAY_AUTH_TOKEN"
    if not source:
        return f"the cluster asks for a token and there is none on this machine; {right}"
    return f"the cluster refuses the token of {source}; {right}"


def _ask(found: str, mode: str) -> Answer:
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check", "--address", found]
    try:
        asked = subprocess.run(
            ask, capture_output=True, timeout=ANSWER_S, check=False, env=os.environ | {"RAY_AUTH_MODE": mode}
        )
    except subprocess.TimeoutExpired:
        return Answer.OTHER
    if asked.returncode == 0:
        return Answer.RAY
    return Answer.REFUSED if b"InvalidAuthToken" in asked.stderr else Answer.OTHER
