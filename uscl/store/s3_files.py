"""The same files in an S3 bucket, through `pyarrow.fs`: every object is put in one piece, so a reader sees it whole.

S3 as pyarrow shows it has no rename, no append and no conditional write. So a move is copy and delete, a file that
grows is kept in memory and rewritten (`appended.py`), and of two that link one name in one moment both are told True:
the later put stays, and what readers find decides. An endpoint that has answered once is waited for when it goes away.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from uscl.errors import StoreError
from uscl.store.appended import AppendedFile
from uscl.store.files import StoreFull
from uscl.store.s3_root import S3Root

PATIENCE_S = 300.0
"""How long an operation waits for an endpoint that went away; a trial that outlives a restart loses nothing."""
PAUSE_S = 2.0
CONNECT_S, REQUEST_S, ATTEMPTS = 5.0, 20.0, 3
"""Limits of one request, and how often the AWS SDK tries it before it is an error here."""

_PASSING = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|THROTTLING|status 50[0234]"
)
_FULL = re.compile(r"StorageFull|InsufficientStorage|QuotaExceeded")
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH|MISSING_AUTHENTICATION_TOKEN"
    r"|EXPIRED_TOKEN|ExpiredToken|InvalidToken"
)
_ELSEWHERE = re.compile(r"status 301|AuthorizationHeaderMalformed|IllegalLocationConstraint|configured region is")

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Connection:
    """One per bucket and process."""

    system: Any
    answered: bool = False
    bucket_seen: bool = False


class S3Files:
    """Bytes by name below `root`; as `files.Files`, whose docstrings say what holds for both."""

    def __init__(self, root: S3Root, *, patience_s: float = PATIENCE_S) -> None:
        """Nothing is asked yet. `patience_s` bounds the wait for an endpoint that has answered before."""
        self.root = root
        self._patience_s = patience_s

    def path(self, name: str) -> S3Root:
        """The address of `name`."""
        return self.root / name

    def write(self, name: str, content: bytes) -> None:
        """One put of finished bytes, replacing what is there."""
        self._ask(name, "write", lambda: self._put(name, content))

    def link_first(self, name: str, content: bytes) -> bool:
        """Write the file unless one is there. False: nothing was written.

        Of many that try in one moment several may be told True: S3 lets the later put stay. So whoever was told True
        reads what is there now, and removes nothing that its own bytes may name.
        """
        if self.read_if_there(name) is not None:
            return False
        self.write(name, content)
        return True

    def read(self, name: str) -> bytes:
        """The bytes of a file. StoreError where there is none."""
        content = self.read_if_there(name)
        if content is None:
            raise StoreError(f"{self.path(name).short}: cannot read: there is no such object")
        return content

    def read_if_there(self, name: str) -> bytes | None:
        """The bytes of a file, or None where there is none."""
        try:
            return self._ask(name, "read", lambda: self._get(name))
        except FileNotFoundError:
            self._need_bucket()
            return None

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name is there."""
        return bool(self._info(name).type.value)

    def list(self, folder: str) -> list[str]:
        """Names in a folder, sorted; empty where there is no such folder."""
        names = sorted(info.base_name for info in self._below(folder, recursive=False))
        if not names:
            self._need_bucket()
        return [name for name in names if not name.startswith(".")]

    def size(self, name: str) -> int:
        """Bytes of a file, or of all files in a folder and below; 0 where it is not there."""
        return sum(info.size for info in self._files_of(name))

    def modified_s(self, name: str) -> float:
        """Unix time of the newest change to a file, or to anything in a folder and below; 0 where it is not there."""
        return max((info.mtime_ns / 1e9 for info in self._files_of(name)), default=0.0)

    def free_bytes(self) -> int | None:
        """None: a bucket does not tell how much more it takes."""
        return None

    def asides(self, folder: str) -> tuple[str, ...]:
        """Names of what is being written: never any, an object is there when it is whole."""
        return ()

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all it holds; nothing happens where it is not there."""
        info = self._info(name)
        system, key = self._connection.system, self._key(name)
        try:
            if info.is_file:
                self._ask(name, "delete", lambda: system.delete_file(key))
            elif info.type.value:
                self._ask(name, "delete", lambda: system.delete_dir(key))
        except FileNotFoundError:
            return

    def move(self, name: str, target: str) -> bool:
        """Copy and delete a file or folder. False where it is not there (any more)."""
        source, files = self._key(name), self._files_of(name)
        if not files:
            return False
        try:
            for info in files:
                self._copy(info.path, self._key(target) + info.path[len(source) :], name)
        except FileNotFoundError:
            return False
        alone = len(files) == 1 and files[0].path == source
        if alone and self.read_if_there(name) != self.read_if_there(target):
            return True  # written anew meanwhile: what was moved is the old one
        self.delete(name)
        return True

    def append(self, name: str, line: bytes, *, soon: bool = False) -> None:
        """Add a line to a file that this process alone writes. `soon`: within seconds, in a thread, and at `flush`."""
        growing = AppendedFile.of(str(self.path(name)), S3Files(self.root, patience_s=0.0), name)
        growing.add(line)
        if not soon:
            growing.write()

    def flush(self, name: str) -> None:
        """Write what `append` has kept for later. Lines that cannot be written now are lost, which is logged."""
        AppendedFile.close(str(self.path(name)))

    # ---- one question to S3

    @property
    def _connection(self) -> _Connection:
        return _connect(self.root.bucket, self.root.endpoint, self.root.scheme, self.root.region)

    def _key(self, name: str) -> str:
        return (self.root / name).key

    def _put(self, name: str, content: bytes) -> None:
        stream = self._connection.system.open_output_stream(self._key(name))
        # no `with`: leaving it on an error would publish what there is so far
        stream.write(content)
        stream.close()

    def _get(self, name: str) -> bytes:
        with self._connection.system.open_input_stream(self._key(name)) as stream:
            content: bytes = stream.read()
        return content

    def _copy(self, source: str, target: str, name: str) -> None:
        self._ask(name, "move", lambda: self._connection.system.copy_file(source, target))

    def _info(self, name: str) -> Any:
        return self._ask(name, "look at", lambda: self._connection.system.get_file_info(self._key(name)))

    def _below(self, folder: str, *, recursive: bool) -> Sequence[Any]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self._key(folder), recursive=recursive, allow_not_found=True)
        found: Sequence[Any] = self._ask(folder, "list", lambda: self._connection.system.get_file_info(selector))
        return found

    def _files_of(self, name: str) -> Sequence[Any]:
        info = self._info(name)
        if info.is_file:
            return [info]
        return [found for found in self._below(name, recursive=True) if found.is_file] if info.type.value else []

    def _need_bucket(self) -> None:
        """StoreError where it was the bucket that is not there; asked once."""
        if not self._connection.bucket_seen:
            found = self._ask("", "look at", lambda: self._connection.system.get_file_info(self.root.bucket))
            if not found.type.value:
                raise StoreError(f"{self.root.short}: {_no_bucket(self.root)}")
            self._connection.bucket_seen = True

    def _ask(self, name: str, what: str, operation: Callable[[], T]) -> T:
        """The operation's answer. FileNotFoundError passes; any other failure is a StoreError, once waiting is over."""
        connection = self._connection
        until = time.monotonic() + (self._patience_s if connection.answered else 0.0)
        told = False
        while True:
            try:
                answer = operation()
            except OSError as error:
                if isinstance(error, FileNotFoundError) or "NO_SUCH_KEY" in str(error):
                    connection.answered = True
                    raise FileNotFoundError(str(error)) from error
                if not _PASSING.search(str(error)) or time.monotonic() >= until:
                    raise _explained(error, self.path(name), what) from error
            else:
                connection.answered = True
                return answer
            if not told:
                log.warning("%s: no answer; waiting up to %.0f s", self.root.service, until - time.monotonic())
                told = True
            time.sleep(PAUSE_S)


@lru_cache(maxsize=64)
def _connect(bucket: str, endpoint: str, scheme: str, region: str) -> _Connection:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    if not region and not endpoint:
        try:
            region = resolve_s3_region(bucket)
        except OSError as error:
            raise _explained(error, S3Root(bucket), "find") from error
    system = S3FileSystem(
        endpoint_override=endpoint or None,
        scheme=scheme,
        region=region or "us-east-1",
        connect_timeout=CONNECT_S,
        request_timeout=REQUEST_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        # what fits in one put is one put, instead of three requests of a multi-part upload
        allow_delayed_open=True,
    )
    return _Connection(system)


def _explained(error: OSError, where: S3Root, what: str) -> StoreError:
    """One clear line; nothing of a key or token is in what the SDK says."""
    text = " ".join(str(error).split())
    said = re.sub(r"^.*?(AWS Error )", r"\1", text).partition("; Details")[0][:300]
    if _FULL.search(text):
        return StoreFull(f"{where.short}: no space left ({said}); free some, then start again: nothing is lost")
    if "NO_SUCH_BUCKET" in text or ("Bucket '" in text and "not found" in text):
        reason = _no_bucket(where)
    elif _REFUSED.search(text):
        reason = (
            f"refused ({said}); may the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws or this "
            "machine's role read, write, list and delete there?"
        )
    elif _ELSEWHERE.search(text):
        reason = f"the bucket is not in region {where.region or 'us-east-1'!r} ({said}); set AWS_REGION or ?region="
    elif "NETWORK_CONNECTION" in text:
        reason = f"no answer from {where.service} ({said})"
    else:
        reason = said
    return StoreError(f"{where.short}: cannot {what}: {reason}")


def _no_bucket(root: S3Root) -> str:
    return f"there is no bucket {root.bucket!r} at {root.service}; make it first, or check its name and region"
