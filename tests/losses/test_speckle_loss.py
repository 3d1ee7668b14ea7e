import math

import pytest
import torch

from uscl.losses.speckle import nakagami_distance, speckle_loss
from uscl.speckle.nakagami import NakagamiParameters

FORMS = ("euclidean", "log")
ESTIMATORS = ("moment", "log_moment")


def parameters(m: float, omega: float) -> NakagamiParameters:
    return NakagamiParameters(torch.tensor([m]), torch.tensor([omega]))


def scene(seed: int = 0, *, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image (2, 16, 16), soft prediction and hard truth (2, K, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((2, 16, 16), generator=generator)
    probability = torch.rand((2, classes, 16, 16), generator=generator)
    truth = (torch.rand((2, classes, 16, 16), generator=generator) > 0.4).float()
    return image, probability, truth


def test_euclidean_distance_by_hand():
    distance = nakagami_distance(parameters(2.0, 1.0), parameters(1.0, 1.5))
    assert distance.item() == pytest.approx(math.sqrt(1.25), abs=2e-4)


def test_log_distance_by_hand():
    distance = nakagami_distance(parameters(2.0, 1.0), parameters(1.0, 1.5), form="log")
    assert distance.item() == pytest.approx(math.log(2) ** 2 + math.log(1.5) ** 2, rel=1e-5)


def test_hand_worked_loss():
    """Truth covers grey levels 1, 2, 3 (m 2, Omega 14/3), the prediction 1 and 3 (m 25/16, Omega 5)."""
    image = torch.tensor([[[1.0, 2.0, 3.0]]])
    truth, probability = torch.ones(1, 1, 1, 3), torch.tensor([[[[1.0, 0.0, 1.0]]]])
    loss = speckle_loss(image, probability, truth, classes=[0], min_pixels=3)
    assert loss.item() == pytest.approx(math.hypot(2 - 25 / 16, 5 - 14 / 3), abs=2e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_zero_for_identical_masks(form, estimator):
    image, _, truth = scene()
    loss = speckle_loss(image, truth, truth, classes=[0, 1], form=form, estimator=estimator)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_symmetric_in_truth_and_prediction(form, estimator):
    image, probability, truth = scene()
    settings = {"classes": [0, 1], "form": form, "estimator": estimator}
    one, other = (
        speckle_loss(image, probability, truth, **settings),
        speckle_loss(image, truth, probability, **settings),
    )
    assert one.item() > 1e-4
    assert one.item() == pytest.approx(other.item(), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_empty_prediction_is_no_way_out(form, estimator):
    image, probability, truth = scene()
    nothing = torch.zeros_like(probability).requires_grad_()
    loss = speckle_loss(image, nothing, truth, classes=[0, 1], form=form, estimator=estimator)
    loss.backward()
    assert math.isfinite(loss.item()) and loss.item() > 0.01
    assert torch.isfinite(nothing.grad).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_nearly_empty_logits_have_finite_gradients(form, estimator):
    image, _, truth = scene()
    logits = torch.full((2, 2, 16, 16), -60.0, requires_grad=True)
    speckle_loss(image, logits.sigmoid(), truth, classes=[0, 1], form=form, estimator=estimator).backward()
    assert torch.isfinite(logits.grad).all()


def test_constant_image_gives_zero_with_a_graph():
    image = torch.full((1, 16, 16), 0.5)
    probability = torch.rand(1, 1, 16, 16, requires_grad=True)
    loss = speckle_loss(image, probability, torch.ones(1, 1, 16, 16), classes=[0])
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(probability.grad, torch.zeros_like(probability))


def test_no_valid_pair_is_zero_and_the_mean_runs_over_valid_pairs():
    image, probability, truth = scene()
    small = truth.clone()
    small[0] = 0.0
    settings = {"classes": [0, 1], "min_pixels": 64}
    assert speckle_loss(image, probability, torch.zeros_like(truth), **settings).item() == 0.0
    both = speckle_loss(image, probability, small, **settings)
    alone = speckle_loss(image[1:], probability[1:], truth[1:], **settings)
    assert both.item() == pytest.approx(alone.item(), rel=1e-5)


def test_only_the_named_classes_count():
    image, probability, truth = scene(classes=3)
    loss = speckle_loss(image, probability, truth, classes=[1])
    changed = probability.clone()
    changed[:, [0, 2]] = 0.1
    assert speckle_loss(image, changed, truth, classes=[1]).item() == loss.item()
    changed[:, 1] = probability[:, 1].square()
    assert speckle_loss(image, changed, truth, classes=[1]).item() != loss.item()


def test_unknown_pixels_do_not_count():
    image, probability, truth = scene()
    known = torch.ones(2, 16, 16)
    known[:, :, 12:] = 0.0
    altered, filled = image.clone(), probability.clone()
    altered[:, :, 12:] = 1.0
    filled[:, :, :, 12:] = 0.9
    settings = {"classes": [0, 1], "known_BHW": known}
    plain = speckle_loss(image, probability, truth, **settings)
    assert speckle_loss(altered, filled, truth, **settings).item() == pytest.approx(plain.item(), rel=1e-6)
    assert speckle_loss(altered, filled, truth, classes=[0, 1]).item() != pytest.approx(plain.item(), rel=1e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_blind_to_position(estimator):
    image, probability, truth = scene()
    order = torch.randperm(256, generator=torch.Generator().manual_seed(2))

    def shuffle(planes: torch.Tensor) -> torch.Tensor:
        return planes.flatten(-2)[..., order].reshape(planes.shape)

    settings = {"classes": [0, 1], "estimator": estimator}
    loss = speckle_loss(image, probability, truth, **settings)
    moved = speckle_loss(shuffle(image), shuffle(probability), shuffle(truth), **settings)
    assert moved.item() == pytest.approx(loss.item(), rel=1e-4)
    assert speckle_loss(image, shuffle(probability), truth, **settings).item() != pytest.approx(loss.item(), rel=1e-3)


def test_runs_in_float32_inside_autocast():
    image, probability, truth = scene()
    plain = speckle_loss(image, probability, truth, classes=[0, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = speckle_loss(image, probability, truth, classes=[0, 1])
    assert loss.dtype == torch.float32
    assert loss.item() == plain.item()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_against_finite_differences(form, estimator):
    image, probability, truth = scene(4)
    settings = {"classes": [0, 1], "form": form, "estimator": estimator}
    probability.requires_grad_()
    speckle_loss(image, probability, truth, **settings).backward()
    toward = torch.rand(probability.shape, generator=torch.Generator().manual_seed(9)) - 0.5
    step = 0.02
    with torch.no_grad():
        up = speckle_loss(image, probability + step * toward, truth, **settings)
        down = speckle_loss(image, probability - step * toward, truth, **settings)
    slope = (up - down).item() / (2 * step)
    assert (probability.grad * toward).sum().item() == pytest.approx(slope, rel=0.03)
