"""`--only KEY=VALUE`: a study narrowed to some of its cells. The sweeps' folders and tables keep all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from uscl.errors import SpecError
from uscl.records import CellPlan
from uscl.spec.positions import one_line, parse_located
from uscl.spec.settings import did_you_mean
from uscl.sweep.study import Study, StudyCell

_SUGAR: Mapping[str, tuple[str, ...]] = {"seed": ("seed.pretrain", "seed.finetune", "labels.draw")}
"""One key that stands for several settings, as in a sweep file."""
_SHOWN = 12


def only(study: Study, conditions: Sequence[str]) -> Study:
    """The study with those of its cells that meet all conditions, as `--only` gives them; unchanged without any.

    A condition is `KEY=VALUE`, or several of them with commas between; KEY is a setting, `label` (`*` and `?` stand for
    any characters) or `cell` (a number, or the start of an id). One KEY given twice: either value will do.
    SpecError where a KEY is unknown or no cell matches.
    """
    if not conditions:
        return study
    if any(plan.spec.search is not None for plan in study.plans):
        raise SpecError("--only: a search proposes its own cells; --set NAME=VALUE fixes a setting of all of them")
    wanted: dict[str, list[str]] = {}
    for key, value in _parsed(conditions):
        _require_key(key, study)
        wanted.setdefault(key, []).append(value)
    chosen = tuple(cell for cell in study.cells if any(_meets(plan, wanted) for plan in cell.declared.values()))
    if not chosen:
        raise _no_match(study, wanted)
    return replace(study, cells=chosen)


def _parsed(conditions: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for condition in conditions:
        # a comma inside a value, as of a list, is not followed by KEY=
        for part in re.split(r",(?=\s*[A-Za-z_][\w.]*\s*=)", condition):
            key, equals, value = part.partition("=")
            if not equals or not key.strip() or not value.strip():
                where = f"--only {one_line(condition)}"
                raise SpecError(f"{where}: expected KEY=VALUE, as in --only labels.fraction=0.1")
            pairs.append((key.strip(), value.strip()))
    return pairs


def _require_key(key: str, study: Study) -> None:
    known = {"label", "cell", *_SUGAR} | {name for cell in study.cells for name in cell.planned.plan.settings}
    if key not in known:
        raise SpecError(f"--only {key}: no setting of this name{did_you_mean(key, sorted(known))}")


def _meets(plan: CellPlan, wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(any(_is(plan, key, value) for value in values) for key, values in wanted.items())


def _is(plan: CellPlan, key: str, value: str) -> bool:
    if key == "label":
        return plan.label == value or fnmatchcase(plan.label, value)
    if key == "cell":
        number = value.isdecimal() and plan.number == int(value)
        return number or (len(value) >= 4 and plan.cell.startswith(value.lower()))
    return all(_equal(plan.settings.get(name), value) for name in _SUGAR.get(key, (key,)))


def _equal(setting: Any, value: str) -> bool:
    """Whether a setting has this value, however it is written: 1e-3 is 0.001, and `true` is no 1."""
    try:
        given = parse_located(value, source="--only").plain()
    except SpecError:
        return False
    setting = list(setting) if isinstance(setting, tuple) else setting
    same_type = isinstance(setting, bool) == isinstance(given, bool)
    return same_type and bool(given == setting or (isinstance(setting, str) and setting == value))


def _no_match(study: Study, wanted: Mapping[str, Sequence[str]]) -> SpecError:
    """With what there is of each KEY, or, where each value occurs, that they do not occur together."""
    plans = [plan for cell in study.cells for plan in cell.declared.values()]
    absent = [
        key for key, values in wanted.items() if not any(_is(plan, key, value) for plan in plans for value in values)
    ]
    asked = ", ".join(f"{key}={value}" for key in absent or wanted for value in wanted[key])
    if not absent:
        return SpecError(f"--only {asked}: no cell has all of these; `uscl check` prints the cells")
    there = "; ".join(f"{key} is {_values(plans, key, study.cells)}" for key in absent)
    return SpecError(f"--only {asked}: no cell has this; {there}")


def _values(plans: Sequence[CellPlan], key: str, cells: Sequence[StudyCell]) -> str:
    """The values of a key over all cells: `0.1, 0.5 or 1.0`."""
    if key == "cell":
        numbers = [cell.planned.plan.number for cell in cells]
        return f"a number from {min(numbers)} to {max(numbers)}, or the first 4 or more digits of an id"
    name = _SUGAR.get(key, (key,))[0]
    found = dict.fromkeys(_shown(plan.label if key == "label" else plan.settings.get(name)) for plan in plans)
    values = list(found)
    more = f", ... ({len(values)} in all)" if len(values) > _SHOWN else ""
    return ", ".join(values[:_SHOWN]) + more


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return f"'{value}'" if isinstance(value, str) and " " in value else str(value)
