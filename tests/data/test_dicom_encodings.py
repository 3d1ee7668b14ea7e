"""Each way in which a DICOM file may hold its pixels, written by the test: the frames come out the same."""

import tracemalloc
from importlib.util import find_spec

import numpy as np
import pytest
from dicom_files import (
    blobs,
    cine_header,
    grey_of,
    header_of,
    jpeg,
    jpeg2000,
    read,
    save,
    write_cine,
    write_codestreams,
)
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from uscl.data.ingest.dicom import dicom_frames

RGB = blobs()
GREY = RGB[..., 0].copy()


def images(path):
    return np.stack([frame.image for frame in dicom_frames(path)])


def off_by(path, expected):
    """Largest and mean difference of the file's frames from `expected` (T, H, W) or (T, H, W, 3)."""
    grey = grey_of(expected) if expected.ndim == 4 else expected.astype(float)
    difference = np.abs(images(path) - grey)
    return difference.max(), difference.mean()


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("offset_table", [False, True])
@pytest.mark.parametrize("code", [jpeg, jpeg2000])
def test_compressed_frames_in_fragments_with_and_without_offset_table(tmp_path, fragments, offset_table, code):
    syntax = JPEGBaseline8Bit if code is jpeg else JPEG2000Lossless
    streams = [code(frame) for frame in GREY]
    path = write_codestreams(
        tmp_path / "a.dcm", GREY, streams, syntax, fragments=fragments, offset_table=offset_table, NumberOfFrames=6
    )
    assert off_by(path, GREY)[0] <= (4 if code is jpeg else 0)


def with_adobe(stream, transform):
    """`stream` without JFIF's segment and with Adobe's."""
    jfif = 4 + int.from_bytes(stream[4:6], "big")
    return b"\xff\xd8\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform]) + stream[jfif:]


@pytest.mark.parametrize("told", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("subsampling", [0, 1])
@pytest.mark.parametrize("mark", ["JFIF", "Adobe"])
def test_jpeg_colour_is_converted_once(tmp_path, told, subsampling, mark):
    streams = [jpeg(frame, subsampling=subsampling) for frame in RGB]
    streams = [with_adobe(stream, 1) for stream in streams] if mark == "Adobe" else streams
    path = write_codestreams(
        tmp_path / "a.dcm", RGB, streams, JPEGBaseline8Bit, PhotometricInterpretation=told, PlanarConfiguration=1
    )
    assert off_by(path, RGB)[1] < 2


def test_subsampled_jpeg_colour_is_ybr_whatever_the_header_says(tmp_path):
    def bare(stream):
        return b"\xff\xd8" + stream[4 + int.from_bytes(stream[4:6], "big") :]

    streams = [bare(jpeg(frame, subsampling=1)) for frame in RGB]
    path = write_codestreams(tmp_path / "a.dcm", RGB, streams, JPEGBaseline8Bit, PhotometricInterpretation="RGB")
    assert off_by(path, RGB)[1] < 2
    full = [bare(jpeg(frame, subsampling=0)) for frame in RGB]
    path = write_codestreams(tmp_path / "b.dcm", RGB, full, JPEGBaseline8Bit, PhotometricInterpretation="RGB")
    as_stored = np.stack([convert_color_space(frame, "RGB", "YBR_FULL") for frame in RGB])
    assert off_by(path, as_stored)[1] < 2, "without a sign of YBR the header is believed"


@pytest.mark.parametrize("frames", [GREY, RGB, GREY.astype(np.uint16) << 4], ids=["grey", "colour", "16 bit"])
def test_run_lengths(tmp_path, frames):
    header = cine_header(frames)
    header.PixelData = frames.tobytes()
    header["PixelData"].VR = "OW"
    header.BitsStored = 12 if frames.dtype == np.uint16 else 8
    header.compress(RLELossless, generate_instance_uid=False)
    path = save(header, tmp_path / "a.dcm")
    assert off_by(path, frames >> 4 if frames.dtype == np.uint16 else frames)[0] <= 0.6


def test_jpeg_2000_colour(tmp_path):
    streams = [jpeg2000(frame) for frame in RGB]
    for told in ("YBR_RCT", "RGB"):
        path = write_codestreams(
            tmp_path / "a.dcm", RGB, streams, JPEG2000Lossless, PhotometricInterpretation=told, PlanarConfiguration=0
        )
        assert off_by(path, RGB)[0] <= 0.6


@pytest.mark.skipif(find_spec("gdcm") is None, reason="python-gdcm is not installed")
def test_lossless_jpeg(tmp_path):
    import gdcm

    source = write_cine(tmp_path / "plain.dcm", GREY)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "lossless.dcm"))
    assert writer.Write()
    assert header_of(tmp_path / "lossless.dcm").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert off_by(tmp_path / "lossless.dcm", GREY) == (0, 0)


SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("cut", [0, 1], ids=["even", "odd"])
def test_uncompressed_in_every_byte_order(tmp_path, syntax, cut):
    frames = GREY[:, cut:, cut:]
    header = cine_header(frames, syntax)
    raw = np.frombuffer(frames.tobytes() + bytes(frames.size % 2), np.uint16)
    big = syntax == ExplicitVRBigEndian
    header.PixelData = (raw.byteswap() if big else raw).tobytes()  # 8 bits as OW: bytes swapped in pairs
    header["PixelData"].VR = "OW"
    assert off_by(save(header, tmp_path / "a.dcm"), frames) == (0, 0)
    deep = frames.astype(np.uint16) << 8
    header = cine_header(deep, syntax)
    header.PixelData = (deep.byteswap() if big else deep).tobytes()
    header["PixelData"].VR = "OW"
    assert off_by(save(header, tmp_path / "b.dcm"), frames) == (0, 0)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_uncompressed_colour_by_pixel_and_by_plane(tmp_path, planar, kind):
    stored = RGB if kind == "RGB" else np.stack([convert_color_space(frame, "RGB", kind) for frame in RGB])
    header = cine_header(RGB)
    header.PixelData = (stored.transpose(0, 3, 1, 2) if planar else stored).tobytes()
    header["PixelData"].VR = "OB"
    path = save(header, tmp_path / "a.dcm", PlanarConfiguration=planar, PhotometricInterpretation=kind)
    assert off_by(path, RGB)[0] <= 2


@pytest.mark.parametrize("subsampled", [True, False])
def test_uncompressed_subsampled_colour_and_what_only_claims_it(tmp_path, subsampled):
    stored = np.stack([convert_color_space(frame, "RGB", "YBR_FULL") for frame in RGB])
    if subsampled:  # Y Y Cb Cr
        pairs = stored.reshape(*stored.shape[:2], -1, 2, 3)
        stored = np.concatenate([pairs[..., 0], pairs[..., 0, 1:]], axis=-1)
    header = cine_header(RGB)
    header.PixelData = stored.tobytes()
    header["PixelData"].VR = "OB"
    path = save(header, tmp_path / "a.dcm", PhotometricInterpretation="YBR_FULL_422")
    assert len(images(path)) == 6
    assert off_by(path, RGB)[1] < 2


@pytest.mark.parametrize(
    ("stored", "bits", "grey"),
    [
        (np.uint16(0x8000), 16, 128),
        (np.uint16(0x0800), 12, 128),
        (np.uint16(0xF800), 12, 128),  # the unused bits hold something
        (np.uint16(0x0200), 10, 128),
        (np.uint8(0x20), 6, 128),
        (np.int16(0), 16, 128),
        (np.int16(-32768), 16, 0),
        (np.int16(1024), 12, 192),
        (np.int8(-128), 8, 0),
        (np.int8(127), 8, 255),
    ],
    ids=str,
)
def test_stored_bits_become_eight(tmp_path, stored, bits, grey):
    frames = np.full((1, 20, 20), stored)
    path = write_cine(tmp_path / "a.dcm", frames, BitsStored=bits, HighBit=bits - 1)
    assert (images(path) == grey).all()


def test_inverted_grey(tmp_path):
    light = np.full((1, 20, 20), 55, np.uint8)
    assert (images(write_cine(tmp_path / "b.dcm", light, PhotometricInterpretation="MONOCHROME1")) == 200).all()


def palette_tags(bits, entries, *, first=0, count=256):
    """Red of `entries`, no green, no blue."""
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in (("Red", entries), ("Green", entries * 0), ("Blue", entries * 0)):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [count % 65536, first, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    return tags


RAMP = np.arange(256)


@pytest.mark.parametrize(
    ("bits", "entries"),
    [(16, (RAMP[::-1] * 257).astype(np.uint16)), (8, RAMP[::-1].astype(np.uint8)), (8, RAMP[::-1].astype(np.uint16))],
    ids=["16 bit", "8 bit", "8 bits in 16"],
)
def test_palette_indices_are_looked_up(tmp_path, bits, entries):
    path = write_cine(tmp_path / "a.dcm", GREY, **palette_tags(bits, entries))
    assert np.abs(images(path) - (255 - GREY.astype(float)) * 0.299).max() <= 0.6
    assert read(path).notes.count("colour (Doppler?) in 6 of 6 frames") == 1


def test_sixteen_bit_indices_and_a_table_that_begins_later(tmp_path):
    frames = GREY.astype(np.uint16) + 60_000
    tags = palette_tags(16, (RAMP * 256).astype(np.uint16), first=60_000)
    path = write_cine(tmp_path / "a.dcm", frames, **tags)
    assert np.abs(images(path) - GREY * 0.299).max() <= 0.6


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_preamble_or_meta_information(tmp_path, implicit):
    header = cine_header(GREY)
    header.PixelData = GREY.tobytes()
    header["PixelData"].VR = "OW"
    del header.file_meta
    header.save_as(tmp_path / "a.dcm", implicit_vr=implicit, little_endian=True)
    assert (tmp_path / "a.dcm").read_bytes()[128:132] != b"DICM"
    assert off_by(tmp_path / "a.dcm", GREY) == (0, 0)


@pytest.mark.parametrize("code", [None, jpeg])
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, code):
    def peak(count):
        frames = np.repeat(blobs(1, 240, 320)[..., 0], count, axis=0)
        path = tmp_path / f"{count}.dcm"
        if code:
            write_codestreams(path, frames, [code(frames[0])] * count, JPEGBaseline8Bit)
        else:
            write_cine(path, frames)
        del frames
        tracemalloc.start()
        try:
            assert sum(1 for _ in dicom_frames(path)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(120) < peak(12) * 1.3
