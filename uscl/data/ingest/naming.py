"""What clips, cases and patients are called in a dataset: readable file names, or pseudonyms made with a salt."""

from __future__ import annotations

import csv
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from uscl.data.ingest.table import FileRow
from uscl.errors import DataError

SALT_FILE = "uscl-import.salt"
"""Beside the dataset, so that all datasets of one folder call a patient by one name."""
_SALT_BYTES = 32
_MIN_SALT_BYTES = 16
_DIGITS = 12
"""Hexadecimal digits of a pseudonym, 48 bits: 100,000 files clash with a chance of 2 in 100,000."""


@dataclass(frozen=True)
class Naming:
    """How names are made. Without a salt, files keep readable names and DICOM patients get running numbers."""

    salt: bytes = b""
    keep_names: bool = False
    """Clips and cases are called as their files are: where file names say nothing of anybody."""
    hash_patients: bool = False
    """Patients and groups of a CSV too, which otherwise are taken as pseudonyms that the user chose."""

    @property
    def hides_names(self) -> bool:
        """Whether file names stay out of the dataset."""
        return bool(self.salt) and not self.keep_names

    def of_file(self, relative: Path, kind: str) -> str:
        """`clip-3f9a...` of the path below the folder, `/` between its parts; or its plain word."""
        return self._hashed(kind, relative.as_posix()) if self.hides_names else file_id(relative)

    def of_patient(self, given: str) -> str:
        """What a CSV calls a patient, as it is, or the same pseudonym that DICOM's PatientID of this value gets."""
        return self._hashed("patient", given) if given and self.salt and self.hash_patients else given

    def of_row(self, row: FileRow) -> FileRow:
        """The row with its patient and group as they are to be called."""
        hashed = bool(row.group and self.salt and self.hash_patients)
        group = self._hashed("group", row.group) if hashed else row.group
        return replace(row, patient=self.of_patient(row.patient), group=group)

    def of_key(self, key: str) -> str:
        """The pseudonym of what a header says of a patient; empty without a salt, or where it says nothing."""
        return self._hashed("patient", key) if key and self.salt else ""

    def _hashed(self, kind: str, value: str) -> str:
        message = f"{kind}\0{value.strip()}".encode("utf-8", "surrogateescape")
        return f"{kind}-{hmac.new(self.salt, message, hashlib.sha256).hexdigest()[:_DIGITS]}"


READABLE = Naming()


def file_id(relative: Path) -> str:
    """A plain word for a file: its folders and stem joined, anything unusual replaced."""
    word = re.sub(r"[^\w.+-]+", "_", "-".join(relative.with_suffix("").parts))
    return word.lstrip(".") or "_"


def read_salt(path: Path) -> tuple[bytes, bool]:
    """The salt in `path`, and whether it was made now, readable by its owner only. DataError where it is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_SALT_BYTES) + "\n")
        made = True
    except FileExistsError:
        made = False
    except OSError as error:
        raise DataError(
            f"{path}: cannot keep a salt there: {error.strerror}; name another place with --salt"
        ) from error
    try:
        salt = path.read_bytes().strip()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a salt: {error.strerror}") from error
    if len(salt) < _MIN_SALT_BYTES:
        raise DataError(
            f"{path}: holds {len(salt)} bytes, too few for a salt: pseudonyms could be guessed. Give a file with at "
            f"least {_MIN_SALT_BYTES} random bytes, or none: then one is made"
        )
    return salt, made


def names_path(out: Path) -> Path:
    """Where the key from names in the dataset `out` back to files lies: beside it, never inside."""
    return out.with_name(f"{out.name}.names.csv")


def write_names(path: Path, names: Iterable[tuple[str, str]]) -> None:
    """Pairs of a name in the dataset and a path below the folder, readable by the owner only. DataError if it fails."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.unlink(missing_ok=True)
        with os.fdopen(
            os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="", encoding="utf-8"
        ) as file:
            csv.writer(file).writerows([("name", "file"), *names])
        aside.rename(path)
    except (OSError, UnicodeEncodeError) as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
