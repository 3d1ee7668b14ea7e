"""Spans and points of time as a command line gives them: `8h`, `1h30m`; `07:00`, `2026-11-26T07:00`, `+8h`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from uscl.errors import SpecError

_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = r"\d+(?:\.\d+)?(?:d|h|min|m|s)"
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2}))?"


def parse_span(text: str, *, where: str) -> float:
    """Seconds of `24h`, `30m`, `1h30m`, `2d`, `90s`. SpecError, which begins with `where`, otherwise."""
    if not re.fullmatch(f"(?:{_PART})+", text.strip()):
        raise SpecError(f"{where}: expected a span such as 8h, 30m or 1h30m, got '{text}'")
    parts = re.findall(r"(\d+(?:\.\d+)?)(d|h|min|m|s)", text)
    return sum(float(count) * _UNITS_S[unit] for count, unit in parts)


def parse_until(text: str, *, now_s: float, where: str = "--until") -> float:
    """Unix time of a moment to come: `07:00` (local clock, its next occurrence), an ISO date and time, or `+8h`.

    SpecError where it is none of these, or has passed.
    """
    text = text.strip()
    if text.startswith("+"):
        return now_s + parse_span(text[1:], where=where)
    clock = re.fullmatch(_CLOCK, text)
    try:
        moment_s = _next_s(clock, now_s) if clock else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        expected = "a time of day (07:00), a date and time (2026-11-26T07:00) or a span (+8h)"
        raise SpecError(f"{where}: expected {expected}, got '{text}'") from None
    if moment_s <= now_s:
        raise SpecError(f"{where}: {text} has passed; it is {datetime.fromtimestamp(now_s):%Y-%m-%d %H:%M}")
    return moment_s


def _next_s(clock: re.Match[str], now_s: float) -> float:
    """Today at that time by the local clock, or tomorrow where it has passed. ValueError for 25:00."""
    hour, minute, second = (int(part or 0) for part in clock.groups())
    today = datetime.fromtimestamp(now_s).replace(hour=hour, minute=minute, second=second, microsecond=0)
    moment_s = today.timestamp()
    return moment_s if moment_s > now_s else (today + timedelta(days=1)).timestamp()
