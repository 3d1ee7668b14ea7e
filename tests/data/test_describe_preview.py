"""`info` counts right; the contact sheet shows what there is."""

import cv2
import numpy as np
import pytest
from clip_files import make_dataset, speckle

from uscl.data.dataset import open_dataset
from uscl.data.describe import describe, to_text
from uscl.data.overlay import COLOURS
from uscl.data.preview import TILE_PX, contact_sheet, draw_masks, save_png
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError

SPLIT = {"seed": 0, "validation_fraction": 0.2, "test_fraction": 0.2}


@pytest.fixture
def dataset(tmp_path, rng):
    sources = [{"licence": "CC0", "attribution": "A", "source_url": "", "files": 1}]
    with DatasetWriter(
        tmp_path / "d", name="made", classes=("a", "b"), size=32, licence="CC0", sources=sources
    ) as writer:
        frames = speckle(rng, 5, 32, 32)
        frames[3] = frames[2]
        writer.add_clip(frames, clip="c0", patient="p0", times_ms=np.arange(5) * 20.0, note="odd; old")
        writer.add_clip(frames[:3], clip="c1", patient="p1", group="p0", times_ms=np.arange(3) * 50.0, note="odd")
        writer.add_clip(frames[:2], clip="c2", patient="unknown-c2")
        for n in range(5):
            masks = np.zeros((2, 10, 20), bool)
            masks[0, :5, :10] = n != 4  # a quarter
            masks[1, 0, 0] = n == 0
            writer.add_case(speckle(rng, 10, 20), masks, case=f"k{n}", patient=f"q{n}", excluded=n == 3, copy_of="k2")
    return open_dataset(tmp_path / "d")


def test_counts(dataset):
    facts = describe(dataset, **SPLIT)
    assert (facts["patients"], facts["patient_unknown"], facts["groups"], facts["units"]) == (7, 1, 7, 7)
    assert (facts["clips"]["count"], facts["frames"]) == (3, 10)
    assert facts["clips"]["notes"] == {"odd": 2, "old": 1}
    rates = {"lowest_hz": 20.0, "median_hz": 35.0, "highest_hz": 50.0, "clips_unknown": 1}
    assert facts["frame_rates"] == rates
    assert facts["duplicates"] == {"frames": 1, "fraction": 0.1, "clips": 1}
    assert (facts["cases"]["count"], facts["cases"]["copies"], facts["cases"]["distinct"]) == (5, 1, 4)
    assert facts["classes"]["a"] == {"present": 3, "of": 4, "mean_area_fraction": 0.25}
    assert facts["classes"]["b"]["present"] == 1
    assert sum(facts["splits"][part]["cases"] for part in ("train", "validation", "test")) == 4
    assert facts["licence"] == "CC0" and facts["sources"][0]["attribution"] == "A"


def test_text_names_what_counts(dataset):
    text = to_text(describe(dataset, **SPLIT))
    for words in (
        "1 frame repeats its predecessor (10.0 %), in 1 clip",
        "frame rate  35.0 Hz (median; 20.0 to 50.0); unknown for 1 clip",
        "5 images, 1 of them copies in no split: 4 distinct",
        "a: in 3 of 4, 25.00 % of the image there",
        "split       seed 0: train 2 cases (2 groups), validation 1 case (1 group), test 1 case (1 group)",
        "pretrain    3 of 3 clips, 10 frames: those of nobody in validation or test",
        "note        2 clips: odd",
        "note        1 clip: old",
    ):
        assert words in text


def test_a_split_of_unknown_patients_claims_no_patients(tmp_path, rng):
    with DatasetWriter(tmp_path / "d", name="d", classes=("a",), size=32) as writer:
        for n, part in enumerate(["train"] * 3 + ["validation"] * 2 + ["test"]):
            owner = {"patient": "p0"} if n == 0 else {"patient": f"unknown-{n}"}
            writer.add_case(speckle(rng, 9, 9), np.ones((1, 9, 9), bool), case=f"{n}", split=part, **owner)
        for n in (0, 5):
            writer.add_clip(speckle(rng, 3, 32, 32), clip=f"c{n}", patient=f"unknown-{n}" if n else "p0")
    facts = describe(open_dataset(tmp_path / "d"), **SPLIT)
    assert facts["splits"]["train"] == {"units": 3, "units_unknown": 2, "cases": 3}
    assert facts["splits"]["pretraining"] == {"clips": 1, "frames": 3}
    text = to_text(facts)
    assert "patients    1, and 6 clips or images of unknown patient; 6 groups, 6 units that no split cuts" in text
    assert (
        "train 3 cases (1 patient, 2 images of unknown patient), "
        "validation 2 cases (2 images of unknown patient), test 1 case (1 image of unknown patient)"
    ) in text
    assert "pretrain    1 of 2 clips, 3 frames: those of nobody in validation or test" in text


def test_clips_alone_and_too_few_patients(tmp_path):
    alone = open_dataset(make_dataset(tmp_path / "alone", cases=0, classes=()))
    facts = describe(alone, **SPLIT)
    assert facts["splits"]["error"] == "no labelled images" and "labelled    none" in to_text(facts)
    few = open_dataset(make_dataset(tmp_path / "few", cases=2, clips=0))
    assert "needs at least 3" in describe(few, **SPLIT)["splits"]["error"]
    assert "clips       none" in to_text(describe(few, **SPLIT))


def test_outlines_are_drawn_and_the_inside_is_left(rng):
    grey = speckle(rng, 60, 60)
    mask = np.zeros((1, 60, 60), bool)
    mask[0, 20:40, 20:40] = True
    picture = draw_masks(grey, mask)
    assert picture[20, 30].tolist() == list(COLOURS[0])
    changed = (picture != grey[..., None]).any(axis=2)
    assert changed[20:40, 20:40].sum() == 76 == changed.sum()


def test_the_sheet_has_a_tile_for_each(dataset, tmp_path):
    sheet = contact_sheet(dataset, num_cases=4, num_clips=2)
    assert sheet.shape == (24 + 3 * (TILE_PX + 16), 6 * TILE_PX, 3)
    save_png(sheet, tmp_path / "deep" / "sheet.png")
    read = cv2.imread(str(tmp_path / "deep" / "sheet.png"))
    assert np.array_equal(read[..., ::-1], sheet)
    with pytest.raises(DataError, match="holds neither clips nor labelled images"):
        contact_sheet(dataset, num_cases=0, num_clips=0)
