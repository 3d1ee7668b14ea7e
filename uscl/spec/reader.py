"""YAML -> SweepSpec. Every error is one line: `sweeps/x.yaml:14: temporal.window: what is wrong`.

A value is taken from the most specific place that gives it: recipe < fixed < row < grid < `--set`. Lists in a row
or in the grid multiply; `--set NAME=[...]` multiplies too and replaces what the file says about NAME.
`seed: 3` stands for seed.pretrain, seed.finetune and labels.draw wherever those are not given themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from uscl.errors import SpecError
from uscl.spec.documents import SWEEP_KEYS, Document, read_document, read_recipe
from uscl.spec.grid import axes_of, cells_of
from uscl.spec.phantom import PhantomSpec
from uscl.spec.positions import Located, one_line, parse_located
from uscl.spec.settings import (
    Given,
    Place,
    checked,
    did_you_mean,
    fields_of,
    flatten_located,
    nested,
    shown,
    trial_fields,
)
from uscl.spec.sweep import Cell, ReportSpec, ResourcesSpec, SweepSpec

S = TypeVar("S", bound=BaseModel)


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
    document = read_document(path, known=SWEEP_KEYS)
    recipe_name, recipe_file = read_recipe(document, recipe)
    dataset = data or document.text("data")
    if dataset is None:
        raise SpecError(f"{document.at('data')}: missing; 'phantom', or a dataset made by uscl data import")
    options = _options(sets)
    cells = cells_of(document, recipe_file, axes_of(options), data=dataset)
    own_name = _name(document)
    return SweepSpec(
        name=name or own_name,
        identity=_valid_name(name, "--name") if name else _identity(document, recipe=recipe_name, data=dataset),
        recipe=recipe_name,
        data=dataset,
        grid=cells,
        resources=_section(ResourcesSpec, "resources", (recipe_file, document), options),
        report=_report(document, cells),
        phantom=_section(PhantomSpec, "phantom", (recipe_file, document), options),
        description=(document.text("description") or "").strip(),
        source=str(path),
    )


def _name(document: Document) -> str:
    name = document.text("name")
    if name is None:
        raise SpecError(f"{document.at('name')}: missing; every sweep has a name")
    return _valid_name(name, document.at("name"))


def _valid_name(name: str, where: str) -> str:
    """A sweep's name is a folder's name and an MLflow experiment's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise SpecError(f"{where}: expected letters, digits, '-', '_' and '.', got '{shown(name)}'")
    return name


def _identity(document: Document, *, recipe: str, data: str) -> str:
    written = document.text("recipe") or ""
    parts = [_name(document)]
    parts += [recipe] if recipe != Path(written).name.removesuffix(".yaml") else []
    folder = Path(os.path.abspath(data)).name or "root"  # noqa: PTH100  resolve() would follow links to another name
    parts += [folder] if data != document.text("data") else []
    return "-".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part) for part in parts)


def _options(sets: Sequence[str]) -> dict[str, Given]:
    """`--set` arguments as {name: (value, place)}; a later argument replaces an earlier one."""
    known = trial_fields() | fields_of(ResourcesSpec, "resources.") | fields_of(PhantomSpec, "phantom.")
    options: dict[str, Given] = {}
    for argument in sets:
        name, equals, text = argument.partition("=")
        where = f"--set {one_line(argument)}"
        if not equals or not name.strip():
            raise SpecError(f"{where}: expected NAME=VALUE, as in --set temporal.window=3")
        node = Located({name.strip(): _option_value(text, where)}, 1)
        options |= flatten_located(node, Place(where, is_option=True), known=known)
    return options


def _option_value(text: str, where: str) -> Located:
    if not text.strip():
        return Located(None, 1)
    try:
        return parse_located(text, source=where)
    except SpecError as error:
        raise SpecError(f"{where}: the value is not valid YAML") from error


def _section(model: type[S], key: str, documents: Sequence[Document], options: Mapping[str, Given]) -> S:
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
            raise SpecError(f"{documents[0].place.source}: lacks {name}")
    return model.model_validate(nested(values).get(key, {}))


def _report(document: Document, cells: Sequence[Cell]) -> ReportSpec:
    """The `report` block; without one, rows are all axes but seeds and columns is `labels.fraction` if it varies."""
    if not document.block("report").value:
        names = list(dict.fromkeys(axis for cell in cells for axis in cell.axes))
        columns = "labels.fraction" if "labels.fraction" in names else ""
        seeds = ("seed", "seed.pretrain", "seed.finetune", "labels.draw")
        return ReportSpec(rows=tuple(name for name in names if name not in (*seeds, columns)), columns=columns)
    report = _section(ReportSpec, "report", (document,), {})
    nodes = document.block("report").value
    for key, listed in (("rows", report.rows), ("columns", (report.columns,))):
        for name in listed:
            if name and name != "label" and name not in trial_fields():
                where = document.place.at(f"report.{key}", nodes[key].line)
                raise SpecError(f"{where}: '{name}' is no setting{did_you_mean(name, trial_fields())}")
    for value in report.values:
        if not re.fullmatch(r"(val|test)/.+", value):
            where = document.place.at("report.values", nodes["values"].line)
            raise SpecError(f"{where}: '{value}' is no measurement; expected val/... or test/..., as in test/dsc")
    return report
