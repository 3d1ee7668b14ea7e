"""YAML -> SweepSpec. Every error is one line: `sweeps/x.yaml:14: temporal.window: what is wrong`.

A value is taken from the most specific place that gives it: recipe < fixed < row < grid < `--set`. Lists in a row
or in the grid multiply; `--set NAME=[...]` multiplies too and replaces what the file says about NAME.
`seed: 3` stands for seed.pretrain, seed.finetune and labels.draw wherever those are not given themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from uscl.errors import SpecError
from uscl.spec.combinations import refuse_impossible
from uscl.spec.phantom import PhantomSpec
from uscl.spec.positions import Located, parse_located, read_located
from uscl.spec.settings import (
    Given,
    Place,
    Setting,
    checked,
    did_you_mean,
    fields_of,
    flatten_located,
    is_list_field,
    nested,
    shown,
    trial_fields,
)
from uscl.spec.sweep import Cell, ReportSpec, ResourcesSpec, SweepSpec
from uscl.spec.trial import TrialSpec

RECIPES = Path(__file__).parent.parent / "recipes"
MAX_CELLS = 10_000
SWEEP_KEYS = ("name", "recipe", "data", "description", "fixed", "rows", "grid", "resources", "report", "phantom")
RECIPE_KEYS = ("description", "settings", "phantom", "resources")

S = TypeVar("S", bound=BaseModel)
Axes: TypeAlias = dict[str, tuple[Setting, ...]]
"""Values a name may take, in order; one of each name makes a cell."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry of `rows`: its own label, if any, and its axes."""

    label: str
    axes: Axes


@dataclass(frozen=True, slots=True)
class _Document:
    """The top-level keys of a file, and the file."""

    place: Place
    keys: Mapping[str, Located]

    def block(self, key: str) -> Located:
        """A mapping under `key`; empty where the key is absent. SpecError where it is something else."""
        node = self.keys.get(key, Located({}, 1))
        if node.value is None:
            return Located({}, node.line)
        if not node.is_mapping:
            raise SpecError(
                f"{self.place.at(key, node.line)}: expected a group of settings, got '{shown(node.plain())}'"
            )
        return node

    def text(self, key: str) -> str | None:
        """A line of text under `key`, or None where it is absent."""
        node = self.keys.get(key)
        if node is None:
            return None
        if node.value is None or node.value == "" or node.is_mapping or node.is_list:
            raise SpecError(f"{self.place.at(key, node.line)}: expected text, got '{shown(node.plain())}'")
        return str(node.value)

    def at(self, key: str) -> str:
        """The beginning of an error about a top-level key."""
        return self.place.at(key, self.keys[key].line if key in self.keys else 1)


def load_sweep(
    path: Path,
    *,
    recipe: str | None = None,
    data: str | None = None,
    name: str | None = None,
    sets: Sequence[str] = (),
) -> SweepSpec:
    """Read and check a sweep file. `recipe`, `data` and `name` override it as the options of those names do.

    `sets` are `--set` arguments (`temporal.window=3`). SpecError names file, line and setting.
    """
    document = _document(path, known=SWEEP_KEYS)
    recipe_name, recipe_file = _recipe(document, recipe)
    dataset = data or document.text("data")
    if dataset is None:
        raise SpecError(f"{document.at('data')}: missing; 'phantom', or a dataset made by uscl data import")
    options = _options(sets)
    cells = _cells(document, recipe_file, _axes_of(options, trial_fields()), data=dataset)
    return SweepSpec(
        name=name or _name(document),
        identity=name or _identity(document, recipe=recipe_name, data=dataset),
        recipe=recipe_name,
        data=dataset,
        grid=cells,
        resources=_section(ResourcesSpec, "resources", (recipe_file, document), options),
        report=_report(document, cells),
        phantom=_section(PhantomSpec, "phantom", (recipe_file, document), options),
        description=(document.text("description") or "").strip(),
        source=str(path),
    )


# ---- files


def _document(path: Path, *, known: Sequence[str]) -> _Document:
    root = read_located(path)
    place = Place(str(path))
    if not root.is_mapping:
        raise SpecError(f"{path}:{root.line}: expected 'key: value' lines, got '{shown(root.plain())}'")
    for key, node in root.value.items():
        if key not in known:
            raise SpecError(f"{place.at(key, node.line)}: unknown key{_where_it_belongs(key, known)}")
    return _Document(place, root.value)


def _where_it_belongs(key: str, known: Sequence[str]) -> str:
    if "fixed" in known and any(name == key or name.startswith(f"{key}.") for name in trial_fields()):
        return f"; settings of every cell belong under 'fixed:' ('fixed: {{{key}: ...}}')"
    return did_you_mean(key, known)


def _recipe(document: _Document, override: str | None) -> tuple[str, _Document]:
    name = override or document.text("recipe")
    where = f"--recipe {override}" if override else document.at("recipe")
    shipped = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name is None:
        raise SpecError(f"{where}: missing; one of {', '.join(shipped)}, or a recipe file of your own")
    if name.endswith((".yaml", ".yml")):
        return Path(name).stem, _document(Path(name), known=RECIPE_KEYS)
    if name not in shipped:
        raise SpecError(
            f"{where}: unknown recipe '{name}'{did_you_mean(name, shipped) or '; one of ' + ', '.join(shipped)}"
        )
    return name, _document(RECIPES / f"{name}.yaml", known=RECIPE_KEYS)


def _name(document: _Document) -> str:
    name = document.text("name")
    if name is None:
        raise SpecError(f"{document.at('name')}: missing; every sweep has a name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise SpecError(f"{document.at('name')}: expected letters, digits, '-', '_' and '.', got '{shown(name)}'")
    return name


def _identity(document: _Document, *, recipe: str, data: str) -> str:
    written = document.text("recipe") or ""
    parts = [_name(document)]
    parts += [recipe] if recipe != Path(written).name.removesuffix(".yaml") else []
    parts += [Path(data).name] if data != document.text("data") else []
    return "-".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part) for part in parts)


# ---- settings and axes


def _options(sets: Sequence[str]) -> dict[str, Given]:
    """`--set` arguments as {name: (value, place)}; a later argument replaces an earlier one."""
    known = trial_fields() | fields_of(ResourcesSpec, "resources.") | fields_of(PhantomSpec, "phantom.")
    options: dict[str, Given] = {}
    for argument in sets:
        name, equals, text = argument.partition("=")
        where = f"--set {argument}"
        if not equals or not name.strip():
            raise SpecError(f"{where}: expected NAME=VALUE, as in --set temporal.window=3")
        node = Located({name.strip(): parse_located(text, source=where) if text else Located(None, 1)}, 1)
        options |= flatten_located(node, Place(where, is_option=True), known=known)
    return options


def _axes_of(flat: Mapping[str, Given], known: Mapping[str, FieldInfo]) -> Axes:
    """The values of each name that is among `known`; a list gives several."""
    return {name: _values(name, given, known[name]) for name, given in flat.items() if name in known}


def _values(name: str, given: Given, field: FieldInfo) -> tuple[Setting, ...]:
    """The checked values that multiply; of a setting that is itself a list, only a list of lists does."""
    items = (given.node,)
    if given.node.is_list and (not is_list_field(field) or any(item.is_list for item in given.node.value)):
        items = given.node.value
    if not items:
        raise SpecError(f"{given.at(name)}: expected at least one value, got an empty list")
    return tuple(checked(name, item.plain(), given.place.at(name, item.line), field=field) for item in items)


def _fixed(document: _Document, key: str) -> dict[str, Setting]:
    """One value per name: the settings of a recipe, or of `fixed`."""
    flat = flatten_located(document.block(key), document.place, known=trial_fields())
    settings = {}
    for name, given in flat.items():
        field = trial_fields()[name]
        if given.node.is_list and not is_list_field(field):
            raise SpecError(f"{given.at(name)}: got a list; lists that make cells belong under 'grid' or in a row")
        settings[name] = checked(name, given.node.plain(), given.at(name), field=field)
    return settings


def _rows(document: _Document) -> list[_Row]:
    node = document.keys.get("rows")
    if node is None:
        return [_Row("", {})]
    if not node.is_list or not node.value:
        raise SpecError(f"{document.at('rows')}: expected a list of rows, each '- {{setting: value, ...}}'")
    return [_row(document, entry) for entry in node.value]


def _row(document: _Document, entry: Located) -> _Row:
    if not entry.is_mapping:
        raise SpecError(
            f"{document.place.at('rows', entry.line)}: expected '{{setting: value, ...}}', got '{shown(entry.plain())}'"
        )
    label = entry.value.get("label", Located("", entry.line))
    if not isinstance(label.value, str):
        raise SpecError(f"{document.place.at('rows.label', label.line)}: expected text, got '{shown(label.plain())}'")
    settings = Located({key: child for key, child in entry.value.items() if key != "label"}, entry.line)
    return _Row(label.value, _axes_of(flatten_located(settings, document.place, known=trial_fields()), trial_fields()))


# ---- cells


def _cells(document: _Document, recipe: _Document, options: Axes, *, data: str) -> tuple[Cell, ...]:
    fixed = _fixed(recipe, "settings") | _fixed(document, "fixed")
    known = trial_fields()
    grid = _axes_of(flatten_located(document.block("grid"), document.place, known=known), known)
    rows = _rows(document)
    _refuse_data_as_setting([fixed, grid, options, *(row.axes for row in rows)])
    _refuse_rivals(rows, grid)
    _refuse_too_many(document, [row.axes | grid | options for row in rows])
    cells: list[Cell] = []
    for row in rows:
        axes = row.axes | grid | options
        for values in product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            cells.append(_cell(len(cells) + 1, row, fixed, point, axes=axes, grid=grid, data=data))
    return tuple(cells)


def _refuse_data_as_setting(layers: Sequence[Mapping[str, Any]]) -> None:
    for layer in layers:
        given = layer.get("data")
        if given is not None:
            setting = given[0] if isinstance(given, tuple) else given
            raise setting.error("a sweep has one dataset; give it as 'data:' at the top of the file, or by --data")


def _refuse_rivals(rows: Sequence[_Row], grid: Axes) -> None:
    for number, row in enumerate(rows, start=1):
        for name in row.axes.keys() & grid.keys():
            raise row.axes[name][0].error(f"row {number} and the grid both set it; keep one")


def _refuse_too_many(document: _Document, axes_of_rows: Sequence[Axes]) -> None:
    num_cells = sum(prod(len(values) for values in axes.values()) for axes in axes_of_rows)
    if num_cells > MAX_CELLS:
        raise SpecError(f"{document.at('grid')}: makes {num_cells} cells; at most {MAX_CELLS} fit in one sweep")


def _cell(
    number: int,
    row: _Row,
    fixed: Mapping[str, Setting],
    point: Mapping[str, Setting],
    *,
    axes: Axes,
    grid: Axes,
    data: str,
) -> Cell:
    given = {**fixed, **point}
    own = {name: setting for name, setting in point.items() if name in row.axes or name in grid or len(axes[name]) > 1}
    cell = Cell(
        number=number,
        label=_label(row, own),
        axes={name: setting.value for name, setting in own.items()},
        spec=_trial({name: setting.value for name, setting in given.items()} | {"data": data}),
        places={name: setting.place for name, setting in given.items()},
    )
    refuse_impossible(cell)
    return cell


def _trial(values: Mapping[str, Any]) -> TrialSpec:
    """A TrialSpec of values that were checked one by one; only an incomplete recipe can fail here."""
    values = dict(values)
    if "seed" in values:
        seed = values.pop("seed")
        values = {"seed.pretrain": seed, "seed.finetune": seed, "labels.draw": seed} | values
    missing = [name for name, field in trial_fields().items() if field.is_required() and name not in values]
    if missing:
        raise SpecError(f"the recipe lacks {', '.join(missing)}; a recipe gives every setting that has no default")
    return TrialSpec.model_validate(nested(values))


def _label(row: _Row, own: Mapping[str, Setting]) -> str:
    """The row's label, else its values in words; then whatever varies besides, as name=value."""
    in_row = [name for name in own if name in row.axes and not (row.label and len(row.axes[name]) == 1)]
    words = [own[name].value if isinstance(own[name].value, str) else _pair(own[name]) for name in in_row]
    others = [_pair(setting) for name, setting in own.items() if name not in row.axes]
    return " ".join([row.label] * bool(row.label) + words + others)


def _pair(setting: Setting) -> str:
    return f"{setting.name}={shown(setting.value)}".replace(" ", "")


# ---- the other blocks


def _section(model: type[S], key: str, documents: Sequence[_Document], options: Mapping[str, Given]) -> S:
    """A block that is no trial setting, from recipe, file and `--set`; SpecError where a value is missing."""
    known = fields_of(model, f"{key}.")
    flat: dict[str, Given] = {}
    for document in documents:
        if document.block(key).value:
            flat |= flatten_located(Located({key: document.block(key)}, 1), document.place, known=known)
    flat |= {name: option for name, option in options.items() if name in known}
    values = {
        name: checked(name, given.node.plain(), given.at(name), field=known[name]).value for name, given in flat.items()
    }
    for name, field in known.items():
        if field.is_required() and name not in values:
            raise SpecError(f"{documents[0].at(key)}: lacks {name}")
    return model.model_validate(nested(values).get(key, {}))


def _report(document: _Document, cells: Sequence[Cell]) -> ReportSpec:
    """The `report` block; without one, rows are all axes but seeds and columns is `labels.fraction` if it varies."""
    if not document.block("report").value:
        names = [name for name in dict.fromkeys(axis for cell in cells for axis in cell.axes)]
        columns = "labels.fraction" if "labels.fraction" in names else ""
        seeds = ("seed", "seed.pretrain", "seed.finetune", "labels.draw")
        return ReportSpec(rows=tuple(name for name in names if name not in (*seeds, columns)), columns=columns)
    report = _section(ReportSpec, "report", (document,), {})
    nodes = document.block("report").value
    for key, names in (("rows", report.rows), ("columns", (report.columns,))):
        for name in names:
            if name and name != "label" and name not in trial_fields():
                where = document.place.at(f"report.{key}", nodes[key].line)
                raise SpecError(f"{where}: '{name}' is no setting{did_you_mean(name, trial_fields())}")
    for value in report.values:
        if not re.fullmatch(r"(val|test)/.+", value):
            where = document.place.at("report.values", nodes["values"].line)
            raise SpecError(f"{where}: '{value}' is no measurement; expected val/... or test/..., as in test/dsc")
    return report
