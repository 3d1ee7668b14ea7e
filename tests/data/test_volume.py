"""Volumes as clips: axes, depth, spacing, colour, missing pixel files, and what is no clip."""

import importlib.util
import struct
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
from clip_files import speckle

from uscl.data.ingest import volume, volume_pixels
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.volume import find_volumes, read_volume
from uscl.data.ingest.volume_header import check_nifti_length
from uscl.errors import DataError

itk = pytest.importorskip("SimpleITK")
OPTIONS = ClipOptions(48)


@pytest.fixture
def own_process():
    """For a test that takes the time of starting another Python."""


@pytest.fixture(autouse=True)
def this_process(request, monkeypatch):
    """SimpleITK reads in the process of the test, which is faster; unless it asks for `own_process`."""

    def run(command, **settings):
        assert settings["timeout"] and command[:3] == [sys.executable, "-P", volume_pixels.__file__]
        said, code = StringIO(), 0
        with redirect_stdout(said):
            try:
                volume_pixels.main(command[3], command[4], int(command[5]))
            except RuntimeError:
                code = 1
        return SimpleNamespace(stdout=said.getvalue().encode(), returncode=code)

    if "own_process" not in request.fixturenames:
        monkeypatch.setattr(subprocess, "run", run)


def test_another_process_reads_and_may_die(tmp_path, rng, own_process, monkeypatch, capfd):
    array = speckle(rng, 5, 48, 48)
    path = write(tmp_path / "a.mha", array)
    assert np.array_equal(read_one(path).frames, array)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"a\.mha: cannot be read as a volume: it is damaged, cut short, or not"):
        read_one(path)
    for body in ("import os; os.abort()", "import time; time.sleep(60)"):
        (tmp_path / "program.py").write_text(body)
        monkeypatch.setattr(volume_pixels, "__file__", str(tmp_path / "program.py"))
        monkeypatch.setattr(volume, "_TIMEOUT_S", 1)
        with pytest.raises(DataError, match=r"cannot be read as a volume(: it is damaged|.* within 1 s)"):
            read_one(path)
    assert capfd.readouterr() == ("", "")


def write(path, array, *, spacing=None, vector=False):
    """`array` (T, H, W), (H, W) or with components last, as SimpleITK has it."""
    image = itk.GetImageFromArray(array, isVector=vector)
    if spacing:
        image.SetSpacing(spacing)
    itk.WriteImage(image, str(path))
    return path


def read_one(path, options=OPTIONS):
    (clip,) = read_volume(path, options)
    return clip


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_the_third_axis_is_time(tmp_path, rng, name):
    array = speckle(rng, 5, 36, 48)
    clip = read_one(write(tmp_path / name, array, spacing=(0.2, 0.2, 1.0)))
    assert np.array_equal(clip.frames[:, 6:42], array)
    assert clip.source_size == (36, 48) and clip.spacing_mm == pytest.approx((0.2, 0.2))
    assert clip.times_ms is None and "frame times missing or unsorted: unknown" in clip.notes


def test_a_square_volume_is_not_turned(tmp_path):
    array = np.arange(48 * 48).reshape(48, 48) % 200
    array = np.stack([array, array + 20]).astype(np.uint8)
    assert np.array_equal(read_one(write(tmp_path / "a.nii.gz", array)).frames, array)


def test_one_plane_and_a_fourth_axis(tmp_path, rng):
    array = speckle(rng, 4, 48, 48)
    assert len(read_one(write(tmp_path / "a.nii", array[:1])).frames) == 1  # (W, H, 1)
    assert len(read_one(write(tmp_path / "b.mha", array[0])).frames) == 1
    series = itk.JoinSeries([itk.GetImageFromArray(plane[None]) for plane in array])  # (W, H, 1, T)
    itk.WriteImage(series, str(tmp_path / "c.nii.gz"))
    assert np.array_equal(read_one(tmp_path / "c.nii.gz").frames, array)
    series = itk.JoinSeries([itk.GetImageFromArray(array)] * 2)
    itk.WriteImage(series, str(tmp_path / "d.nii.gz"))
    with pytest.raises(DataError, match=r"d\.nii\.gz: has axes of 48 x 48 x 4 x 2: not planes over time"):
        read_one(tmp_path / "d.nii.gz")


def test_the_given_rate_makes_times(tmp_path, rng):
    path = write(tmp_path / "a.nii", speckle(rng, 3, 48, 48))
    assert read_one(path, ClipOptions(48, frame_rate_hz=50)).times_ms.tolist() == [0, 20, 40]


def test_pixels_become_square_and_spacing_that_says_nothing_is_unknown(tmp_path, rng):
    clip = read_one(write(tmp_path / "a.nii", speckle(rng, 2, 40, 40), spacing=(0.3, 0.2, 1.0)))
    assert clip.source_size == (40, 60) and clip.spacing_mm == pytest.approx((0.25, 0.25))
    clip = read_one(write(tmp_path / "b.nii", speckle(rng, 2, 48, 48)))
    assert clip.spacing_mm is None and "no spacing in mm that can be believed" in clip.notes


@pytest.mark.parametrize(
    ("kind", "factor", "note"),
    [
        (np.uint16, 16, "12 bits of grey, reduced to 8"),
        (np.float32, 1 / 255, "fractions, taken times 255"),
        (np.float64, 1, ""),
        (np.int16, 1, ""),
    ],
)
def test_other_depths_are_brought_to_eight_bits(tmp_path, rng, kind, factor, note):
    array = speckle(rng, 3, 48, 48)
    array[0, 0, 0] = 255
    clip = read_one(write(tmp_path / "a.nii.gz", (array.astype(np.float64) * factor).astype(kind)))
    assert np.array_equal(clip.frames, array) and (note in clip.notes or not note)


def test_negative_values_are_stretched(tmp_path, rng):
    array = speckle(rng, 3, 48, 48).astype(np.int16) - 128
    clip = read_one(write(tmp_path / "a.nii.gz", array))
    assert clip.frames.min() == 0 and clip.frames.max() == 255 and any("stretched" in note for note in clip.notes)


def test_components_are_colour(tmp_path, rng):
    grey = speckle(rng, 3, 48, 48)
    clip = read_one(write(tmp_path / "a.mha", np.stack([grey] * 3, axis=-1), vector=True))
    assert np.abs(clip.frames.astype(int) - grey).max() <= 1 and not any("colour" in note for note in clip.notes)
    red = np.stack([grey, grey // 4, grey // 4], axis=-1)
    assert "colour (Doppler?) in 3 of 3 frames" in read_one(write(tmp_path / "b.nrrd", red, vector=True)).notes
    with pytest.raises(DataError, match=r"c\.mha: has 2 components per pixel; grey or RGB is read"):
        read_one(write(tmp_path / "c.mha", np.stack([grey] * 2, axis=-1), vector=True))
    with pytest.raises(DataError, match=r"d\.mha: has colour of type float32"):
        read_one(write(tmp_path / "d.mha", red.astype(np.float32), vector=True))


def test_labels_are_no_clip(tmp_path, rng):
    labels = rng.integers(0, 4, (3, 48, 48)).astype(np.uint8)
    with pytest.raises(DataError, match=r"a\.nii\.gz: holds only 4 different values, all whole: labels"):
        read_one(write(tmp_path / "a.nii.gz", labels))
    (tmp_path / "labelsTr").mkdir()
    names = ["a.nii.gz", "a_gt.nii.gz", "b_seg.nrrd", "c.seg.nrrd", "labelsTr/d.nii", "e.png", "f.VOL"]
    assert [path.name for path in find_volumes([tmp_path / name for name in names])] == ["a.nii.gz", "f.VOL"]


def test_a_missing_pixel_file_is_named(tmp_path, rng):
    path = write(tmp_path / "a.mhd", speckle(rng, 3, 48, 48))
    (tmp_path / "a.raw").rename(tmp_path / "b.raw")
    with pytest.raises(DataError, match=r"a\.mhd: its pixel file a\.raw is missing; put it beside the header"):
        read_one(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.raw", "names a pixel file outside its folder"),
        ("/etc/passwd", "names a pixel file outside its folder"),
        ("LIST", "lie in a file per slice"),
        ("slice%03d.raw 1 3 1", "lie in a file per slice"),
    ],
)
def test_a_header_does_not_reach_out_of_its_folder(tmp_path, rng, name, message):
    path = write(tmp_path / "a.mhd", speckle(rng, 3, 48, 48))
    path.write_text(path.read_text().replace("a.raw", name))
    (tmp_path.parent / "secret.raw").write_bytes(bytes(3 * 48 * 48))
    with pytest.raises(DataError, match=message):
        read_one(path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path, rng):
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in" / "a.mhd", speckle(rng, 3, 48, 48))
    (tmp_path / "in" / "a.raw").rename(tmp_path / "away.raw")
    (tmp_path / "in" / "a.raw").symlink_to(tmp_path / "away.raw")
    with pytest.raises(DataError, match="its pixel file is a link out of its folder"):
        read_one(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd"])
def test_a_volume_cut_short_is_refused(tmp_path, rng, name):
    path = write(tmp_path / name, speckle(rng, 3, 48, 48))
    cut = path.with_suffix(".raw") if name.endswith("mhd") else path
    cut.write_bytes(cut.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"cannot be read as a volume: it (is damaged|holds fewer bytes than)"):
        read_one(path)


def test_a_header_that_declares_too_much_is_refused_before_reading(tmp_path, rng):
    path = write(tmp_path / "a.mhd", speckle(rng, 3, 48, 48))
    path.write_text(path.read_text().replace("DimSize = 48 48 3", "DimSize = 48 48 3000000"))
    with pytest.raises(DataError, match=r"declares 6\.9 GB of pixels, more than the 4\.3 GB that are read"):
        read_one(path)
    path.write_text(path.read_text().replace("DimSize = 48 48 3000000", "DimSize = 40000 40000 3"))
    with pytest.raises(DataError, match="40,000 x 40,000 px is larger than 100 million pixels"):
        read_one(path)


def test_values_that_are_no_numbers_are_refused(tmp_path, rng):
    array = speckle(rng, 3, 48, 48).astype(np.float32)
    array[1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"a\.mha: holds values that are not numbers"):
        read_one(write(tmp_path / "a.mha", array))


def test_damage_within_a_packed_volume_shows(tmp_path, rng):
    path = write(tmp_path / "a.nii.gz", speckle(rng, 3, 48, 48))
    content = bytearray(path.read_bytes())
    content[3000:3050] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be read as a volume: it is damaged"):
        read_one(path)
    path.write_bytes(b"no volume")
    with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be read as a volume: it is damaged"):
        read_one(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_2_is_measured_by_its_own_header(tmp_path, order):
    header = bytearray(540)
    header[:4] = struct.pack(f"{order}i", 540)
    header[14:16], header[16:80] = struct.pack(f"{order}h", 8), struct.pack(f"{order}8q", 3, 10, 10, 5, 1, 1, 1, 1)
    header[168:176] = struct.pack(f"{order}q", 544)
    (tmp_path / "a.nii").write_bytes(bytes(header) + bytes(504))
    check_nifti_length(tmp_path / "a.nii", max_bytes=10**6)
    (tmp_path / "a.nii").write_bytes(bytes(header) + bytes(503))
    with pytest.raises(ValueError, match="holds fewer bytes than its header declares"):
        check_nifti_length(tmp_path / "a.nii", max_bytes=10**6)


def test_kretz_volumes_are_refused_for_that_reason(tmp_path):
    for name in ("a.vol", "b.nii"):
        (tmp_path / name).write_bytes(b"KRETZFILE 1.0   " + bytes(100))
        with pytest.raises(DataError, match=rf"{name}: is a Kretz volume, a closed format; export it from the scanner"):
            read_one(tmp_path / name)


def test_without_the_extra_its_name_is_told(tmp_path, rng, monkeypatch):
    path = write(tmp_path / "a.nii", speckle(rng, 2, 48, 48))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"a\.nii: is a volume, which needs SimpleITK: pip install 'uscl\[volumes\]'"):
        read_one(path)
