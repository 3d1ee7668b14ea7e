"""Text and marks in pixels: blanked strips, what never moves, letters; the sector without them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_files import real_data, speckle, write_video
from pydicom.data import get_testdata_file

from uscl.data.dataset import open_dataset
from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.dicom import dicom_frames, read_dicom
from uscl.data.ingest.frames import FrameCollector, black_level
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.overlay import Strip, blanked, find_letters, has_text, static_marks
from uscl.data.ingest.video import read_video
from uscl.data.preview import tint_overlay


def fan(side=200):
    rows, columns = np.mgrid[:side, :side]
    angle, depth = np.arctan2(columns - side / 2, rows + 20), np.hypot(columns - side / 2, rows + 20)
    return (np.abs(angle) < 0.6) & (depth > 60) & (depth < side)


def write_text(image, text, at, *, level=255):
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, level, 1, cv2.LINE_AA)
    return image


@pytest.fixture
def clip(rng):
    """12 frames of speckle in a fan, with a name above it, a dot and a tick within its square."""
    frames = np.where(fan(), rng.integers(20, 200, (12, 200, 200)), 0).astype(np.uint8)
    for frame in frames:
        write_text(frame, "SMITH", (2, 14))
        frame[100:104, 98:102] = 250
        frame[60:64, 190:196] = 200
    return frames


def collected(frames, options, size=200):
    collector = FrameCollector(size, options=options)
    for frame in frames:
        collector.add(frame)
    return collector.finish()


def test_strips_are_shares_from_the_top_left():
    frame = np.full((50, 20), 7, np.uint8)
    out = blanked(frame, [Strip(0.061, 0.6)])
    assert (out[:4, :12] == 0).all() and (out == 7).sum() == 1000 - 48
    assert (frame == 7).all()
    assert blanked(frame, ()) is frame
    assert (blanked(np.full((10, 10, 3), 7, np.uint8), [Strip(0.5)])[:5] == 0).all()


def test_what_never_changes_is_drawn(clip):
    marks = static_marks(clip.max(0), clip.min(0), moving_frames=12)
    assert marks[100:104, 98:102].all() and marks[60:64, 190:196].all() and marks[:16, :60].any()
    assert not (marks & fan())[~((np.mgrid[:200, :200] // 4) == 25).all(axis=0)].sum() > 16


def test_a_clip_that_stands_still_has_no_marks(clip):
    assert not static_marks(clip[0], clip[0], moving_frames=12).any()
    assert not static_marks(clip.max(0), clip.min(0), moving_frames=7).any()


def test_bright_tissue_that_stands_still_is_no_mark(rng):
    frames = rng.integers(0, 120, (12, 100, 100), dtype=np.uint8)
    frames[:, 40:90, 20:80] = 255
    assert not static_marks(frames.max(0), frames.min(0), moving_frames=12)[50:80, 30:70].any()


def test_outside_the_sector_nothing_is_left(clip):
    seen = collected(clip, ClipOptions(200))
    assert not seen.frames[:, :20, :80].any() and not seen.frames[:, 56:70, 185:].any()
    assert "text or marks outside the sector: blanked" in seen.notes
    assert (seen.frames[:, 110:180][:, fan()[110:180]] == clip[:, 110:180][:, fan()[110:180]]).mean() > 0.99
    assert not seen.sector[100:104, 98:102].any()  # the dot: shown, not counted
    assert seen.frames[:, 101, 100].all()
    assert (seen.sector & fan()).sum() > 0.97 * fan().sum() and (seen.sector & ~fan()).sum() < 0.03 * fan().sum()


def test_overlay_is_kept_when_the_user_has_looked(clip):
    seen = collected(clip, ClipOptions(200, keep_overlay=True))
    assert np.array_equal(seen.frames, clip)
    assert not (seen.sector & ~fan())[:30].any()  # still no part of the sector
    assert not any("blanked" in note for note in seen.notes)


def test_the_top_is_blanked_where_asked(clip):
    seen = collected(clip, ClipOptions(200, blank_top=0.1, keep_overlay=True))
    assert not seen.frames[:, :20].any() and np.array_equal(seen.frames[:, 20:], clip[:, 20:])


def test_letters_within_the_sector_are_blanked_and_told(rng):
    dark = np.zeros((200, 200), np.uint8)
    dark[0:6], dark[194:], dark[:, :6], dark[:, 194:] = 90, 90, 90, 90
    still = write_text(dark, "SMITH 1961", (40, 60))
    seen = collected(still[None], ClipOptions(200))
    assert not seen.frames[0, 45:65, 40:140].any()
    assert any(note.startswith("text within the sector") for note in seen.notes)


@pytest.mark.parametrize("level", [90, 160, 255])
def test_lines_of_letters_are_found(level):
    image = write_text(np.zeros((240, 320), np.uint8), "Jane Smith", (20, 40), level=level)
    found = find_letters(image)
    assert found[20:50, 15:130].sum() == found.sum() > 0.7 * (image >= 60).sum()


def test_white_letters_on_a_grey_bar_are_found():
    image = np.zeros((240, 320), np.uint8)
    image[:40] = 58
    assert has_text(write_text(image, "11-05-25 SMITH", (5, 25)))


@pytest.mark.parametrize("side", [80, 256, 512])
@pytest.mark.parametrize("count", [1, 4])
def test_noise_and_speckle_are_no_letters(rng, side, count):
    assert not has_text(speckle(rng, count, side, side).min(axis=0))
    blurred = [cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 1.5) for _ in range(2)]
    envelope = np.hypot(*blurred)
    for dynamic_range in (30, 60):
        grey = 255 * (1 + 20 * np.log10(envelope / envelope.max() + 1e-6) / dynamic_range)
        assert not has_text(np.clip(grey, 0, 255).astype(np.uint8))


def test_black_is_what_the_edge_shows():
    image = np.full((50, 50), 100, np.uint8)
    assert black_level(image) == 8
    image[:4], image[-4:], image[:, :4] = 1, 1, 1
    assert black_level(image) == 3


def cine(name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("needs pydicom-data")
    return path


def test_the_sector_of_the_small_cine_is_its_fan():
    """data-formats.md 2.5: motion alone gives 27 % of the frame; the fan of the large cine is 36 %."""
    seen = next(read_dicom(Path(cine("examples_ybr_color.dcm")), ClipOptions(256, keep_overlay=True)))
    assert seen.source_size == (191, 256)  # the region, a shrunk one; the frame has 240 x 320
    assert 0.32 < seen.sector.sum() / (240 * 320) < 0.38


@pytest.mark.slow
def test_the_large_cine_has_the_counted_marks_in_its_region():
    """data-formats.md 2.4: 205 static bright pixels inside the region box."""
    frames = np.stack([frame.image for frame in dicom_frames(Path(cine("color3d_jpeg_baseline.dcm")))])
    box = frames[:, 31:415, 84:596]
    assert static_marks(box.max(0), box.min(0), moving_frames=113).sum() == 205
    seen = collected(np.ascontiguousarray(box), ClipOptions(512), size=512)
    outline = cv2.convexHull(np.argwhere(seen.sector)[:, ::-1].astype(np.int32))
    assert 0.53 < seen.sector.sum() / (384 * 512) < 0.6
    assert seen.sector.sum() > 0.97 * cv2.contourArea(outline)  # a fan, without bites in its dim sides


def test_a_coloured_clip_is_told(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for _ in range(3):
            picture = np.full((64, 64, 3), 90, np.uint8)
            picture[20:40, 20:40] = (220, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert "colour (Doppler?) in 3 of 3 frames" in read_video(tmp_path / "a.mp4", size=64).notes


def test_the_preview_tints_what_lies_outside():
    grey = np.zeros((10, 10), np.uint8)
    grey[2, 2], grey[7, 7] = 200, 200
    sector = np.zeros((10, 10), bool)
    sector[5:] = True
    picture = np.repeat(grey[..., None], 3, axis=2).copy()
    tint_overlay(picture, grey, sector)
    assert picture[2, 2, 0] > picture[2, 2, 1] + 50 and picture[7, 7].tolist() == [200, 200, 200]


def test_an_import_blanks_by_default(tmp_path, clip):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mkv", clip)
    summary = import_clips(tmp_path / "in", tmp_path / "out", size=200)
    assert not open_dataset(tmp_path / "out").frames(np.arange(12))[:, :20, :80].any()
    assert "1 of 1 clip: text or marks outside the sector: blanked" in summary.remarks


@pytest.mark.slow
@pytest.mark.skipif(real_data("usgra") is None, reason="no usgra set")
def test_usgra_shows_no_text():
    from uscl.data.ingest.masks import read_grey

    images = sorted(real_data("usgra").rglob("images/*.png"))
    assert len(images) == 244
    assert not [path for path in images if has_text(read_grey(path)[0])]
