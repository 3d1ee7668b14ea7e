"""The settings described for readers: a table for docs/settings.md and a JSON Schema for editors.

Both are made from the fields themselves, so they cannot say something else than the code does.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from uscl.spec.phantom import PhantomSpec
from uscl.spec.ranges import NOT_SEARCHED, number_kinds
from uscl.spec.search_block import SearchBlock
from uscl.spec.settings import (
    fields_of,
    is_list_field,
    is_mapping_field,
    json_schema_of,
    shown,
    trial_fields,
    unannotated,
)
from uscl.spec.sweep import ReportSpec, ResourcesSpec
from uscl.spec.trial import TrialSpec

_HEAD = """# Settings

Made from `uscl/spec` by `uscl schema --markdown`; a test holds the two equal. One name everywhere: the dotted name is
the path in a sweep file, the argument of `--set`, the MLflow parameter and the column of a report. Under `fixed`, in a
row and under `grid` a name may be written with dots or nested. A recipe gives every value that has no default here.
`seed: 3` stands for `seed.pretrain`, `seed.finetune` and `labels.draw`; one of those given itself counts more.
"""

_REQUIRED = tuple(name for name, field in SearchBlock.model_fields.items() if field.is_required())
_KINDS: Mapping[Any, str] = {int: "whole number", float: "number", bool: "true, false", str: "text"}
_BOUND_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "multiple of"}


def settings_page() -> str:
    """docs/settings.md: every setting of a trial, and of the blocks `search`, `phantom`, `resources` and `report`."""
    parts = [_HEAD, "## A trial\n", *_sections(TrialSpec)]
    for title, name, model in (
        ("A search", "search", SearchBlock),
        ("The phantom", "phantom", PhantomSpec),
        ("Resources", "resources", ResourcesSpec),
        ("The table", "report", ReportSpec),
    ):
        parts.append(f"## {title}: `{name}`\n\n{model.__doc__}\n\n{_rows(fields_of(model), f'{name}.')}")
    return "\n".join(parts)


def _sections(model: type[BaseModel]) -> Iterator[str]:
    leaves = {name: field for name, field in model.model_fields.items() if not _is_section(field)}
    yield _rows(leaves, "")
    for name, field in model.model_fields.items():
        if _is_section(field):
            section: Any = field.annotation
            yield f"### `{name}`\n\n{section.__doc__}\n\n{_rows(section.model_fields, f'{name}.')}"


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _rows(fields: Mapping[str, FieldInfo], prefix: str) -> str:
    lines = ["| setting | values | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = _default_in_words(name, field)
        meaning = " ".join((field.description or "").split())
        lines.append(f"| `{prefix}{name}` | {values_in_words(field)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default_in_words(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return {"data": "at the top of the file", **dict.fromkeys(_REQUIRED, "none")}.get(name, "from the recipe")
    return f"`{shown(field.get_default())}`" if field.get_default() not in ("", {}) else "empty"


def values_in_words(field: FieldInfo) -> str:
    """What a field takes: `whole number, >= 1`, or its choices."""
    kind = field.annotation
    if is_mapping_field(field):
        return "mapping" if get_origin(kind) is dict else "text, or a mapping"
    if is_list_field(field):
        return "list of names" if unannotated(get_args(kind)[0]) is str else "list of values"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return f"{_KINDS[unannotated(get_args(kind)[0])]} or null"
    return ", ".join([_KINDS[kind], *_bounds(field)])


def _bounds(field: FieldInfo) -> Iterator[str]:
    for constraint in _flat_constraints(field):
        for attribute, sign in _BOUND_SIGNS.items():
            bound = getattr(constraint, attribute, None)
            if bound is not None:
                yield f"{sign} {shown(bound)}"


def _flat_constraints(field: FieldInfo) -> Iterator[Any]:
    for constraint in field.metadata:
        yield from constraint.metadata if isinstance(constraint, FieldInfo) else (constraint,)


def sweep_schema() -> dict[str, Any]:
    """JSON Schema of a sweep file, for editors. It allows a little more than the reader, which has the last word."""
    several = _settings_schema(multiplies=True)
    row = several | {"properties": several["properties"] | {"label": {"type": "string"}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "uscl sweep file",
        "type": "object",
        "required": ["name", "recipe", "data"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "Names the sweep's folder and its MLflow experiment."},
            "recipe": {"type": "string", "description": "demo, paper, or a recipe file of your own."},
            "data": {"type": "string", "description": "phantom, or a dataset made by uscl data import."},
            "description": {"type": "string"},
            "fixed": _settings_schema(multiplies=False),
            "rows": {"type": "array", "items": row, "minItems": 1},
            "grid": several,
            "search": _search_schema(),
            "phantom": _block_schema(PhantomSpec),
            "resources": _block_schema(ResourcesSpec),
            "report": _block_schema(ReportSpec),
        },
    }


def _search_schema() -> dict[str, Any]:
    """The `search` block; of its ranges the JSON Schema checks the form, the reader the values."""
    block = _block_schema(SearchBlock)
    fields = {name: field for name, field in trial_fields().items() if _is_searched(name, field)}
    space = _named({name: _range_schema(field) for name, field in fields.items()})
    measured = {"propertyNames": {"pattern": "^val/"}}
    block["properties"] |= {
        "objectives": block["properties"]["objectives"] | measured | {"minProperties": 1},
        "constraints": block["properties"]["constraints"] | measured,
        "space": space | {"description": block["properties"]["space"]["description"], "minProperties": 1},
    }
    return block | {"description": " ".join((SearchBlock.__doc__ or "").split()), "required": list(_REQUIRED)}


def _is_searched(name: str, field: FieldInfo) -> bool:
    return name not in NOT_SEARCHED and not is_list_field(field)


def _range_schema(field: FieldInfo) -> dict[str, Any]:
    leaf = json_schema_of(field)
    choice = {"type": "array", "items": {key: leaf[key] for key in leaf if key != "default"}, "minItems": 1}
    kinds = {"choice": choice}
    for kind in number_kinds(field):
        number = {"type": {"int": "integer", "float": "number"}[kind]}
        kinds[kind] = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    forms = [_form_schema(kind, values) for kind, values in kinds.items()]
    return {"anyOf": [choice, *forms], "description": leaf.get("description", "")}


def _form_schema(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    spaced = {} if kind == "choice" else {"log": {"type": "boolean"}, "step": {"type": "number", "exclusiveMinimum": 0}}
    properties = {kind: values, **spaced, "when": {"type": "object", "minProperties": 1}}
    return {"type": "object", "properties": properties, "required": [kind], "additionalProperties": False}


def _settings_schema(*, multiplies: bool) -> dict[str, Any]:
    """Every setting of a trial, with one value or, where it multiplies, a list of them."""
    leaves = {name: json_schema_of(field) for name, field in trial_fields().items() if name != "data"}
    if multiplies:
        several = {name: {"type": "array", "items": leaf, "minItems": 1} for name, leaf in leaves.items()}
        leaves = {name: {"anyOf": [leaf, several[name]]} for name, leaf in leaves.items()}
    return _named(leaves)


def _named(leaves: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Every setting under its dotted name, and nested under its section."""
    properties: dict[str, Any] = {}
    for name, leaf in leaves.items():
        properties[name] = leaf
        section, dot, key = name.partition(".")
        if dot:
            _add_nested(properties, section, key, leaf)
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _add_nested(properties: dict[str, Any], section: str, key: str, leaf: dict[str, Any]) -> None:
    group = properties.setdefault(section, {"type": "object", "properties": {}, "additionalProperties": False})
    if section == "seed":  # `seed: 3` or `seed: {pretrain: 3}`
        return
    group["properties"][key] = leaf


def _block_schema(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        section: Any = field.annotation
        properties[name] = _block_schema(section) if _is_section(field) else json_schema_of(field)
    return {"type": "object", "properties": properties, "additionalProperties": False}
