"""Scores of single patients from the stored case rows, paired between two rows of a report."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from uscl.errors import StoreError
from uscl.metrics.aggregate import MEANS, OTHER_AGGREGATES, classes_in_mean, mean
from uscl.records import CaseRow, CellPlan, DatasetFacts, Outcome
from uscl.report.collect import CellRecord
from uscl.report.stats import Score
from uscl.store.case_rows import CASES, decode_rows
from uscl.store.stages import StageStore

log = logging.getLogger(__name__)

Run: TypeAlias = tuple[int, tuple[int, int]]
"""One trained network of a row: pretraining seed, and (label draw, fine-tuning seed)."""
CaseValues: TypeAlias = Mapping[tuple[str, str, str], float]
"""(unit, class, case) -> value of one measurement by one network."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measurement of a report, taken apart: `test/dsc/cortex`."""

    part: str
    """`val` or `test`."""
    name: str
    class_name: str = ""
    """Empty where it is a mean over classes."""

    @property
    def row_name(self) -> str:
        """What the case rows call it."""
        return OTHER_AGGREGATES.get(self.name, (self.name, False))[0]


def measure_of(value: str) -> Measure | None:
    """The measurement that `test/dsc/cortex` names; None where it is no mean over patients (a count)."""
    part, _, rest = value.partition("/")
    name, _, class_name = rest.partition("/")
    measure = Measure(part, name, class_name)
    return measure if measure.row_name in MEANS else None


class CaseScores:
    """The stored case rows of a sweep; each evaluation is read once, and only the measurements asked for."""

    def __init__(self, store: StageStore, records: Mapping[str, CellRecord], values: Sequence[str]) -> None:
        """`values` are the measurements of the report."""
        self._store, self._records = store, records
        self._names = tuple(sorted({measure.row_name for value in values if (measure := measure_of(value))}))
        self._rows: dict[tuple[str, str], list[CaseRow]] = {}

    def of_runs(self, cells: Iterable[CellPlan], measure: Measure, facts: DatasetFacts) -> dict[Run, CaseValues]:
        """The values of a row's networks, by run; cells without a stored evaluation, or diverged, have none."""
        runs = {}
        for cell in cells:
            record = self._records.get(cell.cell)
            if record is None or record.result is None or record.result.outcome is not Outcome.DONE:
                continue
            values = self._values(cell, record, measure, facts)
            if values:
                runs[run_of(cell)] = values
        return runs

    def _values(self, cell: CellPlan, record: CellRecord, measure: Measure, facts: DatasetFacts) -> CaseValues:
        rows = self._read(cell, record, measure.part)
        inputs = record.manifests[f"evaluate/{measure.part}"].inputs if rows else {}
        classes = list(dict.fromkeys(row.class_name for row in rows))
        chosen = (
            [measure.class_name]
            if measure.class_name
            else classes_in_mean(measure.name, classes, inputs.get("leaf_classes"))
        )
        return {
            (facts.units.get(row.case, row.patient), row.class_name, row.case): row.values[measure.row_name]
            for row in rows
            if row.class_name in chosen and measure.row_name in row.values
        }

    def _read(self, cell: CellPlan, record: CellRecord, part: str) -> list[CaseRow]:
        """The rows of one evaluation; none where it has no such file, or the file is torn, which the store logs."""
        at = (cell.cell, part)
        if at not in self._rows:
            manifest = record.manifests.get(f"evaluate/{part}")
            self._rows[at] = []
            if manifest is not None and CASES in manifest.files:
                try:
                    content = self._store.scoped(cell.namespace).read(manifest.ref, CASES)
                    self._rows[at] = decode_rows(content, names=self._names)
                except StoreError as error:
                    log.warning("report: cell %s: %s", cell.number, error)
        return self._rows[at]


def run_of(cell: CellPlan) -> Run:
    """Which training run a cell is of its row."""
    get = cell.settings.get
    return get("seed.pretrain", 0), (get("labels.draw", 0), get("seed.finetune", 0))


def paired_scores(
    row: Mapping[Run, CaseValues], reference: Mapping[Run, CaseValues]
) -> tuple[list[Score], list[Score]]:
    """Scores of both rows by run and unit, over the same cases and classes: those that both networks have a value for.

    A unit's score is the mean over classes of the mean over its cases; NaN where the two share nothing. Where every
    case has every class and value, as for `dsc` and `delta_snr`, the mean of the paired differences is the difference
    of the table's means; under rules that leave cases out it is over fewer, the same for both.
    """
    ours, theirs = [], []
    for run in sorted({*row, *reference}):
        one, other = row.get(run), reference.get(run)
        if one is None or other is None:
            missing = [Score(*run, unit, math.nan) for unit in _units(one or other or {})]
            ours += missing
            theirs += missing
            continue
        both = [key for key in one.keys() & other.keys() if not math.isnan(one[key] + other[key])]
        for unit in sorted({*_units(one), *_units(other)}):
            keys = sorted(key for key in both if key[0] == unit)
            ours.append(Score(*run, unit, _mean_over_classes(one, keys)))
            theirs.append(Score(*run, unit, _mean_over_classes(other, keys)))
    return ours, theirs


def _units(values: CaseValues) -> list[str]:
    return sorted({unit for unit, _, _ in values})


def _mean_over_classes(values: CaseValues, keys: Iterable[tuple[str, str, str]]) -> float:
    by_class: dict[str, list[float]] = defaultdict(list)
    for key in keys:
        by_class[key[1]].append(values[key])
    return mean(mean(of_class) for of_class in by_class.values())
