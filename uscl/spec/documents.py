"""The files of a sweep: a sweep file or a recipe as its top-level blocks, each with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.errors import SpecError
from uscl.spec.positions import Located, read_located
from uscl.spec.settings import Place, did_you_mean, shown, trial_fields

RECIPES = Path(__file__).parent.parent / "recipes"
SWEEP_KEYS = (
    "name",
    "recipe",
    "data",
    "description",
    "fixed",
    "rows",
    "grid",
    "search",
    "resources",
    "report",
    "phantom",
)
RECIPE_KEYS = ("description", "settings", "phantom", "resources")


@dataclass(frozen=True, slots=True)
class Document:
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


def read_document(path: Path, *, known: Sequence[str]) -> Document:
    """A YAML file of `known` top-level keys. SpecError where it cannot be read, or has another key."""
    root = read_located(path)
    place = Place(str(path))
    if not root.is_mapping:
        raise SpecError(f"{path}:{root.line}: expected 'key: value' lines, got '{shown(root.plain())}'")
    for key, node in root.value.items():
        if key not in known:
            raise SpecError(f"{place.at(key, node.line)}: unknown key{_where_it_belongs(key, known)}")
    return Document(place, root.value)


def _where_it_belongs(key: str, known: Sequence[str]) -> str:
    if "fixed" in known and any(name == key or name.startswith(f"{key}.") for name in trial_fields()):
        return f"; settings of every cell belong under 'fixed:' ('fixed: {{{key}: ...}}')"
    return did_you_mean(key, known)


def read_recipe(document: Document, override: str | None) -> tuple[str, Document]:
    """Name and content of the recipe that a sweep file (or `--recipe`) names: a shipped one, or a .yaml file."""
    name = override or document.text("recipe")
    where = f"--recipe {override}" if override else document.at("recipe")
    shipped = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name is None:
        raise SpecError(f"{where}: missing; one of {', '.join(shipped)}, or a recipe file of your own")
    if name.endswith((".yaml", ".yml")):
        return Path(name).stem, read_document(Path(name), known=RECIPE_KEYS)
    if name not in shipped:
        raise SpecError(
            f"{where}: unknown recipe '{name}'{did_you_mean(name, shipped) or '; one of ' + ', '.join(shipped)}"
        )
    return name, read_document(RECIPES / f"{name}.yaml", known=RECIPE_KEYS)
