"""Colour in a frame, and what is flagged of a clip."""

import numpy as np
import pytest
from dicom_files import blobs, jpeg, read, region, write_cine, write_codestreams
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from uscl.data.ingest.colour import colour_note, colour_share, is_colour


def test_share_of_pixels_whose_channels_differ_by_more_than_twenty():
    frame = np.full((10, 20, 3), 100, np.uint8)
    assert colour_share(frame) == 0
    frame[0, :5, 0] = 120
    assert colour_share(frame) == 0
    frame[0, :5, 2] = 99
    assert colour_share(frame) == 5 / 200 and is_colour(frame)


def test_a_few_coloured_graphics_are_no_doppler():
    frame = np.full((100, 100, 3), 100, np.uint8)
    frame[:5, :10, 1] = 200
    assert colour_share(frame) == 0.005 and not is_colour(frame)
    assert colour_note(12, 30) == "colour (Doppler?) in 12 of 30 frames"


@pytest.mark.parametrize("coded", [False, True])
def test_frames_with_a_doppler_box_are_counted_within_the_region(tmp_path, coded):
    frames = np.repeat(blobs(5)[..., :1], 3, axis=-1)
    frames[1:3, 20:40, 30:50] = (200, 40, 30)
    frames[4, :5, :5] = (30, 30, 250)  # outside
    tags = {"SequenceOfUltrasoundRegions": Sequence([region(10, 10, 69, 49)]), "FrameTime": "40"}
    path = tmp_path / "a.dcm"
    if coded:
        streams = [jpeg(frame) for frame in frames]
        write_codestreams(path, frames, streams, JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422", **tags)
    else:
        write_cine(path, frames, **tags)
    assert [note for note in read(path).notes if "colour" in note] == ["colour (Doppler?) in 2 of 5 frames"]


def test_a_grey_file_has_no_colour(tmp_path):
    assert not [note for note in read(write_cine(tmp_path / "a.dcm", blobs()[..., 0].copy())).notes if "colour" in note]
