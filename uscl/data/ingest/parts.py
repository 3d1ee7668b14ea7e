"""What an import has read so far, beside the dataset that it becomes: one part per source, whole or absent.

.OUT.partial/import.json       what is imported and how: another command does not go on with it
             KEY.arrow         stored frames of one source; moves into a frame file once all sources are read
             KEY.npz           all else of its clips; written last, so where it is, the part is whole
             file-KEY.arrow    a finished frame file, and .json with its hash
             dataset/          the dataset on its way to its place
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.ingest.clip_copies import ClipPrint
from uscl.data.ingest.frames import DecodedClip
from uscl.data.ingest.naming import READABLE, Naming
from uscl.data.ingest.options import ClipOptions
from uscl.errors import DataError

_READERS = ("uscl", "av", "pydicom", "opencv-python-headless", "Pillow", "SimpleITK", "python-gdcm", "numpy")
"""Distributions whose version may change decoded pixels."""


@dataclass(frozen=True)
class ReadClip:
    """A clip of a part: as decoded, without its frames."""

    decoded: DecodedClip
    """`frames` is empty, `pseudonym_key` a salted hash."""
    num_frames: int
    content: str
    """Of the frames and all else, as the dataset records it."""
    print: ClipPrint


@dataclass(frozen=True)
class PartFolder:
    """Paths and files of an unfinished import."""

    path: Path
    salt: str
    """Of the hashes of what headers say of patients; random, and gone with the folder."""
    naming: Naming = READABLE
    """With a salt of its own, its pseudonyms are used instead: they are the same in every import."""

    def frames_file(self, key: str) -> Path:
        """Stored frames of a source."""
        return self.path / f"{key}.arrow"

    @property
    def dataset(self) -> Path:
        """Where the dataset grows."""
        return self.path / "dataset"

    def any_whole(self) -> bool:
        """Whether any source has been read."""
        return any(self.path.glob("*.npz"))

    def whole(self, key: str) -> bool:
        """Whether a source has been read."""
        return self._record(key).is_file()

    def load(self, key: str) -> list[ReadClip]:
        """The clips of a source that has been read."""
        with np.load(self._record(key)) as arrays:
            plain = json.loads(arrays["plain"].tobytes().decode())
            return [_clip(entry, arrays, f"{number}.") for number, entry in enumerate(plain)]

    def save(self, key: str, clips: Sequence[ReadClip]) -> None:
        """Finish a part, its frames being in their file."""
        arrays: dict[str, np.ndarray] = {}
        plain = []
        for number, clip in enumerate(clips):
            entry, own = _entry(clip)
            plain.append(entry)
            arrays |= {f"{number}.{name}": array for name, array in own.items()}
        content = BytesIO()
        np.savez_compressed(content, plain=np.frombuffer(json.dumps(plain).encode(), np.uint8), **arrays)
        _write_whole(self._record(key), content.getvalue())

    def drop(self, key: str) -> None:
        """Forget what there is of a source."""
        self._record(key).unlink(missing_ok=True)
        self.frames_file(key).unlink(missing_ok=True)

    def pseudonym(self, key: str) -> str:
        """Hash of what a header says of the patient; empty where it says nothing."""
        if self.naming.salt:
            return self.naming.of_key(key)
        return hashlib.sha256(f"{self.salt}/{key}".encode()).hexdigest() if key else ""

    def patient(self, pseudonym: str, known: dict[str, str]) -> str:
        """What the dataset calls the patient of a `pseudonym`: itself, or a running number, which `known` keeps."""
        if self.naming.salt or not pseudonym:
            return pseudonym
        return known.setdefault(pseudonym, f"patient-{len(known) + 1:04}")

    def remove(self) -> None:
        """Drop everything."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _record(self, key: str) -> Path:
        return self.path / f"{key}.npz"


@contextlib.contextmanager
def part_folder(out: Path, folder: Path, options: ClipOptions, naming: Naming = READABLE) -> Iterator[PartFolder]:
    """The unfinished import of `folder` into `out`, begun or gone on with; locked while in use.

    DataError where another process works on it, or another command began it.
    """
    path = out.with_name(f".{out.name}.partial")
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataError(f"{out}: cannot write a dataset there: {error.strerror}") from error
    try:
        _lock(lock, out)
        yield PartFolder(path, _agree(path, _settings(folder, options, naming)), naming)
    finally:
        os.close(lock)


def part_key(name: str, stamps: Sequence[tuple[str, int, int]], options: ClipOptions) -> str:
    """Names the part of a source: its path, size and time of change (of all its files), and the options."""
    facts = json.dumps([name, [list(stamp) for stamp in stamps], asdict(options)])
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _lock(lock: int, out: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"{out}: another process is importing into it") from None
    except OSError:  # a file system without locks
        return


def _settings(folder: Path, options: ClipOptions, naming: Naming) -> dict[str, Any]:
    readers = {}
    for name in _READERS:
        with contextlib.suppress(ModuleNotFoundError):
            readers[name] = version(name)
    return {"folder": os.fsencode(folder.resolve()).decode("utf-8", "backslashreplace")} | {
        "options": asdict(options),
        "readers": readers,
        "names": {"salt": hashlib.sha256(naming.salt).hexdigest()[:8]},
    }


def _agree(path: Path, settings: Mapping[str, Any]) -> str:
    """The salt of the import begun here; writes it where none is."""
    document = path / "import.json"
    if not document.is_file():
        salt = secrets.token_hex(16)
        _write_whole(document, json.dumps({**settings, "salt": salt}, indent=1).encode())
        return salt
    try:
        begun = json.loads(document.read_text(encoding="utf-8"))
        salt = str(begun.pop("salt"))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{path} holds an unfinished import that cannot be read; remove it") from error
    if begun != settings:
        raise DataError(
            f"{path} holds an unfinished import {_difference(begun, settings)}; repeat that command to go on with it, "
            f"or remove {path} to begin anew"
        )
    return salt


def _difference(begun: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if begun.get("folder") != now["folder"]:
        return f"of another folder, {begun.get('folder')}"
    for group, what in (("options", "with"), ("readers", "by"), ("names", "with")):
        was = begun.get(group, {})
        for name, value in now[group].items():
            if was.get(name) != value and group == "names":
                return "with another salt"
            if was.get(name) != value:
                return f"{what} {name} {was.get(name)} instead of {value}"
    return "of another kind"


def _entry(clip: ReadClip) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What JSON holds of a clip, and its arrays; whatever fields a decoded clip has."""
    plain: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {"motion": clip.print.motion, "views": clip.print.views}
    for field in fields(clip.decoded):
        value = getattr(clip.decoded, field.name)
        (arrays if isinstance(value, np.ndarray) else plain)[field.name] = value
    return {
        "decoded": plain,
        "num_frames": clip.num_frames,
        "content": clip.content,
        "exact": clip.print.exact,
    }, arrays


def _clip(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray], prefix: str) -> ReadClip:
    own = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    seen = ClipPrint(entry["exact"], own.pop("motion"), own.pop("views"))
    facts: dict[str, Any] = {name: _tuples(value) for name, value in entry["decoded"].items()} | own
    return ReadClip(DecodedClip(**facts), entry["num_frames"], entry["content"], seen)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def without_frames(decoded: DecodedClip, pseudonym: str) -> DecodedClip:
    """A clip as a part keeps it."""
    return replace(decoded, frames=decoded.frames[:0].copy(), pseudonym_key=pseudonym)


def _write_whole(path: Path, content: bytes) -> None:
    aside = path.with_name(f"{path.name}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
