"""Losses never wait for the device: no value is read back and no shape depends on one."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from uscl.data.augment import cell_diagonals, cell_places
from uscl.data.augment_chaitanya import draw_chaitanya, warp_elastic
from uscl.data.augment_nnunet import POLICIES, change_grey_levels, draw_nnunet
from uscl.data.pairs import local_pairs, nearest_regions, pair_masks
from uscl.data.partitions import cross_clip_pairs, partition_masks, simclr_masks
from uscl.data.pixels import at_cells, class_ranks, compared_views, draw_per_class, innermost_class
from uscl.losses.balance import balanced, moved_mean
from uscl.losses.contrastive import info_nce, info_nce_chance, pairwise, pairwise_chance
from uscl.losses.dense import pixel_consistency, pixel_supcon, pixel_supcon_chance, propagate
from uscl.losses.exclusive import exclusive_dice_ce
from uscl.losses.local import local_info_nce, local_info_nce_chance, local_pairwise
from uscl.losses.segmentation import dice_ce
from uscl.losses.speckle import speckle_term
from uscl.metrics.embedding import alignment, embedding_std, position_retrieval, uniformity
from uscl.models.outputs import make_heads
from uscl.spec.networks import region_grid
from uscl.spec.trial import SpeckleSpec

WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero")


class Forbid(TorchDispatchMode):
    """Raises where an operation would make a GPU's host wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name().startswith(WAITING):
            raise AssertionError(f"{func.name()} waits for the device")
        return func(*args, **(kwargs or {}))


CLIP = torch.tensor([0, 0, 0, 0, 1, 1])
FRAME = torch.tensor([1, 1, 8, 8, 1, 1])
BATCH = {"frame_N": FRAME, "polarity": "positive_negative", "window": 2}
MASKS = pair_masks(CLIP, FRAME.double(), **BATCH)
PAIRS = local_pairs(CLIP, FRAME.double(), **BATCH)
SOFT = pair_masks(CLIP, FRAME.double(), soft=True, **BATCH).weight_NN
SOFT_PAIRS = local_pairs(CLIP, FRAME.double(), soft=True, **BATCH)
FRAMES, REGIONS, LOGITS = torch.randn(6, 4), torch.randn(6, 13, 4), torch.randn(2, 2, 4, 4)
GD, GR, LD = partition_masks("GD", clips=2, parts=2), simclr_masks(3), cross_clip_pairs(clips=3, parts=2)
BINS, CLIPS_OF_BINS = torch.randn(16, 4), torch.randn(12, 13, 4)
BOTH, LOCAL = (MASKS.positive_NN, MASKS.negative_NN), {"neighbour_RR": nearest_regions(region_grid(8, 3), 5)}
NNUNET_DRAW = draw_nnunet(64, 8, POLICIES["nnunet"], np.random.default_rng(0))  # of so many, all changes are drawn
CHAITANYA_DRAW = draw_chaitanya(2, 4, faithful_bugs=False, rng=np.random.default_rng(0))
HEADS = make_heads("softmax", ("one",), (), device=torch.device("cpu"))
CELLS, THETA = torch.randn(6, 16, 4), torch.eye(2, 3).repeat(6, 1, 1)
TRUTH, RANKS, COMPARED = torch.rand(6, 2, 8, 8), class_ranks((0, 1)), compared_views(3, "batch")


def consistency():
    """Views are made, compared and measured."""
    place, diagonal = cell_places(THETA, 4), cell_diagonals(THETA, 4)
    query = propagate(CELLS, CELLS, power=2.0)
    return pixel_consistency(query, CELLS, place, diagonal_N=diagonal, distance=0.7, pairs=PAIRS)


def supcon(loss=True):
    """Labels, draw and loss."""
    label = at_cells(innermost_class(TRUTH, TRUTH[:, :1], rank_K=RANKS, background=True), 4)
    cell, label = draw_per_class(label, torch.rand(6, 16), num_classes=3, per_class=5)
    drawn = CELLS.gather(1, cell[..., None].expand(-1, -1, 4))
    if loss:
        return pixel_supcon(drawn, label, COMPARED, num_classes=3, temperature=0.07)
    return pixel_supcon_chance(label, COMPARED, num_classes=3)


GREY, KNOWN = torch.rand(2, 16, 16), torch.ones(2, 16, 16)
PREDICTED, HARD = torch.rand(2, 3, 16, 16), (torch.rand(2, 3, 16, 16) > 0.4).float()
DONORS = torch.tensor([[torch.inf, 0.3], [0.2, torch.inf]])
SPECKLE = {
    "speckle": {},
    "speckle_log_moment": {"estimator": "log_moment", "form": "jeffreys"},
    "speckle_histogram": {"model": "histogram"},
    "speckle_band": {"region": "band", "model": "rayleigh", "min_pixels": 8},
    "speckle_patch": {"region": "patch", "patch_px": 8, "model": "gamma", "min_pixels": 8},
    "speckle_decompressed": {"domain": "decompressed", "dynamic_range_db": 60.0, "form": "literal"},
}


def speckle_of(changes):
    """The loss of classes that do not follow each other, with another case's parameters."""
    speckle = SpeckleSpec(weight=1.0, **changes)
    return speckle_term(GREY, PREDICTED, HARD, KNOWN, speckle=speckle, classes=[0, 2], donor_BB=DONORS)


CALLS = {
    **{name: lambda changes=changes: speckle_of(changes) for name, changes in SPECKLE.items()},
    "balance": lambda: balanced(FRAMES.sum(), moved_mean(torch.tensor(2.0), FRAMES.sum()), FRAMES.mean()),
    "info_nce": lambda: info_nce(FRAMES, *BOTH, form="supcon_out", temperature=0.1),
    "per_pair": lambda: info_nce(FRAMES, *BOTH, form="per_pair_neg_only", temperature=0.1),
    "info_nce_chance": lambda: info_nce_chance(*BOTH, form="simclr"),
    "GD": lambda: info_nce(BINS, GD.positive_NN, GD.negative_NN, form="per_pair_neg_only", temperature=0.1),
    "GR": lambda: info_nce(FRAMES, GR.positive_NN, GR.negative_NN, form="simclr", temperature=0.1),
    "LD": lambda: local_info_nce(CLIPS_OF_BINS, LD, form="per_pair_neg_only", temperature=0.1, **LOCAL),
    "LD pairwise": lambda: local_pairwise(CLIPS_OF_BINS, LD, margin=1.0, distance="euclidean", **LOCAL),
    "pairwise": lambda: pairwise(FRAMES, *BOTH, margin=1.0, distance="euclidean"),
    "pairwise_chance": lambda: pairwise_chance(*BOTH, margin=1.0),
    "soft, hard": lambda: info_nce(FRAMES, *BOTH, form="supcon_out", temperature=0.1, weight_NN=SOFT, hard_beta=1.0),
    "soft pairwise": lambda: pairwise(FRAMES, *BOTH, margin=1.0, distance="cosine", weight_NN=SOFT),
    "local, soft, hard": lambda: local_info_nce(
        REGIONS, SOFT_PAIRS, form="supcon_out", temperature=0.1, hard_beta=1.0, **LOCAL
    ),
    "local_info_nce": lambda: local_info_nce(REGIONS, PAIRS, form="supcon_out", temperature=0.1, **LOCAL),
    "local_chance": lambda: local_info_nce_chance(PAIRS, form="supcon_out", **LOCAL),
    "local_pairwise": lambda: local_pairwise(REGIONS, PAIRS, margin=1.0, distance="cosine", **LOCAL),
    "pixel_consistency": consistency,
    "pixel_supcon": supcon,
    "pixel_supcon_chance": lambda: supcon(loss=False),
    "dice_ce": lambda: dice_ce(LOGITS, LOGITS > 0, kind="dice_ce"),
    "exclusive": lambda: exclusive_dice_ce(LOGITS, HEADS.target((LOGITS[:, :1] > 0).float()), kind="dice_ce"),
    "dice_background": lambda: exclusive_dice_ce(LOGITS, LOGITS > 0, kind="dice_background"),
    "class probability": lambda: HEADS.class_probability(LOGITS).sum(),
    "elastic warp": lambda: warp_elastic(LOGITS, CHAITANYA_DRAW.theta_B23, CHAITANYA_DRAW.bend_B233).sum(),
    "nnU-Net's grey levels": lambda: change_grey_levels(torch.randn(64, 1, 8, 8), NNUNET_DRAW).sum(),
    "embedding_std": lambda: embedding_std(FRAMES),
    "alignment": lambda: alignment(FRAMES, MASKS.positive_NN),
    "uniformity": lambda: uniformity(FRAMES),
    "position_retrieval": lambda: position_retrieval(REGIONS, CLIP),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_waits_for_the_device(name):
    with Forbid():
        value = CALLS[name]()
    assert value.shape == ()
    assert value.isfinite()


def test_the_guard_itself_works():
    with pytest.raises(AssertionError, match="waits for the device"), Forbid():
        FRAMES.sum().item()
