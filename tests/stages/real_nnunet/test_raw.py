"""nnU-Net's raw dataset as its reader finds it, the schedule, the plans' two edits, and its environment."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uscl.data.dataset import Case
from uscl.errors import DataError
from uscl.stages.nnunetv2.labels import LabelScheme
from uscl.stages.nnunetv2.raw import edit_plans, environment, epochs_of, image_path, raw_folder, write_raw

SCHEME = LabelScheme.of(("outer", "inner"), {"outer": ("inner",)})


def case_of(height, width, *, known=True, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    masks = np.zeros((2, height, width), bool)
    masks[0, 1:5], masks[1, 2:4] = True, True
    everywhere = np.ones((height, width), bool)
    return Case(f"any name {seed}", "p", image, masks, everywhere if known else ~masks[1], everywhere, None)


def test_images_and_labels_are_lossless_at_native_size(tmp_path):
    cases = [case_of(7, 11), case_of(9, 6, seed=1)]
    lost = write_raw(tmp_path, cases, SCHEME)
    assert lost == {"outer": 0.0, "inner": 0.0}
    for name, case in zip(("case_00000", "case_00001"), cases, strict=True):
        image = cv2.imread(str(image_path(tmp_path, name)), cv2.IMREAD_UNCHANGED)
        labels = cv2.imread(str(raw_folder(tmp_path) / "labelsTr" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert image.dtype == np.uint8 and (image == case.image).all()
        assert (SCHEME.decode(labels) == case.masks).all()


def test_its_split_trains_on_our_cases_and_selects_by_none(tmp_path):
    write_raw(tmp_path, [case_of(7, 11), case_of(7, 11)], SCHEME)
    names = ["case_00000", "case_00001"]
    assert json.loads((raw_folder(tmp_path) / "splits_final.json").read_text()) == [{"train": names, "val": names}]
    document = json.loads((raw_folder(tmp_path) / "dataset.json").read_text())
    assert document["numTraining"] == 2 and document["channel_names"] == {"0": "ultrasound"}
    assert "ignore" not in document["labels"] and document["regions_class_order"] == [1, 2]


def test_one_unknown_pixel_makes_an_ignore_label(tmp_path):
    write_raw(tmp_path, [case_of(7, 11), case_of(7, 11, known=False)], SCHEME)
    assert json.loads((raw_folder(tmp_path) / "dataset.json").read_text())["labels"]["ignore"] == 3


def test_overlapping_classes_are_refused_before_anything_trains(tmp_path):
    with pytest.raises(DataError, match="it partly overlaps another class; declare which class contains which"):
        write_raw(tmp_path, [case_of(7, 11)], LabelScheme.of(("outer", "inner"), {}))


@given(st.integers(1, 300_000))
def test_epochs_make_exactly_the_steps(steps):
    epochs, iterations = epochs_of(steps)
    assert epochs * iterations == steps and iterations <= 250 and epochs >= min(steps, 50)


def test_the_packages_own_schedule():
    assert epochs_of(250_000) == (1000, 250) and epochs_of(250) == (50, 5)


PLANS = {"configurations": {"2d": {"batch_size": 12, "architecture": {"arch_kwargs": {}}}}}
FEATURES = [32, 64, 128, 256, 512, 512]
PLANS["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] = FEATURES


def test_its_own_plans_stay_as_they_are():
    assert edit_plans(PLANS, batch=None, base_width=32) == PLANS


def test_batch_and_width_are_edited_as_a_user_would():
    edited = edit_plans(PLANS, batch=5, base_width=8)["configurations"]["2d"]
    assert edited["batch_size"] == 5
    assert edited["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 64, 128, 256]
    wide = edit_plans(PLANS, batch=None, base_width=64)["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert wide["features_per_stage"] == [64, 128, 256, 512, 512, 512]
    assert PLANS["configurations"]["2d"]["batch_size"] == 12


def test_every_folder_of_its_environment_is_in_the_scratch(tmp_path):
    before = {"nnUNet_results": "/somewhere/else", "PATH": "/bin"}
    found = environment(tmp_path, before, threads=3)
    folders = {name: found[name] for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    assert all(value.startswith(str(tmp_path)) for value in folders.values())
    assert found["PATH"] == "/bin" and found["OMP_NUM_THREADS"] == "3"


def test_frames_are_shrunk_to_the_longest_side_asked_for(tmp_path):
    write_raw(tmp_path, [case_of(70, 110)], SCHEME, longest_px=55)
    labels = next((raw_folder(tmp_path) / "labelsTr").iterdir())
    shapes = {
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in (image_path(tmp_path, "case_00000"), labels)
    }
    assert shapes == {(35, 55)}
