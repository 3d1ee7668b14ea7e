"""The speckle term in fine-tuning: its weight, its balance, its control, and what of it is in the key."""

import itertools

import numpy as np
import pytest
import torch

from uscl.data.labelled import LabelledFrames
from uscl.records import Drained
from uscl.spec.trial import SpeckleSpec
from uscl.stages.keys import chain
from uscl.stages.run import run_trial
from uscl.stages.speckle_term import SpeckleTerm
from uscl.store.curves import decode_points
from uscl.store.stages import StageStore

SMALL = {"weight": 0.1, "min_pixels": 8}
CPU = torch.device("cpu")


def run(spec, store, dataset, **changes):
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False} | changes
    return list(run_trial(spec, store, dataset=dataset, **settings))


def losses(spec, store, index):
    points = decode_points(store.read(chain(spec, index).stage("finetune").ref, "metrics.parquet"))
    return [point.values["finetune/speckle_loss"] for point in points]


def term_of(**changes):
    speckle = SpeckleSpec(**SMALL, classes=("inner",), **changes)
    return SpeckleTerm(speckle, classes=("outer", "inner"), steps=10, device=CPU)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(3, 2, 16, 16)
    for number in range(3):
        truth[number, :, 1 : 11 + number, 2 : 13 + number] = 1.0
    raw = torch.rand((3, 16, 16), generator=generator)
    logits = torch.randn((3, 2, 16, 16), generator=generator)
    raw = raw[:, None]
    return logits, LabelledFrames(("a", "b", "c"), raw, raw, torch.ones_like(raw), truth)


def add(term, step, seed=0):
    logits, frames = batch(seed)
    return term.add(torch.tensor(2.0), logits.sigmoid(), frames, step=step, rng=np.random.default_rng(step))


def test_fixed_balance_adds_the_weighted_term():
    loss, measured = add(term_of(), 4)
    assert loss.item() == pytest.approx(2.0 + 0.1 * measured["speckle_loss"].item())
    assert measured["segmentation_loss"].item() == 2.0
    assert term_of().balance.state() == {}


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (2, 0.05), (4, 0.1), (9, 0.1)])
def test_the_weight_rises_over_the_warmup(step, weight):
    assert term_of(warmup=0.4).balance.weight(step) == pytest.approx(weight)


def test_ema_makes_both_terms_count_alike():
    term = term_of(balance="ema")
    loss, measured = add(term, 0)
    assert loss.item() == pytest.approx(2.0 + 0.1 * 2.0), "each is its own mean at first"
    assert measured["speckle_loss"].item() != pytest.approx(1.0, rel=0.1)
    add(term, 1, seed=1)
    assert term.balance.state()["segmentation"].item() == pytest.approx(2.0)


def test_ema_goes_on_from_its_state():
    term, other = term_of(balance="ema"), term_of(balance="ema")
    add(term, 0)
    other.balance.load_state({name: mean.clone() for name, mean in term.balance.state().items()})
    assert add(term, 1, seed=1)[0].item() == add(other, 1, seed=1)[0].item()
    assert add(term_of(balance="ema"), 1, seed=1)[0].item() != add(term, 1, seed=1)[0].item()


def test_permuted_is_another_loss_and_a_function_of_the_step():
    plain = add(term_of(), 0)[1]["speckle_loss"].item()
    values = [[add(term_of(permuted=True), step)[1]["speckle_loss"].item() for step in range(8)] for _ in range(2)]
    assert values[0] == values[1]
    assert len(set(values[0])) > 1 and plain not in values[0]


def test_a_drained_trial_goes_on_to_the_same_bits(trial, tiny_dataset, tiny_index, tmp_path, monkeypatch):
    """The running means are in the progress point; donors are drawn from the step."""
    monkeypatch.setattr("uscl.stages.loop.STOP_CHECK_S", 0.0)
    speckle = SMALL | {"balance": "ema", "permuted": True}
    spec, stores = trial(method="supervised", speckle=speckle), [StageStore(tmp_path / name) for name in "ab"]
    run(spec, stores[0], tiny_dataset)
    asked = iter(range(1, 1000))
    assert isinstance(run(spec, stores[1], tiny_dataset, stop_requested=lambda: next(asked) == 4)[-1], Drained)
    run(spec, stores[1], tiny_dataset, attempt="two")
    ref = chain(spec, tiny_index).stage("finetune").ref
    assert stores[0].read(ref, "weights.safetensors") == stores[1].read(ref, "weights.safetensors")
    assert losses(spec, stores[0], tiny_index) == losses(spec, stores[1], tiny_index)


VARIANTS = [
    {"model": "rayleigh"},
    {"model": "gamma", "form": "kl"},
    {"model": "histogram"},
    {"estimator": "log_moment", "form": "jeffreys"},
    {"form": "literal"},
    {"region": "band", "band_px": 1},
    {"region": "patch", "patch_px": 8},
    {"domain": "decompressed", "dynamic_range_db": 60.0},
    {"balance": "ema"},
    {"permuted": True},
]


def test_every_variant_pulls_the_logits_its_own_way():
    """Each setting does something."""
    gradients = []
    for changes in ({}, *VARIANTS):
        logits, frames = batch()
        logits.requires_grad_()
        term, rng = term_of(**changes), np.random.default_rng(0)
        term.add(torch.tensor(2.0), logits.sigmoid(), frames, step=3, rng=rng)[0].backward()
        assert logits.grad.isfinite().all() and logits.grad[:, 1].abs().max() > 1e-7 and not logits.grad[:, 0].any()
        gradients.append(logits.grad[:, 1])
    different = [not torch.allclose(one, other, rtol=1e-3) for one, other in itertools.combinations(gradients, 2)]
    assert all(different)


def cell(trial, index, **speckle):
    return chain(trial(speckle={"weight": 0.1} | speckle), index).cell


@pytest.mark.parametrize(
    ("base", "moot"),
    [
        ({}, {"band_px": 9}),
        ({}, {"patch_px": 32}),
        ({}, {"dynamic_range_db": 60.0}),
        ({"model": "rayleigh"}, {"estimator": "log_moment"}),
        ({"model": "gamma"}, {"estimator": "log_moment"}),
        ({"model": "histogram"}, {"estimator": "log_moment"}),
        ({"region": "band"}, {"patch_px": 32}),
        ({"region": "patch"}, {"band_px": 9}),
        ({"weight": 0}, {"model": "gamma", "region": "band", "permuted": True, "balance": "ema"}),
    ],
)
def test_a_moot_speckle_setting_is_in_no_key(trial, tiny_index, base, moot):
    assert cell(trial, tiny_index, **base) == cell(trial, tiny_index, **(base | moot))


@pytest.mark.parametrize(
    ("base", "change"),
    [
        *(({}, change) for change in VARIANTS),
        ({}, {"estimator": "log_moment"}),
        ({"region": "band"}, {"band_px": 9}),
        ({"region": "patch"}, {"patch_px": 32}),
        ({"domain": "decompressed", "dynamic_range_db": 60.0}, {"dynamic_range_db": 50.0}),
    ],
)
def test_a_speckle_setting_that_is_read_changes_the_cell(trial, tiny_index, base, change):
    assert cell(trial, tiny_index, **base) != cell(trial, tiny_index, **(base | change))


def test_the_keys_of_the_first_release_stay(trial, tiny_index):
    """What was trained before a setting existed is what its default trains."""
    from uscl.stages.canonical import canonical

    inputs = chain(trial(speckle={"weight": 0.1}), tiny_index).stage("finetune").inputs
    assert set(canonical(inputs)["speckle"]) == {"weight", "estimator", "form", "classes", "min_pixels", "warmup"}
