"""The real package end to end, through run_trial: it trains, drains and resumes, evaluates, and reads the speckle term.

Minutes on a CPU: `python -m pytest -m nightly tests/stages/nnunetv2`.
"""

import json

import pytest
import torch

pytest.importorskip("nnunetv2")

from uscl.data.dataset import open_dataset
from uscl.export.model import FoundCell, model_of_cell, read_model, write_model
from uscl.metrics.overlap import score_masks
from uscl.records import CellFinished, CellPlan, Drained, Outcome, Progress, StagePublished, StageRef
from uscl.stages.keys import chain
from uscl.stages.run import run_trial
from uscl.store.case_rows import CASES, decode_rows
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]
SHORT = {"steps": 60, "batch": 2, "base_width": 8}


def events_of(spec, store, dataset, **changes):
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False} | changes
    return list(run_trial(spec, store, dataset=dataset, **settings))


@pytest.fixture(scope="module")
def spec(trial):
    return trial(method="nnunetv2", nnunet=SHORT, speckle={"weight": 0.5, "min_pixels": 8})


@pytest.fixture(scope="module")
def trained(spec, tiny_dataset, tmp_path_factory):
    store = StageStore(tmp_path_factory.mktemp("nnunet"))
    return store, events_of(spec, store, tiny_dataset)


def test_it_trains_and_is_scored_like_any_cell(spec, trained, tiny_dataset):
    store, events = trained
    assert [event.kind for event in events if isinstance(event, StagePublished)] == ["finetune", "evaluate", "evaluate"]
    assert any(isinstance(event, Progress) for event in events)  # it is heard of while it plans
    assert isinstance(events[-1], CellFinished) and events[-1].result.outcome is Outcome.DONE
    assert {"val/dsc", "test/dsc/inner", "test/delta_snr", "test/dsc_floor"} <= set(events[-1].result.metrics)
    links = chain(spec, open_dataset(tiny_dataset).index)
    rows = decode_rows(store.read(links.stage("evaluate/test").ref, CASES))
    assert {row.case for row in rows} == set(links.stage("evaluate/test").data.cases)
    assert {row.class_name for row in rows} == {"outer", "inner"}


def test_what_it_publishes_is_json_and_safetensors(trained):
    store, events = trained
    manifest = store.manifest(StageRef("finetune", events[-1].result.cell))
    assert set(manifest.files) == {
        "weights.safetensors", "metrics.parquet", "plans.json", "dataset.json", "dataset_fingerprint.json",
        "inference.json",
    }  # fmt: skip
    assert manifest.provenance["nnunetv2"].startswith("2.")
    plans = json.loads(store.read(manifest.ref, "plans.json"))["configurations"]["2d"]
    assert plans["batch_size"] == 2 and plans["architecture"]["arch_kwargs"]["features_per_stage"][0] == 8
    assert json.loads(store.read(manifest.ref, "inference.json"))["mirror_axes"] == [1]
    assert json.loads(store.read(manifest.ref, "dataset.json"))["labels"] == {
        "background": 0, "outer": [1, 2], "inner": 2,
    }  # fmt: skip


def test_the_speckle_term_is_in_its_loss(trained):
    store, events = trained
    points = decode_points(store.read(StageRef("finetune", events[-1].result.cell), "metrics.parquet"))
    assert [point.step for point in points] == list(range(1, 61))
    for values in (point.values for point in points):
        weighted = values["finetune/segmentation_loss"] + 0.5 * values["finetune/speckle_loss"]
        assert values["finetune/loss"] == pytest.approx(weighted, rel=1e-5) and values["finetune/speckle_loss"] > 0


def test_an_exported_cell_predicts_what_was_scored(spec, trained, tiny_dataset, tmp_path):
    store, _ = trained
    index = open_dataset(tiny_dataset).index
    links = chain(spec, index)
    stages = {stage.name: stage.ref for stage in links.stages}
    found = FoundCell(CellPlan(1, links.cell, "nnU-Net", {}, {}, stages), SweepFolder(store.root, "none"))
    write_model(model_of_cell(store.root, found), tmp_path / "model")
    model = read_model(tmp_path / "model")
    assert model.document["contains"] == {"outer": ["inner"]}
    predictor = model.predictor(torch.device("cpu"))
    for row in decode_rows(store.read(links.stage("evaluate/test").ref, CASES)):
        case = open_dataset(tiny_dataset).case(row.case)
        scores = score_masks(predictor(case.image), case.masks, model.classes, known_HW=case.known)
        assert scores[row.class_name]["dsc"] == row.values["dsc"]


def test_a_drained_run_goes_on_to_the_same_bits(spec, trained, tiny_dataset, tmp_path):
    store, seen = StageStore(tmp_path), []

    def stop_once_it_trains():
        return any(isinstance(event, Progress) and event.step >= 1 for event in seen)

    stream = run_trial(
        spec, store, dataset=tiny_dataset, device="cpu", attempt="one", stop_requested=stop_once_it_trains,
        event_every_s=0.0, progress_every_s=0.0,
    )  # fmt: skip
    for event in stream:
        seen.append(event)
    assert isinstance(seen[-1], Drained) and seen[-1].kind == "finetune" and 0 < seen[-1].step < 60
    again = events_of(spec, store, tiny_dataset, attempt="two")
    cell = StageRef("finetune", again[-1].result.cell)
    assert store.read(cell, "weights.safetensors") == trained[0].read(cell, "weights.safetensors")
    assert again[-1].result.metrics == trained[1][-1].result.metrics
