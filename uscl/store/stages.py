"""Published stages and their resume points, by content key.

    <root>/[unshared/<namespace>/]stages/<kind>/<key>/<attempt>/...        the files of one attempt
    .../<key>/manifest.json                                                its presence is completion; first wins
    .../<key>/progress/<attempt>/<step>/{..., progress.json}               newest two of each attempt
    <root>/[unshared/<namespace>/]torn/...                                 what did not match its manifest

Writing needs no lock: every attempt writes in folders of its own, and of two that publish one stage the first wins.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from uscl.errors import StoreError
from uscl.records import Metrics, Outcome, ParentRef, StageManifest, StageRef
from uscl.store.roots import StoreRoot, open_files, store_root
from uscl.store.strict_json import decode_json, encode_json

MANIFEST = "manifest.json"
PROGRESS_MANIFEST = "progress.json"
# Two: the newest may be torn by the crash that makes it needed.
GENERATIONS = 2
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*")

log = logging.getLogger(__name__)


class TornStage(StoreError):
    """A published stage did not match its manifest; it has been moved to `torn/` and counts as absent."""


@dataclass(frozen=True, slots=True)
class ProgressPoint:
    """A resume point: the files saved after `step` optimiser steps, each checked against its sha256."""

    step: int
    attempt: str
    files: Mapping[str, bytes]


def new_attempt() -> str:
    """A name for one attempt at a stage: unique over hosts and processes; sorts by time (UTC)."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:24].strip("-") or "host"
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{host}-{os.getpid()}-{secrets.token_hex(4)}"


class StageStore:
    """Stage outputs under one root; with a namespace, those of one cell that shares with nobody."""

    def __init__(self, root: str | StoreRoot, *, namespace: str = "") -> None:
        """`root` need not exist: a folder, or `s3://bucket/prefix`. StoreError for any other address."""
        self.root = store_root(root)
        self.namespace = _checked(namespace) if namespace else ""
        self._files = open_files(self.root / f"unshared/{namespace}" if namespace else self.root)

    def scoped(self, namespace: str) -> StageStore:
        """The corner of this store that belongs to one namespace; the empty one is shared by all."""
        return StageStore(self.root, namespace=namespace)

    def manifest(self, ref: StageRef) -> StageManifest | None:
        """What is published for a stage, or None. Cheap: one small file, the stage's files are not looked at.

        A manifest that cannot be read as one is moved to `torn/` and logged; the stage counts as absent.
        """
        found = self._find(ref)
        return found[0] if found else None

    def has(self, ref: StageRef) -> bool:
        """Whether the stage is published."""
        return self.manifest(ref) is not None

    def refs(self, kind: str) -> list[StageRef]:
        """Every published stage of a kind, by key."""
        found = (StageRef(kind, key) for key in self._files.list(f"stages/{kind}") if _NAME.fullmatch(key))
        return [ref for ref in found if self.has(ref)]

    def folder(self, ref: StageRef) -> StoreRoot:
        """The folder of the attempt that won. StoreError where the stage is not published."""
        return self._files.path(f"{_folder(ref)}/{self._published(ref)[0].attempt}")

    def size(self, ref: StageRef) -> int:
        """Bytes of the published files together. StoreError where the stage is not published."""
        return self._files.size(f"{_folder(ref)}/{self._published(ref)[0].attempt}")

    def read(self, ref: StageRef, name: str) -> bytes:
        """A published file, checked against the sha256 of its manifest.

        TornStage where it is missing or differs: manifest and attempt are then in `torn/`, and the stage is absent.
        StoreError where the stage is not published or has no file of this name.
        """
        manifest, judged = self._published(ref)
        if name not in manifest.files:
            raise StoreError(f"stage {ref} has no file {name!r}; it has {', '.join(sorted(manifest.files)) or 'none'}")
        content = self._files.read_if_there(f"{_folder(ref)}/{manifest.attempt}/{name}")
        if content is not None and _sha256(content) == manifest.files[name]:
            return content
        reason = f"{name} is missing" if content is None else f"{name} does not match its sha256"
        kept = self._set_aside(ref, judged, attempt=manifest.attempt, reason=reason)
        raise TornStage(f"stage {ref}: {reason}; moved to {kept}; start again to rebuild it")

    def publish(
        self,
        ref: StageRef,
        *,
        attempt: str,
        files: Mapping[str, bytes],
        outcome: Outcome,
        inputs: Mapping[str, Any],
        parent: ParentRef | None,
        metrics: Metrics,
        flags: tuple[str, ...],
        provenance: Mapping[str, Any],
    ) -> StageManifest:
        """Write the files, then the manifest, unless the stage is published already. Returns the winner's manifest.

        What is returned has `attempt` as given where this call won. The files of a loser are removed; in a bucket, of
        two that publish in one moment the last stays, and both keep their files.
        """
        winner = self.manifest(ref)
        if winner is not None:
            return winner
        hashes = {_checked(name): _sha256(content) for name, content in files.items()}
        manifest = StageManifest(
            kind=ref.kind, key=ref.key, attempt=_checked(attempt), outcome=outcome, files=hashes, parent=parent,
            inputs=dict(inputs), metrics=dict(metrics), flags=flags, provenance=dict(provenance),
        )  # fmt: skip
        document = encode_json(manifest.to_json(), indent=1)
        for name, content in files.items():
            self._files.write(f"{_folder(ref)}/{attempt}/{name}", content)
        winner, linked = self._link_manifest(ref, document)
        # Once its manifest was put, an attempt may be the one that readers see: in a bucket the last put stays.
        if winner.attempt != attempt and not linked:
            self._files.delete(f"{_folder(ref)}/{attempt}")
        return winner

    def save_progress(self, ref: StageRef, *, attempt: str, step: int, files: Mapping[str, bytes]) -> None:
        """Keep a resume point; once it is durable, all but this attempt's newest two are removed."""
        own = f"{_folder(ref)}/progress/{_checked(attempt)}"
        point = f"{own}/{step:012d}"
        for name, content in files.items():
            self._files.write(f"{point}/{_checked(name)}", content)
        hashes = {name: _sha256(content) for name, content in files.items()}
        self._files.write(f"{point}/{PROGRESS_MANIFEST}", encode_json({"step": step, "files": hashes}))
        for old in self._files.list(own)[:-GENERATIONS]:
            self._files.delete(f"{own}/{old}")

    def load_progress(self, ref: StageRef) -> ProgressPoint | None:
        """The furthest whole resume point of any attempt, or None. A torn one is logged and passed over."""
        attempts = self._files.list(f"{_folder(ref)}/progress")
        points = [(step, attempt) for attempt in attempts for step in self._steps(ref, attempt)]
        for step, attempt in sorted(points, reverse=True):
            files = self._progress_files(f"{_folder(ref)}/progress/{attempt}/{step}")
            if files is not None:
                return ProgressPoint(int(step), attempt, files)
        return None

    def clear_progress(self, ref: StageRef, *, attempt: str) -> None:
        """Remove the resume points of one attempt; those of others stay."""
        self._files.delete(f"{_folder(ref)}/progress/{_checked(attempt)}")

    def _find(self, ref: StageRef) -> tuple[StageManifest, bytes] | None:
        """The manifest and the bytes it was read from; one that is torn is moved aside."""
        content = self._files.read_if_there(f"{_folder(ref)}/{MANIFEST}")
        if content is None:
            return None
        try:
            return _manifest_of(ref, content), content
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._set_aside(ref, content, attempt="", reason=f"manifest.json is not a manifest: {error}")
            return None

    def _published(self, ref: StageRef) -> tuple[StageManifest, bytes]:
        found = self._find(ref)
        if found is None:
            raise StoreError(f"stage {ref} is not in the store at {self._files.root}")
        return found

    def _link_manifest(self, ref: StageRef, document: bytes) -> tuple[StageManifest, bool]:
        """The manifest that is there afterwards, and whether this one was put there for a while at least."""
        linked = False
        # Again, because the manifest that was there first may be torn, and then counts as absent.
        for _ in range(3):
            linked |= self._files.link_first(f"{_folder(ref)}/{MANIFEST}", document)
            winner = self.manifest(ref)
            if winner is not None:
                return winner, linked
        raise StoreError(f"stage {ref}: its manifest cannot be kept whole at {self._files.root}; check the disk")

    def _set_aside(self, ref: StageRef, judged: bytes, *, attempt: str, reason: str) -> StoreRoot:
        """Move a stage that was judged torn out of the way; one published meanwhile by somebody else stays."""
        kept = f"torn/{new_attempt()}-{ref.kind}-{ref.key[:10]}"
        if self._files.move(f"{_folder(ref)}/{MANIFEST}", f"{kept}/{MANIFEST}"):
            moved = self._files.read(f"{kept}/{MANIFEST}")
            if moved != judged:
                self._files.link_first(f"{_folder(ref)}/{MANIFEST}", moved)
        if attempt:
            self._files.move(f"{_folder(ref)}/{attempt}", f"{kept}/{attempt}")
        log.warning("stage %s is torn: %s; moved to %s", ref, reason, self._files.path(kept))
        return self._files.path(kept)

    def _steps(self, ref: StageRef, attempt: str) -> Iterator[str]:
        return (name for name in self._files.list(f"{_folder(ref)}/progress/{attempt}") if name.isdecimal())

    def _progress_files(self, point: str) -> dict[str, bytes] | None:
        listing = self._files.read_if_there(f"{point}/{PROGRESS_MANIFEST}")
        if listing is None:  # being written, or its writer was killed
            return None
        try:
            hashes = dict(decode_json(listing)["files"])
            files = {name: self._files.read_if_there(f"{point}/{_checked(name)}") or b"" for name in hashes}
        except (ValueError, TypeError, KeyError) as error:
            log.warning("resume point %s is torn: %s", self._files.path(point), error)
            return None
        torn = [name for name, content in files.items() if _sha256(content) != hashes[name]]
        if torn:
            log.warning("resume point %s is torn: %s", self._files.path(point), ", ".join(torn))
        return None if torn else files


def _manifest_of(ref: StageRef, content: bytes) -> StageManifest:
    manifest = StageManifest.from_json(decode_json(content))
    if manifest.ref != ref:
        raise ValueError(f"it is that of {manifest.ref}")
    for name in (manifest.attempt, *manifest.files):
        _checked(name)
    return manifest


def _folder(ref: StageRef) -> str:
    return f"stages/{_checked(ref.kind)}/{_checked(ref.key)}"


def _checked(name: str) -> str:
    """A name of one file or folder. ValueError where it could lead elsewhere."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a name in the store is letters, digits and _.=+- and does not start with a dot")
    return name


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
