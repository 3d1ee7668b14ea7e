"""SweepSpec: a checked sweep file as a frozen value, and the cells it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from pydantic import Field

from uscl.errors import SpecError
from uscl.spec.phantom import PhantomSpec
from uscl.spec.section import Count, Positive, Section
from uscl.spec.space import SearchSpec
from uscl.spec.trial import TrialSpec


class ResourcesSpec(Section):
    """What one trial is given, and how often it saves. Nothing here changes a result."""

    gpus_per_trial: Annotated[float, Field(ge=0)] = 1
    """Fractions share a GPU. Where a Ray that uscl itself started has none, trials run on the CPU, and it says so."""
    cpus_per_trial: Positive = 1
    """Also torch's threads on a CPU, in trials and in `uscl trial` alike."""
    workers: Count | None = None
    """Trials at once; null: as many as the machine's GPUs (or CPUs) hold."""
    progress_every_s: Positive = 60.0
    """Seconds between two resume points of a stage."""
    amp: bool = True
    """Mixed precision on GPUs: bf16, or fp16 with loss scaling below compute capability 8.0."""


MEASURES = (
    *("dsc", "dsc_nan_drop", "dsc_gt_present", "dsc_floor", "hd95", "hd95_nan_drop", "miss_rate"),
    *("delta_snr", "delta_snr_present", "delta_snr_present_db", "delta_snr_signed"),
    *("detected", "missed", "false_alarm", "snr_degenerate"),
)
"""What an evaluation measures, over all classes and per class: `test/dsc`, `test/dsc/<class>` (docs/methods.md)."""
EMBEDDING_MEASURES = (
    *("embedding/compactness", "embedding/separability"),
    *("embedding/effective_rank", "embedding/alignment", "embedding/uniformity"),
)
"""What it measures of pixels in the last feature map (metrics/separation.py); the first two are per class too."""
OVERALL_MEASURES = ("dsc_leaf", "dsc_leaf_floor", "delta_snr_all")
"""The other aggregate of a measurement, by name: DSC over leaf classes alone, delta SNR over all (docs/methods.md)."""


class PublishedSpec(Section):
    """Numbers of a paper, printed as a block of their own under the table."""

    source: str = ""
    """Where they stand: `Singla et al. 2022, table 2`."""
    dataset: str = "kidney"
    """What they were measured on. On a dataset of this name they are subtracted from ours, else effects are shown."""
    columns: tuple[str | int | float, ...] = ()
    """The values of `report.columns` that the numbers stand for, in order; empty where there is one column."""
    values: dict[str, dict[str, tuple[float | None, ...]]] = {}  # noqa: RUF012  pydantic copies it
    """Measurement -> row -> numbers, one per column, null where none: `test/dsc: {baseline: [0.44, 0.55, 0.54]}`."""
    note: str = ""
    """What a reader must know of them, printed below."""


class ReportSpec(Section):
    """The table at the end of a sweep."""

    rows: tuple[str, ...] = ()
    """Settings that make a row, or `label`. Cells of one row and column are averaged; `± sd` is over seeds alone."""
    columns: str = ""
    """The setting that makes the columns; empty: one column."""
    values: tuple[str, ...] = ("test/dsc",)
    """Measurements shown: `test/dsc`, `val/dsc`, `test/delta_snr`, ...; of one class: `test/dsc/<class>`."""
    reference: str | dict[str, str | int | float | bool | None] = ""
    """The row that all others are compared with: its label, its settings as printed, or `{setting: value, ...}`."""
    published: PublishedSpec = PublishedSpec()


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of a sweep, as the file asks for it. Whether two cells are the same is for the plan to say."""

    number: int
    """Position in the file, from 1."""
    label: str
    """The row in words, then the grid's values: `pairwise positive both labels.fraction=0.1 seed=0`."""
    axes: Mapping[str, Any]
    """The settings of its row and grid point, by dotted name as written, and those that `--set` changes."""
    spec: TrialSpec
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Settings besides its axes that the file's `fixed` sets otherwise than the recipe and the defaults do."""
    asked: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """Settings that the sweep file or `--set` gives; a recipe's alone are not among them."""
    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where each given setting stands: `sweeps/x.yaml:14: temporal.window`."""

    def error(self, name: str, message: str) -> SpecError:
        """An error about setting `name` of this cell, to be raised; it begins with file and line."""
        return SpecError(f"{place_of(name, self.places)}: {message}")


class CellMaker(Protocol):
    """Makes the cells of a search: settings that are fixed are those of the file and its recipe."""

    def cell(self, number: int, params: Mapping[str, Any], *, repeat: int = 0) -> Cell:
        """The cell of proposed settings, by dotted name; `repeat` n adds n to its seeds.

        SpecError where the settings are impossible together.
        """


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """A sweep file, read and checked: every cell has every setting."""

    name: str
    """As the file has it, or as `--name` sets it."""
    identity: str
    """Names the sweep's folder and MLflow experiment: `name`, `-<recipe>` and `-<dataset>` where overridden."""
    recipe: str
    data: str
    """`phantom`, or the folder of a dataset."""
    grid: tuple[Cell, ...]
    resources: ResourcesSpec
    report: ReportSpec
    phantom: PhantomSpec
    description: str = ""
    source: str = ""
    """The file it was read from."""
    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where `data`, the settings of the phantom and `search.space` stand."""
    search: SearchSpec | None = None
    """What a search proposes cells from; its `grid` is empty."""
    maker: CellMaker | None = field(default=None, repr=False, compare=False)
    """Of a search."""

    def cells(self) -> tuple[Cell, ...]:
        """Every cell in file order: rows outer, grid inner."""
        return self.grid

    def error(self, name: str, message: str) -> SpecError:
        """An error about `data`, a setting of the phantom or `search.space`, to be raised; it says where."""
        return SpecError(f"{place_of(name, self.places)}: {message}")

    def to_json(self) -> dict[str, Any]:
        """What a sweep's folder keeps of it, with every setting of every cell."""
        search = {} if self.search is None else {"search": self.search.to_json()}
        return {
            "name": self.name,
            "identity": self.identity,
            "recipe": self.recipe,
            "data": self.data,
            "description": self.description,
            "phantom": self.phantom.model_dump(mode="json"),
            "resources": self.resources.model_dump(mode="json"),
            "report": self.report.model_dump(mode="json"),
            **search,
            "cells": [
                {"number": cell.number, "label": cell.label, "settings": cell.spec.model_dump(mode="json")}
                for cell in self.grid
            ],
        }


def place_of(name: str, places: Mapping[str, str]) -> str:
    """Where setting `name` was given; the plain name where only a default gives it."""
    if name in places:
        return places[name]
    sugar = "seed" if name in ("seed.pretrain", "seed.finetune", "labels.draw") else name
    return places.get(sugar, name)
