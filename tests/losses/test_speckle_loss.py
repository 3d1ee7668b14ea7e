import math

import numpy as np
import pytest
import torch

from uscl.losses.speckle import draw_donors, speckle_term, valid_regions
from uscl.spec.speckle import MODEL_FORMS
from uscl.spec.trial import SpeckleSpec
from uscl.speckle.nakagami import nakagami_moments

VARIANTS = [
    *({"model": model, "form": form} for model, forms in MODEL_FORMS.items() for form in forms),
    {"estimator": "log_moment"},
    {"estimator": "log_moment", "form": "kl"},
    {"region": "band", "band_px": 2, "min_pixels": 20},
    {"region": "patch", "patch_px": 8, "min_pixels": 8},
    {"region": "patch", "patch_px": 5, "min_pixels": 8, "model": "histogram"},
    {"domain": "decompressed", "dynamic_range_db": 60.0},
    {"domain": "decompressed", "dynamic_range_db": 60.0, "estimator": "log_moment", "form": "jeffreys"},
]
NAMES = [" ".join(map(str, variant.values())) for variant in VARIANTS]
SYMMETRIC = [variant for variant in VARIANTS if variant.get("form") != "kl" and variant.get("region") != "band"]


def term(image, probability, truth, *, known=None, classes=(0, 1), donors=None, **changes):
    speckle = SpeckleSpec(weight=1.0, **changes)
    return speckle_term(image, probability, truth, known, speckle=speckle, classes=classes, donor_BB=donors)


def scene(seed: int = 0, *, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image (2, 16, 16), soft prediction and hard truth (2, K, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((2, 16, 16), generator=generator)
    probability = torch.rand((2, classes, 16, 16), generator=generator)
    truth = (torch.rand((2, classes, 16, 16), generator=generator) > 0.4).float()
    return image, probability, truth


def discs(count: int = 2, size: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Speckle that is brighter inside a disc; the prediction is the disc two pixels off, softened."""
    generator = torch.Generator().manual_seed(1)
    axis = torch.arange(size) - size / 2
    truth = ((axis[:, None].square() + axis[None].square()).sqrt() < size / 3).float()
    image = torch.rand((count, size, size), generator=generator) * (0.3 + 0.7 * truth)
    truth = truth.expand(count, 1, size, size).contiguous()
    return image, 0.1 + 0.8 * truth.roll(2, -1), truth


def test_hand_worked_loss():
    """Truth covers grey levels 1, 2, 3 (m 2, Omega 14/3), the prediction 1 and 3 (m 25/16, Omega 5)."""
    image = torch.tensor([[[1.0, 2.0, 3.0]]])
    truth, probability = torch.ones(1, 1, 1, 3), torch.tensor([[[[1.0, 0.0, 1.0]]]])
    loss = term(image, probability, truth, classes=[0], min_pixels=3)
    assert loss.item() == pytest.approx(math.hypot(2 - 25 / 16, 5 - 14 / 3), abs=2e-4)


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_zero_for_identical_masks(variant):
    image, probability, truth = scene()
    assert term(image, truth, truth, **variant).item() == pytest.approx(0.0, abs=1e-5)
    assert term(image, probability.square(), truth, **variant).item() > 1e-4


@pytest.mark.parametrize("variant", SYMMETRIC)
def test_symmetric_in_truth_and_prediction(variant):
    image, probability, truth = scene()
    hard = (probability > 0.3).float()
    one, other = term(image, hard, truth, **variant), term(image, truth, hard, **variant)
    assert one.item() > 1e-4
    assert one.item() == pytest.approx(other.item(), rel=1e-4)


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_an_empty_prediction_is_no_way_out(variant):
    image, probability, truth = scene()
    nothing = torch.zeros_like(probability).requires_grad_()
    loss = term(image, nothing, truth, **variant)
    loss.backward()
    assert math.isfinite(loss.item()) and loss.item() > 0.01
    assert torch.isfinite(nothing.grad).all()


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
@pytest.mark.parametrize("level", [-60.0, -12.0, 60.0])
def test_extreme_logits_have_finite_gradients(variant, level):
    image, _, truth = scene()
    logits = torch.full((2, 2, 16, 16), level, requires_grad=True)
    term(image, logits.sigmoid(), truth, **variant).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_constant_image_gives_zero_with_a_graph(variant):
    image = torch.full((1, 16, 16), 0.5)
    probability = torch.rand(1, 1, 16, 16, requires_grad=True)
    loss = term(image, probability, torch.ones(1, 1, 16, 16), classes=[0], **variant)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(probability.grad, torch.zeros_like(probability))


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_gradient(variant):
    image, probability, truth = (tensor.double() for tensor in scene(4))
    image, truth = image[:1, :8, :8], truth[:1, :, :8, :8]
    truth[..., :5] = 1.0
    probability = (0.1 + 0.8 * probability[:1, :, :8, :8]).requires_grad_()
    settings = {"min_pixels": 4} | variant | {"min_pixels": 4}
    assert term(image, probability, truth, **settings).item() > 1e-4
    assert torch.autograd.gradcheck(lambda soft: term(image, soft, truth, **settings), probability, fast_mode=True)


def test_no_valid_pair_is_zero_and_the_mean_runs_over_valid_pairs():
    image, probability, truth = scene()
    small = truth.clone()
    small[0] = 0.0
    assert term(image, probability, torch.zeros_like(truth)).item() == 0.0
    both, alone = term(image, probability, small), term(image[1:], probability[1:], truth[1:])
    assert both.item() == pytest.approx(alone.item(), rel=1e-5)


@pytest.mark.parametrize("classes", [[1], [0, 2]])
def test_only_the_named_classes_count(classes):
    image, probability, truth = scene(classes=3)
    loss = term(image, probability, truth, classes=classes)
    for number in range(3):
        changed = probability.clone()
        changed[:, number] = probability[:, number].square()
        assert (term(image, changed, truth, classes=classes).item() != loss.item()) is (number in classes)


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_unknown_pixels_do_not_count(variant):
    image, probability, truth = scene()
    known = torch.ones(2, 16, 16)
    known[:, :, 12:] = 0.0
    altered, filled = image.clone(), probability.clone()
    altered[:, :, 12:] = 1.0
    filled[:, :, :, 12:] = 0.9
    plain = term(image, probability, truth, known=known, **variant)
    assert term(altered, filled, truth, known=known, **variant).item() == pytest.approx(plain.item(), rel=1e-5)
    assert term(altered, filled, truth, **variant).item() != pytest.approx(plain.item(), rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"estimator": "log_moment"}, {"model": "histogram"}])
def test_whole_masks_are_blind_to_position(changes):
    image, probability, truth = scene()
    order = torch.randperm(256, generator=torch.Generator().manual_seed(2))

    def shuffle(planes: torch.Tensor) -> torch.Tensor:
        return planes.flatten(-2)[..., order].reshape(planes.shape)

    loss = term(image, probability, truth, **changes)
    moved = term(shuffle(image), shuffle(probability), shuffle(truth), **changes)
    assert moved.item() == pytest.approx(loss.item(), rel=1e-4)
    assert term(image, shuffle(probability), truth, **changes).item() != pytest.approx(loss.item(), rel=1e-3)


def test_patches_are_not_blind_to_position():
    """science.md 11, oracle 8: pixels shuffled together leave the mask's loss alone and change the patches'."""
    image, probability, truth = discs()
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(2))

    def shuffle(planes: torch.Tensor) -> torch.Tensor:
        return planes.flatten(-2)[..., order].reshape(planes.shape)

    moved = (shuffle(image), shuffle(probability), shuffle(truth))
    patch = {"region": "patch", "patch_px": 8, "min_pixels": 8, "classes": (0,)}
    assert term(*moved, classes=(0,)).item() == pytest.approx(
        term(image, probability, truth, classes=(0,)).item(), rel=1e-4
    )
    assert term(*moved, **patch).item() != pytest.approx(term(image, probability, truth, **patch).item(), rel=0.05)


def test_patches_by_hand():
    """Two patches, of which one has enough annotated pixels: the loss is that of the patch alone."""
    image, probability, truth = scene()
    truth[..., 8:] = 0.0
    cut = [planes[..., :8] for planes in (image, probability, truth)]
    found = term(image, probability, truth, region="patch", patch_px=16, min_pixels=8)
    assert found.item() == pytest.approx(term(image, probability, truth, min_pixels=8).item(), rel=1e-5)
    halves = [torch.cat([planes[..., :8, :], planes[..., 8:, :]]) for planes in cut]  # patches as frames of their own
    found = term(image, probability, truth, region="patch", patch_px=8, min_pixels=8)
    assert found.item() == pytest.approx(term(*halves, min_pixels=8).item(), rel=1e-5)


def test_a_band_reads_pixels_near_the_annotated_boundary_alone():
    image, probability, truth = discs()
    probability = probability.requires_grad_()
    term(image, probability, truth, classes=(0,), region="band", band_px=2).backward()
    touched = probability.grad[0, 0] != 0
    assert touched[16, 16 + 10] and not touched[16, 16] and not touched[0, 0]
    assert 0 < touched.float().mean().item() < 0.4


def test_decompression_changes_the_loss_and_needs_no_more_of_the_annotation():
    image, probability, truth = scene()
    other = {"domain": "decompressed", "dynamic_range_db": 40.0}
    plain, changed = term(image, probability, truth), term(image, probability, truth, **other)
    assert changed.item() != pytest.approx(plain.item(), rel=0.05)
    speckles = (SpeckleSpec(), SpeckleSpec(**other), SpeckleSpec(model="histogram"))
    valid = [valid_regions(image, truth, speckle=speckle, classes=[0, 1]) for speckle in speckles]
    assert valid[0].all() and valid[0].shape == (2, 2) and all(each.equal(valid[0]) for each in valid)


def test_gain_of_the_whole_image_changes_log_less_than_euclidean():
    """Darkened to 60 %: m stays, Omega falls by 0.36 in both regions."""
    image, probability, truth = discs()

    def ratio(form: str) -> float:
        bright, dark = (term(scale * image, probability, truth, classes=(0,), form=form).item() for scale in (1.0, 0.6))
        return dark / bright

    assert ratio("log") == pytest.approx(1.0, rel=1e-3)
    assert ratio("jeffreys") == pytest.approx(1.0, rel=1e-3)
    assert ratio("euclidean") != pytest.approx(1.0, rel=1e-2)


def test_runs_in_float32_inside_autocast():
    image, probability, truth = scene()
    plain = term(image, probability, truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = term(image, probability, truth)
    assert loss.dtype == torch.float32
    assert loss.item() == plain.item()


# ---- the control: another case's speckle


def test_donors_are_a_function_of_the_generator_and_never_the_same_case():
    cases = ["a", "b", "a", "c"]
    one, other = (draw_donors(cases, np.random.default_rng(seed)) for seed in (3, 3))
    assert one.equal(other) and not one.equal(draw_donors(cases, np.random.default_rng(4)))
    assert one.isinf().tolist() == [[name == mate for mate in cases] for name in cases]


def test_permuted_takes_the_parameters_of_another_case():
    """With two frames each is compared with the other's annotation; the true masks are no solution any more."""
    image, probability, truth = scene(classes=1)
    donors = draw_donors(["a", "b"], np.random.default_rng(0))
    pixels = image.flatten(1)
    found, wanted = (nakagami_moments(pixels, masks.flatten(2)) for masks in (probability, truth))
    expected = [math.hypot(*(f[own] - w[1 - own] for f, w in zip(found, wanted, strict=True))) for own in (0, 1)]
    permuted = term(image, probability, truth, classes=[0], donors=donors)
    assert permuted.item() == pytest.approx(sum(expected) / 2, rel=1e-2)
    assert permuted.item() != pytest.approx(term(image, probability, truth, classes=[0]).item(), rel=5e-2)
    assert term(image, truth, truth, classes=[0], donors=donors).item() > 1e-3


def test_permuted_lends_within_a_class_and_between_valid_regions():
    """Frame 1 lacks class 1, so class 1 of frame 0 has no donor but frame 2."""
    image, _, truth = (torch.cat([first, second[:1]]) for first, second in zip(scene(0), scene(1), strict=True))
    truth[1, 1] = 0.0
    donors = draw_donors(["a", "b", "c"], np.random.default_rng(0))
    wanted = term(image[[0, 2]], truth[[0, 2]], truth[[0, 2]], classes=[1], donors=donors[[0, 2]][:, [0, 2]])
    assert term(image, truth, truth, classes=[1], donors=donors).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert wanted.item() > 1e-4


def test_permuted_without_another_case_is_zero():
    image, probability, truth = scene()
    donors = draw_donors(["a", "a"], np.random.default_rng(0))
    assert term(image, probability, truth, donors=donors).item() == 0.0


@pytest.mark.parametrize("changes", [{"model": "histogram"}, {"region": "patch", "patch_px": 8, "min_pixels": 8}])
def test_permuted_histograms_and_patches(changes):
    image, probability, truth = scene()
    donors = draw_donors(["a", "b"], np.random.default_rng(0))
    loss = term(image, truth, truth, donors=donors, **changes)
    assert loss.item() > 1e-3
    same = torch.stack([image[0]] * 2), torch.stack([truth[0]] * 2), torch.stack([truth[0]] * 2)
    assert term(*same, donors=donors, **changes).item() == pytest.approx(0.0, abs=1e-5)
    assert term(image, probability, truth, donors=donors, **changes).isfinite()
