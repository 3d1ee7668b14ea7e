"""YAML with a line number on every value, so that an error can say where.

Scalars follow the YAML 1.2 core schema: `1e-4` is a number, `yes` and `off` are text, `0o17` is octal. A key
given twice, a tag, an alias that holds itself and a document nested beyond reason are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from uscl.errors import SpecError

MAX_DEPTH = 40
MAX_NODES = 100_000

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Located:
    """A YAML value and the line it begins on (in a mapping: the line of its key).

    `value` is a scalar, a tuple of Located or a dict of them.
    """

    value: Any
    line: int

    @property
    def is_mapping(self) -> bool:
        """Whether this is a YAML mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether this is a YAML sequence."""
        return isinstance(self.value, tuple)

    def plain(self) -> Any:
        """The value without lines: lists, dicts and scalars."""
        if self.is_mapping:
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if self.is_list else self.value


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader whose plain scalars are resolved by the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own class attribute


_TAG = "tag:yaml.org,2002:"
_CORE_SCALARS: Mapping[str, tuple[str, str]] = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
for _name, (_pattern, _first) in _CORE_SCALARS.items():
    _CoreLoader.add_implicit_resolver(
        _TAG + _name, re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )


def read_located(path: Path) -> Located:
    """The one YAML document of a file. SpecError where it cannot be read or is not plain YAML."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not a text file in UTF-8") from error
    return parse_located(text, source=str(path))


def parse_located(text: str, *, source: str) -> Located:
    """Parse one YAML document. Errors begin with `source:line:`; an empty document is an empty mapping."""
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise SpecError(f"{source}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    except (RecursionError, ValueError) as error:
        raise SpecError(f"{source}: not valid YAML: nested too deeply or malformed") from error
    return Located({}, 1) if root is None else _Construction(source).located(root, depth=0)


class _Construction:
    """Turns composed YAML nodes into Located values; counts them, so that aliases cannot explode."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.num_nodes = 0

    def fail(self, node: yaml.Node, message: str) -> SpecError:
        """An error at the line of a node, to be raised."""
        return SpecError(f"{self.source}:{node.start_mark.line + 1}: {message}")

    def located(self, node: yaml.Node, *, depth: int) -> Located:
        """The value of a node and of all below it."""
        self.num_nodes += 1
        if depth > MAX_DEPTH or self.num_nodes > MAX_NODES:
            raise self.fail(node, "nested too deeply, or an alias (*name) that holds itself")
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return Located(self._mapping(node, depth), line)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return Located(tuple(self.located(child, depth=depth + 1) for child in node.value), line)
        if isinstance(node, yaml.ScalarNode):
            return Located(self._scalar(node), line)
        raise self.fail(node, f"the tag {node.tag!r} is not supported")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Located]:
        children: dict[str, Located] = {}
        lines: dict[str, int] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fail(key, "expected a name before the ':', got a list or a group")
            if key.value in children:
                raise self.fail(key, f"{one_line(key.value)}: given twice; the first is on line {lines[key.value]}")
            lines[key.value] = key.start_mark.line + 1
            children[key.value] = Located(self.located(child, depth=depth + 1).value, lines[key.value])
        return children

    def _scalar(self, node: yaml.ScalarNode) -> Scalar:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        try:
            return _scalar_of(kind, text)
        except (KeyError, ValueError, OverflowError) as error:
            raise self.fail(node, f"'{one_line(text)}' cannot be read as the YAML tag {node.tag!r}") from error


def one_line(text: str, *, length: int = 60) -> str:
    """Text as an error may show it: without line breaks or control characters, and not too long."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[: length + 1])
    return text if len(text) <= length else text[: length - 3] + "..."


def _scalar_of(kind: str, text: str) -> Scalar:
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()]
    if kind == "int":
        base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
        return int(text, base)
    if kind == "float":
        return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()))
    raise KeyError(kind)
