"""Where a store is: a folder or `s3://bucket/prefix`. The one place that tells the two apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar

from uscl.store.files import Files, local_root
from uscl.store.s3_files import PATIENCE_S, S3Files
from uscl.store.s3_root import S3Root

AT_ONCE = 32
"""Requests to a bucket under way where many are needed; S3 itself takes thousands a second."""

T = TypeVar("T")
R = TypeVar("R")

StoreRoot: TypeAlias = Path | S3Root
"""The address of a store, or of a file below it. Both kinds join with `/`, have `name` and `parent`, and print."""

StoreFiles: TypeAlias = Files | S3Files
"""What reads and writes there; both kinds have the same methods."""


def store_root(given: str | StoreRoot) -> StoreRoot:
    """The absolute address meant by `--store`. StoreError where it is of another kind, or holds credentials."""
    if isinstance(given, S3Root):
        return given
    return S3Root.parse(given) if isinstance(given, str) and given.startswith("s3://") else local_root(given)


def open_files(given: str | StoreRoot, *, patience_s: float = PATIENCE_S) -> StoreFiles:
    """The files below an address. `patience_s`: how long to wait for an S3 endpoint that went away."""
    root = store_root(given)
    return S3Files(root, patience_s=patience_s) if isinstance(root, S3Root) else Files(root)


def read_file(address: str | StoreRoot, *, patience_s: float = PATIENCE_S) -> bytes | None:
    """The bytes of one file by its address, or None where there is none."""
    return open_files(address, patience_s=patience_s).read_if_there("")


def ask_all(root: StoreRoot, question: Callable[[T], R], asked: Iterable[T]) -> list[R]:
    """The answers, in order; of a bucket many are asked for at once, for each is a request over a network."""
    if isinstance(root, Path):
        return [question(one) for one in asked]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(question, asked))


def data_folder(root: StoreRoot) -> Path:
    """Where generated datasets of a store lie: in it, or in this machine's cache where the store is in a bucket."""
    return root / "data" if isinstance(root, Path) else cache_folder() / "data"


def cache_folder() -> Path:
    """The user's cache of this program: below XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uscl"
