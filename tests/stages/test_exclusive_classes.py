"""Exclusive classes and Chaitanya's fine-tuning through whole trials: keys, learning, scoring, refusals."""

import dataclasses
import re

import pytest
import torch
from safetensors.torch import load

from uscl.data.dataset import open_dataset
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError, SpecError
from uscl.records import CellFinished, Drained
from uscl.stages.canonical import canonical
from uscl.stages.evaluate import load_network, predict
from uscl.stages.keys import chain
from uscl.stages.run import run_trial
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore

CHAITANYA = {
    "steps": 8, "lr": 1e-3, "batch": 4, "select_every": 4, "loss": "dice_background", "augment": "chaitanya",
}  # fmt: skip


def softmax_trial(make_trial, **changes):
    settings = {"method": "supervised", "network": {"preset": "tiny", "heads": "softmax"}, "finetune": CHAITANYA}
    return make_trial(**settings | changes)


def events_of(spec, store, dataset, **changes):
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False} | changes
    return list(run_trial(spec, store, dataset=dataset, **settings))


@pytest.fixture(scope="module")
def finished(trial, tiny_dataset, tmp_path_factory):
    spec = softmax_trial(trial, speckle={"weight": 0.1, "min_pixels": 8, "classes": ("outer",)})
    store = StageStore(tmp_path_factory.mktemp("heads"))
    events = events_of(spec, store, tiny_dataset)
    assert isinstance(events[-1], CellFinished)
    return spec, store, chain(spec, open_dataset(tiny_dataset).index)


def test_heads_are_in_no_pretraining_key(trial, tiny_index):
    plain = chain(trial(), tiny_index)
    softmax = chain(trial(network={"preset": "tiny", "heads": "softmax"}), tiny_index)
    same = {a.name for a, b in zip(plain.stages, softmax.stages, strict=True) if a.key == b.key}
    assert same == {"encoder", "decoder"}


def test_default_settings_leave_no_trace_in_the_inputs(trial, tiny_index):
    """Keys of before these settings existed stay."""
    stage = chain(trial(), tiny_index).stage("finetune")
    assert "contains" not in canonical(stage.inputs) and "heads" not in canonical(stage.inputs)["network"]
    assert "faithful_bugs" not in canonical(stage.inputs)["finetune"]


def test_faithful_bugs_count_under_their_augmentation_only(trial, tiny_index):
    cells = {
        (augment, bugs): chain(trial(finetune={**CHAITANYA, "loss": "dice", "augment": augment, "faithful_bugs": bugs}),
                               tiny_index).cell
        for augment in ("flip", "chaitanya") for bugs in (False, True)
    }  # fmt: skip
    assert cells["flip", False] == cells["flip", True]
    assert len(set(cells.values())) == 3


def test_the_containment_is_in_the_key(trial, tiny_index):
    spec = softmax_trial(trial)
    links = chain(spec, tiny_index)
    assert links.stage("finetune").inputs.contains == links.stage("evaluate/val").inputs.contains
    assert links.stage("finetune").inputs.contains == (("outer", ("inner",)),)
    apart = chain(spec, dataclasses.replace(tiny_index, contains={}))
    assert apart.cell != links.cell
    assert chain(trial(), dataclasses.replace(tiny_index, contains={})).cell == chain(trial(), tiny_index).cell


def test_partly_overlapping_classes_are_refused(trial, tiny_index):
    contains = {"outer": ("inner",), "inner": ("outer",)}
    said = "network.heads: softmax takes nested or separate classes, but 'outer' lies within itself; use sigmoid"
    with pytest.raises(SpecError, match=f"^{re.escape(said)}$"):
        chain(softmax_trial(trial), dataclasses.replace(tiny_index, contains=contains))


def test_masks_that_overlap_otherwise_than_declared_are_refused(trial, tiny_dataset, tmp_path):
    """The tiny dataset without its word that `inner` lies within `outer`."""
    source = open_dataset(tiny_dataset)
    with DatasetWriter(tmp_path / "flat", name="flat", classes=("outer", "inner"), size=32) as out:
        for entry in source.index.cases:
            case = source.case(entry.case)
            out.add_case(case.image, case.masks, case=case.case, patient=case.patient)
        out.close()
    said = "masks of 'outer' and 'inner' are neither separate nor nested as the dataset declares (100% of the smaller"
    with pytest.raises(DataError, match=re.escape(said)):
        events_of(softmax_trial(trial), StageStore(tmp_path / "store"), tmp_path / "flat")


def test_a_containing_class_is_predicted_as_the_union(finished, tiny_dataset):
    _, store, links = finished
    stage, parent = links.stage("evaluate/test"), links.stage("finetune")
    weights = load(store.read(parent.ref, "weights.safetensors"))
    assert weights["tail.heads.0.1.weight"].shape[0] == 3  # background, rim, inner
    network = load_network(stage.inputs, weights, torch.device("cpu"))
    masks = [predict(open_dataset(tiny_dataset).case(name).image, network, stage.inputs) for name in stage.data.cases]
    assert all((outer | ~inner).all() for outer, inner in masks), "inner lies within outer"
    assert any(outer.any() for outer, _ in masks)


def test_exclusive_classes_learn(finished):
    _, store, links = finished
    points = decode_points(store.read(links.stage("finetune").ref, "metrics.parquet"))
    losses = [point.values["finetune/segmentation_loss"] for point in points]
    assert losses[-1] < losses[0]
    assert all(point.values["finetune/speckle_loss"] > 0 for point in points)
    assert 0 <= points[-1].values["finetune/val_dsc"] <= 1


def test_stop_and_resume_gives_the_same_bits(finished, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("uscl.stages.loop.STOP_CHECK_S", 0.0)
    spec, store, links = finished
    cut, asked = StageStore(tmp_path), iter(range(1, 1000))
    events = events_of(spec, cut, tiny_dataset, stop_requested=lambda: next(asked) == 5)
    assert isinstance(events[-1], Drained)
    events_of(spec, cut, tiny_dataset, attempt="two")
    ref = links.stage("finetune").ref
    assert cut.read(ref, "weights.safetensors") == store.read(ref, "weights.safetensors")
