"""nnU-Net folders and volumes: what dataset.json says of classes, files by channel, 2-D and 2-D over time."""

import json

import numpy as np
import pytest
from clip_files import speckle
from PIL import Image

from uscl.data.dataset import open_dataset
from uscl.data.ingest.labels import import_labels, import_pictures
from uscl.data.ingest.mask_layout import MaskLayout
from uscl.data.ingest.mask_values import MaskRules
from uscl.data.ingest.masks import ClassMap
from uscl.data.ingest.nnunet_folder import read_nnunet_folder
from uscl.errors import DataError

NESTED = {"background": 0, "kidney": [1, 2, 3], "cortex": 2, "medulla": 3}


def values(rng, shape=(20, 24)):
    """Pixels of 0 to 3 in blocks."""
    return np.kron(rng.integers(0, 4, (shape[0] // 4, shape[1] // 4)), np.ones((4, 4))).astype(np.uint8)


def write_folder(root, rng, *, labels=NESTED, cases=4, test=(), **document):
    """A folder of version 2 with PNG files; `test` cases lie in imagesTs, the first of them with a mask."""
    drawn = {}
    for number in range(cases):
        part = "Ts" if number in test else "Tr"
        (root / f"images{part}").mkdir(parents=True, exist_ok=True)
        (root / f"labels{part}").mkdir(exist_ok=True)
        Image.fromarray(speckle(rng, 20, 24)).save(root / f"images{part}" / f"k_{number:03}_0000.png")
        drawn[f"k_{number:03}"] = values(rng)
        if not test or number not in test[1:]:
            Image.fromarray(drawn[f"k_{number:03}"]).save(root / f"labels{part}" / f"k_{number:03}.png")
    document = {"labels": labels, "channel_names": {"0": "B-mode"}, "file_ending": ".png", "numTraining": 99} | document
    (root / "dataset.json").write_text(json.dumps(document))
    return drawn


def import_folder(root, out, **options):
    found = read_nnunet_folder(root)
    summary = import_pictures(found.pictures, root, out, class_map=found.class_map, size=32, **options)
    return open_dataset(out), (*found.remarks, *summary.remarks)


def test_regions_become_nested_classes(tmp_path, rng):
    drawn = write_folder(tmp_path / "in", rng)
    dataset, _ = import_folder(tmp_path / "in", tmp_path / "out")
    assert dataset.classes == ("kidney", "cortex", "medulla")
    assert dataset.index.contains == {"kidney": ("cortex", "medulla")}
    for case, mask in drawn.items():
        assert np.array_equal(dataset.case(case).masks, [mask > 0, mask == 2, mask == 3])


def test_regions_three_deep_without_pixels_of_their_own(tmp_path, rng):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "one": 1, "enhancing": 3, "ignore": 4}
    write_folder(tmp_path / "in", rng, labels=labels)
    class_map = read_nnunet_folder(tmp_path / "in").class_map
    assert class_map.names == {1: "one", 2: "core", 3: "enhancing"} and class_map.ignore == 4
    assert class_map.contains == {"whole": ["core", "one"], "core": ["enhancing"]}


def test_labels_of_version_1_are_the_other_way_round(tmp_path, rng):
    labels = {"0": "background", "1": "a", "2": "b", "3": "c"}
    document = {"labels": labels, "modality": {"0": "US"}, "file_ending": ".png"}
    write_folder(tmp_path / "in", rng, **document)
    assert read_nnunet_folder(tmp_path / "in").class_map == ClassMap({1: "a", 2: "b", 3: "c"})


def test_test_cases_with_masks_are_the_test_part(tmp_path, rng):
    write_folder(tmp_path / "in", rng, cases=8, test=(5, 6, 7))
    dataset, remarks = import_folder(tmp_path / "in", tmp_path / "out")
    assert {case.case: case.split for case in dataset.index.cases} == {
        **{f"k_{n:03}": "" for n in range(5)}, "k_005": "test",
    }  # fmt: skip
    assert "2 images of imagesTs have no mask (k_006_0000.png, ...): left out" in remarks


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"labels": {}}, "expected labels, like"),
        ({"labels": {"background": 0, "a": "1"}}, "label 'a': expected a whole number, or a list of them"),
        (
            {"labels": {"background": 0, "a": [1, 2], "b": [2, 3]}},
            "'a' and 'b' share values",
        ),
        ({"labels": {"background": 0}}, "names no class"),
        ({"file_ending": ".exe"}, "file_ending is none that is read"),
        ({"channel_names": {"0": "B-mode", "1": "Doppler"}}, r"2 channels \(0 B-mode, 1 Doppler\); choose one with"),
        ({"channel_names": []}, "holds no|expected channel_names"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, rng, document, message):
    write_folder(tmp_path / "in", rng, **document)
    if document == {"channel_names": []}:
        (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": NESTED, "channel_names": ["B-mode"]}))
    with pytest.raises(DataError, match=message):
        read_nnunet_folder(tmp_path / "in")


@pytest.mark.parametrize("text", ["{", "[]", "\xff", "[" * 100_000])
def test_no_description_and_a_broken_one_are_told(tmp_path, rng, text):
    write_folder(tmp_path / "in", rng)
    (tmp_path / "in" / "dataset.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"dataset\.json: (cannot be read as JSON|expected an object)"):
        read_nnunet_folder(tmp_path / "in")
    (tmp_path / "in" / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"dataset\.json: is missing"):
        read_nnunet_folder(tmp_path / "in")


def test_partners_are_needed_by_name(tmp_path, rng):
    write_folder(tmp_path / "in", rng)
    (tmp_path / "in" / "labelsTr" / "k_001.png").unlink()
    (tmp_path / "in" / "imagesTr" / "k_002_0000.png").unlink()
    with pytest.raises(DataError, match=r"k_002\.png has no image in imagesTr; .*k_001_0000\.png has no mask; nnU-Net"):
        read_nnunet_folder(tmp_path / "in")
    (tmp_path / "in" / "imagesTr" / "odd.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"odd\.png: expected a name like case_0000\.png"):
        read_nnunet_folder(tmp_path / "in")


# ---- volumes


@pytest.fixture
def sitk():
    return pytest.importorskip("SimpleITK")


def save_volume(sitk, path, array, spacing=None, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def import_nifti(folder, out, rules=MaskRules(), layout=MaskLayout("{stem}_gt.nii.gz")):  # noqa: B008
    classes = ClassMap({1: "a", 2: "b", 3: "c"})
    return import_labels(folder, out, class_map=classes, size=32, layout=layout, rules=rules)


def test_frames_of_a_volume_become_cases_with_clip_frame_and_spacing(tmp_path, rng, sitk):
    """As CAMUS has it: a sequence and its `_gt`; SimpleITK spacing is (column, row, time)."""
    grey, drawn = speckle(rng, 5, 20, 24), np.stack([values(rng) for _ in range(5)])
    drawn[3] = 0
    save_volume(sitk, tmp_path / "in" / "p1" / "p1_2CH.nii.gz", grey, (0.2, 0.3, 40.0))
    save_volume(sitk, tmp_path / "in" / "p1" / "p1_2CH_gt.nii.gz", drawn, (0.2, 0.3, 40.0))
    with pytest.raises(DataError, match="1 mask holds no pixel of any class"):
        import_nifti(tmp_path / "in", tmp_path / "out")
    import_nifti(tmp_path / "in", tmp_path / "out", MaskRules(empty="skip"))
    dataset = open_dataset(tmp_path / "out")
    assert [(row["case"], row["clip"], row["frame"]) for row in dataset.case_rows] == [
        (f"p1-p1_2CH-f{n:04}", "p1-p1_2CH", n) for n in (0, 1, 2, 4)
    ]
    assert len({(case.patient, case.group) for case in dataset.index.cases}) == 1
    assert not any(case.excluded for case in dataset.index.cases)
    case = dataset.case("p1-p1_2CH-f0002")
    assert np.array_equal(case.image, grey[2])
    assert np.array_equal(case.masks, [drawn[2] == value for value in (1, 2, 3)])
    assert case.spacing_mm == pytest.approx((0.3, 0.2))


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((1, 20, 24), (0.2, 0.3, 1.0), (0.3, 0.2)),
        ((1, 20, 24), (0.2, 0.3, 999.0), (0.3, 0.2)),
        ((20, 24, 1), (999.0, 0.2, 0.3), (0.3, 0.2)),
        ((20, 24), (0.2, 0.3), (0.3, 0.2)),
        ((1, 20, 24), (1.0, 1.0, 999.0), None),
    ],
)
def test_a_fake_axis_is_no_time(tmp_path, rng, sitk, shape, spacing, expected):
    grey, drawn = speckle(rng, 20, 24), values(rng)
    save_volume(sitk, tmp_path / "in" / "a.nii.gz", grey.reshape(shape), spacing)
    save_volume(sitk, tmp_path / "in" / "a_gt.nii.gz", drawn.reshape(shape), spacing)
    import_nifti(tmp_path / "in", tmp_path / "out")
    case = open_dataset(tmp_path / "out").case("a")
    assert np.array_equal(case.image, grey) and np.array_equal(case.masks[1], drawn == 2)
    assert case.spacing_mm == (pytest.approx(expected) if expected else None)


def test_nnunet_with_nifti_files(tmp_path, rng, sitk):
    root = tmp_path / "in"
    drawn = write_folder(root, rng, file_ending=".nii.gz")
    for case, mask in drawn.items():
        save_volume(sitk, root / "imagesTr" / f"{case}_0000.nii.gz", speckle(rng, 1, 20, 24), (0.1, 0.1, 999.0))
        save_volume(sitk, root / "labelsTr" / f"{case}.nii.gz", mask[None].astype(np.float32), (0.1, 0.1, 999.0))
    dataset, _ = import_folder(root, tmp_path / "out")
    for case, mask in drawn.items():
        assert np.array_equal(dataset.case(case).masks[1], mask == 2)
        assert dataset.case(case).spacing_mm == pytest.approx((0.1, 0.1))


def test_the_same_volume_twice_is_a_copy_frame_by_frame_and_another_one_is_not(tmp_path, rng, sitk):
    grey, drawn = speckle(rng, 3, 20, 24), np.stack([values(rng) for _ in range(3)])
    moved = grey.copy()
    moved[2] = grey[0]
    for name, frames in (("a", grey), ("b", grey), ("c", moved)):
        save_volume(sitk, tmp_path / "in" / f"{name}.nii.gz", frames)
        save_volume(sitk, tmp_path / "in" / f"{name}_gt.nii.gz", drawn)
    import_nifti(tmp_path / "in", tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    copies = {row["case"]: row["copy_of"] for row in dataset.case_rows if row["excluded"]}
    assert copies == {f"b-f{n:04}": f"a-f{n:04}" for n in range(3)}
    assert len({case.group for case in dataset.index.cases}) == 1  # the first frames are one picture


@pytest.mark.parametrize(
    ("grey", "mask", "message"),
    [
        ((3, 20, 24), (2, 20, 24), "has 3 frames, but its mask .* has 2"),
        ((3, 20, 24), (3, 24, 20), r"is 24 x 20 px \(width x height\), but its mask .* is 20 x 24 px"),
    ],
)
def test_a_mask_volume_of_another_shape_is_refused(tmp_path, rng, sitk, grey, mask, message):
    save_volume(sitk, tmp_path / "in" / "a.nii.gz", speckle(rng, *grey))
    save_volume(sitk, tmp_path / "in" / "a_gt.nii.gz", np.ones(mask, np.uint8))
    with pytest.raises(DataError, match=message):
        import_nifti(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("levels", "mask", "message"),
    [
        (np.float32(0.5), np.uint8(1), "holds grey levels of 0.5 to 0.5; expected 0 to 255"),
        (np.int16(-3), np.uint8(1), "holds grey levels of -3 to -3; expected 0 to 255"),
        (np.uint8(9), np.float32(0.5), "holds values with fractions"),
        (np.uint8(9), np.int16(-1), r"holds value -1 \(16 px\), which --classes does not name"),
    ],
)
def test_levels_and_values_that_mean_nothing_are_refused(tmp_path, sitk, levels, mask, message):
    save_volume(sitk, tmp_path / "in" / "a.nii.gz", np.full((1, 4, 4), levels))
    save_volume(sitk, tmp_path / "in" / "a_gt.nii.gz", np.full((1, 4, 4), mask))
    with pytest.raises(DataError, match=message):
        import_nifti(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not a volume", b"\x1f\x8b\x08\x00cut"])
def test_a_broken_volume_is_one_line_without_its_header(tmp_path, sitk, content):
    (tmp_path / "in").mkdir()
    for name in ("a", "a_gt"):
        (tmp_path / "in" / f"{name}.nii.gz").write_bytes(content)
    with pytest.raises(DataError) as caught:
        import_nifti(tmp_path / "in", tmp_path / "out")
    assert str(caught.value) == f"{tmp_path / 'in' / 'a.nii.gz'}: cannot be read as a volume: damaged, or cut short"


def test_an_mha_that_points_to_another_file_is_refused(tmp_path, rng, sitk):
    layout = MaskLayout("{stem}_gt.mha")
    save_volume(sitk, tmp_path / "in" / "a.mha", speckle(rng, 1, 20, 24))
    save_volume(sitk, tmp_path / "in" / "a_gt.mha", values(rng)[None])
    import_nifti(tmp_path / "in", tmp_path / "out", layout=layout)
    whole = (tmp_path / "in" / "a.mha").read_bytes()
    (tmp_path / "in" / "a.mha").write_bytes(whole.replace(b"ElementDataFile = LOCAL", b"ElementDataFile = ../secret"))
    with pytest.raises(DataError, match=r"a\.mha: does not hold its pixels itself"):
        import_nifti(tmp_path / "in", tmp_path / "other", layout=layout)


def test_without_the_extra_the_message_says_how_to_get_it(tmp_path, rng, sitk, monkeypatch):
    save_volume(sitk, tmp_path / "in" / "a.nii.gz", speckle(rng, 1, 20, 24))
    save_volume(sitk, tmp_path / "in" / "a_gt.nii.gz", values(rng)[None])
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(DataError, match=r"volumes need SimpleITK; install it with: pip install 'uscl\[volumes\]'"):
        import_nifti(tmp_path / "in", tmp_path / "out")
