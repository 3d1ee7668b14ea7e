"""The `space` of a search, read and checked: which settings are varied, over which values, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose, isfinite
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from uscl.errors import SpecError
from uscl.spec.positions import Located
from uscl.spec.settings import (
    Given,
    Place,
    checked,
    did_you_mean,
    flatten_located,
    is_list_field,
    require_known,
    shown,
    trial_fields,
    unannotated,
)
from uscl.spec.space import Choice, Dimension, FloatRange, IntRange, Range

RANGE_KEYS = ("int", "float", "choice", "log", "step", "when")
LARGEST_INT = 2**53
"""Samplers count in float64."""
_FORMS = "{int: [low, high]}, {float: [low, high]} or a list of values"

NOT_SEARCHED: Mapping[str, str] = {
    "data": "a sweep has one dataset; give it as 'data:' at the top of the file, or by --data",
    **dict.fromkeys(
        ("seed", "seed.pretrain", "seed.finetune", "labels.draw"),
        "a search for a lucky seed finds one; search.repeats runs every proposal under several, and takes their mean",
    ),
    **dict.fromkeys(
        ("split.seed", "split.validation_fraction", "split.test_fraction"),
        "decides which patients are scored, so a search would find the easiest; set it under 'fixed'",
    ),
    "evaluate.tta": "scores one network in two ways, and a search has one evaluation per cell; set it under 'fixed'",
}
"""Settings that no search may vary, and why."""


@dataclass(frozen=True, slots=True)
class PlacedDimension:
    """A dimension, and the beginning of an error about it."""

    dimension: Dimension
    place: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """One entry of `space` under reading: a setting, its field, and where it stands."""

    name: str
    field: FieldInfo
    place: Place

    def error(self, line: int, message: str) -> SpecError:
        """What is wrong with a part of it, to be raised."""
        return SpecError(f"{_at(self.place, self.name, line)}: {message}")

    def value(self, node: Located, part: str = "") -> Any:
        """A value that the setting itself may have."""
        where = _at(self.place, self.name, node.line)
        return checked(self.name, node.plain(), f"{where}: {part}" if part else where, field=self.field).value

    def plain(self, node: Located, part: str, kind: type) -> Any:
        """A value of type int, float or bool, whatever the setting takes."""
        where = f"{_at(self.place, self.name, node.line)}: {part}"
        return checked(self.name, node.plain(), where, field=FieldInfo.from_annotation(kind)).value


def read_space(given: Given, where: str) -> tuple[PlacedDimension, ...]:
    """The dimensions of a `space` block in the file's order; `where` begins errors about the block itself."""
    if not given.node.is_mapping or not given.node.value:
        raise SpecError(f"{where}: expected {{setting: {_FORMS}}}, got '{shown(given.node.plain())}'")
    found: dict[str, PlacedDimension] = {}
    for name, node in _entries(given.node, ""):
        place = _at(given.place, name, node.line)
        require_known(name, place, known=trial_fields())
        if name in NOT_SEARCHED:
            raise SpecError(f"{place}: {NOT_SEARCHED[name]}")
        if name in found:
            raise SpecError(f"{place}: given twice in this space")
        asked = _Asked(name, trial_fields()[name], given.place)
        found[name] = PlacedDimension(_dimension(asked, node, found), place)
    return tuple(found.values())


def _at(place: Place, name: str, line: int) -> str:
    where = place.at(name, line)
    return f"{where}: {name}" if place.is_option else where


def _entries(node: Located, prefix: str) -> Iterator[tuple[str, Located]]:
    """Every setting and its range; names may be dotted or nested."""
    for key, child in node.value.items():
        name = f"{prefix}{key}"
        is_range = not child.is_mapping or not child.value or set(RANGE_KEYS) & child.value.keys()
        if is_range or not any(other.startswith(f"{name}.") for other in trial_fields()):
            yield name, child
        else:
            yield from _entries(child, f"{name}.")


def _dimension(asked: _Asked, node: Located, earlier: Mapping[str, PlacedDimension]) -> Dimension:
    if is_list_field(asked.field):
        raise asked.error(node.line, "is itself a list, and a search varies single values; set it under 'fixed'")
    if node.is_list:
        return Dimension(asked.name, _choice(asked, node))
    if not node.is_mapping:
        raise asked.error(node.line, f"expected {_FORMS}, got '{shown(node.plain())}'")
    for key, child in node.value.items():
        if key not in RANGE_KEYS:
            raise asked.error(child.line, f"{shown(key)}: unknown key{did_you_mean(key, RANGE_KEYS)}")
    kinds = [key for key in ("int", "float", "choice") if key in node.value]
    if len(kinds) != 1:
        got = "both " + " and ".join(kinds) if kinds else "none of int, float and choice"
        raise asked.error(node.line, f"expected {_FORMS}, got {got}")
    return Dimension(asked.name, _range(asked, kinds[0], node), _when(asked, node, earlier))


def _range(asked: _Asked, kind: str, node: Located) -> Range:
    if kind == "choice":
        for key in ("log", "step"):
            if key in node.value:
                raise asked.error(node.value[key].line, f"{key}: belongs to a range of numbers, and this is a choice")
        return _choice(asked, node.value["choice"])
    _require_numbers(asked, kind, node.line)
    log, step = node.value.get("log"), node.value.get("step")
    is_log = log is not None and bool(asked.plain(log, "log", bool))
    if is_log and step is not None:
        raise asked.error(step.line, "log and step exclude each other; keep one")
    return _ints(asked, node, is_log) if kind == "int" else _floats(asked, node, is_log)


def _choice(asked: _Asked, node: Located) -> Choice:
    if not node.is_list or not node.value:
        raise asked.error(node.line, f"expected a list of values, got '{shown(node.plain())}'")
    values = [asked.value(item) for item in node.value]
    for number, value in enumerate(values):
        if value in values[:number]:
            raise asked.error(node.value[number].line, f"'{shown(value)}' is given twice")
    return Choice(tuple(values))


def number_kinds(field: FieldInfo) -> tuple[str, ...]:
    """Ranges that a setting may have: `int` and `float`, `int` alone, or none."""
    kinds = {unannotated(part) for part in (field.annotation, *get_args(field.annotation))}
    if get_origin(field.annotation) is Literal or is_list_field(field) or not kinds & {int, float}:
        return ()
    return ("int", "float") if float in kinds else ("int",)


def _require_numbers(asked: _Asked, kind: str, line: int) -> None:
    """SpecError where a setting has no range of that kind: it takes words, or whole numbers only."""
    kinds = number_kinds(asked.field)
    if not kinds:
        choices = [str(choice) for choice in get_args(asked.field.annotation)]
        words = f"one of {', '.join(choices)}" if get_origin(asked.field.annotation) is Literal else "no numbers"
        raise asked.error(line, f"{kind}: this setting takes {words}; list the values to try: [..]")
    if kind not in kinds:
        raise asked.error(line, "float: this setting takes whole numbers; use int")


def _bounds(asked: _Asked, node: Located, kind: str, number: type) -> tuple[Any, Any]:
    """Low and high, both legal values of the setting."""
    if not node.is_list or len(node.value) != 2:
        raise asked.error(node.line, f"{kind}: expected [low, high], got '{shown(node.plain())}'")
    low, high = (asked.plain(item, kind, number) for item in node.value)
    if low > high:
        raise asked.error(node.line, f"{kind}: low {shown(low)} is above high {shown(high)}")
    for item in node.value:
        asked.value(item, kind)
    return low, high


def _ints(asked: _Asked, node: Located, log: bool) -> IntRange:
    low, high = _bounds(asked, node.value["int"], "int", int)
    step_node = node.value.get("step")
    step = 1 if step_node is None else asked.plain(step_node, "step", int)
    if step < 1:
        raise asked.error(step_node.line, f"step: expected at least 1, got '{step}'")
    if max(abs(low), abs(high), step) > LARGEST_INT:
        raise asked.error(node.line, f"int: expected at most {LARGEST_INT}, which a sampler can still count to")
    if log and low < 1:
        raise asked.error(node.line, f"int: log: true needs low of at least 1, got '{low}'")
    if low + step <= high:  # a setting in multiples of 16 has legal bounds and illegal values between
        asked.value(Located(low + step, node.line), "int")
    return IntRange(low, high, step, log)


def _floats(asked: _Asked, node: Located, log: bool) -> FloatRange:
    low, high = _bounds(asked, node.value["float"], "float", float)
    step_node = node.value.get("step")
    step = None if step_node is None else asked.plain(step_node, "step", float)
    if step is not None and step <= 0:
        raise asked.error(step_node.line, f"step: expected more than 0, got '{shown(step)}'")
    if not isfinite(high - low) or (step is not None and not (high - low) / step < LARGEST_INT):
        raise asked.error(node.line, "float: holds more values than a sampler can count")
    if log and low <= 0:
        raise asked.error(node.line, f"float: log: true needs low above 0, got '{shown(low)}'")
    return FloatRange(low, high, log, step)


def _when(asked: _Asked, node: Located, earlier: Mapping[str, PlacedDimension]) -> dict[str, tuple[Any, ...]]:
    """The conditions of a dimension; each names an earlier one and values that it can take."""
    block = node.value.get("when")
    if block is None:
        return {}
    if not block.is_mapping or not block.value:
        raise asked.error(
            block.line, f"when: expected {{earlier setting: value or values}}, got '{shown(block.plain())}'"
        )
    conditions = {}
    for name, given in flatten_located(block, asked.place, known=trial_fields()).items():
        if name not in earlier:
            raise asked.error(given.node.line, f"when: {name} is no earlier setting of this space{_order(earlier)}")
        conditions[name] = _values(asked, given.node, earlier[name].dimension)
    return conditions


def _order(earlier: Mapping[str, PlacedDimension]) -> str:
    return f"; earlier ones are {', '.join(earlier)}" if earlier else "; this one is the first"


def _values(asked: _Asked, node: Located, dimension: Dimension) -> tuple[Any, ...]:
    items: Sequence[Located] = node.value if node.is_list else (node,)
    other = _Asked(dimension.name, trial_fields()[dimension.name], asked.place)
    if not items:
        raise asked.error(node.line, f"when: {dimension.name}: expected at least one value, got an empty list")
    values = []
    for item in items:
        where = f"{_at(asked.place, asked.name, item.line)}: when: {dimension.name}"
        value = checked(dimension.name, item.plain(), where, field=other.field).value
        values.append(_taken(value, dimension.values, where))
    return tuple(dict.fromkeys(values))


def _taken(value: Any, values: Range, where: str) -> Any:
    """A value as its range computes it, which is 0.1 + 2 x 0.1 and not 0.3. SpecError where it never takes it."""
    if isinstance(values, FloatRange) and values.step is None:
        raise SpecError(f"{where}: is drawn from a continuous range; a condition needs a choice, or a range with steps")
    if not takes(values, value):
        raise SpecError(f"{where}: is never '{shown(value)}' in this space; expected {in_words(values)}")
    if isinstance(values, FloatRange) and values.step is not None:
        return min(values.low + round((value - values.low) / values.step) * values.step, values.high)
    return value


def takes(values: Range, value: Any) -> bool:
    """Whether a range holds a value."""
    if isinstance(values, Choice):
        return value in values.values
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not values.low <= value <= values.high:
        return False
    steps = (value - values.low) / values.step if values.step else 0.0
    return abs(steps - round(steps)) < 1e-8


def in_words(values: Range) -> str:
    """A range as a line of text: `1 to 20`, `0.001 to 1 (log)`, `one of positive, none`."""
    if isinstance(values, Choice):
        one_of = "one of " if len(values.values) > 1 else ""
        return one_of + ", ".join(shown(value) for value in values.values)
    said = f"{shown(values.low)} to {shown(values.high)}"
    if values.step not in (None, 1) or (isinstance(values, FloatRange) and values.step):
        said += f" by {shown(values.step)}"
    whole = "whole numbers " if isinstance(values, IntRange) else ""
    return f"{whole}{said}{' (log)' if values.log else ''}"


def narrowed(
    space: Sequence[PlacedDimension], fixed: Mapping[str, Any]
) -> tuple[tuple[PlacedDimension, ...], tuple[str, ...]]:
    """The space without what `fixed` gives a value, and what is then never asked for; what went, in words."""
    kept: list[PlacedDimension] = []
    gone: dict[str, str] = {}
    for placed in space:
        dimension = placed.dimension
        if dimension.name in fixed:
            gone[dimension.name] = f"{dimension.name}={shown(fixed[dimension.name])} is fixed"
            continue
        lost = {name: values for name, values in dimension.when.items() if name in gone}
        never = [name for name, values in lost.items() if name not in fixed or not _is_among(fixed[name], values)]
        if never:
            gone[dimension.name] = f"{dimension.name} is never asked for"
            continue
        when = {name: values for name, values in dimension.when.items() if name not in lost}
        kept.append(replace(placed, dimension=replace(dimension, when=when)))
    return tuple(kept), tuple(gone.values())


def _is_among(value: Any, values: Sequence[Any]) -> bool:
    """Whether a value is one of some, but for the last digits of a number."""
    if isinstance(value, float):
        return any(isinstance(other, (int, float)) and isclose(value, other, rel_tol=1e-9) for other in values)
    return value in values
