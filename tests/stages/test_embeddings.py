"""Pixel embeddings of an evaluation: which pixels, whose class, from which forward pass, and what is published."""

import numpy as np
import pytest
import torch

from uscl.data.dataset import Case, open_dataset
from uscl.spec.sweep import EMBEDDING_MEASURES
from uscl.spec.trial import ImageSpec, NetworkSpec
from uscl.stages import embeddings
from uscl.stages.embeddings import (
    EmbeddingProbe,
    PixelEmbeddings,
    describe_pixels,
    draw_pixels,
    innermost,
    principal_plane,
    sampled_pixels,
)
from uscl.stages.evaluate import predict
from uscl.stages.inputs import EvaluateInputs
from uscl.stages.keys import chain
from uscl.stages.pretraining import build_unet
from uscl.stages.run import run_trial
from uscl.store.stages import StageStore


def case_of(masks, *, known=None, patient="p", image=None):
    everywhere = np.ones(masks.shape[1:], bool)
    image = np.zeros(masks.shape[1:], np.uint8) if image is None else image
    return Case("c", patient, image, masks, everywhere if known is None else known, everywhere, None)


def nested(size=32):
    """A square of 20 px and in it one of 8 px."""
    masks = np.zeros((2, size, size), bool)
    masks[0, 6:26, 6:26] = masks[1, 12:20, 12:20] = True
    return masks


def test_a_pixel_belongs_to_its_innermost_class():
    masks = nested()
    label = innermost(masks, masks)
    assert (label[0, 0], label[8, 8], label[15, 15]) == (2, 0, 1)
    assert (innermost(masks[::-1], masks[::-1])[15, 15], innermost(masks[::-1], masks[::-1])[8, 8]) == (0, 1)


def test_of_equal_regions_the_later_class_counts():
    masks = np.ones((2, 4, 4), bool)
    assert (innermost(masks, masks) == 1).all()


def test_at_most_sixteen_pixels_of_a_class_spread_over_it():
    row, column, label = sampled_pixels(case_of(nested()), 32, 16)
    assert np.bincount(label).tolist() == [16, 16, 16]
    outer = label == 0
    assert row[outer].min() < 5 and row[outer].max() > 10  # not the first sixteen
    assert (nested()[1][2 * row + 1, 2 * column + 1] == (label == 1)).all()
    again = sampled_pixels(case_of(nested()), 32, 16)
    assert all((one == other).all() for one, other in zip((row, column, label), again, strict=True))


def test_unknown_pixels_and_padding_are_never_sampled():
    known = np.ones((32, 16), bool)
    known[:, :8] = False
    row, column, _ = sampled_pixels(case_of(nested()[:, :, 8:24], known=known), 32, 32)
    assert len(row) and column.min() >= 16 and column.max() < 24  # 16 px wide, centred: columns 8 to 23


def network_of(classes=2):
    torch.manual_seed(0)
    network = build_unet(ImageSpec(size=32, norm="none"), NetworkSpec(preset="tiny"), num_classes=classes)
    return network.eval()


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_the_probe_reads_the_map_of_the_unmirrored_forward_pass(tta):
    image = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    case, network = case_of(nested(), image=image), network_of()
    inputs = EvaluateInputs(
        part="val", image=ImageSpec(size=32, norm="none"), network=NetworkSpec(preset="tiny"), tta=tta,
        classes=("outer", "inner"), leaf_classes=("inner",),
    )  # fmt: skip
    probe = EmbeddingProbe(network)
    for _ in range(2):
        predict(case.image, network, inputs)
        probe.sample(case, 32)
    found = probe.embeddings()
    with torch.no_grad():
        frame = torch.from_numpy(image[None, None].astype(np.float32) / np.float32(255.0))
        expected = network.decode(network.encode(frame))[0]
    row, column, label = sampled_pixels(case, 32, expected.shape[-1])
    half = len(label)
    assert found.cases == 2 and len(found.label_M) == 2 * half and not found.patient_M.any()
    assert torch.equal(found.embedding_MD[:half], expected[:, row, column].T)
    assert torch.equal(found.embedding_MD[:half], found.embedding_MD[half:])


def pixels_of(embedding, label, patient):
    return PixelEmbeddings(embedding, torch.tensor(label), torch.tensor(patient), cases=2)


def test_figures_by_class_and_their_means():
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    figures = describe_pixels(pixels_of(embedding, [0, 0, 2, 2], [0, 1, 0, 1]), ("outer", "inner"))
    assert figures["embedding/compactness/outer"] == pytest.approx(1)
    assert figures["embedding/compactness/background"] == pytest.approx(-1)
    assert figures["embedding/compactness"] == pytest.approx(0, abs=1e-12)
    assert figures["embedding/separability/outer"] == pytest.approx(1 / (1 + 2))
    assert figures["embedding/alignment"] == pytest.approx((0 + 4) / 2)
    assert "embedding/compactness/inner" not in figures  # no pixel of its own
    assert {name for name in figures if name.count("/") == 1} == set(EMBEDDING_MEASURES)


def test_one_patient_alone_has_no_alignment():
    figures = describe_pixels(pixels_of(torch.eye(4), [0, 0, 1, 1], [0, 0, 0, 0]), ("outer",))
    assert np.isnan(figures["embedding/alignment"]) and np.isfinite(figures["embedding/separability"])


def test_many_pixels_are_thinned_evenly_for_pairs_and_picture(monkeypatch):
    monkeypatch.setattr(embeddings, "PAIRED_PIXELS", 30)
    embedding = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    pixels = pixels_of(embedding, [n % 3 for n in range(300)], [n // 150 for n in range(300)])
    few = embeddings._thinned(pixels)
    assert len(few.label_M) == 30 and set(few.patient_M.tolist()) == {0, 1}
    assert describe_pixels(pixels, ("a", "b"))["embedding/uniformity"] == pytest.approx(
        describe_pixels(few, ("a", "b"))["embedding/uniformity"]
    )


def test_the_plane_is_that_of_the_largest_variance_whatever_the_sign():
    """On the unit circle's upper half, mirrored about the vertical: the first axis is the horizontal one."""
    angle = torch.linspace(0.5, torch.pi - 0.5, 9, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros(9)], dim=1)
    points, share = principal_plane(circle)
    assert points[:, 0] == pytest.approx(circle[:, 0].numpy(), abs=1e-9)
    assert share[0] > 0.8 and sum(share) == pytest.approx(1)
    assert np.allclose(principal_plane(torch.ones(5, 3))[0], 0)


def test_classes_have_the_colours_of_the_overlays():
    pixels = pixels_of(torch.eye(4), [0, 0, 1, 1], [0, 1, 0, 1])
    picture = draw_pixels(pixels, ("outer",), title="t")
    for colour in (embeddings.COLOURS[0], embeddings.BACKGROUND_COLOUR):
        assert (picture[80:] == colour).all(axis=-1).any()


def test_an_evaluation_publishes_the_figures_and_for_val_one_picture(trial, tiny_dataset, tmp_path):
    store = StageStore(tmp_path)
    spec = trial(method="supervised", finetune={"steps": 1, "lr": 1e-3, "batch": 2, "select": "last"})
    list(run_trial(spec, store, dataset=tiny_dataset, device="cpu", attempt="a", stop_requested=lambda: False))
    for stage in chain(spec, open_dataset(tiny_dataset).index).stages[1:]:
        part, manifest = stage.name.split("/")[1], store.manifest(stage.ref)
        values = [manifest.metrics[f"{part}/{name}"] for name in EMBEDDING_MEASURES]
        assert np.isfinite(values).all()
        assert 0 <= manifest.metrics[f"{part}/embedding/separability/inner"] <= 1
        assert f"{part}/embedding/compactness/background" in manifest.metrics
        assert ("embedding.png" in manifest.files) == (part == "val")
    png = store.read(chain(spec, open_dataset(tiny_dataset).index).stage("evaluate/val").ref, "embedding.png")
    assert png.startswith(b"\x89PNG") and len(png) < 150_000
