"""Which files an import takes up: below the folder only, no loops, nothing hidden, whatever they are called."""

import os
import struct
import zlib

import numpy as np
import pytest
from clip_files import speckle, write_video
from dicom_files import write_cine

from uscl.data.dataset import open_dataset
from uscl.data.ingest.clip_copies import ClipPrint, SameRecording, find_same_recordings
from uscl.data.ingest.clips import find_clips, import_clips
from uscl.data.ingest.dicom import read_dicom
from uscl.data.ingest.found import find_files, printable
from uscl.data.ingest.frame_stack import FrameStack
from uscl.data.ingest.limits import check_clip_size, check_frame_size
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.problems import BadFile, bad_file, problem_lines
from uscl.data.ingest.table import find_table
from uscl.data.ingest.video import read_video
from uscl.errors import DataError


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write_video(tmp_path / "in" / "deep" / "a.mkv", speckle(rng, 4, 32, 32))
    return tmp_path / "in"


def names(folder):
    return [path.relative_to(folder).as_posix() for path in find_files(folder).files]


def test_what_systems_leave_behind_is_passed_over_silently(folder):
    (folder / ".git").mkdir()
    for name in (".git/x.mkv", ".hidden.mkv", "._a.mkv", "Thumbs.db", "DICOMDIR", "deep/desktop.ini", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    found = find_files(folder)
    assert names(folder) == ["deep/a.mkv"] and found.remarks == ()


def test_links_are_followed_to_files_below_only(folder, tmp_path, rng):
    outside = write_video(tmp_path / "secret.mkv", speckle(rng, 3, 32, 32))
    (tmp_path / "elsewhere").mkdir()
    (folder / "out.mkv").symlink_to(outside)
    (folder / "up.mkv").symlink_to("../secret.mkv")
    (folder / "nowhere.mkv").symlink_to("gone.mkv")
    (folder / "circle.mkv").symlink_to("circle.mkv")
    (folder / "loop").symlink_to(folder)
    (folder / "deep" / "parent").symlink_to("..")
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    (folder / "within.mkv").symlink_to("deep/a.mkv")
    found = find_files(folder)
    assert names(folder) == ["deep/a.mkv", "within.mkv"]
    assert len(found.remarks) == 1 and found.remarks[0].startswith("7 symbolic links passed over (")
    summary = import_clips(folder, tmp_path / "out", size=32)
    assert summary.clips == 2 and found.remarks[0] in summary.remarks


def test_a_linked_folder_may_itself_be_given(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert find_clips(tmp_path / "link") == [tmp_path / "link" / "deep" / "a.mkv"]


def test_pipes_and_folders_called_like_clips_are_no_files(folder):
    os.mkfifo(folder / "pipe.mkv")
    (folder / "folder.mkv").mkdir()
    assert names(folder) == ["deep/a.mkv"]


def test_names_may_be_odd_and_long(folder, tmp_path, rng):
    content = write_video(tmp_path / "a.mkv", speckle(rng, 3, 32, 32)).read_bytes()
    odd = [
        b"new\nline.mkv",
        b"tab\t.mkv",
        b"latin\xe9.mkv",
        "ünï 超音波.mkv".encode(),
        b"-rf.mkv",
        b"%s{0}.mkv",
        b"a'b\".mkv",
    ]
    for name in odd:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:  # noqa: PTH118, PTH123  (bytes)
            file.write(content)
    long = folder / ("d" * 150) / ("e" * 150)
    long.mkdir(parents=True)
    (long / f"{'f' * 250}.mkv").write_bytes(content)
    (folder / b"bad\nname.avi".decode()).write_bytes(b"no video")
    summary = import_clips(folder, tmp_path / "out", size=32, workers=1)
    assert summary.clips == len(odd) + 2
    assert [entry.name for entry in summary.bad] == ["bad\\nname.avi"]
    index = open_dataset(tmp_path / "out").index
    assert any(len(clip.clip) > 500 for clip in index.clips) and {"new_line", "latin_"} <= {c.clip for c in index.clips}
    assert all("\n" not in line for line in (*summary.remarks, *problem_lines(summary.bad, summary.files)))


def test_a_table_cannot_leave_the_folder(folder):
    (folder / "clips.csv").write_text("file,patient\ndeep/a.mkv,1\n../secret.mkv,2\n")
    with pytest.raises(DataError, match=r"clips\.csv:3: '\.\./secret\.mkv' leaves the folder"):
        find_table(folder, given=None)


def test_files_of_one_stem_are_two_clips(tmp_path, rng):
    (tmp_path / "in").mkdir()
    for name in ("a.mkv", "a.avi"):
        write_video(tmp_path / "in" / name, speckle(rng, 3, 32, 32))
    import_clips(tmp_path / "in", tmp_path / "out", size=32)
    assert [clip.clip for clip in open_dataset(tmp_path / "out").index.clips] == ["a-avi", "a-mkv"]


def test_a_file_that_may_not_be_read_is_named(folder, tmp_path, monkeypatch, rng):
    write_video(folder / "b.mkv", speckle(rng, 3, 32, 32))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "deep" not in str(path) and access(path, mode))  # root may all
    summary = import_clips(folder, tmp_path / "out", size=32)
    assert summary.bad == (BadFile("deep/a.mkv", "may not be read (permission denied)"),) and summary.clips == 1
    with pytest.raises(DataError, match=r"deep/a\.mkv: may not be read"):
        import_clips(folder, tmp_path / "strict", size=32, strict=True)


def test_problems_are_counted_by_reason(tmp_path):
    bad = [
        bad_file(tmp_path / f"{n}.dcm", tmp_path, f"{tmp_path / f'{n}.dcm'}: frame {n} is damaged") for n in range(4)
    ]
    bad.append(bad_file(tmp_path / "x.mp4", tmp_path, ValueError("holds\nno frame")))
    assert problem_lines(bad, 9) == [
        "5 of 9 files left out:",
        "  4 files: frame 0 is damaged (0.dcm, 1.dcm, 2.dcm, ...)",
        "  1 file: holds no frame (x.mp4)",
    ]
    assert problem_lines([], 9) == []


def test_names_are_printed_on_one_line():
    assert printable("a\n\x1b[31mü\udce9") == "a\\n\\x1b[31mü\\udce9"


def test_limits_state_their_numbers():
    check_frame_size(10_000, 10_000)
    with pytest.raises(ValueError, match=r"a frame of 40,000 x 40,000 px is larger than 100 million pixels"):
        check_frame_size(40_000, 40_000)
    check_clip_size(108_000, frame_pixels=1024 * 768, size=192)
    with pytest.raises(ValueError, match=r"1,000,000,000 frames of 76,800 pixels are more than 100,000,000,000 pixels"):
        check_clip_size(10**9, frame_pixels=240 * 320, size=192)
    with pytest.raises(ValueError, match=r"200,000 frames of 192 x 192 px are more than 4\.3 GB"):
        check_clip_size(200_000, frame_pixels=240 * 320, size=192)


def test_a_header_that_claims_too_much_is_refused_before_decoding(tmp_path, rng):
    path = write_cine(tmp_path / "a.dcm", speckle(rng, 2, 40, 40), Rows=40_000, Columns=40_000)
    with pytest.raises(DataError, match=r"a\.dcm: .*40000 x 40000 px"):
        next(read_dicom(path, ClipOptions(32)))
    path = write_cine(tmp_path / "b.dcm", speckle(rng, 2, 40, 40), NumberOfFrames=1_000_000_000)
    assert len(next(read_dicom(path, ClipOptions(32))).frames) == 2


def png_bomb(side):
    """A valid PNG of `side` x `side` black pixels, a few kB."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_video_of_huge_frames_is_refused(tmp_path):
    """A container may hold PNG frames of any size: a few kB that would decode to gigabytes."""
    path = tmp_path / "a.mkv"
    path.write_bytes(png_bomb(40_000))
    with pytest.raises(DataError, match=r"a\.mkv: cannot be read as a video"):
        read_video(path, size=32)


def test_a_long_clip_goes_through_a_file_and_a_short_one_does_not(rng, monkeypatch):
    frames = speckle(rng, 200, 16, 16)
    for spill, on_disk in ((1 << 20, False), (100 * 256, True), (0, True)):
        monkeypatch.setattr("uscl.data.ingest.frame_stack.SPILL_BYTES", spill)
        stack = FrameStack(16)
        for frame in frames:
            stack.append(frame)
        stacked = stack.stacked()
        assert np.array_equal(stacked, frames) and len(stack) == 200
        assert isinstance(stacked, np.memmap) == on_disk
        stacked *= np.uint8(0)
        assert not stacked.any()


def test_same_recordings_are_found_in_any_block(rng, monkeypatch):
    monkeypatch.setattr("uscl.data.ingest.clip_copies._BLOCK_CLIPS", 3)
    views = speckle(rng, 10, 3, 64, 64)
    motions = rng.random((10, 30)).astype(np.float32)
    motions[7], views[7] = motions[1], views[1]
    motions[5] = motions[4]  # the same motion of another picture
    prints = [ClipPrint(str(n), motions[n], views[n]) for n in range(10)]
    assert find_same_recordings(prints) == [SameRecording(1, 7, exact=False)]
