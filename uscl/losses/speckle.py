"""The speckle term: predicted regions must hold the speckle that the annotated regions hold."""

# B frames, K classes, H x W pixels; R rows (frames, or patches of frames), N pixels of a row, G rows of a frame

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from uscl.losses.speckle_distance import speckle_distance
from uscl.spec.trial import SpeckleSpec
from uscl.speckle.amplitude import B_MODE_GUARD, Guard, decompressed, decompressed_guard
from uscl.speckle.models import Parameters, fit_soft
from uscl.speckle.regions import boundary_band, patches
from uscl.speckle.weights import has_speckle, precise


def speckle_term(
    raw_BHW: Tensor,
    probability_BKHW: Tensor,
    truth_BKHW: Tensor,
    known_BHW: Tensor | None = None,
    *,
    speckle: SpeckleSpec,
    classes: Sequence[int],
    donor_BB: Tensor | None = None,
) -> Tensor:
    """Mean distance between the speckle of predicted and annotated regions, over valid (frame, class) pairs.

    `raw` is B-mode in [0, 1] under the spatial transform of the masks, before intensity augmentation and
    normalisation; `probability` the soft prediction; `truth` the annotation in {0, 1}; `known` in [0, 1] where pixels
    count (unlabelled ground and padding do not; the outside of a sector does). `classes` indexes K; background never
    belongs there. Of `speckle` everything is read but weight, balance and warmup, which belong to the caller, and
    classes, given as numbers. `donor` (see `draw_donors`) replaces each annotated region's parameters by those of
    another case: the control `speckle.permuted`.

    A pair is valid by its annotation alone (`min_pixels`, some variance): predicting nothing is no way out. Under
    `region: band` both masks are cut to the band around the annotation's boundary. Under `region: patch` each patch of
    a pair that is valid by itself gives a distance, and the pair their mean. Returns a float32 scalar >= 0; zero with
    a graph behind it where no pair is valid. Runs outside autocast, and never waits for the device. `region: mask` is
    blind to position (science.md 6.5). Singla et al. 2022, eq. 3-5 and, for patches, their discussion.
    """
    with torch.autocast(raw_BHW.device.type, enabled=False):
        scene = _scene(raw_BHW, truth_BKHW, known_BHW, speckle=speckle, classes=classes)
        wanted, valid_RK = _annotated(scene, speckle)
        found = _fitted(scene, _regions(planes_of(probability_BKHW, classes), scene.band_BKHW, speckle), speckle)
        valid_BGK = _by_frame(valid_RK, len(raw_BHW))
        if donor_BB is not None:
            wanted, valid_BGK = _permuted(wanted, valid_BGK, donor_BB)
        distance_RK = speckle_distance(found, wanted, form=speckle.form)
        return (distance_RK * _shares(valid_BGK).flatten(0, 1)).sum()


@torch.no_grad()
def valid_regions(
    raw_BHW: Tensor,
    truth_BKHW: Tensor,
    known_BHW: Tensor | None = None,
    *,
    speckle: SpeckleSpec,
    classes: Sequence[int],
) -> Tensor:
    """Which annotated regions `speckle_term` would compare, (B, len(classes)) bool; arguments as there."""
    scene = _scene(raw_BHW, truth_BKHW, known_BHW, speckle=speckle, classes=classes)
    return _by_frame(_annotated(scene, speckle)[1], len(raw_BHW)).any(1)


def draw_donors(cases: Sequence[str], rng: np.random.Generator) -> Tensor:
    """Random order in which the frames of a batch lend their speckle to each other, (B, B) on the CPU.

    Frame b takes that of the frame with the least value in row b which has the class; infinite where both are the same
    case, as when a batch holds one twice. A function of the generator's state alone.
    """
    names = np.asarray(cases)
    order_BB = rng.random((len(cases), len(cases)), dtype=np.float32)
    return torch.from_numpy(np.where(names[:, None] == names[None, :], np.float32(np.inf), order_BB))


class _Scene(NamedTuple):
    """What does not depend on the prediction."""

    raw_RN: Tensor
    amplitude_RN: Tensor
    known_RN: Tensor | None
    guard: Guard
    band_BKHW: Tensor | None
    """Under `region: band` the pixels near the annotated boundary."""
    annotated_RKN: Tensor


@torch.no_grad()
def _scene(
    raw_BHW: Tensor, truth_BKHW: Tensor, known_BHW: Tensor | None, *, speckle: SpeckleSpec, classes: Sequence[int]
) -> _Scene:
    raw_BHW, truth_BKHW = precise(raw_BHW), planes_of(truth_BKHW, classes)
    band_BKHW = boundary_band(truth_BKHW, width_px=speckle.band_px) if speckle.region == "band" else None
    amplitude_BHW, guard = raw_BHW, B_MODE_GUARD
    if speckle.domain == "decompressed":
        assert speckle.dynamic_range_db is not None
        amplitude_BHW = decompressed(raw_BHW, dynamic_range_db=speckle.dynamic_range_db)
        guard = decompressed_guard(speckle.dynamic_range_db)

    def rows(plane_BHW: Tensor) -> Tensor:
        return patches(plane_BHW[:, None], size_px=_side(speckle))[:, 0]

    known_RN = None if known_BHW is None else rows(precise(known_BHW))
    annotated_RKN = _regions(truth_BKHW, band_BKHW, speckle)
    return _Scene(rows(raw_BHW), rows(amplitude_BHW), known_RN, guard, band_BKHW, annotated_RKN)


@torch.no_grad()
def _annotated(scene: _Scene, speckle: SpeckleSpec) -> tuple[Parameters, Tensor]:
    """Parameters of the annotated regions, and which of these count."""
    valid_RK = has_speckle(scene.raw_RN, scene.annotated_RKN, min_pixels=speckle.min_pixels, known_RN=scene.known_RN)
    return _fitted(scene, scene.annotated_RKN, speckle), valid_RK


def _regions(masks_BKHW: Tensor, band_BKHW: Tensor | None, speckle: SpeckleSpec) -> Tensor:
    """Soft masks as rows of weights, cut to the band where there is one."""
    return patches(masks_BKHW if band_BKHW is None else masks_BKHW * band_BKHW, size_px=_side(speckle))


def _fitted(scene: _Scene, weight_RKN: Tensor, speckle: SpeckleSpec) -> Parameters:
    return fit_soft(
        scene.amplitude_RN,
        weight_RKN,
        model=speckle.model,
        estimator=speckle.estimator,
        known_RN=scene.known_RN,
        guard=scene.guard,
    )


def _side(speckle: SpeckleSpec) -> int | None:
    return speckle.patch_px if speckle.region == "patch" else None


def planes_of(masks_BKHW: Tensor, classes: Sequence[int]) -> Tensor:
    """Some classes of masks: a view where they follow each other; never by a list of indices, as that would be copied
    to the GPU in every step."""
    first, last = classes[0], classes[-1]
    if list(classes) == list(range(first, last + 1)):
        return precise(masks_BKHW[:, first : last + 1])
    return torch.stack([precise(masks_BKHW[:, number]) for number in classes], dim=1)


@torch.no_grad()
def _shares(valid_BGK: Tensor) -> Tensor:
    """What each region counts in the mean: over a pair's valid rows, then over pairs that have one; 0 where invalid.

    Regions are weighted away, not indexed away: choosing them would wait for the GPU.
    """
    num_pairs = valid_BGK.any(1).sum().clamp_min(1)
    return valid_BGK / (valid_BGK.sum(1, keepdim=True).clamp_min(1) * num_pairs)


def _by_frame(rows: Tensor, num_frames: int) -> Tensor:
    """(R, ...) as (B, G, ...)."""
    return rows.reshape(num_frames, -1, *rows.shape[1:])


def _permuted(wanted: Parameters, valid_BGK: Tensor, donor_BB: Tensor) -> tuple[Parameters, Tensor]:
    """Each region with the parameters of its donor's; valid where both are. In patches: of the donor's same patch."""
    order_BBGK = donor_BB[:, :, None, None].expand(-1, -1, *valid_BGK.shape[1:])
    least = order_BBGK.masked_fill(~valid_BGK[None], torch.inf).min(dim=1)
    lent = []
    for parameter in wanted:
        of_frames = _by_frame(parameter, len(valid_BGK))
        donor = least.indices.reshape(*valid_BGK.shape, *(1,) * (of_frames.ndim - 3))
        lent.append(of_frames.gather(0, donor.expand(of_frames.shape)).flatten(0, 1))
    return type(wanted)(*lent), valid_BGK & least.values.isfinite()
