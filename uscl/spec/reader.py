"""YAML -> SweepSpec. Every error is one line: `sweeps/x.yaml:14: temporal.window: what is wrong`.

A value is taken from the most specific place that gives it: recipe < fixed < row < grid < `--set`. Lists in a row
or in the grid multiply; `--set NAME=[...]` multiplies too and replaces what the file says about NAME.
A file with `search` has no rows and no grid: its cells are proposed. There `--set NAME=value` takes NAME out of the
space, and `--set search.trials=100` changes the search.
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
from uscl.spec.proposals import search_of
from uscl.spec.report_checks import check_names, check_rows, check_rows_of_search, check_shape
from uscl.spec.search_block import search_fields
from uscl.spec.settings import (
    Given,
    Place,
    checked,
    fields_of,
    flatten_located,
    nested,
    shown,
    trial_fields,
)
from uscl.spec.space import SearchSpec
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
    found, maker = search_of(document, recipe_file, options, data=dataset) or (None, None)
    search = found.search if found else None
    cells = () if found else cells_of(document, recipe_file, axes_of(options), data=dataset)
    own_name = _name(document)
    phantom = (recipe_file, document)
    return SweepSpec(
        name=own_name if name is None else name,
        identity=_identity(document, recipe=recipe_name, data=dataset) if name is None else _valid_name(name, "--name"),
        recipe=recipe_name,
        data=dataset,
        grid=cells,
        resources=_section(ResourcesSpec, "resources", (recipe_file, document), options),
        report=_report(document, cells, options) if search is None else _report_of_search(document, search, options),
        phantom=_section(PhantomSpec, "phantom", phantom, options),
        description=(document.text("description") or "").strip(),
        source=str(path),
        places={name: given.at(name) for name, given in _given(PhantomSpec, "phantom", phantom, options).items()}
        | {"data": f"--data {data}" if data else document.at("data")}
        | ({"search.space": found.where} if found else {}),
        search=search,
        maker=maker,
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
    known = dict(trial_fields())
    for model, prefix in ((ResourcesSpec, "resources."), (PhantomSpec, "phantom."), (ReportSpec, "report.")):
        known |= fields_of(model, prefix)
    known |= search_fields()
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
    values = {
        name: checked(name, given.node.plain(), given.at(name), field=known[name]).value
        for name, given in _given(model, key, documents, options).items()
    }
    for name, field in known.items():
        if field.is_required() and name not in values:
            raise SpecError(f"{documents[0].place.source}: lacks {name}")
    return model.model_validate(nested(values).get(key, {}))


def _given(
    model: type[BaseModel], key: str, documents: Sequence[Document], options: Mapping[str, Given]
) -> dict[str, Given]:
    """The values of a block by dotted name, unchecked, each from the place that counts."""
    known = fields_of(model, f"{key}.")
    flat: dict[str, Given] = {}
    for document in documents:
        if document.block(key).value:
            flat |= flatten_located(Located({key: document.block(key)}, 1), document.place, known=known)
    return flat | {name: option for name, option in options.items() if name in known}


def _report(document: Document, cells: Sequence[Cell], options: Mapping[str, Given]) -> ReportSpec:
    """The `report` block and `--set report.*`; SpecError where one names no setting, measurement or row."""
    given = _given(ReportSpec, "report", (document,), options)
    check_shape(given)
    report = _section(ReportSpec, "report", (document,), options)
    check_names(report, given)
    report = report if document.block("report").value else _filled_in(report, cells, given)
    check_rows(report, given, cells, changed=any(name in trial_fields() for name in options))
    return report


def _report_of_search(document: Document, search: SearchSpec, options: Mapping[str, Given]) -> ReportSpec:
    """As `_report`, with rows yet to be proposed: they are the settings searched, and what is sought is shown."""
    given = _given(ReportSpec, "report", (document,), options)
    check_shape(given)
    report = _section(ReportSpec, "report", (document,), options)
    check_names(report, given)
    check_rows_of_search(report, given)
    rows = tuple(dimension.name for dimension in search.space if dimension.name != report.columns)
    values = tuple(dict.fromkeys((*search.objectives, "test/dsc")))
    filled = {name: value for name, value in (("rows", rows), ("values", values)) if f"report.{name}" not in given}
    return report.model_copy(update=filled)


def _filled_in(report: ReportSpec, cells: Sequence[Cell], given: Mapping[str, Given]) -> ReportSpec:
    """Without a `report` block rows are all axes but seeds, and columns is `labels.fraction` if it varies."""
    names = list(dict.fromkeys(axis for cell in cells for axis in cell.axes))
    varied = "labels.fraction" if "labels.fraction" in names and "labels.fraction" not in report.rows else ""
    columns = report.columns if "report.columns" in given else varied
    seeds = ("seed", "seed.pretrain", "seed.finetune", "labels.draw")
    rows = tuple(name for name in names if name not in (*seeds, columns))
    filled = {"columns": columns} | ({} if "report.rows" in given else {"rows": rows})
    return report.model_copy(update=filled)
