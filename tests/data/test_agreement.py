"""Agreement of two raters: by hand, under each empty rule, into dataset.json, and for the real set where it is."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uscl.data import agreement as module
from uscl.data.agreement import both_ways, compare_masks, rater_agreement, save_agreement, to_text
from uscl.data.dataset import open_dataset
from uscl.data.facts import dataset_facts
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError

CLASSES = ("outer", "inner")


def square(side):
    mask = np.zeros((12, 12), bool)
    mask[:side, :side] = True
    return mask


def rated(path, rng, sides, **settings):
    """One picture per entry; an entry is rater -> sides of (outer, inner)."""
    with DatasetWriter(path, name="rated", classes=CLASSES, size=32, contains={"outer": ["inner"]}) as writer:
        for number, drawn in enumerate(sides):
            image = rng.integers(1, 255, (12, 12), dtype=np.uint8)
            for rater, pair in drawn.items():
                masks = np.stack([square(side) for side in pair])
                who = {"rater": rater, "image_id": f"i{number}", "patient": "p", "case": f"i{number}-{rater}"}
                writer.add_case(image, masks, **who, **{name: of(number, rater) for name, of in settings.items()})
    return open_dataset(path)


SIDES = [
    {"ann": (4, 2), "bob": (4, 1)},  # inner: 2 * 1 / (4 + 1) = 0.4
    {"ann": (4, 0), "bob": (2, 0)},  # outer: 2 * 4 / (16 + 4) = 0.4; inner empty for both
    {"ann": (4, 2), "bob": (4, 0)},  # inner seen by ann alone
    {"ann": (4, 2)},
]


def test_scores_are_those_worked_out_by_hand(tmp_path, rng):
    agreement = rater_agreement(rated(tmp_path / "d", rng, SIDES))
    assert (agreement.raters, agreement.num_images, agreement.num_single) == (("ann", "bob"), 3, 1)
    scores = agreement.scores
    assert scores["dsc/outer"] == pytest.approx((1 + 0.4 + 1) / 3)
    assert scores["dsc/inner"] == pytest.approx((0.4 + 1 + 0) / 3)
    assert scores["dsc_nan_drop/inner"] == pytest.approx((0.4 + 0) / 2)
    # ann the truth: images 0 and 2; bob the truth: image 0 alone; the mean of both ways
    assert scores["dsc_gt_present/inner"] == pytest.approx(((0.4 + 0) / 2 + 0.4) / 2)
    assert scores["dsc"] == pytest.approx((scores["dsc/outer"] + scores["dsc/inner"]) / 2)
    assert scores["dsc_leaf"] == scores["dsc/inner"] and scores["delta_snr"] == scores["delta_snr/inner"]
    # image 0: one pixel row off; image 2: the diagonal; image 1 is left out
    assert scores["hd95/inner"] == pytest.approx((scores["hd95_nan_drop/inner"] + math.hypot(12, 12)) / 2)
    assert agreement.counts["dsc/inner"] == 3 and agreement.counts["dsc_nan_drop/inner"] == 2
    assert "dsc_gt_present/inner" not in agreement.counts
    assert not [name for name in scores if "floor" in name or "signed" in name or name.startswith("n_")]


def test_it_does_not_matter_which_rater_is_named_first(tmp_path, rng):
    dataset = rated(tmp_path / "d", rng, SIDES)
    assert rater_agreement(dataset, ("ann", "bob")).scores == rater_agreement(dataset, ("bob", "ann")).scores


def test_delta_snr_is_the_difference_of_the_two_regions(rng):
    image = rng.integers(1, 255, (12, 12), dtype=np.uint8)
    rows = [compare_masks(image, square(a)[None], square(b)[None], ("c",), image="i") for a, b in ((5, 7), (7, 5))]
    scores, counts = both_ways(*rows, leaf_classes=("c",))
    snr = [math.log10(image[:side, :side].mean() / image[:side, :side].std()) for side in (5, 7)]
    assert scores["delta_snr/c"] == pytest.approx(abs(snr[0] - snr[1])) and counts["delta_snr/c"] == 1


def test_a_class_that_nobody_drew_has_no_score_where_the_rule_gives_none(tmp_path, rng):
    agreement = rater_agreement(rated(tmp_path / "d", rng, [{"ann": (3, 0), "bob": (3, 0)}]))
    assert agreement.scores["dsc/inner"] == 1 and "dsc_nan_drop/inner" not in agreement.scores
    line = next(line for line in to_text(agreement, CLASSES).splitlines() if "left out" in line)
    assert line.split()[-3:] == ["1.000", "-", "1.000"]


def test_only_what_both_know_counts_and_copies_do_not(tmp_path, rng):
    def known(number, rater):
        return ~square(12) if (number, rater) == (0, "bob") else square(12)

    agreement = rater_agreement(rated(tmp_path / "d", rng, SIDES, known=known))
    assert agreement.num_images == 2  # bob knows nothing of image 0
    agreement = rater_agreement(rated(tmp_path / "e", rng, SIDES, excluded=lambda number, rater: number == 0))
    assert agreement.num_images == 2


@pytest.mark.parametrize(
    ("sides", "raters", "said"),
    [
        ([{"ann": (3, 1)}], (), "agreement is between two raters, and it has ann; --raters A,B chooses two"),
        ([{"": (3, 1)}], (), "its masks name nobody"),
        ([{"a": (3, 1), "b": (3, 1), "c": (3, 1)}], (), "it has a, b, c; --raters A,B chooses two"),
        ([{"a": (3, 1), "b": (3, 1)}], ("a", "zoe"), "'zoe' is no rater; it has a, b"),
        ([{"a": (3, 1), "b": (3, 1)}], ("a", "a"), "--raters A,B chooses two"),
        ([{"a": (3, 1)}, {"b": (3, 1)}], (), "no image is labelled by both a and b"),
    ],
)
def test_what_cannot_be_compared_is_said(sides, raters, said, tmp_path, rng):
    with pytest.raises(DataError, match="dataset rated: ") as error:
        rater_agreement(rated(tmp_path / "d", rng, sides), raters)
    assert said in str(error.value)


def test_the_consensus_is_no_second_rater_unless_asked_for(tmp_path, rng):
    sides = [{"ann": (3, 1), "bob": (3, 1), "consensus": (3, 2)}]
    dataset = rated(tmp_path / "d", rng, sides)
    assert rater_agreement(dataset).raters == ("ann", "bob")
    assert rater_agreement(dataset, ("ann", "consensus")).scores["dsc/inner"] == pytest.approx(0.4)


def test_two_sizes_of_one_image_are_refused(tmp_path, rng):
    with DatasetWriter(tmp_path / "d", name="rated", classes=("c",), size=32) as writer:
        for rater, height in (("a", 12), ("b", 13)):
            image = np.ones((height, 12), np.uint8)
            writer.add_case(image, image[None] > 0, case=rater, patient="p", rater=rater, image_id="i")
    with pytest.raises(DataError, match="cases a and b of one image differ in size"):
        rater_agreement(open_dataset(tmp_path / "d"))


def test_scores_are_saved_in_one_step_and_change_no_fingerprint(tmp_path, rng, monkeypatch):
    dataset = rated(tmp_path / "d", rng, SIDES)
    before = {path.name: path.read_bytes() for path in dataset.path.iterdir()}
    save_agreement(dataset, rater_agreement(dataset))
    after = open_dataset(dataset.path)
    assert after.index.fingerprint == dataset.index.fingerprint
    assert dataset_facts(after.index).agreement["dsc/inner"] == pytest.approx(1.4 / 3)
    assert after.index.agreement["n_images"] == 3
    document = json.loads((dataset.path / "dataset.json").read_text())
    assert document.pop("agreement") and document == json.loads(before["dataset.json"])
    assert {path.name for path in dataset.path.iterdir()} == set(before)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    kept = (dataset.path / "dataset.json").read_bytes()
    monkeypatch.setattr(module.Files, "write", fail)
    with pytest.raises(OSError, match="No space"):
        save_agreement(dataset, rater_agreement(dataset))
    assert (dataset.path / "dataset.json").read_bytes() == kept


def test_neither_check_nor_agreement_imports_torch():
    code = "import sys, uscl.data.agreement, uscl.data.checks.check_dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PUBLISHED = {
    "dsc_nan_drop": {"capsule": 0.943, "cec": 0.864, "medulla": 0.667, "cortex": 0.572},
    "dsc": {"capsule": 0.948, "cec": 0.880, "medulla": 0.791, "cortex": 0.732},
}
"""Mean DSC between the two raters of kidneyUS over its 514 distinct images (data-formats.md 8)."""


@pytest.mark.slow
@pytest.mark.skipif("USCL_KIDNEYUS" not in os.environ, reason="USCL_KIDNEYUS names no copy of kidneyUS")
def test_the_raters_of_kidneyus_agree_as_published(tmp_path):
    command = [sys.executable, "-m", "uscl.cli.main", "data", "import", "kidneyus"]
    subprocess.run([*command, os.environ["USCL_KIDNEYUS"], tmp_path / "d"], check=True)
    dataset = open_dataset(Path(tmp_path / "d"))
    agreement = rater_agreement(dataset)
    for measurement, by_class in PUBLISHED.items():
        for name, value in by_class.items():
            assert agreement.scores[f"{measurement}/{name}"] == pytest.approx(value, abs=0.002)
    assert agreement.num_images == 514
