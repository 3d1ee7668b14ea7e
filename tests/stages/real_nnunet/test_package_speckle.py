"""The speckle term beside nnU-Net's loss: which planes it reads, when it counts, and the raw frames it is given."""

import cv2
import numpy as np
import pytest
import torch

from uscl.losses.speckle import speckle_term
from uscl.spec.trial import SpeckleSpec
from uscl.stages.nnunetv2.labels import LabelScheme
from uscl.stages.nnunetv2.raw import image_path
from uscl.stages.nnunetv2.speckle_term import RawCases, SpeckleTerm, read_outputs

CPU = torch.device("cpu")
NESTED = LabelScheme.of(("inner", "outer"), {"outer": ("inner",)})
FLAT = LabelScheme.of(("a", "b"), {})
SPECKLE = SpeckleSpec(weight=0.5, classes=("inner",), min_pixels=8)


class MeanOfFinest(torch.nn.Module):
    def forward(self, outputs, targets):
        return outputs[0].mean()


def scene(ignored=False):
    """Logits, a target with regions (outer, inner[, ignored]) and raw planes of two frames."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 16, 16, generator=rng)
    target = torch.zeros(2, 3 if ignored else 2, 16, 16, dtype=torch.bool)
    target[:, 0, 2:14, 2:14] = target[:, 1, 4:12, 4:12] = True
    raw = torch.ones(2, 2, 16, 16)
    raw[:, 0] = torch.rand(2, 16, 16, generator=rng)
    return logits, target, raw


def test_regions_are_sigmoid_planes_and_what_is_ignored_is_unknown():
    logits, target, _ = scene(ignored=True)
    target[:, 2, :4] = True
    probability, truth, known = read_outputs(logits, target, scheme=NESTED, ignore_label=3)
    assert torch.equal(probability, logits.sigmoid()) and torch.equal(truth, target[:, :2].float())
    assert torch.equal(known[:, 0], 1.0 - target[:, 2].float())


def test_labels_are_softmax_without_background():
    logits = torch.randn(1, 3, 4, 4)
    target = torch.tensor([0, 1, 2, 3]).repeat(4, 1)[None, None]
    probability, truth, known = read_outputs(logits, target, scheme=FLAT, ignore_label=3)
    assert torch.equal(probability, logits.softmax(1)[:, 1:])
    assert truth[0, :, 0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]] and known[0, 0, 0].tolist() == [1, 1, 1, 0]


def test_it_adds_the_weighted_speckle_loss_of_the_named_class():
    logits, target, raw = scene()
    term = SpeckleTerm(MeanOfFinest(), SPECKLE, NESTED, ignore_label=None, steps=10, device=CPU)
    with term.reading(raw, step=0):
        loss = term([logits, logits[..., ::2, ::2]], [target, target[..., ::2, ::2]])
    # plane 1 of the outputs is `inner`, whatever place the dataset gives it
    known = torch.ones(2, 16, 16)
    wanted = speckle_term(raw[:, 0], logits.sigmoid(), target.float(), known, speckle=SPECKLE, classes=[1])
    assert wanted > 0 and float(loss) == pytest.approx(float(logits.mean() + 0.5 * wanted))
    assert float(term.last["speckle_loss"]) == pytest.approx(float(wanted))


def test_without_raw_frames_the_loss_is_the_packages_own():
    logits, target, raw = scene()
    term = SpeckleTerm(MeanOfFinest(), SPECKLE, NESTED, ignore_label=None, steps=10, device=CPU)
    with term.reading(raw, step=0):
        term([logits], [target])
    assert float(term([logits], [target])) == float(logits.mean())


def test_warmup_raises_the_weight():
    logits, target, raw = scene()
    term = SpeckleTerm(
        MeanOfFinest(), SPECKLE.model_copy(update={"warmup": 0.5}), NESTED, ignore_label=None, steps=8, device=CPU
    )
    added = []
    for step in (0, 2, 4, 7):
        with term.reading(raw, step=step):
            added.append(float(term([logits], [target]) - logits.mean()))
    assert added[0] == 0 and added[1] == pytest.approx(added[2] / 2) and added[3] == pytest.approx(added[2])


def test_padding_does_not_count():
    logits, target, raw = scene()
    raw[:, 1, :, :6] = 0.4  # interpolated over the frame's border
    spoilt = raw.clone()
    spoilt[:, 0, :, :6] = 0.0
    term = SpeckleTerm(MeanOfFinest(), SPECKLE, NESTED, ignore_label=None, steps=1, device=CPU)
    losses = []
    for planes in (raw, spoilt):
        with term.reading(planes, step=0):
            losses.append(float(term([logits], [target])))
    assert losses[0] == losses[1]


def test_raw_frames_are_cropped_as_preprocessing_cropped(tmp_path):
    image = np.arange(80, dtype=np.uint8).reshape(8, 10)
    path = image_path(tmp_path, "case_00000")
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), image)

    class Preprocessed:
        identifiers = ("case_00000",)

        def load_case(self, name):
            return (
                np.zeros((1, 1, 5, 7), np.float32),
                "labels",
                None,
                {"bbox_used_for_cropping": [[0, 1], [2, 7], [1, 8]]},
            )

    frame, labels, _, _ = RawCases(Preprocessed(), tmp_path).load_case("case_00000")
    assert frame.shape == (3, 1, 5, 7) and labels == "labels" and (frame[2] == 1).all()
    assert np.allclose(frame[1, 0], image[2:7, 1:8] / 255)


def test_ema_balances_the_package_s_loss_and_survives_a_resume():
    logits, target, raw = scene()
    speckle = SPECKLE.model_copy(update={"balance": "ema"})
    first, second = (
        SpeckleTerm(MeanOfFinest(), speckle, NESTED, ignore_label=None, steps=10, device=CPU) for _ in range(2)
    )
    with first.reading(raw, step=0):
        wanted = float(logits.mean()) + 3
        loss = float(first([logits + 3], [target]))
    assert loss == pytest.approx(wanted + 0.5 * (wanted + 1)), (
        "each term is its own mean at first, the package's from -1"
    )
    second.balance.load_state({name: mean.clone() for name, mean in first.balance.state().items()})
    losses = []
    for term in (first, second):
        with term.reading(raw, step=1):
            losses.append(float(term([logits + 1], [target])))
    assert losses[0] == losses[1]


def test_ema_takes_a_loss_below_zero_by_a_mean_above_it():
    """nnU-Net's Dice part is minus the Dice, so its loss passes zero and ends near -1."""
    logits, target, raw = scene()
    term = SpeckleTerm(
        MeanOfFinest(), SPECKLE.model_copy(update={"balance": "ema"}), NESTED, ignore_label=None, steps=10, device=CPU
    )
    level = logits - logits.mean()
    for step, wanted in enumerate((0.2, 0.0, -0.6, -0.9)):
        outputs = (level + wanted).requires_grad_()
        with term.reading(raw, step=step):
            loss = term([outputs], [target])
        (gradient,) = torch.autograd.grad(loss, outputs)
        assert -1 < loss.item() < 2 and gradient.sum().abs().item() < 20
