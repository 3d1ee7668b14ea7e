"""The `evaluate` stage: a fine-tuned network scored on one split, case by case and class by class, at native size."""

# K classes, H x W pixels (native), S side of the network input

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from uscl.data.dataset import Case
from uscl.data.labelled import square_input
from uscl.data.letterbox import Letterbox
from uscl.data.overlay import compare_masks, encode_png
from uscl.metrics.aggregate import aggregate, mean
from uscl.metrics.overlap import score_masks
from uscl.metrics.snr import score_snr
from uscl.models.unet import UNet
from uscl.records import CaseRow, Drained, Outcome, Progress
from uscl.stages.context import StageContext, StageEvents, StageOutput
from uscl.stages.inputs import EvaluateInputs
from uscl.stages.nnunetv2.predict import package_predictor
from uscl.stages.pretraining import build_unet

CASES = "cases.parquet"
ROW_FIELDS = ("case", "patient", "split", "class_name", "height_px", "width_px")
THRESHOLD = 0.5
"""Probability from which a pixel belongs to a class."""

Predictor: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
"""Masks (K, H, W) of a frame (H, W) at its own size, and of nothing else."""


@dataclass(frozen=True, slots=True)
class ScoredCase:
    """One case with its prediction and the rows it gives."""

    case: Case
    predicted_KHW: NDArray[np.bool_]
    rows: tuple[CaseRow, ...]

    @property
    def dsc(self) -> float:
        """Mean DSC over classes under `both_empty_one`."""
        return mean(row.values["dsc"] for row in self.rows)


def evaluate(context: StageContext) -> StageEvents:
    """Score every case of the stage's split; publishes rows, aggregated metrics and three overlays."""
    inputs = context.stage.inputs
    assert isinstance(inputs, EvaluateInputs)
    started = context.fit.clock()
    scored = yield from _score_all(inputs, context)
    if scored is None:
        return None
    rows = [row for each in scored for row in each.rows]
    metrics = aggregate(rows, leaf_classes=inputs.leaf_classes)
    speed = len(scored) / max(context.fit.clock() - started, 1e-9)
    files = {CASES: encode_rows(rows)} | _overlays(scored, inputs)
    return StageOutput(Outcome.DONE, files, {f"{inputs.part}/{name}": metrics[name] for name in metrics}, speed)


def _score_all(
    inputs: EvaluateInputs, context: StageContext
) -> Generator[Progress | Drained, None, list[ScoredCase] | None]:
    fit, cases = context.fit, context.stage.data.cases
    predictor = load_predictor(inputs, context.parent_weights, read=context.parent_file, device=context.device)
    scored: list[ScoredCase] = []
    started = told = fit.clock()
    for name in cases:
        case = context.dataset.case(name)
        scored.append(score_case(case, predictor(case.image), inputs))
        now = fit.clock()
        if now - told < fit.event_every_s:
            continue
        told = now
        if fit.stop_requested():
            yield Drained(fit.ref.kind, fit.ref.key, 0)  # scored again next time: a matter of seconds
            return None
        speed = len(scored) / max(now - started, 1e-9)
        yield Progress(fit.ref.kind, fit.ref.key, step=len(scored), steps=len(cases), frames_per_s=speed)
    return scored


def load_predictor(
    inputs: EvaluateInputs, weights: Mapping[str, Tensor], *, read: Callable[[str], bytes], device: torch.device
) -> Predictor:
    """What predicts under this engine; `read` gives the files that lie beside the weights."""
    if inputs.engine == "nnunetv2":
        return package_predictor(weights, read, inputs.classes, device=device)
    network = load_network(inputs, weights, device)
    return lambda image: predict(image, network, inputs)


def load_network(inputs: EvaluateInputs, weights: Mapping[str, Tensor], device: torch.device) -> UNet:
    """The fine-tuned network, ready to predict."""
    assert inputs.image is not None and inputs.network is not None
    network = build_unet(inputs.image, inputs.network, num_classes=len(inputs.classes))
    network.load_state_dict(weights)
    return network.to(device).eval()


@torch.no_grad()
def predict(image_HW: NDArray[np.uint8], network: UNet, inputs: EvaluateInputs) -> NDArray[np.bool_]:
    """Masks (K, H, W) of a frame at native size: probabilities are resampled, then cut at 1/2.

    It is given nothing of a case but its image: an imported still's sector is drawn around its labels too.
    """
    assert inputs.image is not None
    device = next(network.parameters()).device
    frame = torch.from_numpy(square_input(image_HW, size=inputs.image.size, norm=inputs.image.norm)).to(device)
    probability = network(frame).sigmoid()
    if inputs.tta == "flip":
        probability = (probability + network(frame.flip(-1)).sigmoid().flip(-1)) / 2
    native = Letterbox.of(image_HW, inputs.image.size).to_native(probability[0].float().cpu().numpy())
    return np.asarray(native > THRESHOLD)


def score_case(case: Case, predicted: NDArray[np.bool_], inputs: EvaluateInputs) -> ScoredCase:
    """Measure every class of a case with its predicted masks (K, H, W)."""
    overlap = score_masks(predicted, case.masks, inputs.classes, known_HW=case.known)
    snr = score_snr(case.image, predicted & case.known, case.masks & case.known, inputs.classes)
    rows = tuple(
        CaseRow(
            case=case.case,
            patient=case.patient,
            split=inputs.part,
            class_name=name,
            height_px=case.image.shape[0],
            width_px=case.image.shape[1],
            values=overlap[name] | snr[name],
        )
        for name in inputs.classes
    )
    return ScoredCase(case, predicted, rows)


def encode_rows(rows: Sequence[CaseRow]) -> bytes:
    """Rows as Parquet bytes: one line per case, class and measurement."""
    lines = [
        {field: getattr(row, field) for field in ROW_FIELDS} | {"name": name, "value": value}
        for row in rows
        for name, value in row.values.items()
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines), sink)
    return sink.getvalue()


def decode_rows(content: bytes) -> list[CaseRow]:
    """What `encode_rows` wrote."""
    values: dict[tuple[str, str, str, str, int, int], dict[str, float]] = {}
    for line in pq.read_table(io.BytesIO(content)).to_pylist():
        who = tuple(line[name] for name in ROW_FIELDS)
        values.setdefault(who, {})[line["name"]] = line["value"]
    return [CaseRow(*who, values=measured) for who, measured in values.items()]


def _overlays(scored: Sequence[ScoredCase], inputs: EvaluateInputs) -> dict[str, bytes]:
    """PNGs of the best, the median and the worst case by mean DSC."""
    ranked = sorted((each for each in scored if not math.isnan(each.dsc)), key=lambda each: (each.dsc, each.case.case))
    if not ranked:
        return {}
    places = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    overlays = {}
    for place, each in places.items():
        title = f"{inputs.part} {place} {each.case.case} DSC {each.dsc:.2f}"
        picture = compare_masks(
            each.case.image, each.case.masks, each.predicted_KHW, classes=inputs.classes, title=title
        )
        overlays[f"overlay-{place}-{_file_name(each.case.case)}.png"] = encode_png(picture)
    return overlays


def _file_name(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", case).strip("-")
