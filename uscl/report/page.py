"""The whole report of a sweep: its table, the differences to the reference row, and a paper's numbers beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from uscl.records import NO_FACTS, CellPlan, DatasetFacts
from uscl.report.collect import CellRecord, collect
from uscl.report.differences import DifferenceBlock, build_differences, difference_sheets, missing_reference
from uscl.report.latex import to_latex
from uscl.report.long_format import to_csv
from uscl.report.published import PublishedBlock, build_published, published_sheets
from uscl.report.render import to_markdown, to_text
from uscl.report.sheet import Sheet, table_sheets
from uscl.report.table import Table, build_table
from uscl.spec.sweep import ReportSpec
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says, before it has a format."""

    spec: ReportSpec
    facts: DatasetFacts
    table: Table
    differences: tuple[DifferenceBlock, ...]
    published: tuple[PublishedBlock, ...]
    records: Mapping[str, CellRecord]

    def sheets(self) -> tuple[Sheet, ...]:
        """Its tables in reading order: results, differences, the paper."""
        table = self.table
        paper = published_sheets(self.published, table, self.spec, self.facts)
        return (*table_sheets(table), *difference_sheets(self.differences, table), *paper)

    def brief_sheets(self) -> tuple[Sheet, ...]:
        """What fits a terminal: all results, and of the first measurement the differences and the paper.

        Differences of a single training run are left out: over patients alone they say little.
        """
        first, table = self.spec.values[:1], self.table
        published = tuple(block for block in self.published if block.value in first)
        differences = tuple(block for block in self.differences if block.value in first and block.several_runs)
        paper = published_sheets(published, table, self.spec, self.facts)
        return (*table_sheets(table), *difference_sheets(differences, table), *paper)


FORMATS: Mapping[str, tuple[str, Callable[[Report], str]]] = {
    "text": ("table.txt", lambda report: to_text(report.sheets())),
    "md": ("table.md", lambda report: to_markdown(report.sheets())),
    "csv": ("report.csv", lambda report: to_csv(report.table, report.differences, report.published)),
    "latex": ("report.tex", lambda report: to_latex(report.sheets())),
}
"""Format -> the file of a sweep's report folder that has it, and what writes it."""


def build_report(
    store: StageStore, cells: Sequence[CellPlan], report: ReportSpec, facts: DatasetFacts = NO_FACTS
) -> Report:
    """The report of a sweep as the store stands now, finished or not; equal stores give equal bytes in every format."""
    records = collect(store, cells)
    table = build_table(cells, records, report, facts)
    return Report(
        spec=report,
        facts=facts,
        table=replace(table, notes=(*table.notes, *missing_reference(cells, report))),
        differences=build_differences(store, cells, records, report, facts),
        published=build_published(cells, records, report, facts),
        records=records,
    )


def stored_report(store: StageStore, folder: SweepFolder, spec: ReportSpec | None = None) -> Report:
    """The report of a sweep that has been started, by `spec`, or else by the `report:` block that its folder keeps.

    StoreError where the folder has no cells, for the sweep has not run.
    """
    document = folder.read_sweep() or {}
    kept = ReportSpec(**document.get("report", {})) if spec is None else spec
    return build_report(store, folder.read_cells(), kept, folder.read_dataset())


def table_files(report: Report) -> Mapping[str, str]:
    """Every format of a report, by file name: what the sweep folder and the tracker keep."""
    return {name: write(report) for name, write in FORMATS.values()}
