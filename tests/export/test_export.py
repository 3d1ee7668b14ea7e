"""`uscl export` and `uscl predict`: without the store, equal to what was scored, clear refusals."""

import csv
import dataclasses
import shutil

import cv2
import numpy as np
import pydicom
import pytest
import torch
from click.testing import CliRunner
from clip_files import write_video
from PIL import Image
from pydicom.data import get_testdata_file

from uscl.cli.main import uscl
from uscl.data.dataset import open_dataset
from uscl.data.ingest.frames import NativeFrame
from uscl.data.ingest.source import find_sources, shown, to_file_size
from uscl.errors import DataError, SpecError, StoreError
from uscl.export.model import find_cell_anywhere, model_of_cell, read_model, write_model
from uscl.export.predict import predict_files, predict_frame
from uscl.metrics.overlap import score_masks
from uscl.records import Outcome
from uscl.store.case_rows import CASES, decode_rows
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder

CPU = torch.device("cpu")


def call(*arguments, code=None):
    """Output of a command; `code` is what it returns to `main`, None where all went well."""
    result = CliRunner().invoke(uscl, [str(each) for each in arguments], catch_exceptions=False, standalone_mode=False)
    assert (result.return_value or None) == code, result.output
    return result.output


@pytest.fixture(scope="module")
def exported(root, links, tmp_path_factory):
    """The exported folder, far from the store."""
    out = tmp_path_factory.mktemp("exported") / "model"
    said = call("export", links.cell[:8], out, "--store", root)
    assert said.startswith(f"{out}: cell 1 ({links.cell[:10]}), val/dsc ") and said.endswith("; classes a, b\n")
    return out


@pytest.fixture
def bright():
    """A predictor of two classes: over 100, and over 200."""
    return lambda image: np.stack([image > 100, image > 200])


def masks_in(out, name, classes=("a", "b")):
    planes = [cv2.imread(str(out / "masks" / f"{name}-{each}.png"), cv2.IMREAD_UNCHANGED) for each in classes]
    assert all(plane.dtype == np.uint8 and set(np.unique(plane)) <= {0, 255} for plane in planes)
    return np.stack(planes) > 0


def test_predicted_masks_are_those_that_were_scored(exported, root, links, dataset, tmp_path):
    """Every measured overlap of the test evaluation, computed again from the PNGs, to the last digit."""
    opened, cases = open_dataset(dataset), links.stage("evaluate/test").data.cases
    for name in cases:
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(opened.case(name).image).save(path)
    call("predict", exported, tmp_path / "images", tmp_path / "out")
    rows = decode_rows(StageStore(root).read(links.stage("evaluate/test").ref, CASES))
    found = 0
    for name in cases:
        case, predicted = opened.case(name), masks_in(tmp_path / "out", name)
        assert predicted.shape == case.masks.shape
        scores = score_masks(predicted, case.masks, ("a", "b"), known_HW=case.known)
        for row in (row for row in rows if row.case == name):
            found += 1
            assert {each: row.values[each] for each in scores[row.class_name]} == pytest.approx(
                scores[row.class_name], rel=0, abs=0, nan_ok=True
            )
    assert found == 2 * len(cases) and any(row.values["dsc"] > 0 for row in rows)


def test_an_exported_model_needs_no_store(exported, root, links):
    model, cell = read_model(exported), find_cell_anywhere(root, links.cell[:8])
    image = np.random.default_rng(0).integers(0, 256, (40, 70), dtype=np.uint8)
    from_store = model_of_cell(root, cell).predictor(CPU)(image)
    assert from_store.any() and (model.predictor(CPU)(image) == from_store).all()
    assert sorted(path.name for path in exported.iterdir()) == ["model.json", "weights.safetensors"]


def test_model_json_says_what_the_network_is(exported):
    document = read_model(exported).document
    assert document["classes"] == ["a", "b"] and document["contains"] == {"a": ["b"]}
    assert document["preprocessing"]["size_px"] == 32 and document["preprocessing"]["tta"] == "flip"
    assert document["settings"]["finetune.steps"] == 4 and {"val/dsc", "test/dsc/a"} <= set(document["metrics"])
    assert {"uscl", "torch", "dataset", "dataset_fingerprint"} <= set(document["provenance"])


def test_a_cell_predicts_without_being_exported(root, tmp_path):
    Image.fromarray(np.full((30, 20), 90, np.uint8)).save(tmp_path / "one.png")
    call("predict", "1", tmp_path / "one.png", tmp_path / "out", "--sweep", "noise", "--store", root)
    assert masks_in(tmp_path / "out", "one").shape == (2, 30, 20)


def test_a_mixed_folder_gives_masks_overlays_and_areas(bright, tmp_path):
    images = tmp_path / "in"
    (images / "left").mkdir(parents=True)
    frame = np.full((30, 20), 150, np.uint8)
    frame[:10, :5] = 250
    Image.fromarray(frame).save(images / "left" / "still.png")
    Image.fromarray(frame).save(images / "left" / "still.tif")
    write_video(images / "clip.avi", np.stack([frame, frame // 2, frame * 0 + 40]))
    (images / "notes.txt").write_text("not an image")
    summary = predict_files(bright, images, tmp_path / "out", classes=("a", "b"))
    assert (summary.files, summary.frames, summary.unreadable) == (3, 5, [])
    names = ["clip-f00000", "clip-f00001", "clip-f00002", "left-still-png", "left-still-tif"]
    assert sorted(path.stem for path in (tmp_path / "out" / "overlays").iterdir()) == names
    assert (masks_in(tmp_path / "out", "left-still-tif") == bright(frame)).all()
    with (tmp_path / "out" / "areas.csv").open() as stream:
        rows = {(row["file"], row["frame"], row["class"]): row for row in csv.DictReader(stream)}
    assert len(rows) == 10
    still = rows[("left/still.png", "0", "b")]
    assert (still["area_px"], still["area_fraction"], still["area_mm2"]) == ("50", f"{50 / 600:.6f}", "")
    assert rows[("clip.avi", "1", "a")]["area_px"] == "50" and rows[("clip.avi", "2", "a")]["area_px"] == "0"


def test_a_dicom_cine_is_read_within_its_region_and_masked_at_its_own_size(bright, tmp_path):
    header, region = pydicom.dcmread(get_testdata_file("examples_ybr_color.dcm")), pydicom.Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = 30, 289
    region.RegionLocationMinY0, region.RegionLocationMaxY1 = 20, 219
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.06, 0.04
    header.SequenceOfUltrasoundRegions = pydicom.Sequence([region])
    header.save_as(tmp_path / "cine.dcm")
    summary = predict_files(bright, tmp_path / "cine.dcm", tmp_path / "out", classes=("a", "b"))
    assert summary.frames == 30
    frames = list(find_sources(tmp_path / "cine.dcm")[0].frames())
    masks = masks_in(tmp_path / "out", "cine-f00007")
    assert masks.shape[1:] == frames[7].image.shape
    outside = np.ones(frames[7].image.shape, bool)
    outside[frames[7].rows, frames[7].columns] = False
    assert outside.any() and not masks[:, outside].any() and masks.any()
    with (tmp_path / "out" / "areas.csv").open() as stream:
        row = next(row for row in csv.DictReader(stream) if row["frame"] == "7")
    assert frames[7].pixel_mm2 == pytest.approx(0.24) and int(row["area_px"]) > 0
    assert float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * frames[7].pixel_mm2, abs=1e-3)


def test_pixels_that_are_not_square_are_made_so_and_back(bright):
    image = np.zeros((20, 12), np.uint8)
    image[5:10, 3:9] = 250
    frame = NativeFrame(image, slice(2, 18), slice(1, 11), aspect=2.0, row_mm=0.5)
    assert shown(frame).shape == (16, 20) and frame.pixel_mm2 == 0.5
    masks = predict_frame(bright, frame)
    assert masks.shape == (2, 20, 12) and (masks[0] == (image > 100)).all()
    assert not to_file_size(frame, np.ones((1, 16, 20), bool))[0, :2].any()


def test_what_cannot_be_read_is_left_out_and_named(exported, tmp_path):
    images = tmp_path / "in"
    images.mkdir()
    Image.fromarray(np.full((30, 20), 90, np.uint8)).save(images / "good.png")
    (images / "bad.png").write_bytes(b"no picture")
    said = call("predict", exported, images, tmp_path / "out", code=1)
    assert "1 frames of 1 files" in said and f"left out: {images / 'bad.png'}" in said
    (images / "good.png").unlink()
    with pytest.raises(DataError, match=r"^nothing could be predicted: .*bad.png"):
        call("predict", exported, images, tmp_path / "again")
    assert not (tmp_path / "again").exists(), "the next try may use the same folder"


def test_a_cell_that_has_not_finished_is_one_line(root, tmp_path):
    with pytest.raises(
        StoreError, match=r"^cell 2 \(cell 2, \w{10}\) has not finished: no finetune, evaluate/val, eval"
    ):
        call("export", "2", tmp_path / "out", "--sweep", "noise", "--store", root)
    assert not (tmp_path / "out").exists()


def test_a_diverged_cell_is_one_line(root, links, tmp_path):
    store, sweep = StageStore(tmp_path / "store"), SweepFolder(tmp_path / "store", "noise")
    store.publish(
        links.stage("finetune").ref, attempt="a", files={}, outcome=Outcome.DIVERGED, inputs={}, parent=None,
        metrics={}, flags=(), provenance={},
    )  # fmt: skip
    sweep.write_sweep({"name": "noise"})
    sweep.write_cells(SweepFolder(root, "noise").read_cells())
    with pytest.raises(StoreError, match=r"^cell 1 \(cell 1, \w{10}\) diverged: it has no weights to use$"):
        call("export", links.cell[:6], tmp_path / "out", "--store", tmp_path / "store")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1" * 20, "a cell's number needs its sweep: --sweep NAME"),
        ("zz", "`uscl check FILE` prints ids; see also --store"),
        ("", "`uscl check FILE` prints ids"),
    ],
)
def test_a_cell_that_is_not_there_is_one_line(root, tmp_path, cell, message):
    with pytest.raises(SpecError, match=r"^no cell id starts with") as caught:
        call("export", cell, tmp_path / "out", "--store", root)
    assert message in str(caught.value)


def test_one_cell_of_two_sweeps_is_one_cell(root, links, tmp_path):
    shutil.copytree(root, tmp_path / "store")
    twin = SweepFolder(tmp_path / "store", "twin")
    twin.write_sweep({"name": "twin"})
    twin.write_cells(SweepFolder(root, "noise").read_cells())
    assert find_cell_anywhere(tmp_path / "store", links.cell[:8]).plan.cell == links.cell


def test_a_folder_that_is_there_is_not_written_over(exported, tmp_path):
    with pytest.raises(DataError, match="is there already; choose another folder, or remove it"):
        write_model(read_model(exported), exported)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    Image.fromarray(np.full((30, 20), 90, np.uint8)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="is there already; choose another folder, or remove it"):
        call("predict", exported, tmp_path / "one.png", tmp_path / "out")


def test_a_model_of_the_real_nnunet_needs_its_package(exported, monkeypatch):
    model = read_model(exported)
    evaluated = model.document["evaluate"] | {"engine": "nnunetv2", "image": None, "network": None}
    package = dataclasses.replace(model, document={**model.document, "evaluate": evaluated})
    monkeypatch.setattr("uscl.export.model.find_spec", lambda name: None)
    with pytest.raises(
        SpecError, match=r"^this model predicts with the real nnunetv2 package: pip install 'uscl\[nnunet\]'$"
    ):
        package.predictor(CPU)


def test_a_damaged_model_is_refused(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"weights.safetensors is missing or not as it was exported"):
        read_model(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text("{}")
    with pytest.raises(DataError, match=r"is no exported model"):
        read_model(tmp_path / "model")
