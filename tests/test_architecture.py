"""Imports go one way, heavy tools live in one room each, and no room hides work in its `__init__`."""

import ast
from itertools import chain
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "uscl"

MAY_IMPORT = {
    "errors": set(),
    "records": {"errors"},
    "spec": {"errors", "records"},
    "store": {"errors", "records", "spec"},
    "speckle": {"errors", "records", "spec"},
    "metrics": {"errors", "records", "spec"},
    "data": {"errors", "records", "spec", "store", "speckle", "metrics"},
    "models": {"errors", "records", "spec", "store", "speckle", "metrics"},
    "losses": {"errors", "records", "spec", "store", "speckle", "metrics", "data"},
    "stages": {"errors", "records", "spec", "store", "speckle", "metrics", "losses", "models", "data"},
    "export": {"errors", "records", "spec", "store", "metrics", "models", "data", "stages"},
    "sweep": {"errors", "records", "spec", "store", "speckle", "metrics", "losses", "models", "data", "stages"},
    "tracking": {"errors", "records", "spec", "store"},
    "report": {"errors", "records", "spec", "store", "metrics"},
    "recipes": set(),
}
"""Rooms and what each may see of the others (design page, section 3); cli may see everything.

losses read data for one type, the pairs of a batch; report averages case rows by the rules of metrics.
"""
ONLY_HOME = {
    "ray": "sweep",
    "optuna": "sweep",
    "mlflow": "tracking",
    "click": "cli",
    "nnunetv2": "stages",
    "yaml": None,
    "rich": None,
}


def modules():
    return sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))


def imported(module):
    """Dotted names that a module imports, wherever in it they stand."""
    tree = ast.parse((PACKAGE.parent / module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield node.module


def room(module):
    return module.parts[1].removesuffix(".py")


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_go_one_way(module):
    own = room(module)
    seen = {name.split(".")[1] for name in imported(module) if name.startswith("uscl.")} - {own}
    if own in MAY_IMPORT:
        assert seen <= MAY_IMPORT[own], f"{module} imports {sorted(seen - MAY_IMPORT[own])}"


@pytest.mark.parametrize("tool", [tool for tool, home in ONLY_HOME.items() if home])
def test_a_heavy_tool_lives_in_one_room(tool):
    homes = {room(module) for module in modules() if any(name.split(".")[0] == tool for name in imported(module))}
    assert homes <= {ONLY_HOME[tool]}, f"{tool} is imported in {sorted(homes)}"


def test_no_module_imports_for_types_only():
    assert not [module for module in modules() if "TYPE_CHECKING" in (PACKAGE.parent / module).read_text()]


@pytest.mark.parametrize("module", [module for module in modules() if module.name == "__init__.py"], ids=str)
def test_an_init_holds_its_docstring_only(module):
    body = ast.parse((PACKAGE.parent / module).read_text(encoding="utf-8")).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr)


def test_the_tree_is_as_the_readme_prints_it():
    """README's tree names every module, and nothing that is not there."""
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    tree = readme.split("<!-- tree -->")[1]
    printed = {Path(word).name for word in tree.split() if word.endswith((".py", ".yaml"))}
    there = {module.name for module in modules() if module.name != "__init__.py"}
    there |= {path.name for path in chain(PACKAGE.glob("recipes/*.yaml"), PACKAGE.parent.glob("sweeps/*.yaml"))}
    there |= {path.name for path in PACKAGE.parent.glob("*.yaml")}
    assert printed == there
