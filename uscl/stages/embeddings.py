"""Pixel embeddings of a fine-tuned U-Net: its last feature map, before the segmentation tail, at labelled pixels.

They answer the paper's closing question per cell: are classes compact and apart in what the decoder gives? Pixels
are picked by their place alone, so equal networks and cases give equal numbers.
"""
# M pixels, D embedding, K classes, H x W pixels, S side of the network input, F of the feature map

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uscl.data.dataset import Case
from uscl.data.letterbox import Letterbox
from uscl.data.overlay import COLOURS
from uscl.data.scatter import draw_scatter
from uscl.metrics.aggregate import mean
from uscl.metrics.embedding import alignment, uniformity
from uscl.metrics.separation import compactness, effective_rank, same_class_elsewhere, separability
from uscl.models.unet import UNet

PIXELS_PER_CLASS_AND_CASE = 16
"""A case's pixels of one class are much alike; more of them say little and cost time."""
PAIRED_PIXELS = 512
"""Figures over all pairs of pixels, and the picture, take at most as many, evenly over the cases."""
BACKGROUND = "background"
"""Known pixels outside every class: a class of its own, after the dataset's."""
BACKGROUND_COLOUR = (130, 130, 130)


@dataclass(frozen=True, slots=True)
class PixelEmbeddings:
    """Sampled pixels of all cases of a split."""

    embedding_MD: Tensor
    label_M: Tensor
    """Index of the pixel's innermost class; K for background."""
    patient_M: Tensor
    """A number per patient."""
    cases: int


class EmbeddingProbe:
    """Samples pixel embeddings while a network predicts: the prediction's own forward pass, not a second one."""

    def __init__(self, network: UNet) -> None:
        self._maps: list[Tensor] = []
        self._samples: list[tuple[Tensor, NDArray[np.int64], str]] = []
        network.decoder.register_forward_hook(self._keep)

    def sample(self, case: Case, size: int) -> None:
        """Take the case's pixels from the first forward pass since the last call (a mirrored one follows it)."""
        map_DFF = self._maps[0][0]
        self._maps.clear()
        row_n, column_n, label_n = sampled_pixels(case, size, map_DFF.shape[-1])
        places = [torch.from_numpy(part).to(map_DFF.device) for part in (row_n, column_n)]
        embedding_nD = map_DFF[:, places[0], places[1]].T.float().cpu()
        self._samples.append((embedding_nD, label_n, case.patient))

    def embeddings(self) -> PixelEmbeddings:
        """All that was sampled; at least one case must have been."""
        codes = {patient: code for code, patient in enumerate(dict.fromkeys(who for _, _, who in self._samples))}
        patient = np.repeat([codes[who] for _, _, who in self._samples], [len(part) for _, part, _ in self._samples])
        return PixelEmbeddings(
            embedding_MD=torch.cat([part for part, _, _ in self._samples]),
            label_M=torch.from_numpy(np.concatenate([part for _, part, _ in self._samples])),
            patient_M=torch.from_numpy(patient.astype(np.int64)),
            cases=len(self._samples),
        )

    def _keep(self, module: nn.Module, features: object, maps: list[Tensor]) -> None:
        if not self._maps:
            self._maps.append(maps[-1].detach())


def sampled_pixels(case: Case, size: int, map_size: int) -> tuple[NDArray[np.int64], ...]:
    """Row, column and class of the sampled pixels of a case, on a feature map of `map_size` cells.

    At most 16 of each class, spread evenly in reading order over the known pixels of which the class is the innermost
    one; of the `size` / `map_size` pixels along a cell's side, the middle one counts.
    """
    box, step = Letterbox.of(case.image, size), size // map_size
    cells = slice(step // 2, None, step)
    label_FF = innermost(case.masks, box.to_square(case.masks, "nearest")[:, cells, cells])
    label_FF[~box.to_square(case.known, "nearest")[cells, cells]] = -1
    flat = label_FF.ravel()
    picked = [_spread(np.flatnonzero(flat == number)) for number in range(len(case.masks) + 1)]
    place = np.concatenate(picked)
    return place // map_size, place % map_size, flat[place]


def innermost(masks_KHW: NDArray[np.bool_], small_KFF: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Class of each cell (F, F): the smallest in this case of those that hold it, the later of equals; else K.

    A class that lies in another is the smaller one, so nested classes need no further order. `masks_KHW` at native
    size say how large a class is, `small_KFF` where it is.
    """
    area_K = masks_KHW.sum(axis=(1, 2))
    label = np.full(small_KFF.shape[1:], len(masks_KHW), np.int64)
    for number in sorted(range(len(masks_KHW)), key=lambda number: (-area_K[number], number)):
        label[small_KFF[number]] = number
    return label


def describe_pixels(pixels: PixelEmbeddings, classes: Sequence[str]) -> dict[str, float]:
    """`embedding/<figure>` over all classes and, for the first two, per class; background is one of them.

    compactness, separability (means over classes; both higher is better), effective_rank, alignment (pixels of one
    class in different patients; lower is better) and uniformity (lower is more spread). A class without two pixels
    of its own, such as one that its inner classes fill, has no figure; what no class has is NaN.
    """
    names = (*classes, BACKGROUND)
    figures: dict[str, float] = {}
    for name, figure in (("compactness", compactness), ("separability", separability)):
        by_class = figure(pixels.embedding_MD, pixels.label_M, num_classes=len(names)).tolist()
        figures[f"embedding/{name}"] = mean(by_class)
        in_words = {f"embedding/{name}/{one}": value for one, value in zip(names, by_class, strict=True)}
        figures |= {one: value for one, value in in_words.items() if not math.isnan(value)}
    few = _thinned(pixels)
    elsewhere_MM = same_class_elsewhere(few.label_M, few.patient_M)
    return figures | {
        "embedding/effective_rank": float(effective_rank(pixels.embedding_MD)),
        "embedding/alignment": float(alignment(few.embedding_MD, elsewhere_MM)) if elsewhere_MM.any() else math.nan,
        "embedding/uniformity": float(uniformity(few.embedding_MD)) if len(few.label_M) > 1 else math.nan,
    }


def draw_pixels(pixels: PixelEmbeddings, classes: Sequence[str], *, title: str) -> NDArray[np.uint8]:
    """The pixels by class on the two directions in which their embeddings (on the unit sphere) vary most."""
    few = _thinned(pixels)
    point_M2, share = principal_plane(few.embedding_MD)
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(classes))]
    return draw_scatter(
        point_M2,
        few.label_M.numpy(),
        names=(*classes, BACKGROUND),
        colours=(*colours, BACKGROUND_COLOUR),
        title=title,
        axes=(f"PC 1 ({share[0]:.0%} of variance)", f"PC 2 ({share[1]:.0%})"),
    )


def principal_plane(embedding_MD: Tensor) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Coordinates (M, 2) of unit embeddings along their first two principal axes, and those axes' share of variance.

    An axis points where its largest component is positive, so that equal embeddings give equal pictures.
    """
    unit_MD = nn.functional.normalize(embedding_MD.double(), dim=-1)
    centred_MD = unit_MD - unit_MD.mean(dim=0)
    variance_D, axis_DD = torch.linalg.eigh(centred_MD.T @ centred_MD)
    axis_D2 = axis_DD[:, -2:].flip(1)
    largest_12 = axis_D2.gather(0, axis_D2.abs().argmax(dim=0, keepdim=True))
    share = (variance_D[-2:].flip(0) / variance_D.sum().clamp(min=1e-12)).clamp(min=0).tolist()
    return (centred_MD @ (axis_D2 * largest_12.sign())).numpy(), (share[0], share[1])


def _spread(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most 16 of the places, evenly along their order."""
    if len(places) <= PIXELS_PER_CLASS_AND_CASE:
        return places
    return places[np.linspace(0, len(places) - 1, PIXELS_PER_CLASS_AND_CASE).round().astype(np.int64)]


def _thinned(pixels: PixelEmbeddings) -> PixelEmbeddings:
    """At most 512 of the pixels, evenly over cases and classes."""
    number = len(pixels.label_M)
    if number <= PAIRED_PIXELS:
        return pixels
    kept = torch.linspace(0, number - 1, PAIRED_PIXELS, dtype=torch.float64).round().long()
    return PixelEmbeddings(pixels.embedding_MD[kept], pixels.label_M[kept], pixels.patient_M[kept], pixels.cases)
