"""rows x grid: from the blocks of a sweep file to its cells, in file order, each with every setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeAlias

from pydantic.fields import FieldInfo

from uscl.errors import SpecError
from uscl.spec.combinations import refuse_impossible
from uscl.spec.documents import Document
from uscl.spec.positions import Located
from uscl.spec.settings import Given, Setting, checked, flatten_located, is_list_field, nested, shown, trial_fields
from uscl.spec.sweep import Cell
from uscl.spec.trial import TrialSpec

MAX_CELLS = 10_000

Axes: TypeAlias = dict[str, tuple[Setting, ...]]
"""Values a name may take, in order; one of each name makes a cell."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry of `rows`: its own label, if any, and its axes."""

    label: str
    axes: Axes


@dataclass(frozen=True, slots=True)
class _Common:
    """What all cells of a file share; `recipe` is the recipe's file."""

    fixed: Mapping[str, Setting]
    changed: Mapping[str, Any]
    """What the file's `fixed` sets otherwise than the recipe and the defaults do."""
    own: frozenset[str]
    """What the file's `fixed` sets at all."""
    data: str
    recipe: str


def cells_of(document: Document, recipe: Document, options: Axes, *, data: str) -> tuple[Cell, ...]:
    """Every cell of a sweep file: rows outer, grid inner; `options` (from `--set`) replace what the file says.

    SpecError where a value, a combination or the number of cells is impossible.
    """
    base, own = _fixed(recipe, "settings"), _fixed(document, "fixed")
    fixed = base | own
    grid = axes_of(flatten_located(document.block("grid"), document.place, known=trial_fields()))
    rows = _rows(document)
    _refuse_data_as_setting([fixed, grid, options, *(row.axes for row in rows)])
    _refuse_rivals(rows, grid)
    _refuse_too_many(document, [row.axes | grid | options for row in rows])
    common = _Common(fixed, _changes(own, base), frozenset(own), data, recipe.place.source)
    points = [(row, point) for row in rows for point in _points(row.axes | grid | options)]
    several = {name for name, values in options.items() if len(values) > 1}
    one = {name: values[0] for name, values in options.items() if name not in several}
    in_all = grid.keys() | several | _changes(one, fixed).keys()
    return tuple(
        _cell(number, row, point, axes=[name for name in point if name in row.axes or name in in_all], common=common)
        for number, (row, point) in enumerate(points, start=1)
    )


def _changes(given: Mapping[str, Setting], base: Mapping[str, Setting]) -> dict[str, Any]:
    """The values among `given` that are not what `base`, or else the default, says."""
    before = {name: base[name].value if name in base else trial_fields()[name].get_default() for name in given}
    return {name: setting.value for name, setting in given.items() if setting.value != before[name]}


def _points(axes: Axes) -> Iterator[dict[str, Setting]]:
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _refuse_data_as_setting(layers: Sequence[Mapping[str, Setting | tuple[Setting, ...]]]) -> None:
    for layer in layers:
        given = layer.get("data")
        if given is not None:
            setting = given[0] if isinstance(given, tuple) else given
            raise setting.error("a sweep has one dataset; give it as 'data:' at the top of the file, or by --data")


def _refuse_rivals(rows: Sequence[_Row], grid: Axes) -> None:
    for number, row in enumerate(rows, start=1):
        for name in row.axes.keys() & grid.keys():
            raise row.axes[name][0].error(f"row {number} and the grid both set it; keep one")


def _refuse_too_many(document: Document, axes_of_rows: Sequence[Axes]) -> None:
    num_cells = sum(prod(len(values) for values in axes.values()) for axes in axes_of_rows)
    if num_cells > MAX_CELLS:
        raise SpecError(f"{document.at('grid')}: makes {num_cells} cells; at most {MAX_CELLS} fit in one sweep")


def _cell(number: int, row: _Row, point: Mapping[str, Setting], *, axes: Sequence[str], common: _Common) -> Cell:
    given = {**common.fixed, **point}
    cell = Cell(
        number=number,
        label=_label(row, [point[name] for name in axes]),
        axes={name: point[name].value for name in axes},
        spec=_trial(given, common),
        fixed={name: value for name, value in common.changed.items() if name not in point},
        asked=common.own | point.keys(),
        places={name: setting.place for name, setting in given.items()},
    )
    refuse_impossible(cell)
    return cell


def _trial(given: Mapping[str, Setting], common: _Common) -> TrialSpec:
    """A TrialSpec of values that were checked one by one; only an incomplete recipe can fail here."""
    values = {name: setting.value for name, setting in given.items()} | {"data": common.data}
    seed = values.pop("seed", None)
    if seed is not None:
        values = {"seed.pretrain": seed, "seed.finetune": seed, "labels.draw": seed} | values
    missing = [name for name, field in trial_fields().items() if field.is_required() and name not in values]
    if missing:
        raise SpecError(
            f"{common.recipe}: lacks {', '.join(missing)}; a recipe gives every setting that has no default"
        )
    return TrialSpec.model_validate(nested(values))


def _label(row: _Row, settings: Sequence[Setting]) -> str:
    """The row's label, else its values in words; then whatever varies besides, as name=value."""
    words = [row.label] if row.label else []
    for setting in settings:
        values = row.axes.get(setting.name, ())
        if row.label and len(values) == 1:
            continue
        words.append(setting.value if values and isinstance(setting.value, str) else _pair(setting))
    return " ".join(words)


def _pair(setting: Setting) -> str:
    return f"{setting.name}={shown(setting.value)}".replace(" ", "")


def axes_of(flat: Mapping[str, Given]) -> Axes:
    """The checked values of each trial setting among `flat`; a list gives several."""
    known = trial_fields()
    return {name: _values(name, given, known[name]) for name, given in flat.items() if name in known}


def _values(name: str, given: Given, field: FieldInfo) -> tuple[Setting, ...]:
    """The checked values that multiply; of a setting that is itself a list, only a list of lists does."""
    items: tuple[Located, ...] = (given.node,)
    if given.node.is_list and (not is_list_field(field) or any(item.is_list for item in given.node.value)):
        items = given.node.value
    if not items:
        raise SpecError(f"{given.at(name)}: expected at least one value, got an empty list")
    return tuple(checked(name, item.plain(), given.place.at(name, item.line), field=field) for item in items)


def _fixed(document: Document, key: str) -> dict[str, Setting]:
    """One value per name: the settings of a recipe, or of `fixed`."""
    flat = flatten_located(document.block(key), document.place, known=trial_fields())
    settings = {}
    for name, given in flat.items():
        field = trial_fields()[name]
        if given.node.is_list and not is_list_field(field):
            raise SpecError(f"{given.at(name)}: got a list; lists that make cells belong under 'grid' or in a row")
        settings[name] = checked(name, given.node.plain(), given.at(name), field=field)
    return settings


def _rows(document: Document) -> list[_Row]:
    node = document.keys.get("rows")
    if node is None:
        return [_Row("", {})]
    if not node.is_list or not node.value:
        raise SpecError(f"{document.at('rows')}: expected a list of rows, each '- {{setting: value, ...}}'")
    rows = [_row(document, entry) for entry in node.value]
    _refuse_same_labels(document, node.value, rows)
    return rows


def _refuse_same_labels(document: Document, entries: Sequence[Located], rows: Sequence[_Row]) -> None:
    """Rows of one label would be averaged as if they were seeds."""
    for number, (entry, row) in enumerate(zip(entries, rows, strict=True)):
        if row.label and row.label in [earlier.label for earlier in rows[:number]]:
            where = document.place.at("rows.label", entry.line)
            raise SpecError(f"{where}: '{row.label}' is another row's label already; give each row its own")


def _row(document: Document, entry: Located) -> _Row:
    if not entry.is_mapping:
        raise SpecError(
            f"{document.place.at('rows', entry.line)}: expected '{{setting: value, ...}}', got '{shown(entry.plain())}'"
        )
    label = entry.value.get("label", Located("", entry.line))
    if not isinstance(label.value, str):
        raise SpecError(f"{document.place.at('rows.label', label.line)}: expected text, got '{shown(label.plain())}'")
    settings = Located({key: child for key, child in entry.value.items() if key != "label"}, entry.line)
    return _Row(label.value, axes_of(flatten_located(settings, document.place, known=trial_fields())))
