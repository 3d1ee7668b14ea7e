"""Copies a sweep from the store to MLflow: the same code for a sweep under way and for `uscl sync`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uscl.errors import StoreError
from uscl.records import CellPlan, StageManifest
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.tracking.client import FILES_TAG, KnownRun, Tracker, digest_of
from uscl.tracking.content import (
    TAG_CHARACTERS,
    CellHistory,
    RunContent,
    cell_params,
    clipped,
    config_yaml,
    manifests_of,
    measurements,
    number_tag,
    outcome_of,
    run_content,
    stages_json,
    told_apart,
    varying,
)
from uscl.tracking.location import Location

VIEW = "uscl"
"""Key of the saved view of an experiment: `#/experiments/<id>/runs?viewStateShareKey=uscl`."""
FIXED_COLUMNS = {"attributes.`Run Name`": 380, "runDateAndNestInfo": 130, "duration": 80}
"""Columns of MLflow's run table that are always there, by its own names, and their widths in px."""
SHOWN_METRICS = ("test/dsc", "val/dsc", "test/delta_snr")

log = logging.getLogger(__name__)

TableFiles = Callable[[], Mapping[str, str]]
"""Gives the report's files by name; called whenever the parent run is written."""
FigureFiles = Callable[[], Mapping[str, bytes]]
"""Gives the figures by name; called when the parent run is written for the last time."""
HistoryOf = Callable[[str], CellHistory]
"""How a cell stands now, by its id."""


class Copier:
    """One sweep's copy in MLflow. Opening it talks to MLflow; whatever that raises is the caller's."""

    def __init__(
        self,
        store: StageStore,
        identity: str,
        *,
        cells: Sequence[CellPlan],
        location: Location,
        table: TableFiles,
        figures: FigureFiles,
    ) -> None:
        """Finds or makes the experiment and learns which runs are there."""
        self._store, self._identity = store, identity
        self.cells = tuple(cells)
        """Those of the sweep by now; a search has more as it goes."""
        self._table, self._figures = table, figures
        self._document: Mapping[str, Any] = SweepFolder(store.root, identity).read_sweep() or {}
        self._tracker = Tracker(location, identity)
        self._sent: dict[tuple[str, str], str] = {}
        self._parent: KnownRun | None = None

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        return self._tracker.experiment_id

    def copy_parent(self, histories: Mapping[str, CellHistory], *, live: bool) -> None:
        """The sweep's own run: its state, its resolved file, its report, and at the end its figures."""
        outcomes = [outcome_of(cell, manifests_of(self._store, cell)) for cell in self.cells]
        table = dict(self._table())
        content = self._parent_content(histories, sum(outcome is not None for outcome in outcomes), table, live=live)
        parent = self._parent = self._tracker.ensure("uscl.parent", content)
        figures = {} if live else self._figures()
        self._attach(parent, {**table, **figures, "sweep.yaml": config_yaml(self._document)})
        self._name_dataset(parent)
        if not live:
            self._tracker.describe({f"mlflow.sharedViewState.{VIEW}": self._view()})

    def copy_cell(self, cell: CellPlan, history_of: HistoryOf) -> str | None:
        """Bring one cell's run up to date; its run id, or None where the cell has not begun."""
        assert self._parent is not None, "copy_parent comes first"
        # The history after the store: a stage without the event that tells of it would be another sweep's.
        manifests = manifests_of(self._store, cell)
        content = run_content(self._identity, cell, manifests, history_of(cell.cell))
        if content is None:
            return None
        known = self._tracker.ensure("uscl.cell", content, parent=self._parent.run_id)
        for stage in cell.stages:
            self._copy_stage(known, cell, stage, manifests.get(stage))
        self._attach(known, self._texts(cell, manifests), overlays=self._overlays(cell, manifests))
        self._name_dataset(known)
        return known.run_id

    def require_same_file(self) -> None:
        """FileNotFoundError where the embedded database is not the file that was opened."""
        self._tracker.require_same_file()

    def kill_strays(self, live: Iterable[str]) -> None:
        """End the runs that a killed driver left RUNNING; `live` are the run ids of this sweep's cells."""
        parent = [self._parent.run_id] if self._parent else []
        self._tracker.kill_strays([*live, *parent])

    def _copy_stage(self, known: KnownRun, cell: CellPlan, stage: str, manifest: StageManifest | None) -> None:
        published = manifest.attempt if manifest is not None else ""
        if published and self._sent.get((cell.cell, stage)) == published:
            return
        try:
            self._tracker.send(known, measurements(self._store, cell, stage, manifest))
        except StoreError as error:
            # A torn stage is moved aside and rebuilt by the sweep; the curve comes with the next one.
            log.warning("mirror: cell %s, %s: %s", cell.number, stage, error)
            return
        self._sent[cell.cell, stage] = published

    def _texts(self, cell: CellPlan, manifests: Mapping[str, StageManifest]) -> dict[str, str]:
        texts = {"config.yaml": config_yaml(cell.settings)}
        return texts | ({"stages.json": stages_json(manifests)} if outcome_of(cell, manifests) else {})

    def _overlays(self, cell: CellPlan, manifests: Mapping[str, StageManifest]) -> dict[str, tuple[str, StageManifest]]:
        """Images of the evaluations, by artifact path: sha256 and the stage that has the file."""
        if outcome_of(cell, manifests) is None:
            return {}
        return {
            f"overlays/{stage.removeprefix('evaluate/')}/{name}": (sha256, manifest)
            for stage, manifest in manifests.items()
            for name, sha256 in manifest.files.items()
            if stage.startswith("evaluate") and name.endswith(".png")
        }

    def _attach(
        self,
        known: KnownRun,
        files: Mapping[str, str | bytes],
        *,
        overlays: Mapping[str, tuple[str, StageManifest]] | None = None,
    ) -> None:
        """Upload a run's files unless just these are there."""
        overlays = overlays or {}
        own = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in own.items()}
        digest = digest_of(hashes | {name: sha256 for name, (sha256, _) in overlays.items()})
        if known.tags.get(FILES_TAG) == digest:
            return
        scoped = self._store.scoped(self._namespace_of(known))
        try:
            images = {name: scoped.read(manifest.ref, Path(name).name) for name, (_, manifest) in overlays.items()}
        except StoreError as error:
            log.warning("mirror: run %s: %s", known.name, error)
            return
        self._tracker.attach(known, own | images, digest)

    def _namespace_of(self, known: KnownRun) -> str:
        cell = known.tags.get("uscl.cell")
        return next((planned.namespace for planned in self.cells if planned.cell == cell), "")

    def _name_dataset(self, known: KnownRun) -> None:
        fingerprint = str(self._document.get("dataset_fingerprint", ""))
        source = str(self._document.get("dataset") or self._document.get("data") or "")
        if fingerprint:
            self._tracker.add_dataset(known, name=Path(source).name, fingerprint=fingerprint, source=source)

    def _parent_content(
        self, histories: Mapping[str, CellHistory], finished: int, table: Mapping[str, str], *, live: bool
    ) -> RunContent:
        ended = "FINISHED" if finished == len(self.cells) else "KILLED"
        failed = any(histories[cell.cell].state == "failed" for cell in self.cells if cell.cell in histories)
        times = [t for h in histories.values() for t in (h.first_s, h.last_s)]
        known = {name: str(self._document[name]) for name in ("recipe", "data") if name in self._document}
        return RunContent(
            name=f"sweep {self._identity}",
            status="RUNNING" if live else "FAILED" if failed and ended != "FINISHED" else ended,
            tags={
                "uscl.parent": self._identity,
                "uscl.sweep": self._identity,
                "uscl.number": number_tag(0),
                "uscl.cells": str(len(self.cells)),
                "uscl.finished": str(finished),
                "mlflow.note.content": clipped(table.get("table.md", ""), TAG_CHARACTERS),
            },
            params=known,
            start_ms=round(min(times) * 1000) if times else None,
            end_ms=round(max(times) * 1000) if times and not live else None,
        )

    def _view(self) -> str:
        """The run table as it should open: sweep first, cells in their order, axes and main results as columns.

        What MLflow's own "share" button keeps. Sorted by a tag, because only a table sorted by time folds the cells
        away under the sweep's run.
        """
        values = dict.fromkeys([*self._document.get("report", {}).get("values", ()), *SHOWN_METRICS])
        # Results before axes: a run's name tells its axes already, and a narrow window shows the first columns.
        shown = {f"metrics.`{name}`": name for name in values}
        runs = [known.params for key, known in self._tracker.runs.items() if key.startswith("uscl.cell=")]
        runs += [cell_params(cell) for cell in self.cells]
        shown |= {f"params.`{name}`": name for name in [*varying(self.cells), *told_apart(runs)]}
        widths = dict(FIXED_COLUMNS) | {column: 8 * len(name) + 30 for column, name in shown.items()}
        return json.dumps(
            {
                "selectedColumns": list(shown),
                "columnOrder": list(widths),
                "columnWidths": widths,
                "orderByKey": "tags.`uscl.number`",
                "orderByAsc": True,
            }
        )
