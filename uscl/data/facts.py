"""What a report must know of a dataset: its name, how well its raters agree, and what stands for a patient."""

from __future__ import annotations

from uscl.data.raters import raters_of
from uscl.data.schema import UNKNOWN_PATIENT, DatasetIndex
from uscl.data.splits import unit_names
from uscl.records import DatasetFacts


def dataset_facts(index: DatasetIndex) -> DatasetFacts:
    """The facts of a dataset; needs its index only.

    Where a labelled case has no patient, all cases are counted by what a split keeps together, and the unit is named
    by the weakest of them: `group` where every such case has one, else `case` (science.md 10).
    """
    used = [case for case in index.cases if not case.excluded]
    nameless = [case for case in used if case.patient.startswith(UNKNOWN_PATIENT)]
    raters = raters_of(index)
    if not nameless:
        return DatasetFacts(index.name, dict(index.agreement), raters=raters)
    alone = any(case.group == case.patient for case in nameless)
    names = unit_names(index)
    units = {case.case: names[case.patient, case.group] for case in used}
    return DatasetFacts(index.name, dict(index.agreement), "case" if alone else "group", units, raters)
