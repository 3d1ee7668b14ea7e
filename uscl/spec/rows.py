"""What a row of a report is: the cells that `report.rows` does not tell apart, and the names it answers to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from uscl.errors import SpecError
from uscl.spec.methods import is_moot
from uscl.spec.settings import did_you_mean

SEEDS = ("seed.pretrain", "seed.finetune", "labels.draw")
"""Settings that a row averages over: repeats of one question, not questions."""
NOT_APPLICABLE = "-"

_SHOWN = 4
_LONG = 10
"""Characters of a number beyond which a table shows six digits of it."""

RowKey: TypeAlias = tuple[str, ...]
"""The settings of a row as the table prints them."""


class RowCell(Protocol):
    """A cell of a sweep file, or of a plan, as far as rows are concerned."""

    @property
    def label(self) -> str:
        """The row in words, then the grid's values as name=value."""

    @property
    def axes(self) -> Mapping[str, Any]:
        """The settings by which it differs from the sweep's fixed part."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting, by dotted name."""


def shown(settings: Mapping[str, Any], name: str) -> str:
    """A setting as the table prints it; `-` where another setting makes it moot."""
    if is_moot(name, settings):
        return NOT_APPLICABLE
    if name.startswith("temporal.") and name != "temporal.polarity" and settings.get("temporal.polarity") == "none":
        return NOT_APPLICABLE
    value = settings.get(name, NOT_APPLICABLE)
    if isinstance(value, str):
        return value
    text = json.dumps(value)
    # a search proposes numbers of 17 digits
    return f"{value:.6g}" if isinstance(value, float) and len(text) > _LONG else text


def row_label(cell: RowCell) -> str:
    """The label without its `name=value` words: `baseline` of `baseline labels.fraction=0.1 seed=0`."""
    return " ".join(word for word in cell.label.split() if word.partition("=")[0] not in cell.axes)


def row_names(cells: Sequence[RowCell], rows: Sequence[str], column: str) -> tuple[str, ...]:
    """The declared rows; without them, every axis that is neither the column nor a seed."""
    if rows:
        return tuple(rows)
    axes = dict.fromkeys(name for cell in cells for name in cell.axes)
    return tuple(name for name in axes if name not in (column, "seed", *SEEDS))


def row_key(cell: RowCell, rows: Sequence[str]) -> RowKey:
    """The settings of a cell's row; where all of them are moot, its method or label first, so that rows differ."""
    key = tuple(row_label(cell) if name == "label" else shown(cell.settings, name) for name in rows)
    if not key or any(text != NOT_APPLICABLE for text in key):
        return key
    method = cell.settings.get("method", "contrastive")
    return (row_label(cell) or NOT_APPLICABLE if method == "contrastive" else method, *key[1:])


def row_titles(cells: Sequence[RowCell], rows: Sequence[str]) -> dict[RowKey, dict[str, None]]:
    """The names each row answers to, in the order of the cells: its cells' labels, and its settings in words."""
    titles: dict[RowKey, dict[str, None]] = {}
    for cell in cells:
        key = row_key(cell, rows)
        titles.setdefault(key, {}).update({name: None for name in (row_label(cell), " ".join(key)) if name})
    return titles


def rows_called(name: str, titles: Mapping[RowKey, Mapping[str, None]]) -> list[RowKey]:
    """The rows that answer to a name."""
    return [key for key, names in titles.items() if name in names]


def reference_row(cells: Sequence[RowCell], rows: Sequence[str], reference: str | Mapping[str, Any]) -> RowKey:
    """The one row that `report.reference` names: by label, by its settings in words, or by a mapping of settings.

    SpecError where it names no row or several.
    """
    titles = row_titles(cells, rows)
    if isinstance(reference, str):
        found, what = rows_called(reference, titles), f"'{reference}'"
    else:
        wanted = reference.items()
        matching = (cell for cell in cells if all(cell.settings.get(name) == value for name, value in wanted))
        found = list(dict.fromkeys(row_key(cell, rows) for cell in matching))
        what = ", ".join(f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in wanted)
    if len(found) == 1:
        return found[0]
    if found:
        raise SpecError(f"{what} is {len(found)} rows ({_few([' '.join(key) for key in found])}); name one of them")
    raise SpecError(f"{what} is no row{rows_hint(reference if isinstance(reference, str) else '', titles)}")


def rows_hint(name: str, titles: Mapping[RowKey, Mapping[str, None]]) -> str:
    """What to write instead of a name that is no row: one that is near, or the first few rows."""
    near = did_you_mean(name, [known for names in titles.values() for known in names])
    return near or f"; rows are {_few([next(iter(names), '-') for names in titles.values()])}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
