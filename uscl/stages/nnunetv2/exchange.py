"""What our stage and nnU-Net's process tell each other: files in the run's folder, and lines on standard input.

job.json -> inputs, device and threads; resume.safetensors -> where an earlier attempt was
progress.jsonl <- a line per news; state.safetensors <- the newest resume point; result.json, out/ <- how it ended
stdin: the line `stop`; its end, when our side is gone, ends the process and its group
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.stages.inputs import PackageInputs

JOB, RESULT, NEWS = "job.json", "result.json", "progress.jsonl"
STATE, RESUME = "state.safetensors", "resume.safetensors"
OUT = "out"
STOP_LINE = b"stop\n"
HEARTBEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """What nnU-Net's process is asked to do."""

    inputs: PackageInputs
    device: str
    threads: int
    progress_every_s: float

    def write(self, root: Path) -> None:
        """Leave the job in a run's folder."""
        document = {
            "inputs": self.inputs.model_dump(mode="json"),
            "device": self.device,
            "threads": self.threads,
            "progress_every_s": self.progress_every_s,
        }
        (root / JOB).write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def read(cls, root: Path) -> Job:
        """What `write` left."""
        document = json.loads((root / JOB).read_text(encoding="utf-8"))
        return cls(**(document | {"inputs": PackageInputs(**document["inputs"])}))


class Monitor:
    """nnU-Net's side: tells how far it is, and hears that it should stop."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stop = threading.Event()
        self._news = (root / NEWS).open("a", encoding="utf-8")
        self._told = 0.0

    @property
    def stopping(self) -> bool:
        """Whether our stage asked for a stop."""
        return self._stop.is_set()

    def listen(self) -> None:
        """Watch standard input from a thread of its own, until the process ends."""
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, **fields: Any) -> None:
        """One line of news, at once."""
        self._news.write(json.dumps(fields) + "\n")
        self._news.flush()

    def heartbeat(self, step: int, frames_per_s: float) -> None:
        """The step that is done; about once a second gets through."""
        now = time.monotonic()
        if now - self._told >= HEARTBEAT_S:
            self._told = now
            self.tell(step=step, frames_per_s=frames_per_s)

    def save(self, state: bytes, step: int) -> None:
        """Put a resume point where our stage takes it from."""
        aside = self._root / f"{STATE}.part"
        aside.write_bytes(state)
        aside.replace(self._root / STATE)
        self.tell(saved=step)

    def _listen(self) -> None:
        while line := os.read(0, 64):
            if STOP_LINE in line:
                self._stop.set()
        os.killpg(0, signal.SIGKILL)  # nobody waits for us any more


def write_result(root: Path, document: Mapping[str, Any]) -> None:
    """How the run ended; the last thing its process writes."""
    (root / RESULT).write_text(json.dumps(document), encoding="utf-8")


def state_metadata(state: bytes) -> dict[str, str]:
    """The text fields in the header of safetensors bytes."""
    length = int.from_bytes(state[:8], "little")
    fields: dict[str, str] = json.loads(state[8 : 8 + length])["__metadata__"]
    return fields
