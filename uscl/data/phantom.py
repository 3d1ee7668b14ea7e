"""The phantom as a dataset: its index without rendering, and building it. phantom_anatomy.py says what is drawn,
phantom_physics.py how it is seen, phantom_render.py puts both together.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from uscl.data.phantom_anatomy import (
    CLASSES,
    CONTAINS,
    acquisition_name,
    clip_times_ms,
    patient_name,
    planned_presence,
)
from uscl.data.phantom_render import PatientFrames, TissueTruth, render_patient
from uscl.data.schema import CaseEntry, ClipEntry, DatasetIndex
from uscl.data.writer import DatasetWriter, median_frame_time
from uscl.spec.phantom import PhantomSpec

PHANTOM_VERSION = 2
"""Part of the dataset's fingerprint: raised whenever a frame or mask would come out different."""

TRUTH_FILE = "truth.parquet"
"""One row per case and leaf class: the fields of `TissueTruth`."""


def phantom_fingerprint(spec: PhantomSpec) -> str:
    """sha256 (hex) of the generator's settings and version: known before anything is rendered."""
    settings = {"phantom": PHANTOM_VERSION} | spec.model_dump(mode="json")
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def phantom_index(spec: PhantomSpec) -> DatasetIndex:
    """The index of the phantom as `open_dataset` would give it once built; renders nothing."""
    fingerprint = phantom_fingerprint(spec)
    numbers = range(spec.patients)
    return DatasetIndex(
        name="phantom",
        fingerprint=fingerprint,
        classes=CLASSES,
        contains=CONTAINS,
        size=spec.size,
        clips=tuple(entry for number in numbers for entry in _clip_entries(spec, number, fingerprint)),
        cases=tuple(entry for number in numbers for entry in _case_entries(spec, number, fingerprint)),
    )


def build_phantom(
    spec: PhantomSpec, path: str | Path, *, progress: Callable[[int, int], None] | None = None, workers: int = 1
) -> None:
    """Render the phantom into the new dataset folder `path`; DataError where that exists.

    `progress(done, total)` is called after each patient. `workers` processes render patients side by side; the
    files do not depend on how many.
    """
    fingerprint = phantom_fingerprint(spec)
    source = {"generator": "uscl phantom", "version": PHANTOM_VERSION, "settings": spec.model_dump(mode="json")}
    truth: list[TissueTruth] = []
    with DatasetWriter(
        path,
        name="phantom",
        classes=CLASSES,
        contains=CONTAINS,
        size=spec.size,
        licence="CC0-1.0 (simulated)",
        sources=[source],
        fingerprint=fingerprint,
    ) as writer:
        for done, patient in enumerate(_rendered(spec, workers), start=1):
            _add_patient(writer, patient, fingerprint)
            truth += patient.truth
            if progress:
                progress(done, spec.patients)
        writer.add_file(TRUTH_FILE, _truth_table(truth))


def _clip_entries(spec: PhantomSpec, patient: int, fingerprint: str) -> Iterator[ClipEntry]:
    frame_time_ms = median_frame_time(clip_times_ms(spec))
    name = patient_name(patient)
    for number in range(spec.clips_per_patient):
        clip = acquisition_name(patient, stream=0, number=number)
        content = _content(fingerprint, clip)
        yield ClipEntry(clip, name, name, spec.frames_per_clip, content, has_times=True, frame_time_ms=frame_time_ms)


def _case_entries(spec: PhantomSpec, patient: int, fingerprint: str) -> Iterator[CaseEntry]:
    name = patient_name(patient)
    shown = planned_presence(spec, patient, count=spec.labels_per_patient, stream=1)
    for number, present in enumerate(shown):
        case = acquisition_name(patient, stream=1, number=number)
        yield CaseEntry(case, name, name, present, _content(fingerprint, case))


def _content(fingerprint: str, name: str) -> str:
    """What a generated clip or case holds is settled by the generator's settings and its name."""
    return hashlib.sha256(f"{fingerprint}/{name}".encode()).hexdigest()


def _rendered(spec: PhantomSpec, workers: int) -> Iterator[PatientFrames]:
    """Every patient in order."""
    if workers <= 1:
        yield from (render_patient(spec, number) for number in range(spec.patients))
        return
    spawn = get_context("spawn")
    with _dropping(ProcessPoolExecutor(workers, spawn, _follow, (os.getpid(),))) as pool:
        ahead = 2 * workers  # bounds what waits in memory
        pending = [pool.submit(render_patient, spec, number) for number in range(min(ahead, spec.patients))]
        for number in range(spec.patients):
            patient = pending.pop(0).result()
            if number + ahead < spec.patients:
                pending.append(pool.submit(render_patient, spec, number + ahead))
            yield patient


@contextmanager
def _dropping(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """The pool, shut down at the end; where the build is given up its processes end at once, patients half drawn."""
    try:
        yield pool
    except BaseException:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _follow(parent: int) -> None:
    """In a process of the pool: Ctrl-C is for the parent to judge, and without it there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        """An orphan would wait for its next patient for ever."""
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _add_patient(writer: DatasetWriter, patient: PatientFrames, fingerprint: str) -> None:
    name = patient.patient
    for clip, frames in patient.clips.items():
        content = _content(fingerprint, clip)
        writer.add_clip(
            frames, clip=clip, patient=name, times_ms=patient.times_ms, sector=patient.inside, content=content
        )
    for case, frame in patient.cases.items():
        content = _content(fingerprint, case)
        writer.add_case(frame.image, frame.masks, case=case, patient=name, sector=frame.inside, content=content)


def _truth_table(truth: list[TissueTruth]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in truth]), sink)
    return sink.getvalue()
