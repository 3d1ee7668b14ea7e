"""Every ultrasound file of pydicom and pydicom-data, as data-formats.md 2 has it: frames, size, time, scale, colour."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import pytest
from dicom_files import US_CLASSES, example, extra_files, grey_of, read
from pydicom.pixels import apply_color_lut, iter_pixels, pixel_array

from uscl.data.ingest.dicom import dicom_frames
from uscl.errors import DataError

NO_REGION = "no B-mode region in the header: whole image, scale unknown"
OUTSIDE = "header's region lies outside the image: whole image, scale unknown"
CLIPPED = "header's region is one pixel larger than the image: clipped"
SEVERAL = "several B-mode regions in the header: the largest is kept"
SHRUNK = "header's region is that of the image before it was shrunk 2 times: region and scale shrunk too"
UNTIMED = "no frame time in the header: unknown"
LOOK = "pixels may show text that names the patient: look before sharing"

MARKS = "marks inside the sector: left out of it"


class Facts(NamedTuple):
    size: tuple[int, int]
    """Of the image."""
    kept: tuple[int, int]
    """Of the B-mode region, or all."""
    mm: float | None = None
    """Of a pixel; unknown where the header has no region for this image."""
    frames: int = 1
    frame_ms: float | None = None
    duplicates: tuple[int, ...] = ()
    coloured: int = 0
    """Frames flagged."""
    notes: tuple[str, ...] = ()


OBXXXX = Facts((600, 800), (459, 680), 0.2622878766, notes=(CLIPPED, LOOK))
OBXXXX_TWICE = OBXXXX._replace(frames=2, coloured=1, notes=(CLIPPED, UNTIMED, LOOK))  # the second has inverted indices
GE = Facts((480, 640), (480, 640), coloured=1, notes=(NO_REGION, LOOK))  # power Doppler
ALOKA = Facts((480, 640), (392, 304), 0.3826530650, notes=(SEVERAL, LOOK))
PICTURE = Facts((120, 256), (120, 256), coloured=1, notes=(NO_REGION, LOOK))
WHEEL = {
    "ExplVR_BigEnd.dcm": Facts((60, 80), (60, 80), coloured=1, notes=(NO_REGION, LOOK)),
    "examples_jpeg2k.dcm": GE,
    "examples_palette.dcm": Facts((350, 800), (350, 800), coloured=1, notes=(OUTSIDE, LOOK)),
    "examples_rgb_color.dcm": Facts((240, 320), (240, 320), coloured=1, notes=(NO_REGION, LOOK)),
    "examples_ybr_color.dcm": Facts(
        (240, 320), (191, 256), 1.0209941119, 30, 33.333, duplicates=(11, 28), notes=(SHRUNK, LOOK)
    ),
}
EXTRA = {
    "JPGLosslessP14SV1_1s_1f_8b.dcm": Facts((768, 1024), (721, 997), 0.2547669659, notes=(LOOK,)),
    "OBXXXX1A.dcm": OBXXXX,
    "OBXXXX1A_2frame.dcm": OBXXXX_TWICE,
    "OBXXXX1A_expb.dcm": OBXXXX,
    "OBXXXX1A_expb_2frame.dcm": OBXXXX_TWICE,
    "OBXXXX1A_rle.dcm": OBXXXX,
    "OBXXXX1A_rle_2frame.dcm": OBXXXX_TWICE,
    "US1_J2KI.dcm": GE,
    "US1_J2KR.dcm": GE,
    "US1_UNCI.dcm": GE,
    "US1_UNCR.dcm": GE,
    "color-pl.dcm": PICTURE,
    "color-px.dcm": PICTURE,
    "color3d_jpeg_baseline.dcm": Facts(
        (480, 640), (384, 512), 0.5104970560, 120, 33.333, duplicates=(11, 28, 44, 61, 77, 94, 110), notes=(LOOK,)
    ),
    "gdcm-US-ALOKA-16.dcm": ALOKA,
    "gdcm-US-ALOKA-16_big.dcm": ALOKA,
}
NEEDS_GDCM = ("JPGLosslessP14SV1_1s_1f_8b.dcm",)
needs_extra = pytest.mark.skipif(extra_files() is None, reason="pydicom-data is not installed")


def ultrasound_below(folder):
    """Names of the files below a folder that say they are ultrasound."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality", "SOPClassUID"])
                    told = str(header.get("Modality", "")), str(header.get("SOPClassUID", ""))
            except Exception:
                continue
            if told[0] in ("US", "IVUS") or told[1] in US_CLASSES:
                found.add(path.name)
    return found


def readable(name):
    """Whether this machine can decode it; where not, that it is refused with the package to install."""
    if name not in NEEDS_GDCM or find_spec("gdcm"):
        return True
    with pytest.raises(DataError, match=r"is compressed as JPEG Lossless.*install python-gdcm"):
        read(example(name))
    return False


def test_the_table_lists_every_ultrasound_file_of_pydicom():
    assert ultrasound_below(Path(pydicom.__file__).parent / "data") == set(WHEEL)


@needs_extra
def test_the_table_lists_every_ultrasound_file_of_pydicom_data():
    assert ultrasound_below(extra_files()) == set(EXTRA)


ROWS = [pytest.param(name, facts, id=name) for name, facts in WHEEL.items()]
ROWS += [pytest.param(name, facts, id=name, marks=needs_extra) for name, facts in EXTRA.items()]


@pytest.mark.parametrize(("name", "facts"), ROWS)
def test_frames_sizes_times_scale_and_colour(name, facts):
    if not readable(name):
        return
    clip = read(example(name), size=max(facts.kept))
    assert (len(clip.frames), clip.source_size) == (facts.frames, facts.kept)
    assert next(dicom_frames(example(name))).image.shape == facts.size
    assert clip.duplicate.nonzero()[0].tolist() == list(facts.duplicates)
    assert clip.spacing_mm == (None if facts.mm is None else pytest.approx((facts.mm, facts.mm), rel=1e-8))
    if facts.frame_ms is None:
        assert clip.times_ms is None
    else:
        assert np.allclose(clip.times_ms, np.arange(facts.frames) * facts.frame_ms)
    colour = f"colour (Doppler?) in {facts.coloured} of {facts.frames} frames"
    told = [note for note in clip.notes if note != MARKS]
    assert sorted(told) == sorted([*facts.notes, *([colour] if facts.coloured else [])])


def colours_of(name, indices):
    """(H, W, 3) or (H, W) uint8 of pydicom itself, of some frames: RGB, palettes looked up and brought to 8 bits."""
    header = pydicom.dcmread(example(name))
    plugin = "pillow" if "JPEG Base" in header.file_meta.TransferSyntaxUID.name else ""
    for pixels in iter_pixels(example(name), decoding_plugin=plugin, indices=indices):
        if header.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, header)
            swapped = name.startswith("OBXXXX1A_expb")  # pydicom takes these big-endian entries as little-endian
            pixels = ((pixels.byteswap() if swapped else pixels) >> 8).astype(np.uint8)
        yield pixels


@pytest.mark.parametrize(("name", "facts"), ROWS)
def test_colours_are_those_of_pydicom_converted_once(name, facts):
    if not readable(name):
        return
    chosen = range(0, facts.frames, 15)
    frames = [frame.image for index, frame in enumerate(dicom_frames(example(name))) if index in chosen]
    assert len(frames) == len(chosen)
    for frame, pixels in zip(frames, colours_of(name, chosen), strict=True):
        expected = grey_of(pixels) if pixels.ndim == 3 else pixels.astype(float)
        difference = np.abs(frame - expected)
        assert difference.max() <= 1.1 and difference.mean() <= 0.6  # converted twice it would be 100 levels


@needs_extra
@pytest.mark.parametrize(
    ("name", "other", "most"),
    [
        ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm", 0),
        ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm", 0),
        ("OBXXXX1A_2frame.dcm", "OBXXXX1A_expb_2frame.dcm", 0),
        ("OBXXXX1A_2frame.dcm", "OBXXXX1A_rle_2frame.dcm", 0),
        ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm", 0),
        ("color-pl.dcm", "color-px.dcm", 0),
        ("US1_UNCR.dcm", "US1_J2KR.dcm", 0),
        ("US1_UNCR.dcm", "examples_jpeg2k.dcm", 0),
        ("US1_UNCI.dcm", "US1_J2KI.dcm", 1),
    ],
)
def test_one_picture_in_two_encodings_is_one_picture(name, other, most):
    for one, two in zip(dicom_frames(example(name)), dicom_frames(example(other)), strict=True):
        assert largest_difference(one.image, two.image) <= most


def largest_difference(one, other):
    return int(np.abs(one.astype(int) - other).max())


@needs_extra
def test_the_small_cine_is_the_start_of_the_large_one_at_half_size():
    small, large = read(example("examples_ybr_color.dcm"), 64), read(example("color3d_jpeg_baseline.dcm"), 64)
    difference = np.abs(small.frames.astype(int) - large.frames[:30])
    assert difference.mean() < 1.5, "the shrunk region is the same part of the picture"
    assert small.spacing_mm[0] == pytest.approx(large.spacing_mm[0], rel=0.01)


@needs_extra
@pytest.mark.skipif(find_spec("gdcm") is None, reason="python-gdcm is not installed")
@pytest.mark.parametrize(
    ("name", "most"), [("examples_ybr_color.dcm", 0), ("examples_jpeg2k.dcm", 0), ("US1_J2KI.dcm", 2)]
)
def test_the_decoder_does_not_matter(name, most):
    one, other = (pixel_array(example(name), decoding_plugin=plugin).astype(int) for plugin in ("pillow", "gdcm"))
    assert np.abs(one - other).max() <= most
