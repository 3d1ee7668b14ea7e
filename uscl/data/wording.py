"""Counts and lists as a person would write them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, one: str, many: str = "") -> str:
    """`1 pair`, `2 pairs`; `many` where the plural is not `one` with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def listed(words: Sequence[str], *, shown: int) -> str:
    """The first `shown` words, and an ellipsis where there are more."""
    return ", ".join([*words[:shown], *(["..."] if len(words) > shown else [])])
