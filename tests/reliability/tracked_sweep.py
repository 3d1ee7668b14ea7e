"""A sweep of fake trials in this process, cell by cell, and all that a mirror says of it, as plain values."""

import hashlib
import re
import shutil
import time
from pathlib import Path

from sweep_fakes import NAME, fake_plan, grid_specs

from uscl.records import CellFinished
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.folders import write_plans
from uscl.sweep.order import LAST_EVENTS, RUNNING, work
from uscl.sweep.queue import Turn
from uscl.sweep.study import queue_of, study_of
from uscl.sweep.terms import Terms
from uscl.tracking.mirror import Mirror, sync


class TrackedSweep:
    """One worker, six cells, a driver's real books; mirrors are its sinks."""

    def __init__(self, root, *, name="fake", **script):
        self.plan = fake_plan(root, grid_specs(), name=name, **script)
        self.store, self.cells = StageStore(self.plan.store_root), [planned.plan for planned in self.plan.cells]
        self.warnings, self.mirrors, self.done, self._number = [], [], 0, 0
        study = study_of([self.plan])
        write_plans(study, lambda line: None)
        session = self.plan.store_root / "session"
        session.write_bytes(RUNNING)
        terms = Terms("cpu", 1, NAME, session)
        self.dispatch = Dispatch(study, queue_of(study, slots=1), sinks=self.mirrors, terms=terms)
        self.dispatch._sinks = self.mirrors

    @property
    def name(self):
        """The experiment's."""
        return self.plan.identity

    def mirror_to(self, uri, **kwargs):
        """Add a mirror; what it warns of goes to `warnings`, unless `warn` is given."""
        kwargs = {"every_s": 0.05, "warn": self.warnings.append, "table": self.table} | kwargs
        mirror = Mirror(self.store, self.name, cells=self.cells, tracking_uri=uri, **kwargs)
        self.mirrors.append(mirror)
        return mirror

    def table(self):
        """A report that changes with every finished cell."""
        finished = [cell.number for cell in self.cells if self.store.has(cell.stages["evaluate/test"])]
        return {"table.md": f"finished: {finished}\n"}

    def run(self, num_cells=6):
        """So many cells more, or to the end."""
        for _ in range(num_cells):
            self._number += 1
            order = self.dispatch.take(str(self._number))
            if isinstance(order, Turn):
                return
            for event in work(order):
                self.dispatch.event(str(self._number), event, node="here")
                if isinstance(event, LAST_EVENTS):
                    self.done += isinstance(event, CellFinished)
                    break

    def close(self):
        """As a driver does; how many seconds that took."""
        started = time.monotonic()
        for mirror in self.mirrors:
            mirror.close()
        return time.monotonic() - started

    def sync(self, uri):
        """As `uscl sync`."""
        return sync(self.store, self.name, cells=self.cells, tracking_uri=uri, table=self.table)

    def events(self):
        """events.jsonl without times; attempts by the order in which they were made."""
        attempts, found = {}, []
        for record in SweepFolder(self.plan.store_root, self.name).read_events():
            name = record["attempt"]
            attempt = attempts.setdefault(name, f"attempt {len(attempts)}")
            lines = [line.replace(name, attempt) for line in record.get("log_tail", ())]
            tail = [re.sub(r"\b[\d:]+(\.\d)?( s)? ", "", line) for line in lines]
            kept = {k: v for k, v in record.items() if k not in ("time_s", "seconds")}
            found.append(kept | {"attempt": attempt, "log_tail": tail})
        return found

    def wait_until_shown(self, uri):
        """Until MLflow has a finished run of every finished cell."""
        client = client_of(uri)
        wait_for(lambda: sum(r.info.status == "FINISHED" for r in runs_of(client, self.name)) >= self.done)


def untracked_events(root, **script):
    """What a sweep without a tracker writes down."""
    sweep = TrackedSweep(root, **script)
    sweep.run()
    return sweep.events()


def wait_for(condition, timeout_s=60):
    """Until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s"
        time.sleep(0.02)


def client_of(uri):
    """A reader of one MLflow."""
    from mlflow import MlflowClient

    return MlflowClient(uri)


def runs_of(client, name):
    """Active runs of the experiment; none where it is not there."""
    found = client.get_experiment_by_name(name)
    return list(client.search_runs([found.experiment_id], max_results=1000)) if found else []


def dump(uri, name, *, artifacts=None):
    """All that MLflow says of a sweep, without its own ids: by cell number, and the experiment's tags.

    `artifacts` is the folder of a server's own; else they lie where the run says.
    """
    client = client_of(uri)
    runs = runs_of(client, name)
    ids = {run.info.run_id: run.data.tags["uscl.number"] for run in runs}
    page = [(ids[run.info.run_id], _said(client, run, ids, artifacts)) for run in runs]
    tags = client.get_experiment_by_name(name).tags
    # a list: a run that is there twice must show
    return sorted(page, key=lambda entry: entry[0]), {k: v for k, v in tags.items() if not k.startswith("mlflow.exp")}


def differences(ours, theirs, where=""):
    """Where two dumps differ, a line each."""
    if type(ours) is type(theirs) and isinstance(ours, dict):
        names = dict.fromkeys([*ours, *theirs])
        return [d for n in names for d in differences(ours.get(n), theirs.get(n), f"{where}/{n}")]
    if type(ours) is type(theirs) and isinstance(ours, list | tuple) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [d for at, (a, b) in pairs for d in differences(a, b, f"{where}/{at}")]
    return [] if ours == theirs else [f"{where}: {str(ours)[:200]} and {str(theirs)[:200]}"]


def _said(client, run, ids, artifacts):
    histories = {
        name: [(m.step, str(m.value), m.timestamp) for m in client.get_metric_history(run.info.run_id, name)]
        for name in sorted(run.data.metrics)
    }
    tags = {k: ids.get(v, v) for k, v in run.data.tags.items() if k != "mlflow.user"}
    return {
        "status": run.info.status, "name": run.info.run_name, "start": run.info.start_time, "end": run.info.end_time,
        "params": run.data.params, "tags": tags, "metrics": histories, "files": _hashes(run, artifacts),
        "inputs": [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
    }  # fmt: skip


def _hashes(run, artifacts):
    uri = run.info.artifact_uri
    root = artifacts / uri.removeprefix("mlflow-artifacts:/") if artifacts else Path(uri.removeprefix("file://"))
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def copied_database(template, folder):
    """The address of an empty database: making one takes MLflow seconds, a copy none."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"
