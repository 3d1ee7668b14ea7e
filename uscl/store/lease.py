"""One driver per sweep: a lease that ends with its process, however that ends.

`flock` where the file system has it: the kernel releases it, also after kill -9. Elsewhere a counter that its
holder moves; it is stale when it has not moved for 30 s of the observer's own clock.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from uscl.errors import LeaseHeld, StoreError
from uscl.store.files import explained, make_folder
from uscl.store.roots import StoreFiles, StoreRoot, open_files, read_file
from uscl.store.strict_json import decode_json, encode_json

BEAT_S, STALE_S = 5.0, 30.0
"""How often a counter moves, and how long it must have stood still on the observer's clock to be anybody's."""

_NO_FLOCK = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_LOOKS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lease, as it wrote itself down."""

    pid: str
    host: str
    since: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} ({self.command})"


log = logging.getLogger(__name__)


class Lease:
    """The right to drive one sweep, held until `release()` or the end of the process. A context manager."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        """`give_back` is called once; `acquire_lease` makes leases."""
        self._give_back = give_back
        self._first: Callable[[], None] = lambda: None
        self._when_taken: Callable[[], None] = lambda: None
        self._held = True

    def before_release(self, act: Callable[[], None]) -> Lease:
        """This lease, which calls `act` once before it is given back."""
        self._first = act
        return self

    def when_taken(self, act: Callable[[], None]) -> Lease:
        """This lease, which calls `act` from another thread where somebody takes it for dead and takes over."""
        self._when_taken = act
        return self

    def was_taken(self) -> None:
        """Somebody has taken over."""
        self._when_taken()

    def release(self) -> None:
        """Give the lease back; a second call does nothing."""
        if self._held:
            self._held = False
            self._first()
            self._give_back()

    def __enter__(self) -> Lease:
        """The lease itself: it is held already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Release."""
        self.release()


def acquire_lease(path: StoreRoot, *, sweep: str, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> Lease:
    """Take the lease that lies at `path`, at once or never.

    LeaseHeld names the process and host that holds it. Without flock, and in a bucket, `beat_s` is how often the
    holder moves its counter and `stale_s` how long a counter left by a dead holder is watched before it is taken.
    """
    if not isinstance(path, Path):
        return _acquire_counter(path, sweep=sweep, beat_s=beat_s, stale_s=stale_s)
    with explained(path, "take the lease at"):
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor)
    except OSError as error:
        os.close(descriptor)
        if error.errno in _NO_FLOCK:
            return _acquire_counter(path, sweep=sweep, beat_s=beat_s, stale_s=stale_s)
        if isinstance(error, (BlockingIOError, PermissionError)):
            raise _held(sweep, _holder(path)) from None
        raise StoreError(f"{path}: cannot take the lease: {error.strerror}") from error
    # In place, not renamed over: the lock belongs to this very file.
    with suppress(OSError):  # a full disk costs the holder's name, not the lease
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, encode_json(_myself()), 0)
    return Lease(lambda: _unlock(descriptor))


def find_holder(path: StoreRoot, *, beat_s: float = BEAT_S) -> Holder | None:
    """Who holds the lease that lies at `path` right now, or None; takes nothing.

    Where there is no flock, and in a bucket, a counter left behind is watched for two beats before it counts as
    nobody's.
    """
    document = _holder(path)
    if not isinstance(path, Path):
        return holder_of(document) if document and _moves(path, document, within_s=2.2 * beat_s) else None
    try:
        with path.open("rb") as stream:  # closing gives back what was locked
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NO_FLOCK and not (document and _moves(path, document, within_s=2.2 * beat_s)):
            return None
        return holder_of(document) or Holder("?", "?", "?", "?")  # a full disk has cost the name
    return None


def holder_of(document: Mapping[str, Any]) -> Holder | None:
    """What a lease says of its holder; None where nobody wrote a name."""
    if not document:
        return None
    named = {name: str(document.get(name, "")) for name in ("pid", "host", "since", "command")}
    return Holder(**named)


def _moves(path: StoreRoot, before: Mapping[str, Any], *, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        time.sleep(within_s / 50)
        now = _holder(path)
        if now and now != before:
            return True
    return False


def _lock(descriptor: int) -> None:
    """Lock it at once; somebody who only looks who holds it (`find_holder`) has it for a moment."""
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    # Said outright: a forked child may still have the file open.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _myself() -> dict[str, Any]:
    since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": " ".join(sys.argv)[:500]}


def _holder(path: StoreRoot) -> Mapping[str, Any]:
    """Who wrote the lease; empty where nobody holds it or its holder has not written it yet."""
    try:
        document = decode_json(read_file(path) or b"")
    except ValueError:
        return {}
    except StoreError:
        if not isinstance(path, Path):
            raise  # there the file is all there is: who cannot read it cannot say that nobody holds it
        return {}
    return document if isinstance(document, dict) else {}


def _held(sweep: str, holder: Mapping[str, Any]) -> LeaseHeld:
    if not holder:
        return LeaseHeld(f"sweep {sweep} is being run by another process; wait for it, or stop it")
    return LeaseHeld(
        f"sweep {sweep} is being run by process {holder.get('pid')} on {holder.get('host')} "
        f"since {holder.get('since')} ({holder.get('command')}); wait for it, or stop it"
    )


# ---- where there is no flock


def _acquire_counter(path: StoreRoot, *, sweep: str, beat_s: float, stale_s: float) -> Lease:
    last = _holder(path)
    until = time.monotonic() + stale_s
    while last and time.monotonic() < until:
        time.sleep(beat_s / 2)
        now = _holder(path)
        if now and now != last:
            raise _held(sweep, now)
        last = now
    mine = _myself() | {"token": secrets.token_hex(8), "counter": _counted(0)}
    files = open_files(path.parent, patience_s=0.0)
    files.write(path.name, encode_json(mine))
    # Two may find it free in one moment: the one whose token stays has it.
    time.sleep(beat_s / 2)
    if _holder(path).get("token") != mine["token"]:
        raise _held(sweep, _holder(path))
    stop = threading.Event()
    lease = Lease(lambda: _stop_beating(files, path.name, mine, stop, thread))
    thread = threading.Thread(target=_beat, args=(lease, files, path.name, mine, stop, beat_s), daemon=True)
    thread.start()
    return lease


def _beat(
    lease: Lease, files: StoreFiles, name: str, mine: dict[str, Any], stop: threading.Event, beat_s: float
) -> None:
    counter = 0
    while not stop.wait(beat_s):
        counter += 1
        try:
            if not _is_mine(files, name, mine):
                log.warning("the lease was taken over: this driver was cut off from the store for too long")
                lease.was_taken()
                return
            files.write(name, encode_json(mine | {"counter": _counted(counter)}))
        except StoreError:  # a full disk or a lost mount: the next beat may succeed
            continue


def _counted(beats: int) -> str:
    # of one width: a file that grows between the question for its size and its bytes would be read cut short
    return f"{beats:012d}"


def _is_mine(files: StoreFiles, name: str, mine: Mapping[str, Any]) -> bool:
    try:
        return bool(decode_json(files.read_if_there(name) or b"")["token"] == mine["token"])
    except (ValueError, TypeError, KeyError):  # cut short, or by an older release: no other driver's
        return True


def _stop_beating(
    files: StoreFiles, name: str, mine: Mapping[str, Any], stop: threading.Event, thread: threading.Thread
) -> None:
    stop.set()
    thread.join()
    with suppress(StoreError):  # it counts as stale soon
        if _is_mine(files, name, mine):
            files.write(name, b"")
