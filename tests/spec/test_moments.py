"""Spans and moments of a command line, by a clock that the test sets."""

import time
from datetime import datetime

import pytest

from uscl.errors import SpecError
from uscl.spec.moments import parse_span, parse_until


@pytest.fixture
def berlin(monkeypatch):
    """A local clock that is not UTC and changes its hour twice a year."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    "text, moment",
    [
        ("07:00", "2026-11-26T07:00"),
        ("22:30", "2026-11-25T22:30"),
        ("22:00", "2026-11-26T22:00"),  # it is that very minute: the next one is meant
        ("7:05:30", "2026-11-26T07:05:30"),
        ("+8h", "2026-11-26T06:00"),
        ("+30m", "2026-11-25T22:30"),
        ("+1h30m", "2026-11-25T23:30"),
        ("2026-11-28T12:00", "2026-11-28T12:00"),
        ("2026-11-28 12:00", "2026-11-28T12:00"),
        ("2026-11-28T12:00+00:00", "2026-11-28T13:00"),
    ],
)
def test_moments_by_the_local_clock(berlin, text, moment):
    assert parse_until(text, now_s=at("2026-11-25T22:00")) == at(moment)


def test_a_time_of_day_is_that_of_the_clock_on_the_wall_when_summer_time_ends(berlin):
    now_s = at("2026-10-24T22:00")
    assert parse_until("07:00", now_s=now_s) == at("2026-10-25T07:00") == now_s + 10 * 3600
    assert parse_until("+9h", now_s=now_s) == now_s + 9 * 3600


@pytest.mark.parametrize("text", ["", "25:00", "07:60", "7", "tomorrow", "+", "+8", "+8 h", "8h", "2026-13-01T07:00"])
def test_what_is_no_moment_is_one_line(text):
    with pytest.raises(SpecError, match=r"^--until: expected a (time of day|span)"):
        parse_until(text, now_s=at("2026-11-25T22:00"))


def test_what_has_passed_is_refused():
    with pytest.raises(SpecError, match="--until: 2026-11-24T07:00 has passed; it is 2026-11-25 22:00"):
        parse_until("2026-11-24T07:00", now_s=at("2026-11-25T22:00"))


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("1h30m", 5400), ("2d", 172_800), ("1.5h", 5400), ("5min", 300)]
)
def test_spans(text, seconds):
    assert parse_span(text, where="--x") == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1 week"])
def test_what_is_no_span_is_one_line(text):
    with pytest.raises(SpecError, match="--x: expected a span such as 8h, 30m or 1h30m, got '"):
        parse_span(text, where="--x")
