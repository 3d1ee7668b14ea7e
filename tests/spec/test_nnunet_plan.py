"""nnU-Net's planning rules: the three planned examples of science.md 5.2, and what moves a batch."""

import pytest

from uscl.spec.nnunet_plan import DEVIATIONS, features_per_frame, plan_nnunet


@pytest.mark.parametrize(
    ("patch", "stages", "batch", "features"),
    [((256, 256), 7, 21, 20_824_064), ((512, 512), 8, 12, 83_410_944), ((768, 1024), 8, 4, 250_232_832)],
)
def test_the_planned_examples(patch, stages, batch, features):
    """411 images, 4 classes; features as dynamic-network-architectures 0.4.4 counts them for the same networks."""
    plan = plan_nnunet(patch, 411, num_classes=4)
    assert (len(plan.widths), plan.batch, plan.features_per_frame) == (stages, batch, features)
    assert plan.widths[:5] == (32, 64, 128, 256, 512) and set(plan.widths[5:]) == {512}


def test_features_by_hand():
    """8 px, widths 2 and 4: 2 x (2 x 64 + 4 x 16) down, 3 x 2 x 64 up, 3 x 64 logits."""
    assert features_per_frame((8, 8), (2, 4), num_labels=3) == 384 + 384 + 192


@pytest.mark.parametrize(
    ("size", "cases", "given", "batch", "rule"),
    [
        (512, 411, None, 12, "memory"),
        (256, 411, None, 21, "5 % of the cases"),
        (256, 4, None, 2, "minimum"),  # 1 % of 411
        (256, 411, 7, 7, "nnunet.batch"),
        (256, 411, 21, 21, "5 % of the cases"),  # given as planned is planned
    ],
)
def test_what_decides_the_batch(size, cases, given, batch, rule):
    plan = plan_nnunet((size, size), cases, num_classes=4, batch=given)
    assert (plan.batch, plan.batch_by) == (batch, rule)


def test_a_narrower_network_trains_in_larger_batches():
    wide, narrow = (plan_nnunet((512, 512), 10_000, num_classes=4, base_width=width) for width in (32, 8))
    assert narrow.features_per_frame < wide.features_per_frame
    assert narrow.batch > 3 * wide.batch


def test_a_plan_says_what_it_is():
    text = plan_nnunet((64, 64), 96, num_classes=4, base_width=8).model_dump_json()
    assert "re-implementation" in text and "not the nnU-Net package" in text
    assert all(deviation in text for deviation in DEVIATIONS)
