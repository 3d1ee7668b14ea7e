"""Labelled cases as the network sees them: letterboxed, normalised, and still with their raw grey levels."""

# N cases, K classes, H x W pixels (square)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uscl.data.batches import normalise
from uscl.data.dataset import Case, Dataset
from uscl.data.letterbox import Letterbox


@dataclass(frozen=True, slots=True)
class LabelledFrames:
    """Cases held as tensors on one device: a few hundred frames fit anywhere."""

    cases: tuple[str, ...]
    input_N1HW: Tensor
    """Normalised grey levels, float32."""
    raw_N1HW: Tensor
    """Grey levels / 255 before any normalisation: what speckle statistics are taken from."""
    known_N1HW: Tensor
    """1 where the annotation counts, outside the sector too; 0 in padding; float32."""
    truth_NKHW: Tensor
    """1 inside a class; nested classes overlap; float32."""


def load_labelled(
    dataset: Dataset, cases: Sequence[str], *, size: int, norm: str, device: torch.device
) -> LabelledFrames:
    """The cases at network size; DataError where one is unknown to the dataset."""
    squares = [_square(dataset.case(case), size) for case in cases]
    frames = np.stack([frame for frame, _, _ in squares])
    known = np.stack([known for _, known, _ in squares])[:, None]
    truth = np.stack([masks for _, _, masks in squares])

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(device)

    return LabelledFrames(
        cases=tuple(cases),
        input_N1HW=tensor(normalise(frames, size=size, norm=norm)[:, None]),
        raw_N1HW=tensor(frames[:, None] / np.float32(255.0)),
        known_N1HW=tensor(known),
        truth_NKHW=tensor(truth),
    )


def square_input(image_HW: np.ndarray, *, size: int, norm: str) -> np.ndarray:
    """The network input (1, 1, size, size) of one uint8 frame, float32."""
    frame = Letterbox.of(image_HW, size).to_square(image_HW)
    return normalise(frame[None], size=size, norm=norm)[:, None]


def _square(case: Case, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    box = Letterbox.of(case.image, size)
    return box.to_square(case.image), box.to_square(case.known, "nearest"), box.to_square(case.masks, "nearest")
