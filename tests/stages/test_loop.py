"""The training loop: stopping and resuming gives the bits of not stopping, at any step; non-finite ends it."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from uscl.records import Drained, Outcome, Progress, StageRef
from uscl.stages.loop import FitContext, FitSettings, amp_dtype, fit, learning_rate_factor, pack_tensors, unpack_tensors
from uscl.stages.nnunet import polynomial_decay, sgd
from uscl.store.stages import StageStore

REF = StageRef("encoder", "a" * 64)
SETTINGS = FitSettings(steps=120, lr=0.05, frames_per_step=4, prefix="encoder")


class Line:
    """Fits a line with batch norm to noise drawn from (seed, step)."""

    def __init__(self, poison_step=None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.poison_step = poison_step

    def parameters(self):
        return self.model.parameters()

    def state(self):
        return self.model.state_dict()

    def load_state(self, state):
        self.model.load_state_dict(state)

    def loss(self, step):
        rng = np.random.default_rng([3, step])
        x = torch.from_numpy(rng.standard_normal((8, 3), dtype=np.float32))
        loss = (self.model(x)[:, 0] - x.sum(1)).square().mean()
        return (loss * float("nan") if step == self.poison_step else loss), {"twice": 2 * loss.detach()}

    def after_step(self, step):
        return {"seen": float(step)} if step % 50 == 0 else {}


SGD = FitSettings(steps=120, lr=0.002, frames_per_step=4, prefix="encoder", optimizer=sgd, schedule=polynomial_decay)


def context(store, *, stop=lambda: False, attempt="one", clock=None, **changes):
    clock = clock or itertools.count(step=0.1).__next__
    return FitContext(
        ref=REF, store=store, attempt=attempt, device=torch.device("cpu"), stop_requested=stop, clock=clock, **changes
    )


def run(task, where, settings=SETTINGS):
    """Events of a fit and its result."""
    events, loop = [], fit(task, settings, where)
    while True:
        try:
            events.append(next(loop))
        except StopIteration as end:
            return events, end.value


def weights(task):
    return pack_tensors(task.state())


def test_a_fit_learns_and_reports(tmp_path):
    task = Line()
    events, result = run(task, context(StageStore(tmp_path)))
    losses = [point.values["encoder/loss"] for point in result.points]
    assert losses[-1] < 0.2 * losses[0]
    assert result.points[-1].step == 120 and result.outcome is Outcome.DONE
    assert all(
        point.values["encoder/twice"] == pytest.approx(2 * point.values["encoder/loss"]) for point in result.points
    )
    assert any("encoder/seen" in point.values for point in result.points)
    assert events and all(isinstance(event, Progress) for event in events)


@pytest.mark.parametrize("settings", [SETTINGS, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("after", [1, 3, 7, 11, 29])
def test_stop_and_resume_gives_the_same_bits(tmp_path, after, settings):
    """Stopped after any number of stop checks, mid-interval too: weights and curve are those of one run."""
    whole = Line()
    _, expected = run(whole, context(StageStore(tmp_path / "whole")), settings)
    store, checks = StageStore(tmp_path / "cut"), itertools.count(1)
    events, first = run(Line(), context(store, stop=lambda: next(checks) == after), settings)
    assert first.drained and isinstance(events[-1], Drained)
    resumed = Line()
    told, second = run(resumed, context(store, attempt="two"), settings)
    step = events[-1].step
    assert (told[0].step, told[0].durable_step, told[0].frames_per_s) == (step, step, 0.0), "says at once where it is"
    assert not second.drained
    assert weights(resumed) == weights(whole)
    assert second.points == expected.points


def test_progress_points_do_not_change_the_bits(tmp_path):
    plain, saving = Line(), Line()
    run(plain, context(StageStore(tmp_path / "plain")))
    store = StageStore(tmp_path / "saving")
    events, _ = run(saving, context(store, progress_every_s=0.5))
    assert weights(plain) == weights(saving)
    assert store.load_progress(REF).step > 60
    assert max(event.durable_step for event in events) > 0


def test_a_non_finite_loss_ends_as_diverged(tmp_path):
    _, result = run(Line(poison_step=30), context(StageStore(tmp_path)))
    assert result.outcome is Outcome.DIVERGED
    assert 30 < result.points[-1].step < 40
    assert not np.isfinite(result.points[-1].values["encoder/loss"])


def test_the_learning_rate_warms_up_and_ends_at_zero():
    factors = [learning_rate_factor(step, 200) for step in range(201)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1.0
    assert factors[200] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[10:]))


def test_a_stage_may_bring_its_own_optimiser_and_schedule(tmp_path):
    """Two steps of Nesterov SGD with weight decay and polynomial decay, worked out beside it."""
    settings = dataclasses.replace(SGD, steps=2)
    task, twin = Line(), Line()
    run(task, context(StageStore(tmp_path)), settings)
    velocity = {}
    for step, lr in enumerate((0.002, 0.002 * 0.5**0.9)):
        twin.model.zero_grad()
        twin.loss(step)[0].backward()
        nn.utils.clip_grad_norm_(twin.model.parameters(), 12.0)
        with torch.no_grad():
            for name, weight in twin.model.named_parameters():
                gradient = weight.grad + 3e-5 * weight
                velocity[name] = 0.99 * velocity[name] + gradient if step else gradient
                weight -= lr * (gradient + 0.99 * velocity[name])
    for name, weight in twin.model.named_parameters():
        assert torch.allclose(weight, dict(task.model.named_parameters())[name], atol=1e-7), name


def test_tensors_survive_packing():
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3)}
    back = unpack_tensors(pack_tensors(tensors), torch.device("cpu"))
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16)]
)
def test_bf16_only_where_it_is_native(monkeypatch, capability, expected):
    """A V100 (7.0) and a T4 (7.5) get fp16 with a scaler."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert amp_dtype(torch.device("cuda")) is expected
    assert amp_dtype(torch.device("cpu")) is None
