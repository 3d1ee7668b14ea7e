"""The `evaluate` stage: a fine-tuned network scored on one split, case by case and class by class, at native size."""

# K classes, H x W pixels (native), S side of the network input

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
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
from uscl.models.outputs import make_heads, num_outputs
from uscl.models.unet import UNet
from uscl.records import CaseRow, Drained, Outcome, Progress
from uscl.stages.context import StageContext, StageEvents, StageOutput
from uscl.stages.embeddings import EmbeddingProbe, PixelEmbeddings, describe_pixels, draw_pixels
from uscl.stages.inputs import EvaluateInputs
from uscl.stages.nnunetv2.predict import package_predictor
from uscl.stages.pretraining import build_unet
from uscl.store.case_rows import CASES, encode_rows

EMBEDDING = "embedding.png"
"""The sampled pixel embeddings by class; drawn for the validation split alone."""
MIRRORS: Mapping[str, Sequence[tuple[int, ...]]] = {
    "none": ((),),
    "flip": ((), (-1,)),
    "mirror": ((), (-1,), (-2,), (-2, -1)),
}
"""Views that a prediction is the mean of, by the axes along which the frame is mirrored."""

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
    """Score every case of the stage's split; publishes rows, aggregated metrics, three overlays and the embeddings."""
    inputs = context.stage.inputs
    assert isinstance(inputs, EvaluateInputs)
    started = context.fit.clock()
    found = yield from _score_all(inputs, context)
    if found is None:
        return None
    scored, pixels = found
    rows = [row for each in scored for row in each.rows]
    metrics = aggregate(rows, leaf_classes=inputs.leaf_classes)
    if pixels is not None:
        metrics |= describe_pixels(pixels, inputs.classes)
    speed = len(scored) / max(context.fit.clock() - started, 1e-9)
    files = {CASES: encode_rows(rows)} | _overlays(scored, inputs)
    if inputs.part == "val" and pixels is not None:
        files[EMBEDDING] = _embedding_png(pixels, inputs, metrics["embedding/separability"])
    return StageOutput(Outcome.DONE, files, {f"{inputs.part}/{name}": metrics[name] for name in metrics}, speed)


def _score_all(
    inputs: EvaluateInputs, context: StageContext
) -> Generator[Progress | Drained, None, tuple[list[ScoredCase], PixelEmbeddings | None] | None]:
    fit, cases = context.fit, context.stage.data.cases
    predictor, probe = _predictor_and_probe(inputs, context)
    scored: list[ScoredCase] = []
    started = told = fit.clock()
    for name in cases:
        case = context.dataset.case(name)
        scored.append(score_case(case, predictor(case.image), inputs))
        if probe is not None:
            assert inputs.image is not None
            probe.sample(case, inputs.image.size)
        now = fit.clock()
        if now - told < fit.event_every_s:
            continue
        told = now
        if fit.stop_requested():
            yield Drained(fit.ref.kind, fit.ref.key, 0)  # scored again next time: a matter of seconds
            return None
        speed = len(scored) / max(now - started, 1e-9)
        yield Progress(fit.ref.kind, fit.ref.key, step=len(scored), steps=len(cases), frames_per_s=speed)
    return scored, probe.embeddings() if probe is not None else None


def _predictor_and_probe(inputs: EvaluateInputs, context: StageContext) -> tuple[Predictor, EmbeddingProbe | None]:
    """What predicts, and what looks at its feature map meanwhile: at our networks only."""
    if inputs.engine == "nnunetv2":
        weights, read = context.parent_weights, context.parent_file
        return load_predictor(inputs, weights, read=read, device=context.device), None
    network = load_network(inputs, context.parent_weights, context.device)
    return (lambda image: predict(image, network, inputs)), EmbeddingProbe(network)


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
    outputs = num_outputs(inputs.network.heads, len(inputs.classes))
    network = build_unet(inputs.image, inputs.network, num_classes=outputs)
    network.load_state_dict(weights)
    return network.to(device).eval()


@torch.no_grad()
def predict(image_HW: NDArray[np.uint8], network: UNet, inputs: EvaluateInputs) -> NDArray[np.bool_]:
    """Masks (K, H, W) of a frame at native size: probabilities are resampled, then decided (models/outputs.py).

    It is given nothing of a case but its image: an imported still's sector is drawn around its labels too.
    """
    assert inputs.image is not None
    device = next(network.parameters()).device
    assert inputs.network is not None
    frame = torch.from_numpy(square_input(image_HW, size=inputs.image.size, norm=inputs.image.norm)).to(device)
    heads = make_heads(inputs.network.heads, inputs.classes, inputs.contains, device=device)
    views = [heads.output_probability(network(frame.flip(axes))).flip(axes) for axes in MIRRORS[inputs.tta]]
    probability = torch.stack(views).sum(dim=0) / len(views)
    return heads.masks(Letterbox.of(image_HW, inputs.image.size).to_native(probability[0].cpu().numpy()))


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


def _embedding_png(pixels: PixelEmbeddings, inputs: EvaluateInputs, separability: float) -> bytes:
    title = (
        f"{inputs.part} | {len(pixels.label_M)} pixel embeddings of {pixels.cases} cases"
        f" | separability {separability:.2f}"
    )
    return encode_png(draw_pixels(pixels, inputs.classes, title=title))


def _file_name(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", case).strip("-")
