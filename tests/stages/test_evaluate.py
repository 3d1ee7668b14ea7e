"""Scoring a network: native size, test-time mirror, rows and back, the three overlays."""

import numpy as np
import pytest
import torch

from uscl.data.dataset import Case
from uscl.stages.evaluate import predict, score_case
from uscl.stages.inputs import EvaluateInputs


class Threshold(torch.nn.Module):
    """A network that calls a pixel positive where it is brighter than half; blind on the left where told."""

    def __init__(self, *, blind_left=False):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(20.0))
        self.blind_left = blind_left

    def forward(self, image):
        logits = (image - 0.5) * self.scale
        if self.blind_left:
            logits[..., : logits.shape[-1] // 2] = -3.0
        return logits.repeat(1, 2, 1, 1)


def inputs_of(**changes):
    settings = {"size": 32, "norm": "none"}
    network = {"preset": "tiny"}
    base = {"part": "test", "image": settings, "network": network, "tta": "none"}
    return EvaluateInputs(**base | {"classes": ("outer", "inner"), "leaf_classes": ("inner",)} | changes)


def case_of(height=96, width=64):
    truth = np.zeros((2, height, width), bool)
    truth[:, height // 4 : height // 2, width // 4 : width // 2] = True
    image = np.where(truth[0], 220, 20).astype(np.uint8)
    everywhere = np.ones((height, width), bool)
    return Case("c1", "p1", image, truth, everywhere, everywhere, None)


def test_masks_come_back_at_native_size():
    case = case_of()
    predicted = predict(case.image, Threshold(), inputs_of())
    assert predicted.shape == case.masks.shape
    rows = score_case(case, predicted, inputs_of()).rows
    assert [row.class_name for row in rows] == ["outer", "inner"]
    assert all(row.values["dsc"] > 0.9 and (row.height_px, row.width_px) == (96, 64) for row in rows)


def test_a_mirrored_view_fills_in_what_the_network_misses():
    case, blind = case_of(), Threshold(blind_left=True)
    assert not predict(case.image, blind, inputs_of()).any()
    assert predict(case.image, blind, inputs_of(tta="flip")).any()


def test_all_mirrors_are_the_mean_of_four_views():
    """A network that sees the upper left quarter alone: each quarter is found in one view of four."""

    class UpperLeft(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image):
            logits = torch.full_like(image, -40.0).repeat(1, 2, 1, 1)
            logits[..., :16, :16] = 0.85  # sigmoid 0.70: a quarter of it is under 1/2, the whole above
            logits[:, 0] = 40 * (image[:, 0] - 0.4)
            return logits

    case = case_of(32, 32)
    mirrored = predict(case.image, UpperLeft(), inputs_of(tta="mirror"))
    plain = predict(case.image, UpperLeft(), inputs_of())
    assert (mirrored[0] == plain[0]).all() and plain[0].any(), "what no mirror changes stays"
    assert plain[1].sum() == 16 * 16 and not mirrored[1].any()


def test_pixels_that_are_not_known_are_not_scored():
    case = case_of()
    known = case.known.copy()
    known[:, :32] = False  # the whole region
    unknown = Case(case.case, case.patient, case.image, case.masks, known, case.sector, None)
    row = score_case(unknown, case.masks, inputs_of()).rows[0]
    assert row.values["truth_px"] == 0


def test_the_best_the_median_and_the_worst_case_are_drawn(trial, tiny_dataset, tmp_path):
    from uscl.stages.run import run_trial
    from uscl.store.stages import StageStore

    store = StageStore(tmp_path)
    spec = trial(method="supervised")
    list(run_trial(spec, store, dataset=tiny_dataset, device="cpu", attempt="a", stop_requested=lambda: False))
    for ref in store.refs("evaluate"):
        names = [name for name in store.manifest(ref).files if name.startswith("overlay-")]
        assert sorted(name.split("-")[1] for name in names) == ["best", "median", "worst"]
        assert all(store.read(ref, name).startswith(b"\x89PNG") for name in names)


@pytest.mark.parametrize("size", [16, 48])
def test_network_size_and_native_size_are_independent(size):
    inputs = inputs_of(image={"size": size, "norm": "none"})
    assert predict(case_of(40, 72).image, Threshold(), inputs).shape == (2, 40, 72)
