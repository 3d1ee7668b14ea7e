"""`uscl data ...` as a user types it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from uscl.cli import made
from uscl.cli.data import data
from uscl.data.dataset import open_dataset
from uscl.errors import DataError, SpecError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from clip_files import make_dataset, write_pair, write_video


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def run(*words):
    result = CliRunner().invoke(data, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_import_merge_info_preview(tmp_path, rng):
    (tmp_path / "clips").mkdir()
    for n in range(3):
        write_video(tmp_path / "clips" / f"{n}.mkv", rng.integers(20, 256, (6, 40, 40), dtype=np.uint8))
    (tmp_path / "clips" / "clips.csv").write_text("file,patient\n0.mkv,x\n1.mkv,x\n2.mkv,y\n")
    for n in range(6):
        mask = np.zeros((40, 40), np.uint8)
        mask[n : n + 9, 5:20] = 1
        write_pair(tmp_path / "labels", f"{n}", rng.integers(20, 256, (40, 40), dtype=np.uint8), mask)
    made = run("import", "clips", tmp_path / "clips", tmp_path / "c", "--size", 32)
    assert "3 clips, 18 frames; fingerprint" in made
    assert "6 labelled images (nerve)" in run(
        "import", "labels", tmp_path / "labels", tmp_path / "l", "--classes", "1=nerve"
    )
    assert "3 clips, 18 frames; 6 labelled images (nerve)" in run(
        "merge", tmp_path / "c", tmp_path / "l", tmp_path / "real"
    )
    facts = json.loads(run("info", tmp_path / "real", "--json"))
    wanted = {"patients", "clips", "frames", "classes", "frame_rates", "duplicates", "splits"}
    assert wanted <= set(facts)
    assert (facts["patients"], facts["frames"], facts["classes"]["nerve"]["present"]) == (2, 18, 6)
    assert facts["splits"]["train"]["cases"] == 4
    assert "patients    2, and 6 clips or images of unknown patient" in run("info", tmp_path / "real")
    run("preview", tmp_path / "real", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] == 1152


def test_info_splits_as_the_sweep_would(tmp_path):
    path = make_dataset(tmp_path / "d", cases=10, clips=0)
    facts = json.loads(run("info", path, "--json", "--test-fraction", 0.4, "--seed", 3))
    assert [facts["splits"][part]["cases"] for part in ("train", "validation", "test")] == [4, 2, 4]


def test_an_import_says_what_is_odd_and_counts_in_words(tmp_path, rng):
    for n in range(2):
        frames = rng.integers(20, 256, (3, 40, 40), dtype=np.uint8)
        for name in ("a", "b") if n == 0 else ("c",):
            (tmp_path / "many").mkdir(exist_ok=True)
            write_video(tmp_path / "many" / f"{name}.mkv", frames)
    (tmp_path / "many" / "who.csv").write_text("file,patient\na.mkv,x\nb.mkv,y\nc.mkv,z\nd.mkv,z\n")
    said = run("import", "clips", tmp_path / "many", tmp_path / "m", "--size", 32, "--keep-names")
    assert "1 row of the CSV names no file: d.mkv" in said
    assert "1 of 3 clips: exact copy of another (b of a): kept in one group, so in one split" in said
    (tmp_path / "one").mkdir()
    write_video(tmp_path / "one" / "a.mkv", frames[:1])
    said = run("import", "clips", tmp_path / "one", tmp_path / "o", "--size", 32)
    assert "1 clip, 1 frame; fingerprint" in said and "1 of 1 clip: patient unknown" in said


def test_errors_are_uscl_errors(tmp_path):
    with pytest.raises(DataError, match="is not a dataset"):
        run("info", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        run("import", "clips", tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="give --classes"):
        write_pair(tmp_path / "in", "a", np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8))
        run("import", "labels", tmp_path / "in", tmp_path / "out")
    with pytest.raises(SpecError, match="uscl data phantom: size: Input should be a multiple of 16"):
        run("phantom", tmp_path / "out", "--size", 33)


def test_phantom_is_a_dataset(tmp_path):
    small = ("--patients", 3, "--size", 32, "--seed", 1, "--clips", 1, "--frames", 3, "--labels", 1)
    assert "3 clips, 9 frames; 3 labelled images (capsule, cortex, medulla, cec)" in run(
        "phantom", tmp_path / "p", *small
    )
    assert open_dataset(tmp_path / "p").size == 32


@pytest.mark.parametrize(("every_s", "told"), [(0.0, "clips 1/3\nclips 2/3\nclips 3/3\n"), (1e9, "")])
def test_progress_without_a_terminal_ends_with_the_total(every_s, told, monkeypatch, capsys):
    monkeypatch.setattr(made, "_EVERY_S", every_s)
    progress = made.show_progress()
    for done in (1, 2, 3):
        progress("clips", done, 3)
    assert capsys.readouterr().err == told


def test_the_last_progress_line_does_not_wait_for_its_turn(monkeypatch, capsys):
    monkeypatch.setattr(made, "_EVERY_S", 0.0)
    progress = made.show_progress()
    progress("clips", 1, 3)
    monkeypatch.setattr(made, "_EVERY_S", 1e9)
    progress("clips", 2, 3)
    progress("clips", 3, 3)
    assert capsys.readouterr().err == "clips 1/3\nclips 3/3\n"
