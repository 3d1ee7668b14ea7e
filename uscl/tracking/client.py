"""One MLflow experiment's runs, found by tag, and what they hold already.

Importing it takes seconds, for it imports mlflow; the mirror does so in its own thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import posixpath
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

# Telemetry is off unless the user turns it on; read by mlflow when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        Experiment,
        InputTag,
        Metric,
        Param,
        Run,
        RunTag,
        ViewType,
    )
    from mlflow.exceptions import MlflowException

    from uscl.tracking.database import sole_opener

from uscl.tracking.content import Measurement, RunContent
from uscl.tracking.location import Location

T = TypeVar("T")
BATCH_METRICS, BATCH_ENTITIES = 1000, 100
"""MLflow's limits on one log_batch: metrics, and params or tags."""
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Without these a silent server holds each request for 249 s (sweep-engine.md 4.2), a busy one for as long as its
`Retry-After` says, and every run that ends prints its address."""
FILES_TAG = "uscl.files"
NAME_CHARACTERS = 250
"""MLflow's limit on the name of a metric, a param or a tag."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")


@dataclass(slots=True)
class KnownRun:
    """What MLflow holds of one run, kept in step with what is sent."""

    run_id: str
    name: str
    status: str
    start_ms: int = 0
    """When the run says it began."""
    end_ms: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    last_steps: dict[str, int] = field(default_factory=dict)
    """Last step of each metric, by MLflow's name for it: only later ones are sent."""
    has_dataset: bool = False


@contextmanager
def short_patience() -> Iterator[None]:
    """Requests inside give up soon, and MLflow's own warnings stay unheard.

    The settings are the environment's, so they are put back afterwards.
    """
    before = {name: os.environ.get(name) for name in PATIENCE}
    os.environ.update(PATIENCE)
    # MLflow's own warnings (SQLAlchemy's deprecations) are nobody's here. Not in a catch_warnings block: that swaps
    # the filters of all threads, and would put back stale ones.
    warnings.filterwarnings("ignore", module=r"(mlflow|sqlalchemy|alembic)(\.|$)")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Tracker:
    """One MLflow experiment. Any failure is whatever mlflow raises; the mirror catches it."""

    def __init__(self, location: Location, experiment: str) -> None:
        """Finds, restores or makes the experiment, and asks for the runs in it."""
        for noisy in ("mlflow", "alembic", "urllib3"):  # pages of frames; the mirror says all of it in one line
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        self._database = location.database
        with sole_opener(self._database):
            self._client = MlflowClient(location.uri)
            self.experiment_id = self._open(location, experiment)
        self._file = _identity(self._database)
        self.runs = self._known_runs()

    def require_same_file(self) -> None:
        """FileNotFoundError where the embedded database was moved away: SQLite would go on writing into it."""
        if _identity(self._database) != self._file:
            raise FileNotFoundError(f"{self._database} was moved away or replaced")

    def ensure(self, tag: str, content: RunContent, *, parent: str | None = None) -> KnownRun:
        """The run whose `tag` has the content's value, made where there is none, saying what the content says."""
        if parent:  # said again where somebody deleted the parent and it is another now
            content = replace(content, tags={**content.tags, "mlflow.parentRunId": parent})
        key = f"{tag}={content.tags[tag]}"
        known = self.runs.get(key)
        if known is None:
            known = self.runs[key] = self._create(content)
        self._say(known, content)
        return known

    def send(self, known: KnownRun, measurements: Iterable[Measurement]) -> int:
        """Send what lies beyond the last known step of each metric; how many were sent."""
        all_metrics = [_metric(known, measurement) for measurement in measurements]
        later = [metric for metric in all_metrics if metric.step > known.last_steps.get(metric.key, -1)]
        for batch in _batches(later, BATCH_METRICS):
            self._client.log_batch(known.run_id, metrics=batch, synchronous=True)
            for metric in batch:
                known.last_steps[metric.key] = max(metric.step, known.last_steps.get(metric.key, -1))
        return len(later)

    def attach(self, known: KnownRun, files: Mapping[str, bytes], digest: str) -> None:
        """Upload files (a path may have folders), remembering the digest of what is there."""
        with tempfile.TemporaryDirectory(prefix="uscl-mirror-") as folder:
            for name, content in files.items():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            self._client.log_artifacts(known.run_id, folder)
        self._client.set_tag(known.run_id, FILES_TAG, digest)
        known.tags[FILES_TAG] = digest

    def add_dataset(self, known: KnownRun, *, name: str, fingerprint: str, source: str) -> None:
        """Name the dataset as an input of the run, once."""
        if known.has_dataset:
            return
        dataset = Dataset(
            name=name, digest=fingerprint[:36], source_type="local", source=json.dumps({"uri": source}), schema=None
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self._client.log_inputs(known.run_id, datasets=[DatasetInput(dataset, tags)])
        known.has_dataset = True

    def describe(self, tags: Mapping[str, str]) -> None:
        """Tags of the experiment."""
        for name, value in tags.items():
            self._client.set_experiment_tag(self.experiment_id, name, value)

    def kill_strays(self, live: Iterable[str]) -> None:
        """End what is RUNNING and belongs to no cell of the sweep as it is now (`live` holds run ids)."""
        kept = set(live)
        for known in self.runs.values():
            if known.status == "RUNNING" and known.run_id not in kept:
                self._client.set_terminated(known.run_id, "KILLED")
                known.status = "KILLED"

    def _open(self, location: Location, name: str) -> str:
        found: Experiment | None = self._client.get_experiment_by_name(name)
        if found is None:
            root = location.artifact_root
            artifacts = (root / name).as_uri() if root is not None else None
            return str(self._client.create_experiment(name, artifact_location=artifacts))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _known_runs(self) -> dict[str, KnownRun]:
        """Our runs by `tag=value`; of several with one tag the oldest stays, as MLflow has no unique key."""
        runs: dict[str, KnownRun] = {}
        for run in reversed(self._search()):
            for tag in ("uscl.cell", "uscl.parent"):
                key = f"{tag}={run.data.tags.get(tag)}"
                if tag not in run.data.tags:
                    continue
                if key in runs:
                    self._client.delete_run(run.info.run_id)
                else:
                    runs[key] = _known(run)
        return runs

    def _search(self) -> list[Run]:
        """Every active run, newest first."""
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _create(self, content: RunContent) -> KnownRun:
        tags = {"mlflow.source.name": "uscl sweep", "mlflow.source.type": "LOCAL"}
        # The identifying tags come with the run: a kill right after this must not leave one that is never found.
        identifying = ("uscl.cell", "uscl.parent", "mlflow.parentRunId")
        tags |= {name: value for name, value in content.tags.items() if name in identifying}
        run = self._client.create_run(self.experiment_id, start_time=content.start_ms, tags=tags, run_name=content.name)
        return KnownRun(run.info.run_id, content.name, run.info.status, start_ms=run.info.start_time, tags=tags)

    def _say(self, known: KnownRun, content: RunContent) -> None:
        """Bring name, params, tags and status up to date. A param that is there stays: MLflow's cannot change."""
        params = [Param(k, v) for k, v in _legal(content.params).items() if k not in known.params]
        tags = [RunTag(k, v) for k, v in _legal(content.tags).items() if known.tags.get(k, "") != v]
        for some in _batches(params, BATCH_ENTITIES):
            self._client.log_batch(known.run_id, params=some, synchronous=True)
        for more in _batches(tags, BATCH_ENTITIES):
            self._client.log_batch(known.run_id, tags=more, synchronous=True)
        known.params |= {param.key: param.value for param in params}
        known.tags |= {tag.key: tag.value for tag in tags}
        if known.name != content.name:
            self._client.update_run(known.run_id, name=content.name)
            known.name = content.name
        if known.status != content.status or content.end_ms not in (None, known.end_ms):
            self._set_status(known, content)

    def _set_status(self, known: KnownRun, content: RunContent) -> None:
        if content.status == "RUNNING":
            self._client.update_run(known.run_id, status="RUNNING")
        else:
            self._client.set_terminated(known.run_id, content.status, end_time=content.end_ms)
        known.status, known.end_ms = content.status, content.end_ms


def digest_of(parts: Mapping[str, str]) -> str:
    """One short digest of files by name and sha256."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:32]


def _known(run: Run) -> KnownRun:
    # `run.data.metrics` has the values only; the protocol message has the steps too.
    last = {metric.key: metric.step for metric in run.data.to_proto().metrics}
    return KnownRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        start_ms=run.info.start_time,
        end_ms=run.info.end_time,
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        last_steps=last,
        has_dataset=bool(run.inputs and run.inputs.dataset_inputs),
    )


def is_refusal(error: Exception) -> bool:
    """Whether MLflow answered, and will not have just this: a run that somebody deleted, a value out of its limits."""
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def legal_name(name: str) -> str:
    """The name as MLflow takes it: of letters, digits and `_-. :/`, a plain path, not too long.

    One that has to change ends in a digest of what it was, so that two never become one.
    """
    cleaned = posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name)).lstrip("./")
    if name and cleaned == name and len(name) <= NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{cleaned[: NAME_CHARACTERS - 9]}_{digest}"


def _legal(values: Mapping[str, str]) -> dict[str, str]:
    return {legal_name(name): value for name, value in values.items()}


def _metric(known: KnownRun, measurement: Measurement) -> Metric:
    """The measurement as a row that is the same whoever sends it, and when.

    Its time is the run's start and a millisecond per step. MLflow keeps one of rows that are equal, so a request whose
    answer was lost, or that a proxy lets through late, may be sent again. Infinities are sent as NaN: MLflow's SQL
    stores would keep them as the largest float, and draw it.
    """
    value = measurement.value if math.isfinite(measurement.value) else math.nan
    return Metric(legal_name(measurement.name), value, known.start_ms + measurement.step, measurement.step)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _identity(file: Path | None) -> tuple[int, int] | None:
    """What tells a file from another of its name; None where there is none."""
    try:
        found = file.stat() if file is not None else None
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None
