"""Groups of clips or images that no split may cut: those of the table, joined through what looks alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def join_groups(names: Sequence[str], groups: Sequence[str], alike: Iterable[tuple[int, int]]) -> list[str]:
    """The group of each name: its own, joined with those it is `alike` (by position); empty where there is none."""
    member_of = list(range(len(names)))

    def find(position: int) -> int:
        while member_of[position] != position:
            position = member_of[position]
        return position

    first: dict[str, int] = {}
    ties = [(first.setdefault(group, position), position) for position, group in enumerate(groups) if group]
    for one, other in [*ties, *alike]:
        low, high = sorted((find(one), find(other)))
        member_of[high] = low
    roots = [find(position) for position in range(len(names))]
    named: dict[int, str] = {}
    for position, group in enumerate(groups):
        if group:
            named[roots[position]] = min(group, named.get(roots[position], group))
    alone = Counter(roots)
    return [named.get(root, f"like-{names[root]}" if alone[root] > 1 else "") for root in roots]
