"""A speckle term that no training case could feed is refused before the first trial, at the setting's place."""

import sys
from pathlib import Path

import pytest

from uscl.errors import SpecError
from uscl.spec.reader import load_sweep
from uscl.sweep.plan import plan_sweep
from uscl.sweep.preflight import have_data

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from clip_files import make_dataset


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("labelled") / "stills", size=32, clips=0, cases=9)


def plan_on(tmp_path, data, text="", sets=()):
    (tmp_path / "x.yaml").write_text(f"name: x\nrecipe: demo\ndata: {data}\nfixed:\n  method: supervised\n{text}")
    return plan_sweep(load_sweep(tmp_path / "x.yaml", sets=("image.size=32", *sets)), store_root=tmp_path / "store")


def test_regions_that_are_all_too_small(tmp_path, labelled):
    plan = plan_on(tmp_path, labelled, "  speckle: {weight: 0.1, min_pixels: 2000}\n")
    with pytest.raises(SpecError) as refused:
        have_data(plan, print)
    num_cases = len(plan.cells[0].chain.stage("finetune").data.cases)
    leaves = " or ".join(plan.cells[0].chain.stage("finetune").inputs.speckle.classes)
    assert str(refused.value) == (
        f"{tmp_path / 'x.yaml'}:6: speckle.min_pixels: no region of {leaves} has 2000 pixels of speckle"
        f" at image.size 32 in the {num_cases} training cases, so speckle.model: nakagami cannot be fitted;"
        " set a smaller min_pixels, other speckle.classes, or speckle.weight: 0"
    )


def test_patches_that_are_all_too_small(tmp_path, labelled):
    text = "  speckle: {weight: 0.1, region: patch, patch_px: 8, min_pixels: 64}\n"
    with pytest.raises(SpecError, match=r"has 64 pixels of speckle in a patch of 8 px at image.size 32"):
        have_data(plan_on(tmp_path, labelled, text), print)


def test_the_real_nnunet_is_asked_at_native_size(tmp_path, labelled):
    """Of stills of 20 x 30 px and more, with an image.size that it does not read."""
    pytest.importorskip("nnunetv2")
    text = "  speckle: {{weight: 0.1, region: patch, patch_px: {side}, min_pixels: {least}}}\n"
    nnunet = ("method=nnunetv2",)
    have_data(plan_on(tmp_path, labelled, text.format(side=40, least=64), sets=nnunet), print)
    with pytest.raises(SpecError, match=r"has 1000 pixels of speckle in a patch of 40 px at native size in the"):
        have_data(plan_on(tmp_path, labelled, text.format(side=40, least=1000), sets=nnunet), print)


def test_one_case_has_no_other_to_lend_its_speckle(tmp_path, labelled):
    text = "  labels.fraction: 0.1\n  speckle: {weight: 0.1, min_pixels: 4, permuted: true}\n"
    with pytest.raises(SpecError, match=r"x\.yaml:7: speckle\.permuted: true takes the speckle of another case, and"):
        plan_on(tmp_path, labelled, text)
    plan_on(tmp_path, labelled, text.replace("0.1\n", "1\n", 1))


@pytest.mark.parametrize("text", ["", "  speckle: {min_pixels: 2000}\n", "  speckle: {weight: 0.1, min_pixels: 4}\n"])
def test_what_can_be_fitted_or_is_off_passes(tmp_path, labelled, text):
    have_data(plan_on(tmp_path, labelled, text), print)


def test_a_phantom_is_asked_once_it_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # rendered in this process
    (tmp_path / "x.yaml").write_text(
        "name: x\nrecipe: demo\ndata: phantom\nfixed: {method: supervised, speckle.weight: 0.1, image.size: 32}\n"
        "grid: {speckle.min_pixels: [8, 1000]}\n"
        "phantom: {patients: 5, clips_per_patient: 1, frames_per_clip: 3, labels_per_patient: 1, size: 32}\n"
    )
    plan = plan_sweep(load_sweep(tmp_path / "x.yaml"), store_root=tmp_path / "store")
    with pytest.raises(SpecError, match=r"x\.yaml:5: speckle\.min_pixels: no region of cortex or medulla or cec has"):
        have_data(plan, lambda line: None)
    assert plan.dataset_path.exists()
