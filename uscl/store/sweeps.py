"""A sweep's own folder: what was asked, which cells, what happened, who is driving.

<root>/sweeps/<identity>/sweep.yaml      resolved, as last run
.../cells.json                           the planned cells
.../dataset.json                         what a report must know of the dataset
.../events.jsonl                         appended by the driver only; states, no curves
.../proposals.jsonl                      of a search: what it asked for, in order
.../lease.json                           one driver at a time
.../live.json, stop.json                 what runs where, for `uscl status`; a request of `uscl stop`
.../logs/<cell>-<attempt>.log            .../report/...
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from uscl.errors import SpecError, StoreError
from uscl.records import NO_FACTS, CellPlan, DatasetFacts, Proposal
from uscl.store.files import explained, make_folder
from uscl.store.lease import Holder, Lease, acquire_lease, find_holder, holder_of
from uscl.store.roots import StoreRoot, open_files, store_root
from uscl.store.strict_json import decode_json, encode_json

# What a sweep's results are about; with another of these they do not belong in one folder.
# Not the path of the data: a dataset that was moved, or a store seen from another host, is the same by its fingerprint.
_ABOUT = ("recipe", "dataset_fingerprint")
_SHOWN = 10
_ID_DIGITS = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """What `uscl stop` leaves for a driver."""

    token: str
    by: str
    """Who asks: `ada@workstation`."""
    hard: bool
    """As a second signal: end at once."""
    to: Holder | None

    def meant_for(self, driver: Holder | None) -> bool:
        """Whether this driver is asked; with no name on either side it is."""
        return self.to is None or driver is None or self.to == driver


class SweepFolder:
    """What one sweep keeps outside the stages, under `<root>/sweeps/<identity>/`."""

    def __init__(self, root: str | StoreRoot, identity: str) -> None:
        """Makes nothing yet. SpecError where the identity cannot name a folder."""
        if not re.fullmatch(r"[A-Za-z0-9_][\w.=+-]*", identity, flags=re.ASCII):
            raise SpecError(f"sweep name {identity!r}: use letters, digits and _.=+- and start with no dot")
        self.identity = identity
        self.store_root = store_root(root)
        """The store that the sweep is in."""
        self._files = open_files(self.store_root / f"sweeps/{identity}")

    @property
    def path(self) -> StoreRoot:
        """The folder's address; it need not be there yet."""
        return self._files.root

    def require_same(self, document: Mapping[str, Any]) -> None:
        """StoreError where the folder belongs to a sweep with another `recipe` or `dataset_fingerprint`."""
        stored = self.read_sweep() or {}
        for name in _ABOUT:
            if name in stored and name in document and stored[name] != document[name]:
                raise StoreError(
                    f"{self.path}: holds a sweep with {name} {stored[name]!r}, this one has {document[name]!r}; "
                    f"give this one another name with --name"
                )

    def write_sweep(self, document: Mapping[str, Any]) -> None:
        """Keep the resolved sweep as sweep.yaml; plain values only. StoreError as `require_same`."""
        self.require_same(document)
        text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)
        self._files.write("sweep.yaml", text.encode())

    def read_sweep(self) -> dict[str, Any] | None:
        """What `write_sweep` kept, or None. An unreadable file is logged and counts as absent: a start rewrites it."""
        content = self._files.read_if_there("sweep.yaml")
        if content is None:
            return None
        try:
            document = yaml.safe_load(content)
        except (yaml.YAMLError, UnicodeDecodeError):
            document = None
        if not isinstance(document, dict):
            log.warning("%s/sweep.yaml is torn; it counts as absent", self.path)
            return None
        return document

    def write_cells(self, cells: Sequence[CellPlan]) -> None:
        """Keep the planned cells as cells.json, replacing those of an earlier start."""
        self._files.write("cells.json", encode_json([cell.to_json() for cell in cells], indent=1))

    def read_cells(self) -> tuple[CellPlan, ...]:
        """What `write_cells` kept. StoreError where the sweep has not run yet or the file is torn."""
        content = self._files.read_if_there("cells.json")
        if content is None:
            raise StoreError(f"{self.path}: no such sweep in this store; has it been run, with this --store?")
        try:
            return tuple(CellPlan.from_json(document) for document in decode_json(content))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{self.path}/cells.json is torn ({error}); run the sweep again to rewrite it") from error

    def all_cells(self) -> tuple[CellPlan, ...]:
        """Every cell that the sweep declares or has proposed; none where a first start ended before it wrote any.

        StoreError where they cannot be read. A last line of proposals.jsonl that was cut while it was written is left
        out: its cells were never handed out.
        """
        if not any(
            self._files.exists(name) for name in ("sweep.yaml", "cells.json", "proposals.jsonl", "events.jsonl")
        ):
            return ()
        return self.read_cells() + tuple(self._proposed())

    def _proposed(self) -> Iterator[CellPlan]:
        *lines, last = (self._files.read_if_there("proposals.jsonl") or b"").split(b"\n")
        for number, line in enumerate(filter(None, [*lines, last if _record(last) else b""]), 1):
            try:
                yield from (CellPlan.from_json(cell) for cell in decode_json(line).get("cells", ()))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                where = f"{self.path}/proposals.jsonl: record {number}"
                raise StoreError(f"{where} is torn ({error}); run the sweep again to rewrite it") from error

    def write_dataset(self, facts: DatasetFacts) -> None:
        """Keep what a report must know of the dataset, as dataset.json."""
        self._files.write("dataset.json", encode_json(facts.to_json(), indent=1))

    def read_dataset(self) -> DatasetFacts:
        """What `write_dataset` kept; nothing known where it is missing (an older release) or torn, which is logged."""
        content = self._files.read_if_there("dataset.json")
        if content is None:
            return NO_FACTS
        try:
            return DatasetFacts.from_json(decode_json(content))
        except (ValueError, TypeError) as error:
            log.warning("%s/dataset.json is torn (%s); it counts as absent", self.path, error)
            return NO_FACTS

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Add one record to events.jsonl. One writer at a time: the holder of the lease.

        It survives kill -9 (in a bucket: but for the last seconds), and what is lost is history, never a result.
        """
        self._files.append("events.jsonl", encode_json(event), soon=True)

    def read_events(self) -> list[dict[str, Any]]:
        """The records of events.jsonl in order. Torn lines are left out; how many is logged."""
        return self._records("events.jsonl")

    def append_proposal(self, proposal: Proposal) -> None:
        """Add one to proposals.jsonl, before anything of it is trained. As `append_event`."""
        self._files.append("proposals.jsonl", encode_json(proposal.to_json()))

    def read_proposals(self) -> tuple[Proposal, ...]:
        """What `append_proposal` kept, by index; of several with one index the last. Torn lines are left out."""
        found: dict[int, Proposal] = {}
        for record in self._records("proposals.jsonl"):
            try:
                proposal = Proposal.from_json(record)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("%s/proposals.jsonl: a record that is no proposal is left out (%s)", self.path, error)
                continue
            found[proposal.index] = proposal
        return tuple(found[index] for index in sorted(found))

    def _records(self, name: str) -> list[dict[str, Any]]:
        content = self._files.read_if_there(name) or b""
        records = [_record(line) for line in content.split(b"\n") if line]
        whole = [record for record in records if record is not None]
        if len(whole) < len(records):
            log.warning("%s/%s: %d torn lines left out", self.path, name, len(records) - len(whole))
        return whole

    # ---- logs and report

    def log_path(self, cell: str, attempt: str) -> StoreRoot:
        """Where an attempt at a cell logs; its folder is made."""
        return self._made("logs") / f"{cell}-{attempt}.log"

    def logs(self, cell: str) -> list[StoreRoot]:
        """Log files of a cell, oldest attempt first."""
        return [self._files.path(f"logs/{name}") for name in self._files.list("logs") if name.startswith(f"{cell}-")]

    def refer_to_log(self, cell: str, attempt: str, log_path: StoreRoot) -> None:
        """Keep, as the log of an attempt, where the sweep that shares it has the log."""
        self._files.write(f"logs/{cell}-{attempt}.log", f"this attempt's log is {log_path}\n".encode())

    def read_report(self, name: str) -> bytes | None:
        """A file of the report, or None where there is none."""
        return self._files.read_if_there(f"report/{name}")

    def has_report(self, name: str) -> bool:
        """Whether the report has this file."""
        return self._files.exists(f"report/{name}")

    def write_report(self, name: str, content: bytes) -> None:
        """Keep a file of the report."""
        self._files.write(f"report/{name}", content)

    def _made(self, name: str) -> StoreRoot:
        folder = self._files.path(name)
        if isinstance(folder, Path):
            with explained(folder, "make"):
                make_folder(folder)
        return folder

    # ---- who drives, and how trials hear that it stops

    def acquire_lease(self) -> Lease:
        """The right to drive this sweep. LeaseHeld where another driver has it; free again after kill -9.

        Giving it back writes what `append_event` may have kept for later.
        """
        lease = acquire_lease(self._files.path("lease.json"), sweep=self.identity)
        return lease.before_release(lambda: self._files.flush("events.jsonl"))

    def sessions(self) -> list[str]:
        """Names of session files: that of a driver under way, or of one that was killed."""
        return [name for name in self._files.list("") if name.startswith("session-")]

    def write_session(self, name: str, content: bytes) -> StoreRoot:
        """Write a session file; its address."""
        self._files.write(name, content)
        return self._files.path(name)

    def remove_session(self, name: str) -> None:
        """Remove a session file; nothing happens where it is not there."""
        self._files.delete(name)

    @property
    def scratch(self) -> Path | None:
        """A folder for files that only the driver needs while it runs; None where there is none in the store."""
        return self.path if isinstance(self.path, Path) else None

    def driver(self) -> Holder | None:
        """The process that drives this sweep right now, or None."""
        return find_holder(self._files.path("lease.json"))

    def holder(self) -> Holder | None:
        """The name in the lease, whether or not that process lives; cheap."""
        return holder_of(_record(self._files.read_if_there("lease.json") or b"") or {})

    # ---- what other processes ask and see

    def ask_to_stop(self, by: str, to: Holder | None, *, hard: bool = False) -> None:
        """Leave a request to stop for the driver `to` (None: whoever drives). It replaces an earlier one."""
        request = StopRequest(secrets.token_hex(8), by, hard, to)
        self._files.write("stop.json", encode_json(asdict(request)))

    def stop_request(self) -> StopRequest | None:
        """The request that was left last; None where there is none, or it cannot be read."""
        document = _record(self._files.read_if_there("stop.json") or b"")
        try:
            return StopRequest(**document | {"to": holder_of(document["to"] or {})}) if document else None
        except (TypeError, KeyError, AttributeError):
            return None

    def clear_stop(self) -> None:
        """Remove a request; nothing happens where there is none."""
        self._files.delete("stop.json")

    def write_live(self, document: Mapping[str, Any]) -> None:
        """Replace what the driver says of the trials under way; for `read_live` of whatever process."""
        self._files.write("live.json", encode_json(document))

    def read_live(self) -> dict[str, Any] | None:
        """What `write_live` wrote last; None where no driver runs, or one without trials, or it cannot be read."""
        return _record(self._files.read_if_there("live.json") or b"")

    def clear_live(self) -> None:
        """Remove it: the driver has ended."""
        self._files.delete("live.json")


def shared_log(folders: Sequence[SweepFolder], cell: str, attempt: str) -> StoreRoot:
    """Where an attempt at a cell of one or more sweeps logs: the first one's `log_path`.

    The others get the same file under a second name (a hard link); in a bucket, a line that says where it is. Where
    that cannot be, it is logged.
    """
    first = folders[0].log_path(cell, attempt)
    try:
        for folder in folders[1:]:
            if isinstance(first, Path):
                first.touch()
                os.link(first, str(folder.log_path(cell, attempt)))
            else:
                folder.refer_to_log(cell, attempt, first)
    except (OSError, StoreError) as error:
        log.warning("%s: cannot be linked (%s); the log is there only", first, error)
    return first


def list_sweeps(root: str | StoreRoot) -> tuple[SweepFolder, ...]:
    """The sweeps of a store that have been started, by identity."""
    files = open_files(root)
    started = [name for name in files.list("sweeps") if files.exists(f"sweeps/{name}/sweep.yaml")]
    return tuple(SweepFolder(root, name) for name in started)


def find_cell(cells: Sequence[CellPlan], text: str) -> CellPlan:
    """The cell meant by a number, as `uscl check` prints it, or by the first digits of its id; a number comes first.

    A number of up to three digits is never the start of an id: a slip would mean another cell. SpecError where no cell
    or more than one is meant.
    """
    is_number = text.isdecimal() and len(text) < _ID_DIGITS
    numbered = [cell for cell in cells if text.isdecimal() and cell.number == int(text)]
    begun = [cell for cell in cells if text and not is_number and cell.cell.startswith(text.lower())]
    found = numbered or begun
    if len(found) == 1:
        return found[0]
    if not found:
        known = f"numbers go from {min(c.number for c in cells)} to {max(c.number for c in cells)}" if cells else "none"
        raise SpecError(f"no cell {text!r}: give a number that `uscl check` prints or the start of an id ({known})")
    shown = ", ".join(f"{cell.number} ({cell.cell[: len(text) + 4]})" for cell in found[:_SHOWN])
    raise SpecError(f"cell {text!r} could be any of {len(found)}: {shown}; give more digits or the number")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        document = decode_json(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
