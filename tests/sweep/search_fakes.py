"""Searches over fake trials: a space, a maker of cells, a plan. The process tests import this by name."""

from dataclasses import replace
from types import SimpleNamespace

from sweep_fakes import fake_plan, fake_stages, trial_spec

from uscl.errors import SpecError
from uscl.records import CellPlan
from uscl.spec.space import Choice, Dimension, FloatRange, IntRange, SearchSpec
from uscl.spec.sweep import Cell
from uscl.spec.trial import flatten
from uscl.sweep.plan import PlannedCell

POLARITY = Dimension("temporal.polarity", Choice(("none", "positive")))
FRACTION = Dimension("labels.fraction", FloatRange(0.05, 1.0))
SIX = (POLARITY, Dimension("labels.fraction", Choice((0.1, 0.5, 1.0))))
WINDOW = Dimension("temporal.window", IntRange(1, 20))
"""No fake stage reads it: proposals that differ in it alone are one."""


def search_spec(space=(POLARITY, FRACTION), **more) -> SearchSpec:
    """A search; keyword arguments replace its fields."""
    return SearchSpec(
        **{"sampler": "tpe", "trials": 12, "objectives": {"val/dsc": "maximize"}, "space": tuple(space)} | more
    )


class FakeMaker:
    """Makes cells; `refused` (params -> why or empty) says what is impossible."""

    def __init__(self, refused=lambda params: ""):
        self.refused = refused

    def cell(self, number, params, *, repeat=0):
        """A cell of the settings that a fake trial reads."""
        why = self.refused(params)
        if why:
            raise SpecError(f"fake.yaml:7: {why}")
        sections = {"seed": repeat}
        for name, value in params.items():
            section, setting = name.split(".")
            sections.setdefault(section, {})[setting] = value
        label = " ".join(f"{name}={value}" for name, value in params.items())
        return Cell(number, label, dict(params) | {"seed": repeat}, trial_spec(**sections))


def plan_cell(cell, parts):
    """The planner of a fake plan."""
    stages = fake_stages(cell.spec)
    kept = {name: ref for name, ref in stages.items() if "/" not in name or name.split("/")[1] in parts}
    plan = CellPlan(cell.number, stages["finetune"].key, cell.label, cell.axes, flatten(cell.spec), kept)
    return PlannedCell(plan, cell.spec, SimpleNamespace(cell=plan.cell))


def search_plan(root, search=None, *, maker=None, **script):
    """A plan of a search over `root/store`, without cells yet."""
    plan = fake_plan(root, [], **({"scored": True, "steps": 1} | script))
    spec = SimpleNamespace(**vars(plan.spec) | {"search": search or search_spec(), "maker": maker or FakeMaker()})
    document = {"name": "fake", "recipe": "fake", "data": "fake", "search": spec.search.to_json()}
    spec.to_json = lambda: document
    return replace(plan, spec=spec, planner=plan_cell)
