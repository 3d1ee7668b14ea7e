"""The `search` block of a sweep file: what proposes cells, how many, and what is sought on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.fields import FieldInfo

from uscl.errors import SpecError
from uscl.spec.documents import Document
from uscl.spec.positions import Located
from uscl.spec.ranges import PlacedDimension, narrowed, read_space
from uscl.spec.report_checks import require_measurement
from uscl.spec.section import Count, Section
from uscl.spec.settings import Given, checked, did_you_mean, fields_of, require_known, shown
from uscl.spec.space import Bound, Direction, SearchSpec


class SearchBlock(Section):
    """Instead of `rows` and `grid`: cells are proposed one by one, each from what the earlier ones gave."""

    sampler: Literal["tpe", "random", "gp", "nsga2"] = "tpe"
    """Optuna's: `tpe` (Parzen estimators) for every space; `gp` (Gaussian process) and `nsga2` (genetic) for spaces
    without `when`; `random`: each proposal by itself, to compare with."""
    trials: Count
    """Proposals in all, those of earlier starts included; one that is refused, or made before, does not count."""
    repeats: Count = 1
    """Cells per proposal, with `seed` one apart; an objective is their mean."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the sampler; that of the trials is a setting, as anywhere."""
    objectives: dict[str, Literal["maximize", "minimize"]]
    """Measurements on the validation split: `{val/dsc: maximize}`; several make a Pareto front."""
    constraints: dict[str, dict[Literal["min", "max"], float]] = {}  # noqa: RUF012  pydantic copies it
    """What a winner must keep: `{val/miss_rate: {max: 0.1}}`."""
    space: dict[str, Any]
    """The settings to vary: `{int: [1, 20]}`, `{float: [1e-3, 1], log: true}` (`step: 2` instead of `log`),
    `{choice: [a, b]}` or `[a, b]`; each may have `when: {earlier setting: value or values}`."""


@dataclass(frozen=True, slots=True)
class PlacedSearch:
    """A search, and where the settings of its space stand."""

    search: SearchSpec
    where: str
    """The beginning of an error about its space."""
    places: Mapping[str, str]


PREFIX = "search."
_PLAIN = ("sampler", "trials", "repeats", "seed")
_NO_CONDITIONS: Mapping[str, str] = {
    "gp": "Optuna's GPSampler models only settings that every proposal has, and draws the others at random",
    "nsga2": "Optuna's NSGAIISampler crosses only settings that every proposal has, and draws the others at random",
}


def search_fields() -> dict[str, FieldInfo]:
    """The keys of the block by dotted name, as `--set search.trials=100` has them."""
    return fields_of(SearchBlock, PREFIX)


def read_search(document: Document, options: Mapping[str, Given], fixed: Mapping[str, Any]) -> PlacedSearch | None:
    """The search of a file that has one. `fixed` are trial settings that `--set` gives: they leave the space.

    SpecError, with file and line, for anything that no trial could use; and where there are rows or a grid as well.
    """
    if "search" not in document.keys:
        _refuse_options(document, options)
        return None
    _refuse_rivals(document)
    given = _keys(document) | {name: option for name, option in options.items() if name in search_fields()}
    plain = {key: _plain(key, given, document) for key in _PLAIN}
    objectives = _objectives(_required("objectives", given, document))
    written = _required("space", given, document)
    where = written.at("search.space")
    kept, notes = narrowed(read_space(written, where), fixed)
    if not kept:
        raise SpecError(f"{where}: --set fixes all of it; nothing is left to search")
    _refuse_conditions(plain["sampler"], kept)
    search = SearchSpec(
        **plain,
        objectives=objectives,
        space=tuple(placed.dimension for placed in kept),
        constraints=_constraints(given.get("search.constraints")),
        notes=notes,
    )
    return PlacedSearch(search, where, {placed.dimension.name: placed.place for placed in kept})


def _keys(document: Document) -> dict[str, Given]:
    """The keys of the block by dotted name; SpecError for an unknown one."""
    given = {}
    for key, node in document.block("search").value.items():
        name = f"{PREFIX}{key}"
        require_known(name, document.place.at(name, node.line), known=search_fields())
        given[name] = Given(node, document.place)
    return given


def _refuse_options(document: Document, options: Mapping[str, Given]) -> None:
    for name, option in options.items():
        if name in search_fields():
            raise SpecError(f"{option.at(name)}: {document.place.source} has no 'search:'")


def _refuse_rivals(document: Document) -> None:
    for key in ("rows", "grid"):
        if key in document.keys:
            line = document.keys["search"].line
            raise SpecError(f"{document.at(key)}: 'search:' (line {line}) proposes the cells; keep one of the two")


def _required(key: str, given: Mapping[str, Given], document: Document) -> Given:
    name = f"{PREFIX}{key}"
    if name not in given:
        raise SpecError(f"{document.at('search')}: lacks {key}; {_EXAMPLES[key]}")
    return given[name]


_EXAMPLES: Mapping[str, str] = {
    "trials": "how many proposals to make, as in 'trials: 40'",
    "objectives": "what is sought, as in 'objectives: {val/dsc: maximize}'",
    "space": "the settings to vary, as in 'space: {temporal.window: {int: [1, 20]}}'",
}


def _plain(key: str, given: Mapping[str, Given], document: Document) -> Any:
    name, field = f"{PREFIX}{key}", SearchBlock.model_fields[key]
    if name not in given and not field.is_required():
        return field.get_default()
    found = _required(key, given, document)
    return checked(name, found.node.plain(), found.at(name), field=field).value


def _objectives(given: Given) -> dict[str, Direction]:
    name = "search.objectives"
    if not given.node.is_mapping or not given.node.value:
        got = shown(given.node.plain())
        raise SpecError(f"{given.at(name)}: expected {{measurement: maximize or minimize}}, got '{got}'")
    objectives: dict[str, Direction] = {}
    for value, node in given.node.value.items():
        where = given.place.at(name, node.line)
        _require_validation(value, where)
        direction = node.plain()
        if direction not in ("maximize", "minimize"):
            near = did_you_mean(str(direction), ("maximize", "minimize"))
            raise SpecError(f"{where}: {value}: expected maximize or minimize, got '{shown(direction)}'{near}")
        objectives[value] = direction
    return objectives


def _constraints(given: Given | None) -> dict[str, Bound]:
    name = "search.constraints"
    if given is None or given.node.value is None:
        return {}
    if not given.node.is_mapping:
        got = shown(given.node.plain())
        raise SpecError(f"{given.at(name)}: expected {{measurement: {{max: number}}}}, got '{got}'")
    constraints = {}
    for value, node in given.node.value.items():
        where = given.place.at(name, node.line)
        _require_validation(value, where)
        constraints[value] = _bound(node, f"{where}: {value}")
    return constraints


def _bound(node: Located, where: str) -> Bound:
    if not node.is_mapping or not node.value or not node.value.keys() <= {"min", "max"}:
        raise SpecError(f"{where}: expected {{min: number}}, {{max: number}} or both, got '{shown(node.plain())}'")
    number = FieldInfo.from_annotation(float)
    limits = {
        key: checked(key, child.plain(), f"{where}: {key}", field=number).value for key, child in node.value.items()
    }
    bound = replace(Bound(), **{{"min": "low", "max": "high"}[key]: limit for key, limit in limits.items()})
    if bound.low > bound.high:
        raise SpecError(f"{where}: min {shown(bound.low)} is above max {shown(bound.high)}: nothing is feasible")
    return bound


def _require_validation(value: str, where: str) -> None:
    """SpecError unless a measurement is one of the validation split that says how good a network is."""
    if value.startswith("test/"):
        instead = f"val/{value.removeprefix('test/')}"
        raise SpecError(f"{where}: '{value}': a proposal has no test score until it has won; use '{instead}'")
    require_measurement(value, where, splits=("val",), counts=False)


def _refuse_conditions(sampler: str, space: tuple[PlacedDimension, ...]) -> None:
    if sampler not in _NO_CONDITIONS:
        return
    for placed in space:
        if placed.dimension.when:
            raise SpecError(f"{placed.place}: when: {_NO_CONDITIONS[sampler]}; use search.sampler: tpe or random")
