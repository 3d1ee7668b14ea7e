"""Who is trained on, who is measured on: splits by patient or group, and nested label fractions.

A unit is everything that one patient or one group ties together; it is never cut. Orders are taken from hashes
of (seed, unit), so a split depends on names and seed alone: not on numpy's version, not on the order of files.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from uscl.data.schema import CaseEntry, ClipEntry, DatasetIndex
from uscl.errors import DataError

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """Units of each part; only units that own labelled cases are in one."""

    train: frozenset[str]
    validation: frozenset[str]
    test: frozenset[str]
    unit: str = "patient"
    """`patient`, or `group` where groups tie patients together."""


def unit_names(index: DatasetIndex) -> dict[tuple[str, str], str]:
    """The unit of each (patient, group) that occurs: the name of the first group among all they are tied to."""
    root: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        while (above := root.setdefault(node, node)) != node:
            root[node] = root[above]
            node = root[node]
        return node

    pairs = {(entry.patient, entry.group) for entry in _entries(index)}
    for patient, group in sorted(pairs):
        low, high = sorted((find(("group", group)), find(("patient", patient))))
        root[high] = low  # groups sort before patients: the root is the first group
    return {(patient, group): find(("group", group))[1] for patient, group in pairs}


def split_units(index: DatasetIndex, *, seed: int, validation_fraction: float, test_fraction: float) -> Split:
    """Divide the units that own labelled, non-excluded cases; fractions are of cases, at least one unit each.

    Every class occurs in every part where the units allow it. A split that the importer gave wins: a part it names
    holds exactly those units, and only parts it does not name are drawn, from the rest. DataError where a unit is
    given to two parts, or there are fewer units than parts.
    """
    cases = _cases_by_unit(index)
    parts = _given_parts(index.name, cases)
    fractions = {"validation": validation_fraction, "test": test_fraction}
    drawn = [part for part in ("test", "validation") if fractions[part] > 0 and not parts[part]]
    pool = set(cases) - parts["validation"] - parts["test"]
    _check_enough(index.name, pool, drawn)
    total = sum(map(len, cases.values()))
    quotas = {part: fractions[part] * total for part in drawn}
    taken = _draw({unit: cases[unit] for unit in pool}, quotas, seed)
    parts |= taken
    train = pool - taken.get("test", set()) - taken.get("validation", set())
    by_patient = all(entry.group == entry.patient for entry in _entries(index))
    kept = (frozenset(train), frozenset(parts["validation"]), frozenset(parts["test"]))
    return Split(*kept, unit="patient" if by_patient else "group")


def check_given_splits(index: DatasetIndex) -> None:
    """DataError where the importer gave a unit to two parts, as `split_units` would raise."""
    _given_parts(index.name, _cases_by_unit(index))


def cases_of(index: DatasetIndex, split: Split, part: Part) -> tuple[str, ...]:
    """Labelled, non-excluded cases of a part, in stored order."""
    names, units = unit_names(index), getattr(split, part)
    return tuple(case.case for case in _usable(index) if names[case.patient, case.group] in units)


def pretraining_clips(index: DatasetIndex, split: Split) -> tuple[str, ...]:
    """Clips that pretraining may read, in stored order: all but those of validation and test units."""
    names, held_out = unit_names(index), split.validation | split.test
    return tuple(clip.clip for clip in index.clips if names[clip.patient, clip.group] not in held_out)


def labelled_cases(index: DatasetIndex, split: Split, *, fraction: float, draw: int) -> tuple[str, ...]:
    """The `max(1, round(fraction * n))` training cases that keep their labels, in the order of the draw.

    Unit by unit in a fixed order per draw, greedily so that every class occurs as early as possible; the last unit
    may be cut. So a larger fraction of the same draw contains the smaller. DataError, naming the class, where one
    stays unlabelled (science.md 9).
    """
    order = _label_order(index, split, draw)
    count = max(1, round(fraction * len(order)))
    missing = _missing(index, order[:count])
    if missing or not order:
        raise DataError(_unlabelled(index, order, count=count, fraction=fraction, missing=missing))
    return tuple(case.case for case in order[:count])


def _entries(index: DatasetIndex) -> Iterable[ClipEntry | CaseEntry]:
    return (*index.clips, *index.cases)


def _usable(index: DatasetIndex) -> Iterable[CaseEntry]:
    return (case for case in index.cases if not case.excluded)


def _cases_by_unit(index: DatasetIndex) -> dict[str, list[CaseEntry]]:
    """The cases of each unit that are not copies."""
    names = unit_names(index)
    cases: dict[str, list[CaseEntry]] = {}
    for case in _usable(index):
        cases.setdefault(names[case.patient, case.group], []).append(case)
    return cases


def _given_parts(name: str, cases: Mapping[str, Sequence[CaseEntry]]) -> dict[str, set[str]]:
    parts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for unit, members in cases.items():
        given = {case.split: case for case in members if case.split}
        if len(given) > 1:
            one, other = sorted(given.values(), key=lambda case: case.split)[:2]
            raise DataError(
                f"dataset {name}: patient or group {unit!r} is in two splits: case {one.case} in {one.split}, "
                f"case {other.case} in {other.split}; give it one split, or import without the split column"
            )
        for part in given:
            parts[part].add(unit)
    return parts


def _check_enough(name: str, pool: set[str], drawn: Sequence[str]) -> None:
    if len(pool) < len(drawn) + 1:
        parts = ", ".join(["train", *sorted(drawn)])
        raise DataError(
            f"dataset {name}: {len(pool)} patients or groups with labelled cases; splitting into {parts} "
            f"needs at least {len(drawn) + 1}"
        )


@dataclass(frozen=True)
class _Unit:
    """A unit that may be drawn: its name, number of cases and classes."""

    name: str
    size: int
    classes: frozenset[str]


def _draw(cases: Mapping[str, Sequence[CaseEntry]], quotas: Mapping[str, float], seed: int) -> dict[str, set[str]]:
    """Units of each part of `quotas`, in turn; what is left over is for training."""
    rest = [_Unit(name, len(members), _classes(members)) for name, members in cases.items()]
    rest.sort(key=lambda unit: _rank(f"split/{seed}", unit.name))
    owners = Counter(name for unit in rest for name in unit.classes)
    taken: dict[str, set[str]] = {}
    for position, (part, quota) in enumerate(quotas.items()):
        parts_left = len(quotas) - position  # those still to be drawn after this one, and training
        covered: set[str] = set()
        taken[part], gap = set(), quota
        while (unit := _next_unit(rest, owners, covered, gap=gap, parts_left=parts_left)) is not None:
            taken[part].add(unit.name)
            rest.remove(unit)
            owners.subtract(unit.classes)
            covered |= unit.classes | {""}  # not empty any more
            gap -= unit.size
    return taken


def _next_unit(
    rest: Sequence[_Unit], owners: Mapping[str, int], covered: set[str], *, gap: float, parts_left: int
) -> _Unit | None:
    """The unit to add to a part: one with a class it lacks, else one that comes closer to the quota, else none.

    `owners` counts the units of `rest` per class, `covered` names the classes of the part (empty: no unit yet),
    `gap` is the number of cases up to its quota. The last owner of a class stays with training.
    """
    if len(rest) <= parts_left:
        return None
    scarce = {name for name, count in owners.items() if count <= parts_left}
    if covered and not scarce and covered.issuperset(owners):
        return next((unit for unit in rest if _comes_closer(unit, gap)), None)
    spare = [unit for unit in rest if all(owners[name] > 1 for name in unit.classes)]
    candidates = spare or ([] if covered else list(rest))
    fitting = [unit for unit in candidates if _comes_closer(unit, gap)]
    needed = [unit for unit in candidates if unit.classes - covered]
    choice = [unit for unit in fitting if unit.classes - covered] or needed or fitting
    choice = choice or ([] if covered else candidates)

    def cost(unit: _Unit) -> tuple[int, int, int]:
        too_big = 0 if fitting else unit.size
        return too_big, -len(unit.classes - covered), len(unit.classes & scarce)

    return min(choice, key=cost, default=None)  # ties: the first in hash order


def _comes_closer(unit: _Unit, gap: float) -> bool:
    return abs(gap - unit.size) < abs(gap)


def _label_order(index: DatasetIndex, split: Split, draw: int) -> list[CaseEntry]:
    """All training cases in the order in which a draw keeps their labels."""
    names = unit_names(index)
    units: dict[str, list[CaseEntry]] = {}
    for case in _usable(index):
        unit = names[case.patient, case.group]
        if unit in split.train:
            units.setdefault(unit, []).append(case)
    ranked = sorted(units, key=lambda unit: _rank(f"labels/{draw}", unit))
    order: list[CaseEntry] = []
    for unit in _covering_first(ranked, {unit: _classes(units[unit]) for unit in ranked}, frozenset()):
        members = {case.case: case for case in sorted(units[unit], key=lambda case: _rank(f"labels/{draw}", case.case))}
        covered: frozenset[str] = frozenset().union(*(case.classes for case in order))
        first = _covering_first(list(members), {name: case.classes for name, case in members.items()}, covered)
        order += [members[name] for name in first]
    return order


def _covering_first(names: list[str], classes: Mapping[str, frozenset[str]], covered: frozenset[str]) -> list[str]:
    """`names` with those in front that bring most classes not yet covered; the others keep their order."""
    rest, front = list(names), []
    wanted = frozenset().union(*classes.values()) - covered
    while wanted:
        best = max(rest, key=lambda name: len(classes[name] & wanted))
        front.append(best)
        rest.remove(best)
        wanted -= classes[best]
    return front + rest


def _unlabelled(
    index: DatasetIndex, order: Sequence[CaseEntry], *, count: int, fraction: float, missing: Sequence[str]
) -> str:
    where = f"dataset {index.name}: labels.fraction {fraction:g}"
    if not order:
        return f"{where}: no labelled case is left for training"
    never = [name for name in missing if not any(name in case.classes for case in order)]
    if never:
        return f"{where}: class {never[0]!r} occurs in none of the {len(order)} training cases of this split"
    needed = next(n for n in range(count, len(order) + 1) if not _missing(index, order[:n]))
    return (
        f"{where} keeps {count} of {len(order)} training cases and leaves class {missing[0]!r} unlabelled; "
        f"{needed} cases would do (labels.fraction {_round_up(needed / len(order)):g})"
    )


def _missing(index: DatasetIndex, cases: Sequence[CaseEntry]) -> list[str]:
    return [name for name in index.classes if not any(name in case.classes for case in cases)]


def _round_up(fraction: float) -> float:
    return min(1.0, math.ceil(fraction * 1000) / 1000)


def _classes(cases: Sequence[CaseEntry]) -> frozenset[str]:
    return frozenset().union(*(case.classes for case in cases))


def _rank(purpose: str, name: str) -> str:
    return hashlib.sha256(f"{purpose}/{name}".encode()).hexdigest()
