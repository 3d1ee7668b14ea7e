"""What may go wrong in a trial, and what the sweep does about it: one table, and how an exception finds its line.

Two kinds of trouble have no line. A loss that is not finite is a result (DIVERGED), and what the tracker does never
reaches a trial.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from uscl.errors import StoreError, TrialError
from uscl.records import Failed
from uscl.store.files import StoreFull

MAX_DEATHS = 3
"""Infrastructure deaths per stage key before the cells above it are held back."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What follows a failure of one class."""

    means: str
    """For people."""
    deaths: int
    """As many on one stage key hold back every cell above it, for this start; 0: it is not counted at all."""
    pauses: bool = False
    """Nothing is handed out until the store has room again."""


POLICIES = {
    "error": Policy("a bug in the trial or its settings", deaths=1),
    "oom": Policy("the GPU or the host ran out of memory; the same again would end the same", deaths=1),
    "lost": Policy("the process died, or its node was lost or pre-empted", deaths=MAX_DEATHS),
    "store": Policy("the store could not be read or written, or another node's output is not seen", deaths=MAX_DEATHS),
    "full": Policy("the store has no room left", deaths=0, pauses=True),
}
"""Class of `Failed` -> its policy. Counted per stage key: whatever cell was the first to fail there."""

RETRIED = tuple(name for name, policy in POLICIES.items() if policy.deaths > 1)
"""Classes that are nobody's bug: the cell is handed out again."""

_MESSAGE_CHARS, _TRACEBACK_CHARS = 2_000, 20_000
_CAUSES = 8
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# As torch, cuBLAS, cuDNN, C++ and Linux put it; in lower case.
_OUT_OF_MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "defaultcpuallocator",
    "std::bad_alloc",
    "cannot allocate memory",
)
# As Ray puts it where its memory monitor ended a worker.
_ENDED_FOR_MEMORY = ("running low on memory", "outofmemoryerror", "oom killer", "memory pressure")


def policy_of(failure: str) -> Policy:
    """The policy of a class; one that this release does not know is treated as a bug."""
    return POLICIES.get(failure, POLICIES["error"])


def failure_of(error: BaseException) -> Failed:
    """The event of an exception: its class, and a message and traceback of bounded length."""
    message = f"{type(error).__name__}: {_text(error)}".strip()
    try:
        traced = "".join(traceback.format_exception(error))
    except Exception as unprintable:
        traced = f"(no traceback: {type(unprintable).__name__})"
    return Failed(class_of(error), message[:_MESSAGE_CHARS], traced[-_TRACEBACK_CHARS:])


def class_of(error: BaseException) -> str:
    """The class of an exception, of what caused it as well: room and memory run out below the libraries we call."""
    causes = list(_causes(error))
    if any(isinstance(one, StoreFull) or (isinstance(one, OSError) and one.errno in _FULL) for one in causes):
        return "full"
    if any(isinstance(one, MemoryError) or _says(_text(one), _OUT_OF_MEMORY) for one in causes):
        return "oom"
    return "store" if isinstance(error, (StoreError, TrialError)) else "error"


def death_of(text: str) -> Failed:
    """The event of a trial whose process or node is gone; `text` is all that Ray says of it."""
    text = text[-_MESSAGE_CHARS:]
    if _says(text, _ENDED_FOR_MEMORY):
        return Failed("oom", "the trial's process was ended because its node ran low on memory", text)
    return Failed("lost", "the trial's process died: killed, out of memory, or its node was lost", text)


def advised(failed: Failed, kind: str) -> str:
    """The message of a failure in a stage of this kind, with what to change put before it where we know that."""
    if failed.failure != "oom":
        return failed.message
    lower = {
        "encoder": "encoder.clips, encoder.frames or image.size",
        "decoder": "decoder.clips, decoder.frames or image.size",
        "finetune": "finetune.batch or image.size",
    }
    what = lower.get(kind, "image.size")
    return f"out of memory, and not tried again in this start: lower {what}; {failed.message}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(_CAUSES):
        if found is None:
            return
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_MESSAGE_CHARS]
    except Exception as unprintable:
        return f"(no message: {type(unprintable).__name__})"


def _says(text: str, words: tuple[str, ...]) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in words)
