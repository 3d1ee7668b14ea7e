"""Cells of a search: what it proposes, on top of what the file and its recipe fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from uscl.errors import SpecError
from uscl.spec.cells import Common, changes, common_of, make_cell, pair, refuse_data_as_setting
from uscl.spec.documents import Document
from uscl.spec.grid import axes_of
from uscl.spec.points import every_point, random_point
from uscl.spec.rows import SEEDS
from uscl.spec.search_block import PlacedSearch, read_search
from uscl.spec.settings import Given, Setting, checked, require_known, trial_fields
from uscl.spec.space import SearchSpec
from uscl.spec.sweep import Cell, place_of

ALL_SEEDS = ("seed", *SEEDS)
MAX_TRIED = 300
"""Points that are tried before a space is called impossible: a fraction of a second, spent only where all fail."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """A CellMaker: the settings of the file, its recipe and `--set`, with proposed ones on top."""

    common: Common
    options: Mapping[str, Setting]
    """What `--set` gives."""
    places: Mapping[str, str]
    """Where the settings of the space stand."""
    repeats: int = 1

    def cell(self, number: int, params: Mapping[str, Any], *, repeat: int = 0) -> Cell:
        """The cell of proposed settings, by dotted name; `repeat` n adds n to its seeds.

        SpecError where a setting is unknown, a value not one it can have, or all of them impossible together.
        """
        proposed = {name: self._setting(name, value) for name, value in params.items()}
        seeds = self._seeds(repeat) if self.repeats > 1 or repeat else {}
        point = {**self.options, **proposed, **seeds}
        changed = [name for name in changes(self.options, self.common.fixed) if name not in (*proposed, *seeds)]
        axes = [*proposed, *changed, *_seed_axes(seeds)]
        label = " ".join(pair(point[name]) for name in axes)
        return make_cell(number, label, point, axes=axes, common=self.common)

    def _setting(self, name: str, value: Any) -> Setting:
        where = self.places.get(name, f"a proposal: {name}")
        require_known(name, where, known=trial_fields())
        return checked(name, value, where, field=trial_fields()[name])

    def _seeds(self, repeat: int) -> dict[str, Setting]:
        """`seed` and the three that it stands for, `repeat` later than the file has them."""
        given = {**self.common.fixed, **self.options}
        places = {name: setting.place for name, setting in given.items()}
        seeds = {}
        for name in ALL_SEEDS:
            setting = given.get(name, given.get("seed"))
            first = 0 if setting is None else setting.value
            seeds[name] = Setting(name, first + repeat, place_of(name, places))
        return seeds


def _seed_axes(seeds: Mapping[str, Setting]) -> tuple[str, ...]:
    """`seed` where the three are one number; nothing where there are none."""
    if len({setting.value for setting in seeds.values()}) > 1:
        return SEEDS
    return ("seed",) if seeds else ()


def search_of(
    document: Document, recipe: Document, options: Mapping[str, Given], *, data: str
) -> tuple[PlacedSearch, Proposals] | None:
    """The search of a file that has one, and what makes its cells. SpecError where no point of its space can run."""
    if "search" not in document.keys:
        read_search(document, options, {})
        return None
    fixed = _fixed_by(options)
    common = common_of(document, recipe, data=data)
    refuse_data_as_setting([common.fixed, fixed])
    found = read_search(document, options, {name: setting.value for name, setting in fixed.items()})
    assert found is not None
    maker = Proposals(common, fixed, found.places, found.search.repeats)
    refuse_hopeless(found.search, lambda params: maker.cell(1, params), found.where, tried_at_most=MAX_TRIED)
    return found, maker


def _fixed_by(options: Mapping[str, Given]) -> dict[str, Setting]:
    """The trial settings that `--set` gives, each one value."""
    fixed = {}
    for name, values in axes_of(options).items():
        if len(values) > 1:
            said = "search.repeats runs several seeds" if name in ALL_SEEDS else "vary it in search.space"
            raise values[0].error(f"a list makes the cells of a grid, and a search takes one value; {said}")
        fixed[name] = values[0]
    return fixed


def refuse_hopeless(
    search: SearchSpec, attempt: Callable[[Mapping[str, Any]], object], where: str, *, tried_at_most: int
) -> None:
    """SpecError where `attempt` raises one at every point; of a larger space, at so many random ones."""
    small, rng = search.size <= tried_at_most, Random(0)
    tried: Iterable[dict[str, Any]] = (
        every_point(search.space) if small else (random_point(search.space, rng) for _ in range(tried_at_most))
    )
    refusals: dict[str, None] = {}
    for params in tried:
        try:
            attempt(params)
        except SpecError as error:
            refusals[str(error)] = None
        else:
            return
    first = next(iter(refusals))
    if len(refusals) == 1:  # whatever is proposed
        raise SpecError(first)
    every = "every proposal" if small else f"each of {tried_at_most} proposals tried"
    raise SpecError(f"{where}: {every} is refused, the first by {first}")
