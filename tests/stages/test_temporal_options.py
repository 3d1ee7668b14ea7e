"""The sampling options in whole stages: each changes what is learned, resumes to the same bits, and is logged."""

from types import SimpleNamespace

import pytest
import torch

from uscl.data.dataset import open_dataset
from uscl.records import Drained
from uscl.stages.context import StageContext
from uscl.stages.decoder import DecoderTask
from uscl.stages.encoder import EncoderTask
from uscl.stages.keys import chain
from uscl.stages.run import run_trial
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore

PAIRED = {"temporal__polarity": "positive_negative", "temporal__window": 2}
OPTIONS = {
    "density": {"temporal__density": "decreasing"},
    "soft": {"temporal__soft": True},
    "hard_beta": {"temporal__hard_beta": 1.0},
    "steps": {"temporal__curriculum": "steps"},
    "cosine": {"temporal__curriculum": "cosine"},
    "pairwise": {"contrast__loss": "pairwise"},
    "soft pairwise": {"contrast__loss": "pairwise", "temporal__soft": True},
}
EVERYTHING = {
    name: value for name in ("density", "soft", "hard_beta", "cosine") for name, value in OPTIONS[name].items()
}
SHORT = {
    "encoder": {"steps": 4, "lr": 1e-3, "clips": 3, "frames": 4},
    "decoder": {"steps": 3, "lr": 1e-3, "clips": 3, "frames": 4, "level": 2, "patch": 1},
    "finetune": {"steps": 1, "lr": 1e-3, "batch": 2, "select": "last"},
}


def train(spec, folder, dataset, **changes):
    """Store and events of a trial."""
    store = StageStore(folder)
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False} | changes
    return store, list(run_trial(spec, store, dataset=dataset, **settings))


def curve(store, spec, dataset, kind, name):
    ref = chain(spec, open_dataset(dataset).index).stage(kind).ref
    return [point.values[f"{kind}/{name}"] for point in decode_points(store.read(ref, "metrics.parquet"))]


def first_losses(spec, dataset):
    """Loss of the first batch of the encoder and of the decoder stage, each from fresh weights."""
    opened, found = open_dataset(dataset), []
    for stage, task in zip(chain(spec, opened.index).stages, (EncoderTask, DecoderTask), strict=False):
        fit = SimpleNamespace(device=torch.device("cpu"))
        found.append(task(stage.inputs, StageContext(stage, opened, {}, fit)).loss(0)[0].item())
    return found


@pytest.mark.parametrize(("option", "without"), [(name, "") for name in OPTIONS] + [("soft pairwise", "pairwise")])
def test_each_option_changes_both_stages(trial, tiny_dataset, option, without):
    specs = (trial(**SHORT, **PAIRED, **OPTIONS.get(name, {})) for name in (option, without))
    changed, plain = (first_losses(spec, tiny_dataset) for spec in specs)
    assert all(one != pytest.approx(other, rel=1e-6) for one, other in zip(changed, plain, strict=True))


def test_a_stopped_run_with_every_option_goes_on_to_the_same_bits(trial, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("uscl.stages.loop.STOP_CHECK_S", 0.0)
    spec, asked = trial(**SHORT, **PAIRED, **EVERYTHING), iter(range(1000))
    _, events = train(spec, tmp_path / "whole", tiny_dataset)
    whole = events[-1].result.metrics
    _, events = train(spec, tmp_path / "cut", tiny_dataset, stop_requested=lambda: next(asked) == 2)
    assert isinstance(events[-1], Drained)
    _, events = train(spec, tmp_path / "cut", tiny_dataset, attempt="two")
    assert events[-1].result.metrics == pytest.approx(whole, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("task", [EncoderTask, DecoderTask])
def test_what_counts_as_learned_is_measured_without_hard_weights(trial, tiny_dataset, task):
    """Weighted by hardness a loss is near chance, and above it, though its embeddings are spread and aligned."""
    opened, fit, found = open_dataset(tiny_dataset), SimpleNamespace(device=torch.device("cpu")), []
    for beta in (0.0, 2.0):
        links = chain(trial(**SHORT, **PAIRED, temporal__hard_beta=beta), opened.index)
        stage = links.stage("encoder" if task is EncoderTask else "decoder")
        loss, measured = task(stage.inputs, StageContext(stage, opened, {}, fit)).loss(0)
        found.append((loss.item(), measured))
    (plain, measured), (hard, measured_of_hard) = found
    assert hard > 1.05 * plain
    assert measured_of_hard["loss_over_chance"].item() == pytest.approx(measured["loss_over_chance"].item(), rel=1e-6)
    assert measured_of_hard["chance"].item() == pytest.approx(plain / measured["loss_over_chance"].item(), rel=1e-5)


@pytest.mark.parametrize(("window", "share"), [(2, 0.0), (13, 1.0)])
def test_the_share_of_clips_too_short_for_the_window_is_logged(trial, tiny_dataset, tmp_path, window, share):
    """Clips of 14 frames have no frame beyond 13."""
    spec = trial(**SHORT, temporal__polarity="positive", temporal__window=window, temporal__stage="encoder")
    store, _ = train(spec, tmp_path, tiny_dataset)
    assert curve(store, spec, tiny_dataset, "encoder", "short_clips") == [share] * 4
    manifest = store.manifest(chain(spec, open_dataset(tiny_dataset).index).stage("encoder").ref)
    assert manifest.metrics["encoder/short_clips"] == share
    with pytest.raises(KeyError):  # the decoder stage has no window here
        curve(store, spec, tiny_dataset, "decoder", "short_clips")
