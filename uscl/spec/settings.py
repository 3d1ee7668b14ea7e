"""Single settings: their names, where they were given, whether their value is right, and the words that say so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from uscl.errors import SpecError
from uscl.spec.positions import Located, one_line
from uscl.spec.trial import SeedSpec, TrialSpec


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for one dotted name, and the place that an error about it begins with."""

    name: str
    value: Any
    place: str
    """`sweeps/x.yaml:14: temporal.window` or `--set temporal.window=3`."""

    def error(self, message: str) -> SpecError:
        """What is wrong with this setting, to be raised."""
        return SpecError(f"{self.place}: {message}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where settings come from: a file, or one `--set` argument."""

    source: str
    is_option: bool = False

    def at(self, name: str, line: int) -> str:
        """The beginning of an error about `name`."""
        return self.source if self.is_option else f"{self.source}:{line}: {one_line(name)}"


def fields_of(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """The leaf fields of a section and its sub-sections, by dotted name."""
    fields: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= fields_of(kind, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = field
    return fields


@cache
def trial_fields() -> dict[str, FieldInfo]:
    """The settings of a trial by dotted name; `seed` stands for both seeds and `labels.draw`."""
    return fields_of(TrialSpec) | {"seed": SeedSpec.model_fields["pretrain"]}


def is_list_field(field: FieldInfo) -> bool:
    """Whether the value of this field is itself a list (`speckle.classes`)."""
    return get_origin(field.annotation) is tuple


def is_mapping_field(field: FieldInfo) -> bool:
    """Whether a value of this field may be a mapping (`report.reference`)."""
    return any(get_origin(kind) is dict for kind in (field.annotation, *get_args(field.annotation)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known word is near. A bare `steps` means every `*.steps`."""
    names = list(known)
    near = [name for name in names if name.rpartition(".")[2] == word]
    near = near or [name for name in names if len(word) > 2 and name.startswith(word)][:1]
    near = near or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, unchecked, and the file or option it stands in."""

    node: Located
    place: Place

    def at(self, name: str) -> str:
        """The beginning of an error about this value of setting `name`."""
        return self.place.at(name, self.node.line)


def flatten_located(node: Located, place: Place, *, known: Mapping[str, FieldInfo]) -> dict[str, Given]:
    """Nested or dotted keys of a block by dotted name; SpecError for an unknown name or one given twice."""
    flat: dict[str, Given] = {}
    for name, child in _leaves(node, "", known):
        where = place.at(name, child.line)
        require_known(name, where, known=known)
        if name in flat:
            raise SpecError(f"{where}: given twice; the first is on line {flat[name].node.line}")
        flat[name] = Given(child, place)
    return flat


def _leaves(node: Located, prefix: str, known: Mapping[str, FieldInfo]) -> Iterable[tuple[str, Located]]:
    """Every name and its value; a setting's own value may be a group (`temporal.window: {a: 1}`), a wrong one."""
    for key, child in node.value.items():
        name = f"{prefix}{key}"
        is_leaf = name in known and not any(other.startswith(f"{name}.") for other in known)
        if child.is_mapping and child.value and not is_leaf:
            yield from _leaves(child, f"{name}.", known)
        else:
            yield name, child


def require_known(name: str, where: str, *, known: Mapping[str, FieldInfo]) -> None:
    """SpecError where `name` is no setting: with the nearest one, or the settings of the section it names."""
    if name in known:
        return
    members = [other for other in known if other.startswith(f"{name}.")]
    if members:
        some = ", ".join(members[:4]) + ", ..." * (len(members) > 4)
        raise SpecError(f"{where}: is a group of settings ({some}); name one of them")
    raise SpecError(f"{where}: unknown key{did_you_mean(name, known)}")


def checked(name: str, value: Any, where: str, *, field: FieldInfo) -> Setting:
    """The setting with its value as the field's type; SpecError in words where it does not fit."""
    setting = Setting(name, value, where)
    if isinstance(value, dict) and not is_mapping_field(field):
        raise setting.error(f"expected {_expected(field)}, got a mapping")
    if isinstance(value, bool) and field.annotation is not bool:
        raise setting.error(f"expected {_expected(field)}, got '{shown(value)}'")
    try:
        return Setting(name, _adapter(field).validate_python(value), where)
    except ValidationError as error:
        raise setting.error(in_words(error.errors()[0], field)) from None


def json_schema_of(field: FieldInfo) -> dict[str, Any]:
    """JSON Schema of one field, with its description and default."""
    schema = _adapter(field).json_schema()
    if field.description:
        schema["description"] = " ".join(field.description.split())
    if not field.is_required():
        schema["default"] = field.get_default()
    return schema


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    kind: Any = field.annotation
    for constraint in field.metadata:
        kind = Annotated[kind, constraint]
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))


_KINDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def in_words(error: ErrorDetails, field: FieldInfo) -> str:
    """What a pydantic error means to someone who wrote YAML."""
    got = f"got '{shown(error['input'])}'"
    if error["type"] in _BOUNDS:
        words, key = _BOUNDS[error["type"]]
        return f"expected {words} {shown(error['ctx'][key])}, {got}"
    if error["type"] == "finite_number":
        return f"expected a finite number, {got}"
    if error["type"] == "literal_error":
        return f"expected {_expected(field)}, {got}{_near_choice(error['input'], field)}"
    return f"expected {_expected(field)}, {got}"


def _expected(field: FieldInfo) -> str:
    kinds = [unannotated(kind) for kind in get_args(field.annotation) if kind is not type(None)]
    if is_mapping_field(field):
        return "a mapping" if get_origin(field.annotation) is dict else "text or a mapping"
    if is_list_field(field):
        return "a list of names" if kinds[0] is str else "a list of values"
    if field.annotation in _KINDS:
        return _KINDS[field.annotation]
    if kinds and kinds[0] in _KINDS:
        return f"{_KINDS[kinds[0]]} or null"
    return "one of " + ", ".join(str(choice) for choice in kinds) if len(kinds) > 1 else f"'{kinds[0]}'"


def unannotated(kind: Any) -> Any:
    """`int` of `Annotated[int, ...]`; anything else as it is."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _near_choice(value: Any, field: FieldInfo) -> str:
    return did_you_mean(str(value), [str(choice) for choice in get_args(field.annotation)])


def shown(value: Any) -> str:
    """A value as it would be written in YAML, shortened: `true`, `null`, `5`, `[1, 2]`, `0.0001`."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return one_line(repr(value) if isinstance(value, float) else str(value))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{'a.b': 1} -> {'a': {'b': 1}}."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree
