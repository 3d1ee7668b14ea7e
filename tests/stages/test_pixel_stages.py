"""PixPro and contrast of labelled pixels as stages: what they train, hand on and resume; keys; what they measure."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch.utils._python_dispatch import TorchDispatchMode

from uscl.data.dataset import open_dataset
from uscl.records import Drained, MetricPoint, StagePublished
from uscl.stages import pixels, pixpro
from uscl.stages.context import StageContext
from uscl.stages.finetune import build_network
from uscl.stages.keys import chain
from uscl.stages.loop import FitContext
from uscl.stages.pixels import PixelTask
from uscl.stages.pixpro import PixproTask, describe_pixels, follow, momentum_at
from uscl.stages.pretraining import pretraining_summary
from uscl.stages.run import run_trial
from uscl.store.stages import StageStore

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
PIXEL = {"steps": 4, "batch": 4, "per_class": 16, "lr": 1e-3}
NEAR = {"temporal__polarity": "positive", "temporal__window": 2}
VARIANTS = {
    "pixpro": {"contrast__loss": "pixpro", **NEAR},
    "supcon": {"method": "pixel_supcon", "pixel": PIXEL | {"scope": "cross"}},
    "supcon-encoder": {
        "method": "pixel_supcon", "pixel": PIXEL | {"scope": "batch", "start": "encoder"}, **NEAR,
        "temporal__stage": "encoder",
    },
}  # fmt: skip


def events_of(spec, store, dataset, **changes):
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False} | changes
    return list(run_trial(spec, store, dataset=dataset, **settings))


@pytest.fixture(scope="module", params=VARIANTS)
def trained(request, trial, tiny_dataset, tmp_path_factory):
    """Spec, store and events of a cell of each kind."""
    spec, store = trial(**VARIANTS[request.param]), StageStore(tmp_path_factory.mktemp(request.param))
    return spec, store, events_of(spec, store, tiny_dataset)


def pretraining(spec, dataset):
    return [stage for stage in chain(spec, open_dataset(dataset).index).stages if stage.kind in ("encoder", "decoder")]


def weights_of(store, stage):
    return load(store.read(stage.ref, "weights.safetensors"))


def test_each_stage_runs_and_says_how_its_embeddings_look(trained, tiny_dataset):
    spec, store, events = trained
    stages = pretraining(spec, tiny_dataset)
    kinds = [event.kind for event in events if isinstance(event, StagePublished)]
    assert kinds == [*(stage.kind for stage in stages), "finetune", "evaluate", "evaluate"]
    for stage in stages:
        metrics = store.manifest(stage.ref).metrics
        assert all(math.isfinite(value) for value in metrics.values())
        named = {name.split("/")[1] for name in metrics}
        assert {"loss", "embedding_std", "alignment", "uniformity"} <= named
        has_chance = spec.contrast.loss != "pixpro"  # whose optimum constant embeddings are
        assert ("loss_over_chance" in named) == has_chance


@pytest.mark.parametrize("check", [3, 8])  # in the first stage and in the second
def test_a_drained_trial_goes_on_to_the_same_bits(trained, tiny_dataset, tmp_path, monkeypatch, check):
    spec, store, before = trained
    monkeypatch.setattr("uscl.stages.loop.STOP_CHECK_S", 0.0)
    again, asked = StageStore(tmp_path), iter(range(1, 1000))
    assert isinstance(events_of(spec, again, tiny_dataset, stop_requested=lambda: next(asked) == check)[-1], Drained)
    events = events_of(spec, again, tiny_dataset, attempt="two")
    assert events[-1].result.metrics == before[-1].result.metrics
    for stage in pretraining(spec, tiny_dataset):
        assert again.read(stage.ref, "weights.safetensors") == store.read(stage.ref, "weights.safetensors")


def test_what_is_handed_on_loads_into_fine_tuning(trained, tiny_dataset):
    spec, store, _ = trained
    weights = weights_of(store, pretraining(spec, tiny_dataset)[-1])
    inputs = chain(spec, open_dataset(tiny_dataset).index).stage("finetune").inputs
    state = build_network(inputs, weights).state_dict()
    assert all(state[name].equal(tensor) for name, tensor in weights.items())
    assert {name.split(".")[0] for name in state.keys() - weights.keys()} <= {"tail", "decoder"}
    if spec.method == "pixel_supcon":  # the whole network but its tail
        assert {name.split(".")[0] for name in state.keys() - weights.keys()} == {"tail"}


def test_the_second_stage_trains_what_it_should(trained, tiny_dataset):
    """PixPro's decoder stage leaves the encoder's parameters bit-identical; contrast of labelled pixels trains all."""
    spec, store, _ = trained
    stages = pretraining(spec, tiny_dataset)
    if len(stages) < 2:
        pytest.skip("starts from random weights")
    before, after = weights_of(store, stages[0]), weights_of(store, stages[1])
    parameters = [name for name in before if name.rsplit(".", 1)[-1] not in STATISTICS]
    same = [before[name].equal(after[name]) for name in parameters]
    assert all(same) if spec.method == "contrastive" else not any(same[:4])
    if spec.method == "contrastive":
        assert not any(name.startswith("decoder.blocks.2") for name in after)  # level 2 trains blocks 0 and 1


# ---- the tasks


def task_of(variant, name, trial, dataset, tmp_path, **changes):
    """The task of one stage, without parents' weights."""
    opened = open_dataset(dataset)
    stage = chain(trial(**(VARIANTS[variant] | changes)), opened.index).stage(name)
    fit = FitContext(
        ref=stage.ref, store=StageStore(tmp_path), attempt="a", device=torch.device("cpu"), stop_requested=lambda: False
    )
    kind = PixproTask if variant == "pixpro" else PixelTask
    return kind(stage.inputs, StageContext(stage=stage, dataset=opened, parent_weights={}, fit=fit))


def test_momentum_rises_from_its_start_to_one():
    assert momentum_at(0, 100, start=0.99) == pytest.approx(0.99)
    assert momentum_at(50, 100, start=0.99) == pytest.approx(0.995)
    assert momentum_at(100, 100, start=0.99) == pytest.approx(1.0)


def test_the_slow_branch_follows_by_the_momentum():
    slow, fast = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.9 * slow.weight.detach() + 0.1 * fast.weight.detach()
    kept = fast.weight.detach().clone()
    follow(slow.parameters(), fast.parameters(), momentum=0.9)
    torch.testing.assert_close(slow.weight.detach(), expected)
    assert torch.equal(fast.weight, kept)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_the_slow_branch_is_a_copy_without_gradient(name, trial, tiny_dataset, tmp_path):
    task = task_of("pixpro", name, trial, tiny_dataset, tmp_path)
    state = task.state()
    assert state["slow.project.pixels.0.weight"].equal(state["heads.project.pixels.0.weight"])
    task.loss(0)[0].backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in task.parameters())
    assert all(weight.grad is None for weight in task._slow.parameters())
    frozen = list(task._network.encoder.parameters())
    assert all(weight.grad is None for weight in frozen) == (name == "decoder")
    task.close()


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_near_frames_make_more_pairs(name, trial, tiny_dataset, tmp_path, monkeypatch):
    """Polarity positive: the second view may be of a near frame, with a crop of its own."""
    seen = []
    made = pixpro.pixel_consistency
    monkeypatch.setattr(
        pixpro, "pixel_consistency", lambda *maps, **keys: seen.append(keys["pairs"]) or made(*maps, **keys)
    )
    for polarity in ("none", "positive"):
        task = task_of("pixpro", name, trial, tiny_dataset, tmp_path, temporal__polarity=polarity)
        task.loss(0)
        task.close()
    alone, near = seen[0], seen[2]
    assert not alone.near_P.any() and len(alone.first_P) == 24
    assert near.near_P.sum() >= 3 * 8 and len(near.first_P) == 24 + near.near_P.sum()


def test_the_views_places_are_those_of_their_warp(trial, tiny_dataset, tmp_path):
    """Two views of one frame: the loss asks for the coordinates of exactly the crops it shows."""
    task = task_of("pixpro", "encoder", trial, tiny_dataset, tmp_path)
    views = task._views.views(0)
    assert views.theta_N23.shape == (24, 2, 3)
    assert (torch.linalg.det(views.theta_N23[:, :, :2]) < 0).any()  # flips are among them
    assert task_of("pixpro", "encoder", trial, tiny_dataset, tmp_path)._views.views(0).theta_N23.equal(views.theta_N23)
    task.close()


def test_pixpro_learns(trial, tiny_dataset, tmp_path):
    steps = {"steps": 20, "lr": 3e-3, "clips": 3, "frames": 4}
    task = task_of("pixpro", "encoder", trial, tiny_dataset, tmp_path, encoder=steps)
    optimizer, losses, spread = torch.optim.Adam(task.parameters(), lr=3e-3), [], []
    for step in range(20):
        loss, measured = task.loss(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        spread.append(measured["embedding_std"].item())
    assert losses[-1] < losses[0] - 0.3 and losses[-1] >= -2
    assert min(spread) > 0.02  # not by collapsing: 0.088 is uniform, under 0.01 a collapse
    task.close()


def test_constant_pixels_are_flagged_though_the_loss_is_at_its_best():
    described = describe_pixels(torch.ones(4, 16, 8))
    curve = (MetricPoint(1, {"encoder/loss": -2.0} | {f"encoder/{name}": float(v) for name, v in described.items()}),)
    assert pretraining_summary(curve, "encoder")[1] == ("collapsed",)
    spread = describe_pixels(torch.randn(4, 16, 8))
    curve = (MetricPoint(1, {"encoder/loss": -1.0} | {f"encoder/{name}": float(v) for name, v in spread.items()}),)
    assert pretraining_summary(curve, "encoder")[1] == ()


def test_constant_labelled_pixels_are_at_chance_and_flagged(trial, tiny_dataset, tmp_path):
    task = task_of("supcon", "decoder", trial, tiny_dataset, tmp_path)
    for weight in task._head.parameters():
        torch.nn.init.constant_(weight, 0.1)
    last = task._head.pixels[-1]
    torch.nn.init.zeros_(last.weight)
    loss, measured = task.loss(0)
    assert float(measured["loss_over_chance"]) == pytest.approx(1.0, abs=1e-4)
    values = {f"decoder/{name}": float(value) for name, value in {"loss": loss.detach(), **measured}.items()}
    assert pretraining_summary((MetricPoint(1, values),), "decoder")[1] == ("collapsed",)


def test_drawn_pixels_move_with_their_labels(trial, tiny_dataset, tmp_path):
    """Inner and outer disc are brighter than what is around them, in every view: labels were warped along."""
    task = task_of("supcon", "decoder", trial, tiny_dataset, tmp_path)
    image, label = task._views(np.random.default_rng(0))
    grey = pixels.at_cells(image[:, 0], 16)
    mean = [float(grey[label == number].mean()) for number in (1, 0, 2)]  # inner, outer, background
    assert mean[0] > mean[1] > mean[2]
    assert (label == -1).any()  # beyond the frame nothing is known


# ---- keys


def keys_of(spec, index):
    return {stage.name: stage.key for stage in chain(spec, index).stages}


def test_the_label_fraction_is_in_the_key_of_pixel_contrast_and_not_of_its_encoder(trial, tiny_index):
    """It reads labels; the encoder below it does not."""
    for start, kept in (("random", set()), ("encoder", {"encoder"})):
        settings = {"method": "pixel_supcon", "pixel": PIXEL | {"start": start}}
        whole, half = (keys_of(trial(**settings, labels__fraction=fraction), tiny_index) for fraction in (1.0, 0.5))
        assert {name for name in whole if whole[name] == half[name]} == kept
    stage = chain(trial(method="pixel_supcon", labels__fraction=0.5), tiny_index).stage("decoder")
    assert stage.data.cases and not stage.data.validation and not stage.data.clips


def test_an_encoder_below_pixel_contrast_is_that_of_contrastive(trial, tiny_index):
    settings = VARIANTS["supcon-encoder"]
    shared = keys_of(trial(**NEAR), tiny_index)["encoder"]
    assert keys_of(trial(**settings), tiny_index)["encoder"] == shared
    links = chain(trial(**settings), tiny_index)
    assert links.stage("decoder").parent == links.stage("encoder").ref


@pytest.mark.parametrize(
    ("settings", "moot"),
    [
        ({"contrast__loss": "pixpro"}, {"contrast__temperature": 0.5}),
        ({"contrast__loss": "pixpro"}, {"contrast__form": "supcon_out"}),
        (
            {"contrast__loss": "pixpro"},
            {"encoder": {"steps": 6, "lr": 1e-3, "clips": 3, "frames": 4, "head": "flatten"}},
        ),
        (
            {"contrast__loss": "pixpro"},
            {"decoder": {"steps": 4, "lr": 1e-3, "clips": 3, "frames": 4, "level": 2, "patch": 3, "num_negatives": 2}},
        ),
        ({"contrast__loss": "infonce"}, {"contrast__momentum": 0.5}),
        ({"contrast__loss": "infonce"}, {"contrast__pixpro_power": 3.0}),
        ({"method": "pixel_supcon"}, {"contrast__loss": "pairwise"}),
        ({"method": "pixel_supcon"}, {"encoder": {"steps": 99, "lr": 1, "clips": 2, "frames": 1}}),
        ({"method": "pixel_supcon"}, {"decoder": {"steps": 99, "lr": 1, "clips": 2, "frames": 1, "level": 1}}),
        ({"method": "contrastive"}, {"pixel": PIXEL}),
    ],
)
def test_a_moot_setting_is_in_no_key(trial, tiny_index, settings, moot):
    assert keys_of(trial(**settings | moot), tiny_index) == keys_of(trial(**settings), tiny_index)


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        *(({"contrast__loss": "pixpro"}, {f"contrast__{name}": 1.5}) for name in ("pixpro_power", "pixpro_distance")),
        ({"contrast__loss": "pixpro"}, {"contrast__momentum": 0.9}),
        *(
            ({"method": "pixel_supcon"}, {f"pixel__{name}": value})
            for name, value in (("scope", "batch"), ("temperature", 0.1), ("per_class", 9), ("background", False))
        ),
    ],
)
def test_a_setting_that_is_read_is_in_the_key(trial, tiny_index, settings, change):
    assert (
        keys_of(trial(**settings | change), tiny_index)["decoder"] != keys_of(trial(**settings), tiny_index)["decoder"]
    )


def test_depths_count_the_classes_around(trial, tiny_index):
    assert chain(trial(method="pixel_supcon"), tiny_index).stage("decoder").inputs.depths == (0, 1)


# ---- nothing waits for a GPU


@pytest.mark.parametrize("variant", ["pixpro-encoder", "pixpro-decoder", "supcon"])
def test_a_step_never_waits_for_the_device(variant, trial, tiny_dataset, tmp_path, monkeypatch):
    """Loss, measurements and gradient; views and pairs are made before, where everything is on the CPU by design."""
    name = variant.partition("-")[2] or "decoder"
    task = task_of(variant.partition("-")[0], name, trial, tiny_dataset, tmp_path)
    task.loss(0)[0].backward()
    if isinstance(task, PixproTask):
        views, made = task._views.views(1), []
        keep = pixpro.local_pairs
        monkeypatch.setattr(pixpro, "local_pairs", lambda *where, **how: made.append(keep(*where, **how)) or made[-1])
        task.loss(1)
        monkeypatch.setattr(pixpro, "local_pairs", lambda *where, **how: made[-1])
        monkeypatch.setattr(task._views, "views", lambda step: views)
    with Forbid():
        loss, measured = task.loss(1)
        loss.backward()
    assert loss.isfinite() and all(value.shape == () for value in measured.values())
    task.close()


class Forbid(TorchDispatchMode):
    """Raises where an operation would make a GPU's host wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waiting = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero")
        assert not func.name().startswith(waiting), f"{func.name()} waits for the device"
        return func(*args, **(kwargs or {}))


def test_the_guard_itself_works():
    with pytest.raises(AssertionError, match="waits for the device"), Forbid():
        torch.ones(1).sum().item()
