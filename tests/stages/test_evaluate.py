"""Scoring a network: native size, test-time mirror, rows and back, the three overlays."""

import numpy as np
import pytest
import torch

from uscl.data.dataset import Case
from uscl.records import CaseRow
from uscl.stages.evaluate import decode_rows, encode_rows, predict, score_case
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


def test_pixels_that_are_not_known_are_not_scored():
    case = case_of()
    known = case.known.copy()
    known[:, :32] = False  # the whole region
    unknown = Case(case.case, case.patient, case.image, case.masks, known, case.sector, None)
    row = score_case(unknown, case.masks, inputs_of()).rows[0]
    assert row.values["truth_px"] == 0


def test_rows_survive_parquet():
    rows = [
        CaseRow("a", "p", "test", "outer", 4, 5, {"dsc": 0.5, "hd95": float("nan")}),
        CaseRow("a", "p", "test", "inner", 4, 5, {"dsc": 1.0, "hd95": 2.0}),
    ]
    back = decode_rows(encode_rows(rows))
    assert [(row.class_name, row.values["dsc"]) for row in back] == [("outer", 0.5), ("inner", 1.0)]
    assert np.isnan(back[0].values["hd95"])


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
