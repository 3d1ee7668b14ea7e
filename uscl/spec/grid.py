"""rows x grid: from the blocks of a sweep file to its cells, in file order, each with every setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

from pydantic.fields import FieldInfo

from uscl.errors import SpecError
from uscl.spec.cells import changes, common_of, make_cell, pair, refuse_data_as_setting
from uscl.spec.documents import Document
from uscl.spec.positions import Located
from uscl.spec.settings import Given, Setting, checked, flatten_located, is_list_field, shown, trial_fields
from uscl.spec.sweep import Cell

MAX_CELLS = 10_000

Axes: TypeAlias = dict[str, tuple[Setting, ...]]
"""Values a name may take, in order; one of each name makes a cell."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry of `rows`: its own label, if any, and its axes."""

    label: str
    axes: Axes


def cells_of(document: Document, recipe: Document, options: Axes, *, data: str) -> tuple[Cell, ...]:
    """Every cell of a sweep file: rows outer, grid inner; `options` (from `--set`) replace what the file says.

    SpecError where a value, a combination or the number of cells is impossible.
    """
    common = common_of(document, recipe, data=data)
    grid = axes_of(flatten_located(document.block("grid"), document.place, known=trial_fields()))
    rows = _rows(document)
    refuse_data_as_setting([common.fixed, grid, options, *(row.axes for row in rows)])
    _refuse_rivals(rows, grid)
    _refuse_too_many(document, [row.axes | grid | options for row in rows])
    points = [(row, point) for row in rows for point in _points(row.axes | grid | options)]
    several = {name for name, values in options.items() if len(values) > 1}
    one = {name: values[0] for name, values in options.items() if name not in several}
    in_all = grid.keys() | several | changes(one, common.fixed).keys()
    cells = []
    for number, (row, point) in enumerate(points, start=1):
        axes = [name for name in point if name in row.axes or name in in_all]
        cells.append(make_cell(number, _label(row, [point[name] for name in axes]), point, axes=axes, common=common))
    return tuple(cells)


def _points(axes: Axes) -> Iterator[dict[str, Setting]]:
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _refuse_rivals(rows: Sequence[_Row], grid: Axes) -> None:
    for number, row in enumerate(rows, start=1):
        for name in row.axes.keys() & grid.keys():
            raise row.axes[name][0].error(f"row {number} and the grid both set it; keep one")


def _refuse_too_many(document: Document, axes_of_rows: Sequence[Axes]) -> None:
    num_cells = sum(prod(len(values) for values in axes.values()) for axes in axes_of_rows)
    if num_cells > MAX_CELLS:
        raise SpecError(f"{document.at('grid')}: makes {num_cells} cells; at most {MAX_CELLS} fit in one sweep")


def _label(row: _Row, settings: Sequence[Setting]) -> str:
    """The row's label, else its values in words; then whatever varies besides, as name=value."""
    words = [row.label] if row.label else []
    for setting in settings:
        values = row.axes.get(setting.name, ())
        if row.label and len(values) == 1:
            continue
        words.append(setting.value if values and isinstance(setting.value, str) else pair(setting))
    return " ".join(words)


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
