"""One thing that a check found: how bad, how often, where, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SHOWN = 5
"""Examples that a finding names."""


class Level(StrEnum):
    """STOP: a split leaks, results on it mean nothing. WARNING: look before training. NOTE: good to know."""

    STOP = "stop"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """What one check says of a dataset."""

    check: str
    """A word per kind of finding, stable for programs that read the JSON."""
    level: Level
    count: int
    """Of what the message speaks of; 0 where it is of the dataset as a whole."""
    message: str
    examples: tuple[str, ...] = ()
    """Ids of clips and cases, the first SHOWN of them."""
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self) | {"level": str(self.level)}


def found(
    check: str, level: Level, message: str, examples: Sequence[str], *, advice: str = "", count: int | None = None
) -> list[Finding]:
    """A list of one finding about the examples, or of none where there is none; `count` where they are not all."""
    number = len(examples) if count is None else count
    return [Finding(check, level, number, message, tuple(examples[:SHOWN]), advice)] if number else []


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first; equals as they came."""
    levels = list(Level)
    return tuple(sorted(findings, key=lambda finding: levels.index(finding.level)))


def leaks(findings: Sequence[Finding]) -> bool:
    """Whether any of them says that a split leaks."""
    return any(finding.level is Level.STOP for finding in findings)


def to_text(findings: Sequence[Finding]) -> str:
    """The findings as lines: level and message, examples, what to do."""
    return "\n".join(line for finding in findings for line in _lines(finding))


def summary(findings: Sequence[Finding]) -> str:
    """`1 leak, 2 warnings, 0 notes`, in a few words."""
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    said = {Level.STOP: ("leak", "leaks"), Level.WARNING: ("warning", "warnings"), Level.NOTE: ("note", "notes")}
    words = [f"{counts[level]} {one if counts[level] == 1 else many}" for level, (one, many) in said.items()]
    return ", ".join(words)


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.level.upper():8} {finding.message}"]
    if finding.examples:
        more = finding.count - len(finding.examples)
        lines.append(" " * 9 + "; ".join(finding.examples) + (f"; and {more} more" if more > 0 else ""))
    return lines + ([" " * 9 + "-> " + finding.advice] if finding.advice else [])
