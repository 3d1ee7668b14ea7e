"""What is said of a pretraining: summary, flags, and that a collapsed one is recognised."""

import pytest
import torch

from uscl.data.pairs import pair_masks
from uscl.records import MetricPoint
from uscl.stages.decoder import describe_regions
from uscl.stages.encoder import contrast_chance, contrast_loss
from uscl.stages.inputs import ContrastInputs
from uscl.stages.pretraining import describe_embeddings, last_fifth, pretraining_summary

INFONCE = [
    ContrastInputs(loss="infonce", form=form, temperature=0.1, margin=None, distance=None)
    for form in ("per_pair_neg_only", "supcon_out")
]
PAIRWISE = ContrastInputs(loss="pairwise", form=None, temperature=None, margin=1.0, distance="euclidean")


def points(**curves):
    """One point every 10 steps, 10 points."""
    return tuple(
        MetricPoint(10 * (number + 1), {f"encoder/{name}": values[number] for name, values in curves.items()})
        for number in range(10)
    )


def test_the_last_fifth_is_what_counts():
    curve = points(loss=[9.0] * 8 + [1.0, 3.0])
    assert last_fifth(curve, "encoder/loss") == 2.0


@pytest.mark.parametrize(
    ("spread", "over_chance", "expected"),
    [(0.09, 0.5, ()), (0.009, 0.5, ("collapsed",)), (0.09, 0.985, ("collapsed",))],
)
def test_a_collapsed_pretraining_is_flagged(spread, over_chance, expected):
    curve = points(embedding_std=[0.1] * 5 + [spread] * 5, loss_over_chance=[1.0] * 5 + [over_chance] * 5)
    summary, flags = pretraining_summary(curve, "encoder")
    assert flags == expected
    assert summary["encoder/embedding_std"] == pytest.approx(spread)


def test_a_decoder_that_learned_coordinates_is_flagged():
    curve = tuple(MetricPoint(10, {"decoder/loss": 1.0, "decoder/position_retrieval": value}) for value in (0.2, 0.9))
    assert pretraining_summary(curve, "decoder")[1] == ("coordinates",)


@pytest.mark.parametrize("contrast", [*INFONCE, PAIRWISE], ids=["neg_only", "supcon", "pairwise"])
@pytest.mark.parametrize("polarity", ["none", "positive", "negative", "positive_negative"])
def test_constant_embeddings_are_at_chance_and_flagged(contrast, polarity):
    """The denominator of the logged ratio is the loss of a collapsed network, for every form and polarity."""
    clip = torch.arange(3).repeat_interleave(4).repeat(2)
    position = torch.tensor([0.0, 1.0, 9.0, 12.0]).repeat(6)
    frame = torch.arange(12).repeat(2)
    masks = pair_masks(clip, position, frame_N=frame, polarity=polarity, window=2.0)
    constant = torch.ones(24, 16)
    loss = float(contrast_loss(constant, masks, contrast))
    assert loss == pytest.approx(contrast_chance(masks, contrast), rel=1e-4)
    described = describe_embeddings(constant, masks.positive_NN)
    curve = (MetricPoint(1, {f"encoder/{name}": float(value) for name, value in described.items()}),)
    assert pretraining_summary(curve, "encoder")[1] == ("collapsed",)


def test_region_figures_take_the_same_region_of_the_other_view_as_positive():
    regions = torch.randn(1, 5, 8).repeat(6, 1, 1)  # every view alike, regions differ
    described = describe_regions(regions)
    assert float(described["alignment"]) == pytest.approx(0.0, abs=1e-5)
    assert float(described["embedding_std"]) > 0.1
