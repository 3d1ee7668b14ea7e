"""A finished (or half-finished) sweep in a store, made in milliseconds: manifests, curves, overlays, events."""

import hashlib
import io
import itertools
import math

import numpy as np
from PIL import Image

from uscl.records import (
    CellFinished,
    CellPlan,
    CellResult,
    MetricPoint,
    Outcome,
    Progress,
    StageRef,
    SweepEvent,
    event_to_json,
)
from uscl.store.curves import encode_points
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder

IDENTITY = "temporal"
START_S = 1_790_000_000.0
ROWS = [
    ("infonce", "none", "both"),
    *itertools.product(("infonce",), ("positive",), ("encoder", "decoder", "both")),
    *itertools.product(("pairwise",), ("positive", "positive_negative"), ("encoder", "decoder", "both")),
]
FRACTIONS = (0.1, 0.5, 1.0)


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def make_cells(rows=ROWS, fractions=FRACTIONS):
    """Cells of the temporal sweep: encoders and decoders shared as the real chain shares them."""
    cells = []
    for number, ((loss, polarity, stage), fraction) in enumerate(itertools.product(rows, fractions), 1):
        axes = {"contrast.loss": loss, "temporal.polarity": polarity, "temporal.stage": stage}
        axes |= {"labels.fraction": fraction, "seed": 0}
        settings = {"method": "contrastive", "data": "phantom", "seed.pretrain": 0, "seed.finetune": 0}
        settings |= {k: v for k, v in axes.items() if k != "seed"} | {"finetune.lr": 0.001, "speckle.classes": []}
        encoder = StageRef("encoder", key("encoder", loss, polarity if stage != "decoder" else "none"))
        decoder = StageRef("decoder", key("decoder", loss, polarity, stage))
        finetune = StageRef("finetune", key("finetune", decoder.key, fraction))
        stages = {"encoder": encoder, "decoder": decoder, "finetune": finetune}
        stages |= {f"evaluate/{s}": StageRef("evaluate", key(s, finetune.key)) for s in ("val", "test")}
        label = "baseline" if polarity == "none" else f"{loss} {polarity} {stage}"
        label += f" labels.fraction={fraction} seed=0"
        cells.append(CellPlan(number, finetune.key, label, axes, settings, stages))
    return cells


def curve(stage, steps=(50, 100, 150, 200), value=1.0):
    return encode_points([MetricPoint(s, {f"{stage}/loss": value / s, f"{stage}/lr": 1e-3}) for s in steps])


def overlay(number):
    """A speckled picture with a coloured region."""
    pixels = np.random.default_rng(number).rayleigh(40, (96, 96, 1)).clip(0, 255).astype(np.uint8).repeat(3, 2)
    pixels[30:60, 20:70, 0] = 230
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG")
    return target.getvalue()


def publish(store, cell, stage, *, files=None, metrics=None, outcome=Outcome.DONE, flags=(), attempt="a1"):
    return store.scoped(cell.namespace).publish(
        cell.stages[stage], attempt=attempt, files=files or {}, outcome=outcome, inputs={"steps": 200}, parent=None,
        metrics=metrics or {}, flags=flags, provenance={"device": "cpu", "versions": {"torch": "2.13.0+cpu"}},
    )  # fmt: skip


def evaluation(cell, split):
    rise = {0.1: 0.45, 0.5: 0.62, 1.0: 0.7}[cell.settings["labels.fraction"]] + cell.number / 1000
    names = {"": rise, "/capsule": rise + 0.15, "/cortex": rise - 0.1, "/medulla": rise - 0.03, "/cec": rise}
    values = {f"{split}/dsc{name}": round(value, 4) for name, value in names.items()}
    return values | {f"{split}/dsc_floor": 0.25, f"{split}/delta_snr": 0.3 - rise / 5, f"{split}/n_empty": math.nan}


def finish(store, cell):
    """Publish every stage of a cell that is not there."""
    for stage in ("encoder", "decoder", "finetune"):
        publish(
            store, cell, stage, files={"metrics.parquet": curve(stage)}, metrics={f"{stage}/loss": 0.005, "seconds": 9}
        )
    for split in ("val", "test"):
        files = {
            f"overlay-{which}-p{cell.number:02d}.png": overlay(cell.number) for which in ("best", "median", "worst")
        }
        publish(store, cell, f"evaluate/{split}", files=files, metrics=evaluation(cell, split))


def finished_event(cell, time_s, attempt="t1"):
    return SweepEvent(time_s, cell.cell, attempt, "node", CellFinished(CellResult(cell.cell, Outcome.DONE, {})))


def progress_event(cell, time_s, *, stage="encoder", step=10, durable=0, attempt="t1"):
    ref = cell.stages[stage]
    return SweepEvent(time_s, cell.cell, attempt, "node", Progress(ref.kind, ref.key, step, 200, 99.0, {}, durable))


def record(store, event):
    """Append an event as the driver does."""
    head = {"time_s": event.time_s, "cell": event.cell, "attempt": event.attempt, "node": event.node}
    SweepFolder(store.root, IDENTITY).append_event(head | event_to_json(event.event))


def start(root, cells):
    """A store with the sweep's folder, nothing trained."""
    store, folder = StageStore(root), SweepFolder(root, IDENTITY)
    report = {"rows": ["contrast.loss", "temporal.polarity", "temporal.stage"], "columns": "labels.fraction"}
    folder.write_sweep(
        {
            "name": IDENTITY, "recipe": "demo", "data": "phantom", "report": report | {"values": ["test/dsc"]},
            "dataset": str(root / "data" / "phantom-0123456789"), "dataset_fingerprint": "0123456789" * 6 + "abcd",
        }
    )  # fmt: skip
    folder.write_cells(cells)
    return store


def make_sweep(root, cells):
    """A store with the sweep finished."""
    store = start(root, cells)
    for at, cell in enumerate(cells):
        finish(store, cell)
        record(store, progress_event(cell, START_S + 10 * at))
        record(store, finished_event(cell, START_S + 10 * at + 9))
    return store
