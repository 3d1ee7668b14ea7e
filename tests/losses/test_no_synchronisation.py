"""Losses never wait for the device: no value is read back and no shape depends on one."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from uscl.data.pairs import local_pairs, nearest_regions, pair_masks
from uscl.losses.balance import balanced, moved_mean
from uscl.losses.contrastive import info_nce, info_nce_chance, pairwise, pairwise_chance
from uscl.losses.local import local_info_nce, local_info_nce_chance, local_pairwise
from uscl.losses.segmentation import dice_ce
from uscl.losses.speckle import speckle_term
from uscl.metrics.embedding import alignment, embedding_std, position_retrieval, uniformity
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
FRAMES, REGIONS, LOGITS = torch.randn(6, 4), torch.randn(6, 13, 4), torch.randn(2, 2, 4, 4)
BOTH, LOCAL = (MASKS.positive_NN, MASKS.negative_NN), {"neighbour_RR": nearest_regions(region_grid(8, 3), 5)}

GREY, KNOWN = torch.rand(2, 16, 16), torch.ones(2, 16, 16)
SOFT, HARD = torch.rand(2, 3, 16, 16), (torch.rand(2, 3, 16, 16) > 0.4).float()
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
    return speckle_term(GREY, SOFT, HARD, KNOWN, speckle=speckle, classes=[0, 2], donor_BB=DONORS)


CALLS = {
    **{name: lambda changes=changes: speckle_of(changes) for name, changes in SPECKLE.items()},
    "balance": lambda: balanced(FRAMES.square().sum(), moved_mean(torch.tensor(2.0), FRAMES.square().sum())),
    "info_nce": lambda: info_nce(FRAMES, *BOTH, form="supcon_out", temperature=0.1),
    "per_pair": lambda: info_nce(FRAMES, *BOTH, form="per_pair_neg_only", temperature=0.1),
    "info_nce_chance": lambda: info_nce_chance(*BOTH, form="simclr"),
    "pairwise": lambda: pairwise(FRAMES, *BOTH, margin=1.0, distance="euclidean"),
    "pairwise_chance": lambda: pairwise_chance(*BOTH, margin=1.0),
    "local_info_nce": lambda: local_info_nce(REGIONS, PAIRS, form="supcon_out", temperature=0.1, **LOCAL),
    "local_chance": lambda: local_info_nce_chance(PAIRS, form="supcon_out", **LOCAL),
    "local_pairwise": lambda: local_pairwise(REGIONS, PAIRS, margin=1.0, distance="cosine", **LOCAL),
    "dice_ce": lambda: dice_ce(LOGITS, LOGITS > 0, kind="dice_ce"),
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
