"""Videos as they come from scanners and phones: ranges, turns, damage, encryption, codecs, and suffixes that lie."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from clip_files import speckle, write_video
from PIL import Image

from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.pictures import Picture, clips_from
from uscl.data.ingest.video import read_video, video_clips, video_frames
from uscl.data.ingest.video_frame import FramePixels, turned
from uscl.errors import DataError

LEVELS = (16, 60, 126, 200, 235)


def write_planes(
    path, luma, *, codec="ffv1", pix_fmt="yuv420p", color_range=ColorRange.MPEG, chroma=(128, 128), rate=25
):
    """Frames whose planes are given: `luma` (T, H, W) uint8 as it shall lie in the file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = luma.shape[1:]
        stream.pix_fmt = pix_fmt
        stream.codec_context.color_range = color_range
        for number, values in enumerate(luma):
            frame = av.VideoFrame(luma.shape[2], luma.shape[1], pix_fmt)
            for plane, content in zip(frame.planes, (values, *chroma), strict=False):
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = content
            frame.color_range, frame.pts, frame.time_base = color_range, number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steps(count, side=64, chosen=LEVELS):
    """(T, side, side): frame t has one level everywhere."""
    return np.stack([np.full((side, side), chosen[n % len(chosen)], np.uint8) for n in range(count)])


def full(level):
    return round((level - 16) * 255 / 219)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
def test_limited_range_is_put_on_the_full_range(tmp_path, pix_fmt):
    path = write_planes(tmp_path / "a.mkv", steps(5), pix_fmt=pix_fmt)
    assert (
        read_video(path, size=64).frames[:, 30, 30].tolist()
        == [full(level) for level in LEVELS]
        == [0, 51, 128, 214, 255]
    )


def test_full_range_is_left_alone(tmp_path):
    path = write_planes(tmp_path / "a.mkv", steps(5), color_range=ColorRange.JPEG)
    assert read_video(path, size=64).frames[:, 30, 30].tolist() == list(LEVELS)
    path = write_planes(tmp_path / "b.avi", steps(5), codec="mjpeg", pix_fmt="yuvj420p", color_range=ColorRange.JPEG)
    assert np.abs(read_video(path, size=64).frames[:, 30, 30].astype(int) - LEVELS).max() <= 1


def test_range_that_is_not_stated_is_limited_as_players_take_it(tmp_path):
    path = write_planes(tmp_path / "a.mkv", steps(5), color_range=ColorRange.UNSPECIFIED)
    assert read_video(path, size=64).frames[:, 30, 30].tolist() == [full(level) for level in LEVELS]


@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG, ColorRange.UNSPECIFIED])
def test_grey_is_what_libswscale_makes_of_every_level(tmp_path, color_range):
    luma = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(4, 1).repeat(4, 2)
    path = write_planes(tmp_path / "a.mkv", luma, color_range=color_range)
    with av.open(str(path)) as container:
        expected = next(container.decode(video=0)).to_ndarray(format="gray")
    assert np.array_equal(next(iter(video_frames(path))).image, expected)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "gray16le", "bgra", "gray"])
def test_other_pixel_formats_span_black_to_white(tmp_path, pix_fmt):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, pix_fmt
        for number, level in enumerate((0, 128, 255)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64), level, np.uint8), format="gray").reformat(
                format=pix_fmt
            )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert np.abs(read_video(path, size=64).frames[:, 30, 30].astype(int) - (0, 128, 255)).max() <= 1


def test_colour_is_told_and_a_little_chroma_is_not(tmp_path):
    luma = np.full((4, 64, 64), 120, np.uint8)
    box = np.full((32, 32), 128, np.uint8)
    box[8:16, 8:16] = 200
    tinted = video_clips(write_planes(tmp_path / "a.mkv", luma, chroma=(128, box)), ClipOptions(64))
    assert "colour (Doppler?) in 4 of 4 frames" in next(tinted).notes
    grey = video_clips(write_planes(tmp_path / "b.mkv", luma, chroma=(131, 126)), ClipOptions(64))
    assert not any("colour" in note for note in next(grey).notes)
    dots = np.full((32, 32), 128, np.uint8)
    dots[3, 3:5] = 200
    few = video_clips(write_planes(tmp_path / "c.mkv", luma, chroma=(dots, 128)), ClipOptions(64))
    assert not any("colour" in note for note in next(few).notes)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv440p"])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_colour_is_measured_whatever_the_chroma(pix_fmt, color_range):
    pictures = np.full((4, 66, 70, 3), 120, np.uint8)
    for picture, width in zip(pictures, (0, 2, 8, 40), strict=True):
        picture[16:48, 8 : 8 + width] = (200, 60, 40)
    frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
    frames = [frame.reformat(format=pix_fmt, dst_color_range=color_range) for frame in frames]
    measured = FramePixels()
    assert [measured.coloured(frame) for frame in frames] == [False, True, True, True]


def write_gif(path, levels, duration):
    images = [Image.fromarray(np.full((40, 40, 3), level, np.uint8)) for level in levels]
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0)
    return path


def test_a_gif_has_the_times_it_states(tmp_path):
    clip = read_video(write_gif(tmp_path / "a.gif", (0, 100, 200, 255), [40, 80, 40, 40]), size=40)
    assert clip.frames[:, 20, 20].tolist() == [0, 100, 200, 255]
    assert clip.times_ms.tolist() == [0, 40, 120, 160]


def test_a_gif_without_delays_has_no_times(tmp_path):
    clip = read_video(write_gif(tmp_path / "a.gif", (0, 100, 200), 0), size=40)
    assert clip.times_ms is None and "frame times missing or unsorted: unknown" in clip.notes
    clip = next(video_clips(tmp_path / "a.gif", ClipOptions(40, frame_rate_hz=20)))
    assert clip.times_ms.tolist() == [0, 50, 100] and "frame times by the given frame rate" in clip.notes


def test_what_the_file_says_of_time_comes_before_the_given_rate(tmp_path, rng):
    path = write_video(tmp_path / "a.mkv", speckle(rng, 3, 32, 32))
    assert next(video_clips(path, ClipOptions(32, frame_rate_hz=10))).times_ms.tolist() == [0, 40, 80]


def patched(path, matrix):
    """Write a display matrix (a, b, c, d) into the track header of an MP4, as phones do."""
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd")
    at += 4 + 4 + (32 if content[at + 4] else 20) + 16
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "bright"),
    [
        ((1, 0, 0, 1), "top left"),
        ((0, 1, -1, 0), "top right"),  # turned right
        ((-1, 0, 0, -1), "bottom right"),
        ((0, -1, 1, 0), "bottom left"),
        ((-1, 0, 0, 1), "top right"),  # mirrored
    ],
)
def test_a_video_held_on_its_side_is_turned_upright(tmp_path, matrix, bright):
    frames = np.full((3, 64, 96), 40, np.uint8)
    frames[:, :16, :24] = 220
    path = patched(write_video(tmp_path / "a.mp4", frames, codec="mpeg4"), matrix)
    image = next(iter(video_frames(path))).image
    assert image.shape == ((96, 64) if matrix[0] == 0 else (64, 96))
    corners = {"top left": image[4, 4], "top right": image[4, -5]}
    corners |= {"bottom left": image[-5, 4], "bottom right": image[-5, -5]}
    assert max(corners, key=corners.get) == bright and sorted(corners.values())[2] < 60


def test_turning_keeps_every_pixel():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert turned(image, None) is image
    assert np.array_equal(turned(image, (0, 1, -1, 0)), np.rot90(image, -1))
    assert np.array_equal(turned(image, (0, -1, 1, 0)), np.rot90(image))
    assert np.array_equal(turned(image, (1, 0, 0, -1)), image[::-1])


def test_pixels_that_are_not_square_turn_with_the_frame(tmp_path, rng):
    path = write_video(tmp_path / "a.mp4", speckle(rng, 3, 40, 40), aspect="3/2", codec="mpeg4")
    assert read_video(path, size=60).source_size == (40, 60)
    assert next(iter(video_frames(patched(path, (0, 1, -1, 0))))).aspect == pytest.approx(2 / 3)


def damaged(path, begin, end):
    """Overwrite a stretch of the packets, given as fractions of the file."""
    content = bytearray(path.read_bytes())
    first, last = int(begin * len(content)), int(end * len(content))
    content[first:last] = bytes((7 * n + 3) % 256 for n in range(last - first))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("codec", "lost"), [("ffv1", 12), ("mjpeg", 6)])
def test_damaged_frames_are_left_out_and_the_rest_is_another_clip(tmp_path, rng, codec, lost):
    frames = speckle(rng, 30, 64, 64) // 4 + np.arange(30, dtype=np.uint8)[:, None, None] * 6
    pix_fmt, color_range = ("gray", ColorRange.UNSPECIFIED) if codec == "ffv1" else ("yuvj420p", ColorRange.JPEG)
    path = write_planes(tmp_path / "a.avi", frames, codec=codec, pix_fmt=pix_fmt, color_range=color_range)
    whole = read_video(path, size=64).frames
    assert len(whole) == 30
    clips = list(video_clips(damaged(path, 0.45, 0.5), ClipOptions(64)))
    assert len(clips) == 2 and 30 - lost <= sum(len(clip.frames) for clip in clips) < 30
    assert np.array_equal(clips[0].frames, whole[: len(clips[0].frames)])
    assert np.array_equal(clips[1].frames, whole[-len(clips[1].frames) :])
    assert not any("damaged" in note for note in clips[0].notes)
    assert "begins after damaged frames, which are left out" in clips[1].notes
    assert clips[1].times_ms[0] == 0 and np.allclose(np.diff(clips[1].times_ms), 40)


def test_frames_made_from_lost_frames_are_left_out_too(tmp_path, rng):
    picture = cv2.GaussianBlur(speckle(rng, 64, 64) // 2 + 60, (0, 0), 1.5)
    frames = np.stack([np.roll(picture, n, axis=1) for n in range(40)])
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = 64, 64, "yuv420p", 10
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="gray")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = read_video(path, size=64).frames
    clips = list(video_clips(damaged(path, 0.3, 0.33), ClipOptions(64)))
    assert len(clips) == 2 and len(clips[1].frames) in (10, 20)  # from a whole picture on
    assert np.array_equal(clips[1].frames, whole[-len(clips[1].frames) :])
    assert np.array_equal(clips[0].frames, whole[: len(clips[0].frames)])


def test_read_video_takes_the_longest_clip(tmp_path, rng):
    path = write_planes(
        tmp_path / "a.avi", speckle(rng, 30, 64, 64), codec="ffv1", pix_fmt="gray", color_range=ColorRange.UNSPECIFIED
    )
    clips = list(video_clips(damaged(path, 0.2, 0.25), ClipOptions(64)))
    assert len(clips) == 2 and len(read_video(path, size=64).frames) == max(len(clip.frames) for clip in clips)


def test_only_damaged_frames_are_no_clip(tmp_path, rng):
    path = write_planes(
        tmp_path / "a.avi", speckle(rng, 4, 64, 64), codec="ffv1", pix_fmt="gray", color_range=ColorRange.UNSPECIFIED
    )
    content = bytearray(path.read_bytes())
    at = content.find(b"movi") + 12
    content[at : content.find(b"idx1")] = bytes(content.find(b"idx1") - at)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.avi: holds (only damaged frames|no frame that can be decoded)$"):
        list(video_clips(path, ClipOptions(32)))


def test_a_video_without_length_is_refused(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "gray"
        container.start_encoding()
    with pytest.raises(DataError, match=r"a\.mkv: (holds no|cannot be read)"):
        list(video_clips(path, ClipOptions(32)))


def test_an_encrypted_video_is_refused_for_that_reason(tmp_path, rng):
    path = write_video(tmp_path / "a.mp4", speckle(rng, 3, 64, 64), codec="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"mp4v", b"encv"))
    with pytest.raises(DataError, match=r"a\.mp4: is encrypted; export it without protection"):
        list(video_clips(path, ClipOptions(32)))


def test_an_unknown_codec_is_refused_for_that_reason(tmp_path, rng):
    path = write_video(tmp_path / "a.avi", speckle(rng, 3, 64, 64), codec="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"QQQQ"))
    with pytest.raises(DataError, match=r"a\.avi: its codec is not one that can be decoded; export it as"):
        list(video_clips(path, ClipOptions(32)))


def test_a_frame_size_that_changes_begins_another_clip(rng):
    pictures = [Picture(speckle(rng, 32, 32), time_ms=n * 40.0) for n in range(3)]
    pictures += [Picture(speckle(rng, 32, 48), time_ms=n * 40.0) for n in range(3, 5)]
    clips = list(clips_from(pictures, ClipOptions(32)))
    assert [len(clip.frames) for clip in clips] == [3, 2]
    assert clips[1].notes == ("begins where the frame size changes",) and clips[1].source_size == (32, 48)


def test_frames_of_two_sizes_in_one_file(tmp_path, rng):
    parts = [
        write_video(tmp_path / f"{side}.mpg", speckle(rng, 12, side, side), codec="mpeg2video") for side in (64, 96)
    ]
    (tmp_path / "a.mpg").write_bytes(b"".join(part.read_bytes() for part in parts))
    clips = list(video_clips(tmp_path / "a.mpg", ClipOptions(32)))
    assert [clip.source_size for clip in clips] == [(64, 64), (96, 96)]


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_a_huge_frame_is_refused_before_decoding(tmp_path, rng, side):
    path = write_video(tmp_path / "a.avi", speckle(rng, 2, 64, 64))
    content = bytearray(path.read_bytes())
    at = content.find(b"strf") + 12
    content[at : at + 8] = np.array([side, side], "<i4").tobytes()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.avi: declares no frame size, or one of more than 100 million pixels"):
        list(video_clips(path, ClipOptions(32)))


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile other.mkv\n",  # libav would read the file it names
        b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nother.mkv\n",
        b"no video " * 500,
        b"",
    ],
)
def test_a_text_that_calls_itself_a_video_opens_no_other_file(tmp_path, rng, content):
    write_video(tmp_path / "other.mkv", speckle(rng, 3, 32, 32))
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mp4: cannot be read as a video"):
        list(video_clips(tmp_path / "a.mp4", ClipOptions(32)))


def test_the_suffix_says_nothing_of_what_is_inside(tmp_path, rng):
    frames = speckle(rng, 4, 32, 32)
    write_video(tmp_path / "a.mkv", frames).rename(tmp_path / "a.mp4")
    assert np.array_equal(read_video(tmp_path / "a.mp4", size=32).frames, frames)


def test_sound_before_the_picture_and_a_cover_are_dropped(tmp_path, rng):
    path = tmp_path / "a.mkv"
    frames = speckle(rng, 4, 32, 32)
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "gray"
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples))
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="gray")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert np.array_equal(read_video(path, size=32).frames, frames)


def test_a_strip_above_is_blanked_before_anything_else(tmp_path, rng):
    path = write_video(tmp_path / "a.mkv", speckle(rng, 3, 40, 40))
    clip = next(video_clips(path, ClipOptions(40, blank_top=0.1)))
    assert not clip.frames[:, :4].any() and clip.frames[:, 4:].all()
