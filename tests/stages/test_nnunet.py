"""The nnU-Net-style baseline: its keys, its batches, learning, resuming, and what it publishes."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load

from uscl.data.dataset import open_dataset
from uscl.records import CellFinished, Drained
from uscl.spec.methods import is_moot
from uscl.stages.context import StageContext, step_rng
from uscl.stages.keys import chain
from uscl.stages.loop import FitContext
from uscl.stages.nnunet import NnunetTask, draw_cases, plan_of, polynomial_decay
from uscl.stages.run import run_trial
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore


def nnunet_trial(make_trial, **changes):
    return make_trial(method="nnunet2d", nnunet={"steps": 6, "base_width": 8}, **changes)


def events_of(spec, store, dataset, **changes):
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False} | changes
    return list(run_trial(spec, store, dataset=dataset, **settings))


@pytest.fixture(scope="module")
def finished(trial, tiny_dataset, tmp_path_factory):
    """Spec, store and the finetune stage of a cell with a speckle term."""
    spec = nnunet_trial(trial, speckle={"weight": 0.1, "min_pixels": 8})
    store = StageStore(tmp_path_factory.mktemp("nnunet"))
    events = events_of(spec, store, tiny_dataset)
    assert isinstance(events[-1], CellFinished)
    return spec, store, chain(spec, open_dataset(tiny_dataset).index).stage("finetune")


def task_of(spec, dataset, store):
    opened = open_dataset(dataset)
    stage = chain(spec, opened.index).stage("finetune")
    fit = FitContext(ref=stage.ref, store=store, attempt="a", device=torch.device("cpu"), stop_requested=lambda: False)
    context = StageContext(stage=stage, dataset=opened, parent_weights={}, fit=fit)
    return NnunetTask(stage.inputs, plan_of(stage.inputs, len(stage.data.cases)), context)


# ---- keys


@pytest.mark.parametrize(
    "moot",
    [
        {"seed": {"pretrain": 9}},
        {"image": {"size": 32, "norm": "minmax"}},
        {"evaluate__tta": "flip"},
        {"finetune__lr": 0.5},
        {"network": {"preset": "chaitanya", "activation": "elu"}},
        {"encoder__steps": 77},
    ],
)
def test_what_the_recipe_does_not_read_is_in_no_key(trial, tiny_index, moot):
    keys = [[stage.key for stage in chain(nnunet_trial(trial, **each), tiny_index).stages] for each in ({}, moot)]
    assert keys[0] == keys[1]


def test_moot_settings_are_told_to_the_table():
    moot = ("image.norm", "evaluate.tta", "seed.pretrain", "finetune.steps", "temporal.window")
    assert all(is_moot(name, {"method": "nnunet2d"}) for name in moot)
    assert not any(
        is_moot(name, {"method": "nnunet2d"}) for name in ("image.size", "nnunet.steps", "speckle.weight", "seed")
    )
    assert not is_moot("image.norm", {"method": "supervised"})


def test_a_batch_given_as_planned_is_the_planned_run(trial, tiny_index):
    planned = chain(nnunet_trial(trial), tiny_index)
    assert planned.stage("finetune").inputs.nnunet.batch == 2  # 12 cases: 5 % is less than a frame
    for batch, same in ((2, True), (3, False)):
        spec = trial(method="nnunet2d", nnunet={"steps": 6, "base_width": 8, "batch": batch})
        assert (chain(spec, tiny_index).cell == planned.cell) is same


def test_no_validation_frame_is_read_and_frames_are_z_scored(trial, tiny_index):
    links = chain(nnunet_trial(trial), tiny_index)
    assert [stage.name for stage in links.stages] == ["finetune", "evaluate/val", "evaluate/test"]
    assert links.stage("finetune").data.validation == ()
    assert {stage.inputs.image.norm for stage in links.stages} == {"zscore"}
    assert links.stage("evaluate/val").inputs.network.preset == "nnunet2d"


@pytest.mark.parametrize(("augment", "tta"), [("us_safe", "flip"), ("nnunet", "mirror")])
def test_predictions_are_mirrored_as_training_was(trial, tiny_index, augment, tta):
    spec = trial(method="nnunet2d", nnunet={"steps": 6, "base_width": 8, "augment": augment})
    assert chain(spec, tiny_index).stage("evaluate/test").inputs.tta == tta


# ---- batches


def test_a_third_of_a_batch_is_drawn_for_a_class():
    """99 frames without any class, one frame of each of two classes: every batch ends with four that have one."""
    present = np.zeros((101, 2), bool)
    present[7, 0], present[8, 1] = True, True
    drawn = np.stack([draw_cases(present, 12, np.random.default_rng(seed)) for seed in range(300)])
    assert set(np.unique(drawn[:, 8:])) == {7, 8}
    assert (drawn[:, 8:] == 7).mean() == pytest.approx(0.5, abs=0.05), "classes are drawn uniformly"
    assert np.isin(drawn[:, :8], (7, 8)).mean() < 0.05, "the rest of the batch is drawn uniformly"


def test_a_rare_class_is_seen_more_often_than_its_share():
    present = np.ones((50, 2), bool)
    present[1:, 1] = False
    drawn = np.concatenate([draw_cases(present, 6, np.random.default_rng(seed)) for seed in range(400)])
    assert (drawn == 0).mean() == pytest.approx((4 / 50 + 2 * (0.5 + 0.5 / 50)) / 6, abs=0.03)


def test_frames_without_any_class_are_drawn_uniformly():
    assert len(draw_cases(np.zeros((5, 3), bool), 4, np.random.default_rng(0))) == 4


def test_a_batch_of_two_has_one_drawn_for_a_class():
    present = np.zeros((40, 1), bool)
    present[3] = True
    assert all(draw_cases(present, 2, np.random.default_rng(seed))[1] == 3 for seed in range(20))


def test_raw_grey_levels_stay_and_masks_stay_binary(finished, tiny_dataset, tmp_path):
    """Speckle statistics want the frame as it was recorded: only moved, never brightened."""
    task = task_of(finished[0], tiny_dataset, StageStore(tmp_path))
    seen, changed = set(task._train.raw_N1HW.flatten().tolist()), 0
    for step in range(30):
        batch = task._draw(step_rng(0, "finetune", step))
        assert set(batch.truth_NKHW.unique().tolist()) <= {0.0, 1.0} and set(batch.known_N1HW.unique().tolist()) <= {
            0,
            1,
        }
        assert float(batch.raw_N1HW.max()) <= max(seen) + 1e-5
        scale = task._train.raw_N1HW[[task._train.cases.index(name) for name in batch.cases]]
        straight = [torch.allclose(batch.raw_N1HW[n], scale[n], atol=1e-4) for n in range(2)]
        changed += sum(
            not torch.allclose(batch.input_N1HW[n], task._train.input_N1HW[task._train.cases.index(name)], atol=1e-3)
            for n, name in enumerate(batch.cases)
            if straight[n]
        )
    assert changed, "frames that were not moved were changed in their grey levels"


# ---- training


def test_the_schedule_is_polynomial():
    assert polynomial_decay(0, 1000) == 1.0
    assert polynomial_decay(500, 1000) == pytest.approx(0.5**0.9)
    assert polynomial_decay(999, 1000) == pytest.approx(0.001**0.9)


def test_it_publishes_last_weights_a_readable_plan_and_both_losses(finished):
    _, store, stage = finished
    manifest = store.manifest(stage.ref)
    assert set(manifest.files) == {"weights.safetensors", "metrics.parquet", "plan.json"}
    plan = json.loads(store.read(stage.ref, "plan.json"))
    assert (plan["batch"], plan["batch_by"], plan["patch_px"], plan["num_cases"]) == (2, "minimum", [32, 32], 12)
    assert "not the nnU-Net package" in plan["recipe"]
    assert manifest.metrics == {"finetune/chosen_step": 6, "finetune/labelled_cases": 12, "finetune/batch": 2}
    points = decode_points(store.read(stage.ref, "metrics.parquet"))
    assert {"finetune/loss", "finetune/segmentation_loss", "finetune/speckle_loss"} <= set(points[-1].values)
    weights = load(store.read(stage.ref, "weights.safetensors"))
    assert weights["encoder.levels.0.0.0.weight"].shape == (8, 1, 3, 3)


@pytest.mark.parametrize("stopped_after", [1, 3])
def test_stop_and_resume_gives_the_same_bits(finished, tiny_dataset, tmp_path, monkeypatch, stopped_after):
    """Momentum, weights and the draws of a step come back as they were."""
    monkeypatch.setattr("uscl.stages.loop.STOP_CHECK_S", 0.0)
    spec, store, stage = finished
    cut, asked = StageStore(tmp_path), iter(range(1, 1000))
    events = events_of(spec, cut, tiny_dataset, stop_requested=lambda: next(asked) == stopped_after)
    assert isinstance(events[-1], Drained) and events[-1].step == stopped_after
    events_of(spec, cut, tiny_dataset, attempt="two")
    for name in ("weights.safetensors", "metrics.parquet"):
        assert cut.read(stage.ref, name) == store.read(stage.ref, name), name


def test_the_coarsest_output_is_not_trained_and_every_other_is(finished, tiny_dataset, tmp_path):
    """Deep supervision: the lowest weight is 0."""
    task = task_of(finished[0], tiny_dataset, StageStore(tmp_path))
    task.loss(0)[0].backward()
    heads = [any(p.grad is not None and p.grad.any() for p in head.parameters()) for head in task.network.tail.heads]
    assert heads == [False, True, True]


def test_it_learns_the_tiny_dataset(trial, tiny_dataset, tmp_path):
    task = task_of(nnunet_trial(trial), tiny_dataset, StageStore(tmp_path))
    optimizer = torch.optim.SGD(task.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    losses = []
    for step in range(25):
        optimizer.zero_grad()
        loss, _ = task.loss(step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_the_speckle_term_moves_the_weights(finished, trial, tiny_dataset, tmp_path):
    _, store, stage = finished
    plain = nnunet_trial(trial)
    events_of(plain, StageStore(tmp_path), tiny_dataset)
    other = chain(plain, open_dataset(tiny_dataset).index).stage("finetune")
    assert StageStore(tmp_path).read(other.ref, "weights.safetensors") != store.read(stage.ref, "weights.safetensors")
