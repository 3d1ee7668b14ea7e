"""Readers take any bytes: a clip or one clear error, in bounded time and memory, nothing on the terminal."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from clip_files import speckle, write_pair, write_video
from dicom_files import write_cine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.dicom import DICOM_SUFFIXES
from uscl.data.ingest.drawn import read_picture
from uscl.data.ingest.mask_layout import Picture
from uscl.data.ingest.mask_values import MaskFile, MaskRules
from uscl.data.ingest.masks import ClassMap
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.parts import PartFolder
from uscl.data.ingest.reading import read_source
from uscl.data.ingest.sources import find_sources_of_clips
from uscl.data.ingest.video import VIDEO_SUFFIXES
from uscl.errors import DataError

SUFFIXES = sorted(VIDEO_SUFFIXES | DICOM_SUFFIXES | {"", ".nii", ".nii.gz", ".mha", ".mhd", ".png"})
QUICK = settings(
    max_examples=60, deadline=20_000, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Whole files of every kind, small."""
    folder, rng = tmp_path_factory.mktemp("samples"), np.random.default_rng(7)
    frames = speckle(rng, 6, 48, 64)
    videos = [("a.mkv", "ffv1"), ("b.mp4", "mpeg4"), ("c.avi", "wmv2"), ("d.mpg", "mpeg2video"), ("e.mp4", "libx264")]
    for name, codec in videos:
        if codec in av.codecs_available:
            write_video(folder / name, frames, codec=codec)
    stills = [Image.fromarray(frame) for frame in frames]
    stills[0].save(folder / "g.gif", save_all=True, append_images=stills[1:], duration=40)
    write_cine(folder / "f.dcm", frames, FrameTime=33.3)
    for name in ("JPEG2000.dcm", "MR_small_RLE.dcm", "JPEG-lossy.dcm"):
        (folder / name).write_bytes(Path(get_testdata_file(name, download=False)).read_bytes().replace(b"MR", b"US"))
    return sorted((path.suffix, path.read_bytes()) for path in folder.iterdir())


def check(folder, content, suffix):
    """What the import makes of these bytes under this suffix: frames, or one line about that file; or it is no clip."""
    (folder / "in").mkdir(exist_ok=True)
    path = folder / "in" / f"x{suffix}"
    path.write_bytes(content)
    try:
        found = find_sources_of_clips(folder / "in", ClipOptions(16))
    except DataError as error:
        assert "holds no clip" in str(error)
        return
    parts = PartFolder(folder, "salt")
    for source in found.sources:
        result = read_source(source, ClipOptions(16), parts)
        assert bool(result.problem) != bool(result.num_frames)
        assert "\n" not in result.problem
        assert not result.problem or result.problem.startswith(str(path))
        assert result.num_frames <= 200
        assert parts.whole(source.key) == (not result.problem)
    path.unlink()


@QUICK
@given(st.binary(max_size=3000), st.sampled_from(SUFFIXES))
def test_random_bytes(tmp_path, content, suffix):
    check(tmp_path, content, suffix)


@QUICK
@given(st.data())
def test_truncated_files(tmp_path, samples, data):
    suffix, content = data.draw(st.sampled_from(samples))
    check(tmp_path, content[: data.draw(st.integers(0, len(content)))], suffix)


@QUICK
@given(st.data())
def test_flipped_bits(tmp_path, samples, data):
    suffix, content = data.draw(st.sampled_from(samples))
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 20))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check(tmp_path, bytes(damaged), suffix)


@QUICK
@given(st.data())
def test_headers_of_one_kind_under_the_suffix_of_another(tmp_path, samples, data):
    _, content = data.draw(st.sampled_from(samples))
    check(tmp_path, content, data.draw(st.sampled_from(SUFFIXES)))


@QUICK
@given(st.data())
def test_images_and_masks(tmp_path, data):
    rng = np.random.default_rng(3)
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".bmp", ".tif"]))
    write_pair(tmp_path, "a", speckle(rng, 20, 30), speckle(rng, 20, 30) // 200)
    target = tmp_path / data.draw(st.sampled_from(["images", "masks"])) / f"a{suffix}"
    buffer = io.BytesIO()
    Image.fromarray(speckle(rng, 20, 30) // 200).save(
        buffer, {".png": "png", ".jpg": "jpeg", ".bmp": "bmp"}.get(suffix, "tiff")
    )
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 10))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    target.write_bytes(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    other = tmp_path / ("masks" if target.parent.name == "images" else "images") / "a.png"
    pair = (target, other) if target.parent.name == "images" else (other, target)
    try:
        picture = Picture(pair[0], "a", "a", {"": (MaskFile(pair[1]),)})
        (frame,) = read_picture(picture, ClassMap({1: "x"}), MaskRules(empty="absent")).frames
        assert frame.drawings[0].masks.shape[1:] == frame.grey.shape
    except DataError as error:
        assert "\n" not in str(error)


def test_the_terminal_stays_clean(tmp_path, samples, capfd):
    """Native decoders write to the process's stderr; those of the import have none."""
    (tmp_path / "in").mkdir()
    for number, (suffix, content) in enumerate(samples):
        (tmp_path / "in" / f"whole{number}{suffix}").write_bytes(content)
        (tmp_path / "in" / f"half{number}{suffix}").write_bytes(content[: len(content) // 2])
        damaged = bytearray(content)
        damaged[len(content) // 2 :: 97] = bytes(len(damaged[len(content) // 2 :: 97]))
        (tmp_path / "in" / f"hit{number}{suffix}").write_bytes(damaged)
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=32, workers=1)
    assert summary.clips > len(samples) / 2 and summary.bad
    assert capfd.readouterr() == ("", "")
