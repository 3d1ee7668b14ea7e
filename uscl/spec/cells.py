"""One cell from settings: what all cells of a file share, and a point on top of it. For grids and searches alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uscl.errors import SpecError
from uscl.spec.combinations import refuse_impossible
from uscl.spec.documents import Document
from uscl.spec.settings import Setting, checked, flatten_located, is_list_field, nested, shown, trial_fields
from uscl.spec.sweep import Cell
from uscl.spec.trial import TrialSpec


@dataclass(frozen=True, slots=True)
class Common:
    """What all cells of a file share; `recipe` is the recipe's file."""

    fixed: Mapping[str, Setting]
    """The recipe's settings, and over them those of the file's `fixed`."""
    changed: Mapping[str, Any]
    """What the file's `fixed` sets otherwise than the recipe and the defaults do."""
    own: frozenset[str]
    """What the file's `fixed` sets at all."""
    data: str
    recipe: str


def common_of(document: Document, recipe: Document, *, data: str) -> Common:
    """The recipe's settings and the file's `fixed`, checked one by one."""
    base, own = _fixed(recipe, "settings"), _fixed(document, "fixed")
    return Common(base | own, changes(own, base), frozenset(own), data, recipe.place.source)


def changes(given: Mapping[str, Setting], base: Mapping[str, Setting]) -> dict[str, Any]:
    """The values among `given` that are not what `base`, or else the default, says."""
    before = {name: base[name].value if name in base else trial_fields()[name].get_default() for name in given}
    return {name: setting.value for name, setting in given.items() if setting.value != before[name]}


def make_cell(number: int, label: str, point: Mapping[str, Setting], *, axes: Sequence[str], common: Common) -> Cell:
    """The cell of a point; `axes` name the settings of it that tell cells apart. SpecError where it is impossible."""
    given = {**common.fixed, **point}
    cell = Cell(
        number=number,
        label=label,
        axes={name: point[name].value for name in axes},
        spec=_trial(given, common),
        fixed={name: value for name, value in common.changed.items() if name not in point},
        asked=common.own | point.keys(),
        places={name: setting.place for name, setting in given.items()},
    )
    refuse_impossible(cell)
    return cell


def pair(setting: Setting) -> str:
    """`temporal.window=5`, one word of a label."""
    return f"{setting.name}={shown(setting.value)}".replace(" ", "")


def refuse_data_as_setting(layers: Sequence[Mapping[str, Setting | tuple[Setting, ...]]]) -> None:
    """SpecError where one of the layers sets `data`."""
    for layer in layers:
        given = layer.get("data")
        if given is not None:
            setting = given[0] if isinstance(given, tuple) else given
            raise setting.error("a sweep has one dataset; give it as 'data:' at the top of the file, or by --data")


def _trial(given: Mapping[str, Setting], common: Common) -> TrialSpec:
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
