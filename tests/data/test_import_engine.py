"""The import of many files: the same dataset whatever the processes and stops, and no file that spoils the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clip_files import speckle, write_video

from uscl.data import arrow_files
from uscl.data.dataset import open_dataset
from uscl.data.ingest import assembly, gathering, parts
from uscl.data.ingest.clips import clip_names, import_clips
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.workers import Crash, run_each
from uscl.errors import DataError


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path / "in").mkdir()
    for n in range(6):
        write_video(tmp_path / "in" / f"{n}.mkv", speckle(rng, 4 + n, 40, 40))
    return tmp_path / "in"


def contents(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def frames_of(dataset, clip):
    entry = dataset.clip_table[clip]
    return dataset.frames(np.arange(entry.first_row, entry.first_row + entry.num_frames))


def test_the_dataset_is_the_same_whatever_the_processes(folder, tmp_path):
    (folder / "3.mkv").write_bytes(b"broken")
    for workers in (0, 1, 3):
        import_clips(folder, tmp_path / f"w{workers}", size=32, name="same", workers=workers)
    assert contents(tmp_path / "w0") == contents(tmp_path / "w1") == contents(tmp_path / "w3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "w0", "w1", "w3"]


def test_frames_of_many_files_lie_where_the_table_says(folder, tmp_path, monkeypatch):
    for module in (arrow_files, assembly):
        monkeypatch.setattr(module, "FILE_BYTES", 12 * 40 * 40)
    import_clips(folder, tmp_path / "out", size=40)
    names = sorted(path.name for path in (tmp_path / "out").glob("frames-*"))
    assert names == [f"frames-{n:03}.arrow" for n in range(5)]  # 4 + 5, 6, 7, 8, 9 frames
    dataset = open_dataset(tmp_path / "out")
    from uscl.data.ingest.video import read_video

    for n in range(6):
        assert np.array_equal(frames_of(dataset, f"{n}"), read_video(folder / f"{n}.mkv", size=40).frames)


def test_an_import_and_a_writer_make_the_same_frame_file(folder, tmp_path):
    """Datasets of before parts have the bytes that parts give: no key changes."""
    from uscl.data.ingest.video import read_video
    from uscl.data.writer import DatasetWriter

    import_clips(folder, tmp_path / "out", size=40)
    with DatasetWriter(tmp_path / "direct", name="d", classes=(), size=40) as writer:
        for n in range(6):
            clip = read_video(folder / f"{n}.mkv", size=40)
            facts = {"times_ms": clip.times_ms, "duplicate": clip.duplicate, "sector": clip.sector}
            writer.add_clip(clip.frames, clip=f"{n}", patient=f"unknown-{n}", **facts)
    assert contents(tmp_path / "out")["frames-000.arrow"] == contents(tmp_path / "direct")["frames-000.arrow"]
    made, direct = (open_dataset(tmp_path / name).index.clips for name in ("out", "direct"))
    assert [clip.content for clip in made] == [clip.content for clip in direct]


class _Stop(Exception):
    """Stands for a kill: nothing of the import runs afterwards."""


def stopping_after(monkeypatch, calls, *, where="read_source"):
    """The import under way ends before call number `calls` of a step; returns what was called."""
    step, made = getattr(gathering, where), []

    def counted(*arguments):
        if len(made) == calls:
            raise _Stop
        made.append(arguments)
        return step(*arguments)

    monkeypatch.setattr(gathering, where, counted)
    return made


@pytest.mark.parametrize("calls", [0, 1, 4])
def test_a_stopped_import_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch, calls):
    import_clips(folder, tmp_path / "whole", size=32, name="same")
    with monkeypatch.context() as patch, pytest.raises(_Stop):
        stopping_after(patch, calls)
        import_clips(folder, tmp_path / "out", size=32, name="same")
    assert not (tmp_path / "out").exists()
    read = stopping_after(monkeypatch, 100)
    import_clips(folder, tmp_path / "out", size=32, name="same")
    assert len(read) == 6 - calls
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.parametrize("change", [False, True])
def test_a_stop_while_files_are_joined(folder, tmp_path, monkeypatch, rng, change):
    """Parts that went into a finished file are read again only where a change of the folder asks for another file."""
    for module in (arrow_files, assembly):
        monkeypatch.setattr(module, "FILE_BYTES", 12 * 32 * 32)
    with monkeypatch.context() as patch, pytest.raises(_Stop):
        stopping_after(patch, 1, where="assemble")
        import_clips(folder, tmp_path / "out", size=32, name="same")
    if change:
        write_video(folder / "0.mkv", speckle(rng, 9, 40, 40))
    read = stopping_after(monkeypatch, 100)
    import_clips(folder, tmp_path / "out", size=32, name="same")
    assert [arguments[0].name for arguments in read] == (["0.mkv", "1.mkv"] if change else [])
    import_clips(folder, tmp_path / "whole", size=32, name="same")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_changed_file_is_read_anew_and_a_removed_one_forgotten(folder, tmp_path, monkeypatch, rng):
    with monkeypatch.context() as patch, pytest.raises(_Stop):
        stopping_after(patch, 5)
        import_clips(folder, tmp_path / "out", size=32, name="same")
    write_video(folder / "1.mkv", speckle(rng, 9, 40, 40))
    (folder / "2.mkv").unlink()
    read = stopping_after(monkeypatch, 100)
    import_clips(folder, tmp_path / "out", size=32, name="same")
    assert [arguments[0].name for arguments in read] == ["1.mkv", "5.mkv"]
    import_clips(folder, tmp_path / "whole", size=32, name="same")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_command_does_not_go_on(folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(_Stop):
        stopping_after(patch, 2)
        import_clips(folder, tmp_path / "out", size=32)
    with pytest.raises(DataError, match="holds an unfinished import with size 32 instead of 64; repeat"):
        import_clips(folder, tmp_path / "out", size=64)
    with pytest.raises(DataError, match=r"with blank_top 0\.0 instead of 0\.1"):
        import_clips(folder, tmp_path / "out", size=32, options=ClipOptions(32, blank_top=0.1))
    (tmp_path / "other").mkdir()
    write_video(tmp_path / "other" / "a.mkv", np.full((3, 40, 40), 90, np.uint8))
    with pytest.raises(DataError, match=r"unfinished import of another folder, .*in; repeat"):
        import_clips(tmp_path / "other", tmp_path / "out", size=32)
    monkeypatch.setattr(parts, "version", lambda name: "0.0")
    with pytest.raises(DataError, match=r"unfinished import by uscl .* instead of 0\.0"):
        import_clips(folder, tmp_path / "out", size=32)


def test_two_imports_into_one_place_are_refused(folder, tmp_path):
    options = ClipOptions(32)
    with (
        parts.part_folder(tmp_path / "out", folder, options),
        pytest.raises(DataError, match="another process is importing into it"),
        parts.part_folder(tmp_path / "out", folder, options),
    ):
        pass


def test_a_full_disk_is_told_and_what_is_done_stays(folder, tmp_path, monkeypatch):
    def full(self, key, clips):
        if len(list(self.path.glob("*.npz"))) == 2:
            raise OSError(28, "No space left on device")
        save(self, key, clips)

    save = parts.PartFolder.save
    with monkeypatch.context() as patch:
        patch.setattr(parts.PartFolder, "save", full)
        with pytest.raises(DataError, match=r"out: cannot be written: No space left on device; what is read so far"):
            import_clips(folder, tmp_path / "out", size=32)
    read = stopping_after(monkeypatch, 100)
    import_clips(folder, tmp_path / "out", size=32)
    assert len(read) == 4


def test_nothing_of_a_patient_number_lies_in_the_parts(tmp_path, monkeypatch, rng):
    from dicom_files import write_cine

    (tmp_path / "in").mkdir()
    for n in range(2):
        write_cine(tmp_path / "in" / f"{n}.dcm", speckle(rng, 3, 40, 40))
    with monkeypatch.context() as patch, pytest.raises(_Stop):
        stopping_after(patch, 0, where="assemble")
        import_clips(tmp_path / "in", tmp_path / "out", size=32)
    held = list((tmp_path / ".out.partial").iterdir())
    assert len([path for path in held if path.suffix == ".npz"]) == 2
    assert all(b"SECRET" not in path.read_bytes() for path in held)
    assert (tmp_path / ".out.partial").stat().st_mode & 0o077 == 0
    import_clips(tmp_path / "in", tmp_path / "out", size=32)
    assert {clip.patient for clip in open_dataset(tmp_path / "out").index.clips} == {"patient-0001"}


def _die(how):
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "raise":
        raise ValueError("told")
    return how


@pytest.fixture
def importable(monkeypatch):
    """This module, to processes that are started."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_a_process_that_dies_costs_its_piece_only(importable):
    from test_import_engine import _die as die

    pieces = [("a",), ("crash",), ("b",), ("killed",), ("c",)]
    results = dict(run_each(die, pieces, workers=2))
    assert [results[n] for n in (0, 2, 4)] == ["a", "b", "c"]
    assert results[1] == Crash("the process that read it crashed (SIGSEGV)")
    assert results[3].reason.endswith("as happens when memory runs out")


def test_what_a_piece_raises_is_raised_here(importable):
    from test_import_engine import _die as die

    with pytest.raises(ValueError, match="told"):
        list(run_each(die, [("a",), ("raise",)], workers=1))


def test_a_process_that_does_not_start_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DataError, match=r"a reading process does not start \(exit code 1\)"):
        list(run_each(_die, [("a",)], workers=1))


def test_clip_names_never_clash():
    paths = ["a b.mp4", "a_b.mp4", "c.avi", "c.mp4", "d/e.avi", "d-e.avi", "f"]
    assert clip_names([Path(path) for path in paths]) == [
        "a_b-mp4",
        "a_b-mp4-2",
        "c-avi",
        "c-mp4",
        "d-e-avi",
        "d-e-avi-2",
        "f",
    ]


COMMAND = (
    "import signal, sys; from uscl.cli.main import main; sys.argv[0] = 'uscl';"
    "signal.signal(signal.SIGINT, signal.default_int_handler); main()"  # a background job's tests inherit it ignored
)


def start_import(folder, out, *more):
    words = ["data", "import", "clips", str(folder), str(out), "--size", "32", "--workers", "2", "--keep-names", *more]
    return subprocess.Popen([sys.executable, "-c", COMMAND, *words], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_command_goes_on(tmp_path, rng, number, code):
    (tmp_path / "in").mkdir()
    video = write_video(tmp_path / "in" / "00.mkv", speckle(rng, 250, 64, 64)).read_bytes()
    for n in range(1, 40):
        (tmp_path / "in" / f"{n:02}.mkv").write_bytes(video)
    import_clips(tmp_path / "in", tmp_path / "whole", size=32, name="same")
    process = start_import(tmp_path / "in", tmp_path / "out", "--name", "same")
    deadline = time.monotonic() + 60
    while len(list((tmp_path / ".out.partial").glob("*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "Traceback" not in told
    assert number == signal.SIGKILL or "the same command goes on from here" in told
    done = len(list((tmp_path / ".out.partial").glob("*.npz")))
    assert 3 <= done < 40 and not (tmp_path / "out").exists()
    second = start_import(tmp_path / "in", tmp_path / "out", "--name", "same")
    assert second.wait(timeout=120) == 0
    second.communicate()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / ".out.partial").exists()
