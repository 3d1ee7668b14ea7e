"""What the names of drawn regions mean: region name -> class, with classes within classes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from uscl.data.ingest.annotation import Annotation, classes_named
from uscl.data.wording import counted
from uscl.errors import DataError
from uscl.spec.regions import all_within

_SHOWN = 6
_NAME_CHARS = 40
"""Of a name, in messages: a longer one is free text, perhaps about a person."""


@dataclass(frozen=True)
class ClassNames:
    """Which class a region's name stands for."""

    names: Mapping[str, str]
    """Region name, exactly as drawn -> class. Several names may be one class."""
    contains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Class -> classes within it: a pixel of an inner class belongs to the outer one too."""
    ignore: tuple[str, ...] = ()
    """Region names that are left out."""
    unknown: tuple[str, ...] = ()
    """Region names for pixels that nobody annotated."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Each class once, outer ones that have no name of their own last."""
        return tuple(dict.fromkeys([*self.names.values(), *self.contains]))


def parse_class_names(
    classes: str, contains: Sequence[str] = (), *, ignore: Sequence[str] = (), unknown: Sequence[str] = ()
) -> ClassNames:
    """`Capsule=capsule,Central Echo Complex=cec`, and `capsule=cec,cortex` per outer class. DataError if unreadable.

    A name alone stands for a class of that name. Names with a comma or = in them need the YAML file.
    """
    names: dict[str, str] = {}
    for part in filter(str.strip, classes.split(",")):
        name, equals, meant = (word.strip() for word in part.partition("="))
        if not name or (equals and not meant):
            raise DataError(f"--classes: cannot read {part!r}; expected REGION=CLASS, like Capsule=capsule")
        if name in names:
            raise DataError(f"--classes: region {name!r} is named twice")
        names[name] = meant or name
    outer = {}
    for part in contains:
        name, _, inner = part.partition("=")
        outer[name.strip()] = [word.strip() for word in inner.split(",") if word.strip()]
        if not name.strip() or not outer[name.strip()]:
            raise DataError(f"--contains: cannot read {part!r}; expected OUTER=INNER,INNER, like capsule=cortex")
    return checked_names("--classes", ClassNames(names, outer, tuple(ignore), tuple(unknown)))


def read_class_names(path: Path) -> ClassNames:
    """A YAML file: `classes: {Capsule: capsule}`; `contains: {capsule: [cortex]}`, `ignore: [Note]`, `unknown`.

    All but `classes` may lack. DataError where it is no such file.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = {str(name): str(meant) for name, meant in document["classes"].items()}
        contains = {str(name): _words(inner) for name, inner in (document.get("contains") or {}).items()}
        lists = [tuple(_words(document.get(key) or [])) for key in ("ignore", "unknown")]
        strange = sorted(set(map(str, document)) - {"classes", "contains", "ignore", "unknown"})
        if strange:
            raise ValueError(f"unknown key {strange[0]!r}; known are classes, contains, ignore, unknown")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: expected `classes: {{REGION: CLASS}}` and the like: {reason}") from error
    return checked_names(str(path), ClassNames(names, contains, *lists))


def checked_names(where: str, class_names: ClassNames) -> ClassNames:
    """The same. DataError where it names no class, a name means two things, or classes cannot lie in each other so."""
    if not class_names.names:
        raise DataError(f"{where}: names no class; expected region names and classes, like Capsule=capsule")
    meanings = [*class_names.names, *class_names.ignore, *class_names.unknown]
    twice = sorted({name for name in meanings if meanings.count(name) > 1})
    if twice:
        raise DataError(f"{where}: {twice[0]!r} cannot be a class and left out or unknown as well")
    for outer, inners in class_names.contains.items():
        for inner in inners:
            if inner not in class_names.classes:
                raise DataError(f"{where}: {outer!r} contains {inner!r}, which is no class")
        if outer in all_within(outer, class_names.contains):
            raise DataError(f"{where}: {outer!r} lies within itself")
    return class_names


def check_named(annotations: Sequence[Annotation], class_names: ClassNames) -> None:
    """DataError where regions have names without meaning: each with its count, and what was perhaps meant."""
    known = {*class_names.names, *class_names.ignore, *class_names.unknown}
    unnamed = {name: number for name, number in classes_named(annotations).items() if name not in known}
    if unnamed:
        raise DataError(
            f"{counted(sum(unnamed.values()), 'region has a name', 'regions have names')} that --classes does not map: "
            f"{_hints(unnamed, known)}; map each to a class, or leave it out with --ignore NAME"
        )


def _hints(unnamed: Mapping[str, int], known: Iterable[str]) -> str:
    """`Capsul (3; did you mean Capsule?), Note (1)`."""
    folded = {name.casefold(): name for name in known}
    parts = []
    for name, number in list(unnamed.items())[:_SHOWN]:
        near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
        parts.append(f"{name[:_NAME_CHARS]!r} ({number}" + (f"; did you mean {folded[near[0]]!r}?)" if near else ")"))
    return ", ".join(parts) + (", ..." if len(unnamed) > _SHOWN else "")


def _words(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("expected a list of names")
    return [str(word) for word in value]
