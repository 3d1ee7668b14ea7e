"""Whatever a mask, class map or dataset.json holds, the answer is a value or one line, never a traceback."""

import json

import numpy as np
import yaml
from clip_files import speckle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from uscl.data.ingest.drawn import read_picture
from uscl.data.ingest.mask_layout import MaskLayout, Picture, find_pictures
from uscl.data.ingest.mask_values import MaskFile, MaskRules
from uscl.data.ingest.masks import ClassMap, read_class_map
from uscl.data.ingest.nnunet_folder import read_nnunet_folder
from uscl.errors import DataError

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
leaves = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=6), st.just("#ff0000"))
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
COLOURS = {(255, 0, 0): "a", (0, 255, 0): "b"}


def told(call):
    """The result, or the words of its DataError, which are one line."""
    try:
        return call()
    except DataError as error:
        assert "\n" not in str(error)
        return str(error)


@QUIET
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("classes", "colours", "contains", "ignore"), trees)))
def test_a_class_map_of_anything(tmp_path, document):
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(document))
    read = told(lambda: read_class_map(tmp_path / "classes.yaml"))
    assert isinstance(read, str) or read.classes


@QUIET
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("labels", "channel_names", "file_ending"), trees)))
def test_a_dataset_json_of_anything(tmp_path, document):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir(exist_ok=True)
    Image.new("L", (4, 4)).save(tmp_path / "imagesTr" / "a_0000.png")
    Image.new("L", (4, 4)).save(tmp_path / "labelsTr" / "a.png")
    (tmp_path / "dataset.json").write_text(json.dumps({"file_ending": ".png"} | document))
    read = told(lambda: read_nnunet_folder(tmp_path))
    assert isinstance(read, str) or len(read.pictures) == 1


@QUIET
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["1", "L", "P", "RGB", "RGBA", "I;16", "LA"]),
    st.integers(1, 5),
    st.sampled_from([".png", ".tif", ".jpg", ".bmp"]),
    st.sampled_from([None, 1, 128]),
    st.sampled_from([0, 255]),
    st.booleans(),
)
def test_a_mask_of_any_pixels(tmp_path, seed, mode, levels, suffix, threshold, tolerance, by_colour):
    """One class: whatever is read as it lies where the file is not 0."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, levels, (6, 7), dtype=np.uint8)
    path = tmp_path / f"m{suffix}"
    picture = Image.fromarray(grey.astype(np.uint16)) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    try:
        picture.save(path)
    except (OSError, KeyError):
        return  # no such file exists
    Image.fromarray(speckle(rng, 6, 7)).save(tmp_path / "i.png")
    class_map = ClassMap({}, colours=COLOURS) if by_colour else ClassMap({1: "a"})
    rules = MaskRules(threshold=threshold, colour_tolerance=tolerance, empty="absent")
    given_picture = Picture(tmp_path / "i.png", "i", "i", {"": (MaskFile(path),)})
    read = told(lambda: read_picture(given_picture, class_map, rules))
    if not isinstance(read, str):
        (frame,) = read.frames
        assert frame.drawings[0].masks.shape == (len(class_map.classes), 6, 7)
        assert not frame.drawings[0].masks[:, grey == 0].any() or suffix == ".jpg"


@QUIET
@given(
    st.binary(max_size=400), st.integers(0, 60), st.sampled_from([".png", ".bmp", ".tif", ".jpg", ".nii.gz", ".mha"])
)
def test_a_damaged_mask_file(tmp_path, noise, start, suffix):
    Image.new("L", (9, 9), 1).save(tmp_path / "i.png")
    path = tmp_path / f"m{suffix}"
    whole = (tmp_path / "i.png").read_bytes()
    path.write_bytes(whole[:start] + noise)
    picture = Picture(tmp_path / "i.png", "i", "i", {"": (MaskFile(path),)})
    told(lambda: read_picture(picture, ClassMap({1: "a"}), MaskRules(empty="absent")))


@QUIET
@given(
    st.lists(st.text("ab_(1) *[", min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    st.text("_*m[?", max_size=4),
)
def test_no_file_is_image_and_mask_at_once(tmp_path_factory, names, ending):
    folder = tmp_path_factory.mktemp("any")
    for name in names:
        (folder / f"{name}.png").touch()
    found = told(lambda: find_pictures(folder, MaskLayout(f"{{stem}}{ending}.png")))
    if not isinstance(found, str):
        masks = {file.path for picture in found.pictures for files in picture.masks.values() for file in files}
        assert not masks & {picture.image for picture in found.pictures}
