"""What a search has found, from its sweep's folder and the store alone: its sweep file is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from uscl.errors import SpecError, StoreError
from uscl.records import CellPlan, Metrics
from uscl.spec.space import SearchSpec
from uscl.store.sweeps import SweepFolder
from uscl.sweep.books import Entry, counted, entries_of, winners
from uscl.sweep.outlook import cell_store
from uscl.sweep.points import belongs
from uscl.sweep.proposals import Judge


@dataclass(frozen=True, slots=True)
class SearchResults:
    """A search as the store stands now."""

    identity: str
    spec: SearchSpec
    entries: tuple[Entry, ...]
    """Every proposal, refusals and repetitions included, in order."""
    cells: Mapping[str, CellPlan]
    """By id."""
    tested: Mapping[str, Metrics] = field(default_factory=dict)
    """Of the winners' cells: their test scores, where they are there."""

    @property
    def leaders(self) -> tuple[Entry, ...]:
        """The best feasible proposal, or the Pareto front, as things stand; while the search runs, the best so far."""
        return winners(self.spec, self.entries)

    @property
    def looked_at(self) -> int:
        """How many different proposals the best was chosen from."""
        return counted(self.entries)

    def numbers(self, entry: Entry) -> tuple[int, ...]:
        """The numbers of its cells."""
        return tuple(self.cells[cell].number for cell in entry.proposal.cells)

    def test_scores(self, entry: Entry) -> dict[str, float]:
        """Of a winner: the objectives on the test split, as means over its repeats; empty before they exist."""
        verdicts = [self.tested.get(cell, {}) for cell in entry.proposal.cells]
        names = [name.replace("val/", "test/", 1) for name in self.spec.objectives]
        return {n: fmean(v[n] for v in verdicts) for n in names if verdicts and all(n in v for v in verdicts)}


def search_results(store_root: str | Path, identity: str) -> SearchResults:
    """Read a search. StoreError where the sweep has not run, SpecError where it is no search."""
    folder = SweepFolder(store_root, identity)
    document, cells = folder.read_sweep() or {}, {cell.cell: cell for cell in folder.read_cells()}
    if "search" not in document:
        raise SpecError(f"{identity}: is no search; its file has no 'search:' block")
    try:
        spec = SearchSpec.from_json(document["search"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{folder.path}/sweep.yaml: the search cannot be read ({error}); run the sweep again"
        ) from error
    # of another file, and so unknown to this one, is what lies outside its space or has other cells
    known = [p for p in folder.read_proposals() if belongs(p.params, spec.space) and cells.keys() >= set(p.cells)]
    judge, failed = Judge(Path(store_root)), _failed(folder)
    entries = entries_of(spec, known, lambda cell: judge.verdict(cells[cell], held=cell in failed))
    tested = {cell.cell: _tested(Path(store_root), cell) for cell in cells.values() if cell.is_winner}
    return SearchResults(identity, spec, entries, cells, tested)


def _tested(store_root: Path, cell: CellPlan) -> Metrics:
    manifest = cell_store(store_root, cell).manifest(cell.stages["evaluate/test"])
    return {} if manifest is None else manifest.metrics


def _failed(folder: SweepFolder) -> frozenset[str]:
    """Cells whose last event is a failure."""
    last = {str(event.get("cell")): event.get("event") for event in folder.read_events()}
    return frozenset(cell for cell, event in last.items() if event == "Failed")


def best_so_far(results: SearchResults, objective: str) -> list[tuple[int, float, float]]:
    """(proposal's index, its value, the best feasible value up to it) of each complete proposal that counts."""
    at = list(results.spec.objectives).index(objective)
    better = max if results.spec.objectives[objective] == "maximize" else min
    best, rows = float("nan"), []
    for entry in _complete(results.entries):
        value = entry.values[at]
        if entry.is_feasible:
            best = value if best != best else better(best, value)
        rows.append((entry.proposal.index, value, best))
    return rows


def _complete(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.proposal.counts and entry.values]
