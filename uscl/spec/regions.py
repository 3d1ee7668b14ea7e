"""Nested classes as exclusive ones, for `network.heads: softmax`: what belongs to a class, and where that fails.

A class's exclusive part is the class minus all it contains; the class itself is the union of the exclusive parts of
itself and of what it contains. This holds for nested and for separate classes, not for partially overlapping ones
(science.md 5.1). Here by declared containment alone; what masks really do is checked where they are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from uscl.errors import SpecError

Containment: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Each class that contains others, with all of them, directly or through another, in the order of the classes."""


def containment(classes: Sequence[str], contains: Mapping[str, Sequence[str]]) -> Containment:
    """What each class contains, to the last level; SpecError where classes overlap partially by declaration."""
    within = {name: all_within(name, contains) for name in classes}
    for name in classes:
        outer = [other for other in classes if name in within[other]]
        if name in outer:
            raise _refusal(f"'{name}' lies within itself")
        for first, second in ((one, two) for one in outer for two in outer if one != two):
            if second not in within[first] and first not in within[second]:
                raise _refusal(f"'{name}' lies within '{first}' and within '{second}', which only overlap")
    return tuple((name, tuple(other for other in classes if other in within[name])) for name in classes if within[name])


def memberships(classes: Sequence[str], containment: Containment) -> tuple[tuple[bool, ...], ...]:
    """Row by class: which outputs it is the union of; output 0 is background, output k + 1 the part of class k."""
    within = dict(containment)
    return tuple((False, *(other == name or other in within.get(name, ()) for other in classes)) for name in classes)


def outer_first(classes: Sequence[str], containment: Containment) -> tuple[int, ...]:
    """Numbers of the classes, each after those that contain it: painted in this order, the innermost stays."""
    depth = {name: sum(name in inner for _, inner in containment) for name in classes}
    return tuple(sorted(range(len(classes)), key=lambda number: depth[classes[number]]))


def all_within(name: str, contains: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Every class that lies within class `name`, at whatever depth; `contains` may name direct ones only."""
    found: set[str] = set()
    waiting = list(contains.get(name, ()))
    while waiting:
        inner = waiting.pop()
        if inner not in found:
            found.add(inner)
            waiting += contains.get(inner, ())
    return frozenset(found)


def _refusal(why: str) -> SpecError:
    return SpecError(f"network.heads: softmax takes nested or separate classes, but {why}; use sigmoid")
