"""`uscl data import` with files that cannot be read: what is said, where, and the exit code."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from uscl.cli import made
from uscl.cli.data import data
from uscl.data.dataset import open_dataset
from uscl.errors import DataError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from clip_files import write_pair, write_video


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(3)
    (tmp_path / "in").mkdir()
    for n in range(2):
        write_video(tmp_path / "in" / f"{n}.mkv", rng.integers(20, 256, (3, 40, 40), dtype=np.uint8))
    (tmp_path / "in" / "bad.avi").write_bytes(b"no video" * 100)
    return tmp_path / "in"


def invoke(*words):
    words = [str(word) for word in words]
    return CliRunner().invoke(data, ["import", *words], catch_exceptions=False)


def test_a_bad_file_is_named_and_the_exit_code_is_1(folder, tmp_path):
    result = invoke("clips", folder, tmp_path / "out", "--size", 32)
    assert result.exit_code == 1
    assert "2 clips, 6 frames; fingerprint" in result.output
    assert "1 of 3 files left out:\n  1 file: cannot be read as a video: " in result.output
    assert "(bad.avi)" in result.output and "Traceback" not in result.output
    assert len(open_dataset(tmp_path / "out").index.clips) == 2


def test_known_bad_files_may_be_accepted(folder, tmp_path):
    result = invoke("clips", folder, tmp_path / "out", "--size", 32, "--skip-unreadable", "--workers", 1)
    assert result.exit_code == 0 and "1 of 3 files left out" in result.output


def test_strict_stops_and_makes_nothing(folder, tmp_path):
    with pytest.raises(DataError, match=r"bad\.avi: cannot be read as a video"):
        invoke("clips", folder, tmp_path / "out", "--size", 32, "--strict")
    assert not (tmp_path / "out").exists()
    result = invoke("clips", folder, tmp_path / "out", "--strict", "--skip-unreadable")
    assert result.exit_code == 2 and "give one of them" in result.output


def test_a_bad_pair_is_named_and_the_exit_code_is_1(tmp_path):
    for n in range(2):
        write_pair(tmp_path / "in", f"{n}", np.full((20, 20), 50 + n, np.uint8), np.eye(20, dtype=np.uint8))
    (tmp_path / "in" / "masks" / "1.png").write_bytes(b"PNG?")
    words = ("labels", tmp_path / "in", tmp_path / "out", "--classes", "1=x")
    result = invoke(*words)
    assert result.exit_code == 1 and "1 of 2 pairs left out:\n  1 pair: cannot be read as an image" in result.output
    with pytest.raises(DataError, match=r"masks/1\.png: cannot be read as an image"):
        invoke("labels", tmp_path / "in", tmp_path / "strict", "--classes", "1=x", "--strict")


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ("10", "'10' is no share of the picture; expected one like 10%; did you mean 10%?"),
        ("120%", "'120%' is no share of the picture"),
        ("-1", "'-1' is no share of the picture"),
        ("a lot", "'a lot' is no share of the picture; expected one like 10%"),
    ],
)
def test_a_share_is_a_percentage_or_a_fraction(folder, tmp_path, share, message):
    result = invoke("clips", folder, tmp_path / "out", "--blank-top", share)
    assert result.exit_code == 2 and message in result.output


def test_a_rate_must_be_positive(folder, tmp_path):
    assert invoke("clips", folder, tmp_path / "out", "--fps", 0).exit_code == 2


def test_the_time_left_is_told_once_it_is_known(monkeypatch):
    clock = made._Clock()
    assert clock.time_left(10, 100, 0.0) == ""  # resumed at 10
    assert clock.time_left(11, 100, 1.0) == ""  # too early to say
    assert clock.time_left(20, 100, 10.0) == ", 80 s left"
    assert clock.time_left(40, 1000, 20.0) == ""  # other work
    assert clock.time_left(50, 1000, 30.0) == ", 16 min left"
    assert clock.time_left(51, 1000, 130.0) == ", 2.6 h left"
    assert clock.time_left(1000, 1000, 131.0) == ""
