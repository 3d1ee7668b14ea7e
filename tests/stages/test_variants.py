"""Chaitanya's variants as stages: what a batch looks like, chance and collapse, keys, and that they learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from uscl.data.augment import CHAITANYA_GREY
from uscl.data.batches import normalise
from uscl.data.dataset import open_dataset
from uscl.models.heads import GlobalHead, LocalHead
from uscl.stages import encoder as encoder_stage
from uscl.stages.context import StageContext
from uscl.stages.decoder import DecoderTask, train_decoder
from uscl.stages.encoder import EncoderTask, train_encoder
from uscl.stages.keys import chain
from uscl.stages.loop import FitContext
from uscl.stages.pretraining import build_unet
from uscl.stages.variants import images_per_step
from uscl.stages.views import ViewLoader
from uscl.store.stages import StageStore

GLOBAL, LOCAL = ("clip", "GR", "GDminus", "GD"), ("clip", "LR", "LD")
AT_CHANCE = 2e-3
"""The pairwise loss takes the root of a distance of 0, give or take rounding."""
FORMS = ("per_pair_neg_only", "supcon_out", "simclr")

ENCODERS = [
    *({"encoder__variant": variant, "contrast__form": form} for variant in ("clip", "GR") for form in FORMS),
    *({"encoder__variant": variant} for variant in ("GDminus", "GD")),
    {"encoder__variant": "GD", "encoder__cross_clip_positive": True},
    {"encoder__variant": "GD", "encoder__faithful_bugs": True},
    {"encoder__variant": "GDminus", "encoder__parts": 3, "encoder__faithful_bugs": True},
    *({"encoder__variant": variant, "contrast__loss": "pairwise"} for variant in GLOBAL),
    *(
        {"temporal__polarity": polarity, "temporal__window": 2, "contrast__form": form}
        for polarity in ("positive", "negative", "positive_negative")
        for form in ("per_pair_neg_only", "supcon_out")
    ),
]
DECODERS = [
    *({"decoder__variant": variant, "contrast__form": form} for variant in ("clip", "LR") for form in FORMS),
    {"decoder__variant": "LD"},
    {"decoder__cross_clip_negative": True},
    *({"decoder__variant": variant, "contrast__loss": "pairwise"} for variant in LOCAL),
    *(
        {"temporal__polarity": polarity, "temporal__window": 2, "contrast__form": form}
        for polarity in ("positive", "negative", "positive_negative")
        for form in ("per_pair_neg_only", "supcon_out")
    ),
]


def named(changes):
    return "-".join(str(value) for value in changes.values()) if isinstance(changes, dict) else ""


@pytest.fixture
def context(trial, tiny_dataset, tmp_path):
    """`context("encoder", encoder__variant="GD")`: one stage of a trial, ready to run on the CPU."""

    def make(name, **changes):
        spec = trial(**{"encoder__steps": 2, "decoder__steps": 2} | changes)
        stage = chain(spec, open_dataset(tiny_dataset).index).stage(name)
        fit = FitContext(stage.ref, StageStore(tmp_path), "one", torch.device("cpu"), lambda: False)
        fresh = build_unet(stage.inputs.image, stage.inputs.network).encoder.state_dict()
        weights = {f"encoder.{part}": tensor for part, tensor in fresh.items()} if name == "decoder" else {}
        return StageContext(stage=stage, dataset=open_dataset(tiny_dataset), parent_weights=weights, fit=fit)

    return make


def output_of(stage):
    """What a stage function publishes."""
    while True:
        try:
            next(stage)
        except StopIteration as ended:
            return ended.value


def constant(embedding_size):
    """A head that gives one embedding whatever it sees, and passes a gradient of zero."""

    def forward(self, features):
        anything = features.flatten(1).sum(dim=1)[:, None] * 0 + 1
        return anything.expand(-1, embedding_size)

    return forward


# ---- chance and collapse


@pytest.mark.parametrize("changes", ENCODERS, ids=named)
def test_a_constant_encoder_is_at_chance_and_flagged(context, monkeypatch, changes):
    monkeypatch.setattr(GlobalHead, "forward", constant(8))
    output = output_of(train_encoder(context("encoder", **changes)))
    assert output.metrics["encoder/loss_over_chance"] == pytest.approx(1.0, rel=AT_CHANCE)
    assert output.flags == ("collapsed",)


@pytest.mark.parametrize("changes", DECODERS, ids=named)
def test_a_constant_decoder_is_at_chance_and_flagged(context, monkeypatch, changes):
    row = constant(8)
    monkeypatch.setattr(LocalHead, "forward", lambda self, features: row(self, features)[:, None].expand(-1, 13, -1))
    output = output_of(train_decoder(context("decoder", **changes)))
    assert output.metrics["decoder/loss_over_chance"] == pytest.approx(1.0, rel=AT_CHANCE)
    assert "collapsed" in output.flags


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"encoder__variant": "GR"}, math.log(2 * 12 - 1)),
        ({"encoder__variant": "GDminus"}, 2 * math.log(28)),
        ({"encoder__variant": "GD"}, 2 * math.log(37)),
        ({"encoder__variant": "GD", "contrast__loss": "pairwise"}, 1 / 4),
    ],
    ids=named,
)
def test_the_logged_loss_of_constant_embeddings_is_oracle_4s_total(context, monkeypatch, changes, expected):
    """3 clips x 4 bins: bt = 12."""
    monkeypatch.setattr(GlobalHead, "forward", constant(8))
    stage = context("encoder", **changes)
    task = EncoderTask(stage.stage.inputs, stage)
    assert float(task.loss(1)[0].detach()) == pytest.approx(expected, rel=AT_CHANCE)


# ---- the batch


@pytest.mark.parametrize(
    ("stage", "variant", "slots"),
    [
        *(("encoder", variant, slots) for variant, slots in zip(GLOBAL, (2, 2, 3, 4), strict=True)),
        *(("decoder", variant, 2) for variant in LOCAL),
    ],
)
def test_a_batch_has_the_images_its_variant_names_with_the_originals_first(context, stage, variant, slots):
    run = context(stage, **{f"{stage}__variant": variant})
    section = getattr(run.stage.inputs, stage)
    assert images_per_step(section) == slots * 12
    views = ViewLoader(run, kind=stage, spatial=stage == "encoder").views(1)
    assert len(views.image_N1HW) == len(views.frame_N) == len(views.clip_N) == slots * 12
    frames = normalise(run.dataset.frames(views.frame_N.numpy()), size=32, norm="minmax")[:, None]
    same = [bool(image.equal(torch.from_numpy(frame))) for image, frame in zip(views.image_N1HW, frames, strict=True)]
    originals = {"GDminus": 12, "GD": 24, "LD": 12}.get(variant, 0)
    assert same == [True] * originals + [False] * (slots * 12 - originals)


def test_faithful_bugs_blank_the_last_clip_of_the_gd_batch(context):
    """bt = 12: 16 of 48, of both draws and both views; without them none."""
    for bugs, blank in ((True, [8, 9, 10, 11]), (False, [])):
        run = context("encoder", encoder__variant="GD", encoder__faithful_bugs=bugs)
        image = ViewLoader(run, kind="encoder", spatial=True).views(1).image_N1HW
        empty = (image == 0).all(dim=3).all(dim=2).all(dim=1)
        assert empty.nonzero().ravel().tolist() == [12 * slot + place for slot in range(4) for place in blank]


def test_chaitanyas_grey_levels_stay_in_their_range(context):
    for stage in ("encoder", "decoder"):
        wide, cut = (
            ViewLoader(context(stage, **{f"{stage}__augment": augment}), kind=stage, spatial=False).views(1).image_N1HW
            for augment in ("us_safe", "chaitanya")
        )
        assert wide.min() < CHAITANYA_GREY[0] and wide.max() > CHAITANYA_GREY[1]
        assert cut.equal(wide.clamp(*CHAITANYA_GREY))


def test_chaitanyas_crop_shows_about_a_quarter_of_the_frame(context, monkeypatch):
    """On a ramp from left to right the views span 100 of 192 px, from a corner in [10, 70)."""
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
    monkeypatch.setattr("uscl.stages.views.normalise", lambda frames, **_: np.tile(ramp, (len(frames), 1, 1)))
    monkeypatch.setattr("uscl.stages.views.change_intensity", lambda image, _: image)
    run = context("encoder", encoder__augment="chaitanya")
    image = ViewLoader(run, kind="encoder", spatial=True).views(1).image_N1HW
    left, right = image[:, 0, 16, 0], image[:, 0, 16, -1]
    assert (right - left).numpy() == pytest.approx(100 / 192, abs=0.02)
    assert left.min() > 10 / 192 - 0.02 and left.max() < 70 / 192 + 0.02 and left.std() > 0.02


# ---- learning and resuming


@pytest.mark.parametrize(
    ("task_of", "name", "variant"),
    [
        *((EncoderTask, "encoder", variant) for variant in GLOBAL),
        *((DecoderTask, "decoder", variant) for variant in LOCAL),
    ],
)
def test_a_few_steps_on_one_batch_beat_chance(context, monkeypatch, task_of, name, variant):
    """The positives of every variant can be told from its negatives, and the gradient leads there."""
    run = context(name, **{f"{name}__variant": variant}, network={"preset": "tiny", "norm": "group"})
    task = task_of(run.stage.inputs, run)
    batch = task._views.views(1)
    monkeypatch.setattr(task._views, "views", lambda step: batch)
    optimizer, ratios = torch.optim.Adam(task.parameters(), lr=3e-3), []
    for step in range(1, 21):
        loss, measured = task.loss(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ratios.append(float(measured["loss_over_chance"]))
    assert ratios[-1] < 0.9 and ratios[-1] < 0.9 * ratios[0], ratios


@pytest.mark.parametrize("variant", ["GR", "GDminus", "GD"])
def test_a_drained_stage_goes_on_to_the_same_bits(context, monkeypatch, variant):
    """Batches, blanks and masks are functions of seed and step; a resume needs nothing of them."""
    monkeypatch.setattr("uscl.stages.loop.STOP_CHECK_S", 0.0)
    changes = {"encoder__variant": variant, "encoder__augment": "chaitanya", "encoder__steps": 4}
    whole = output_of(train_encoder(context("encoder", **changes)))
    run, asked = context("encoder", **changes), iter(range(1, 100))
    stopping = replace(run, fit=replace(run.fit, stop_requested=lambda: next(asked) == 2))
    assert output_of(train_encoder(stopping)) is None
    resumed = output_of(train_encoder(replace(run, fit=replace(run.fit, attempt="two"))))
    assert resumed.files["weights.safetensors"] == whole.files["weights.safetensors"]


# ---- keys


def keys(trial, index, **changes):
    return [stage.key for stage in chain(trial(**changes), index).stages[:2]]


TEMPORAL = {"temporal__polarity": "positive"}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({}, {"encoder__parts": 3, "encoder__cross_clip_positive": True, "encoder__faithful_bugs": True}),
        ({}, {"decoder__parts": 3}),
        (TEMPORAL, TEMPORAL | {"encoder__variant": "GD", "encoder__parts": 3, "decoder__variant": "LD"}),
        (
            TEMPORAL | {"temporal__stage": "decoder", "encoder__variant": "GD"},
            TEMPORAL | {"temporal__stage": "decoder", "encoder__variant": "GD", "decoder__variant": "LD"},
        ),
        ({"encoder__variant": "GDminus"}, {"encoder__variant": "GDminus", "encoder__cross_clip_positive": True}),
        ({"encoder__variant": "GDminus"}, {"encoder__variant": "GDminus", "encoder__faithful_bugs": True}),
        *(
            ({f"{stage}__variant": name, f"{stage}__frames": 2}, {f"{stage}__variant": name, f"{stage}__frames": 3})
            for stage, name in (("encoder", "GDminus"), ("encoder", "GD"), ("decoder", "LD"))
        ),
        *(
            ({f"{stage}__variant": name}, {f"{stage}__variant": name, f"{stage}__clips": 6, f"{stage}__frames": 2})
            for stage, name in (("encoder", "GR"), ("decoder", "LR"))
        ),
        (
            {"encoder__variant": "GR", "decoder__variant": "LR"},
            {"encoder__variant": "GR", "decoder__variant": "LR", "contrast__form": "simclr"},
        ),
    ],
)
def test_what_a_variant_does_not_read_is_in_no_key(trial, tiny_index, one, two):
    assert keys(trial, tiny_index, **one) == keys(trial, tiny_index, **two)


def test_what_a_variant_reads_makes_another_stage(trial, tiny_index):
    changes = [
        *({"encoder__variant": variant} for variant in GLOBAL),
        {"encoder__variant": "GDminus", "encoder__parts": 3},
        {"encoder__variant": "GDminus", "encoder__parts": 3, "encoder__faithful_bugs": True},
        {"encoder__variant": "GD", "encoder__parts": 3},
        {"encoder__variant": "GD", "encoder__cross_clip_positive": True},
        {"encoder__variant": "GD", "encoder__faithful_bugs": True},
        {"encoder__augment": "chaitanya"},
    ]
    assert len({keys(trial, tiny_index, **change)[0] for change in changes}) == len(changes)
    local = [{"decoder__variant": variant} for variant in LOCAL]
    local += [{"decoder__variant": "LD", "decoder__parts": 3}, {"decoder__augment": "chaitanya"}]
    assert len({keys(trial, tiny_index, **change)[1] for change in local}) == len(local)


def test_the_size_of_a_bin_variant_is_its_bins(trial, tiny_index):
    """`frames` then counts the bins, for the view's frames/s and for whoever reads the manifest."""
    inputs = chain(trial(encoder__variant="GD", encoder__parts=5), tiny_index).stage("encoder").inputs
    assert (inputs.encoder.frames, images_per_step(inputs.encoder)) == (5, 4 * 3 * 5)


def test_a_temporal_stage_runs_the_temporal_rule_whatever_the_recipes_variant(context):
    """Recipe paper names G^D-: in a temporal stage the batch is of pairs by time, of two views each."""
    run = context("encoder", encoder__variant="GDminus", temporal__polarity="positive", temporal__window=2)
    assert run.stage.inputs.encoder.variant == "clip" and run.stage.inputs.pairs.polarity == "positive"
    task = EncoderTask(run.stage.inputs, run)
    assert task._fixed_masks is None and encoder_stage.fixed_masks(run.stage.inputs.encoder) is None
    decoder = context("decoder", decoder__variant="LD", temporal__polarity="positive", temporal__window=2)
    assert DecoderTask(decoder.stage.inputs, decoder)._fixed_pairs is None
